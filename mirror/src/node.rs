//! What is known of a node's audit: a fold over its history. It decides nothing; it says what the events add up to.

use cortex_model::limits::mirror::AUDIT_SUSPICIONS_MAX;
use cortex_model::proto as pb;
use pb::audit_node_event::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// A journal of the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownLog {
    /// Key that signs its checkpoints.
    pub vkey: String,
    /// The journal it says it follows; empty when it names none.
    pub predecessor: String,
    /// It takes nothing more, and why.
    pub retired: Option<String>,
    /// What quarantined the node was found in it.
    pub quarantined: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeState {
    /// Commits so far.
    pub n: u64,
    /// Revision of the last.
    pub rev: u64,
    /// The journal the node writes now, 64 hex digits; empty before the first.
    pub current: String,
    /// Every journal it ever uploaded, by id.
    pub logs: BTreeMap<String, KnownLog>,
    /// Why it gets no work.
    pub quarantine: Option<pb::AuditQuarantined>,
    /// Reasons to look, oldest first.
    pub suspicions: Vec<String>,
    /// Attempts dispatched and not recorded, by task and number.
    pub unrecorded: BTreeMap<(String, u32), pb::AuditUnrecorded>,
    /// Records of attempts that were never dispatched, by journal and number.
    pub undispatched: BTreeSet<(String, u64)>,
    /// Findings that an operator closed: they are not listed again.
    settled: BTreeSet<(String, u64)>,
}

impl NodeState {
    /// Takes the next commit of the history.
    pub fn apply(&mut self, rev: u64, commit: &pb::AuditNodeCommit) {
        (self.n, self.rev) = (commit.n, rev);
        for event in &commit.events {
            if let Some(kind) = &event.kind {
                self.event(kind);
            }
        }
    }

    fn event(&mut self, kind: &Kind) {
        match kind {
            Kind::LogOpened(opened) => {
                let log = self.logs.entry(opened.log.clone()).or_default();
                log.vkey.clone_from(&opened.vkey);
                log.predecessor.clone_from(&opened.predecessor);
                self.current.clone_from(&opened.log);
            }
            Kind::Suspected(found) => self.suspicions.push(found.reason.clone()),
            Kind::Quarantined(found) => {
                if let Some(log) = self.logs.get_mut(&found.log) {
                    log.quarantined = true;
                }
                // The first contradiction is the one to look at; later ones stay in the history.
                self.quarantine.get_or_insert_with(|| found.clone());
            }
            Kind::Settled(_) => {
                self.quarantine = None;
                self.suspicions.clear();
                let closed = std::mem::take(&mut self.unrecorded).into_keys();
                self.settled.extend(closed.map(|(task, attempt)| (task, u64::from(attempt))));
                self.settled.extend(std::mem::take(&mut self.undispatched));
                for log in self.logs.values_mut() {
                    log.quarantined = false;
                }
            }
            Kind::LogRetired(retired) => {
                if let Some(log) = self.logs.get_mut(&retired.log) {
                    log.retired = Some(retired.reason.clone());
                }
            }
            Kind::Unrecorded(found) => {
                let key = (found.task_id.clone(), found.attempt);
                self.unrecorded.entry(key).or_insert_with(|| found.clone());
            }
            Kind::Recorded(found) => {
                self.unrecorded.remove(&(found.task_id.clone(), found.attempt));
            }
            Kind::Undispatched(found) => {
                self.undispatched.insert((found.log.clone(), found.seq));
            }
        }
    }

    /// Whether an event would say something new. Two mirrors may find the same.
    #[must_use]
    pub fn is_news(&self, kind: &Kind) -> bool {
        let settled = |what: &str, number: u64| self.settled.contains(&(what.to_owned(), number));
        match kind {
            Kind::LogOpened(opened) => !self.logs.contains_key(&opened.log),
            // More reasons than a person reads say nothing new; whoever sends the evidence may make them up.
            Kind::Suspected(found) => {
                self.suspicions.len() < AUDIT_SUSPICIONS_MAX
                    && !self.suspicions.contains(&found.reason)
            }
            Kind::Quarantined(found) => self
                .quarantine
                .as_ref()
                .is_none_or(|known| (&known.log, known.seq) != (&found.log, found.seq)),
            Kind::Settled(_) => true,
            Kind::LogRetired(retired) => {
                self.logs.get(&retired.log).is_some_and(|log| log.retired.is_none())
            }
            Kind::Unrecorded(found) => {
                !self.unrecorded.contains_key(&(found.task_id.clone(), found.attempt))
                    && !settled(&found.task_id, found.attempt.into())
            }
            Kind::Recorded(found) => {
                self.unrecorded.contains_key(&(found.task_id.clone(), found.attempt))
            }
            Kind::Undispatched(found) => {
                !self.undispatched.contains(&(found.log.clone(), found.seq))
                    && !settled(&found.log, found.seq)
            }
        }
    }

    /// Where the node stands, and why in one sentence.
    #[must_use]
    pub fn standing(&self) -> (pb::AuditStanding, String) {
        if let Some(found) = &self.quarantine {
            return (pb::AuditStanding::Quarantined, found.reason.clone());
        }
        if let Some(log) = self.logs.get(&self.current)
            && let Some(reason) = &log.retired
        {
            return (pb::AuditStanding::Retired, reason.clone());
        }
        if let Some(reason) = self.suspicions.first() {
            return (pb::AuditStanding::Suspect, reason.clone());
        }
        if let Some(found) = self.unrecorded.values().next() {
            let (task, attempt) = (&found.task_id, found.attempt);
            let more = others(self.unrecorded.len());
            let reason = format!(
                "attempt {attempt} of task {task}{more} was dispatched and is not in the journal"
            );
            return (pb::AuditStanding::Suspect, reason);
        }
        if let Some((_, seq)) = self.undispatched.first() {
            let more = others(self.undispatched.len());
            let reason = format!(
                "record {seq}{more} is about an attempt that was not dispatched to this node"
            );
            return (pb::AuditStanding::Suspect, reason);
        }
        (pb::AuditStanding::Active, String::new())
    }
}

fn others(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}

/// The name of an event's kind, for filters and people.
pub(crate) fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::LogOpened(_) => "AuditLogOpened",
        Kind::Suspected(_) => "AuditSuspected",
        Kind::Quarantined(_) => "AuditQuarantined",
        Kind::Settled(_) => "AuditSettled",
        Kind::LogRetired(_) => "AuditLogRetired",
        Kind::Unrecorded(_) => "AuditUnrecorded",
        Kind::Recorded(_) => "AuditRecorded",
        Kind::Undispatched(_) => "AuditUndispatched",
    }
}

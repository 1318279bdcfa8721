//! Which records are about which task, and the reconciliation of both sides: every dispatch must be recorded by the node that took it,
//! every intent must have been dispatched. A fold over the tasks and the journals; time is an argument.

use cortex_audit::stamp::parse_rfc3339;
use cortex_audit::{Envelope, Leaf, entry::kind};
use cortex_model::limits::mirror::{AUDIT_FOUND_MAX, AUDIT_TASKS_INDEXED};
use cortex_model::proto as pb;
use cortex_model::{Commit, Event, ReleaseReason, TaskKey};
use pb::audit_node_event::Kind;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

type NodeKey = (String, String);
type AttemptId = (String, String, u32);

#[derive(Debug, Clone)]
struct Dispatch {
    node: String,
    incarnation: String,
    fence: u64,
    started_ms: u64,
}

#[derive(Debug, Default)]
struct Attempt {
    dispatch: Option<Dispatch>,
    /// An intent or a refusal is in the journal.
    recorded: bool,
    listed: bool,
}

#[derive(Debug, Default)]
struct Task {
    attempts: BTreeMap<u32, Attempt>,
    records: Vec<pb::MirrorRecord>,
}

/// An intent whose dispatch has not been seen.
#[derive(Debug)]
struct Early {
    log: Leaf,
    seq: u64,
    since_ms: u64,
}

#[derive(Debug, Default)]
struct Seen {
    node: String,
    id: Option<Leaf>,
    /// The node's clock in its newest record, Unix milliseconds.
    newest_ms: u64,
    /// The newest record of a recovery, and the intent that it is about. Which task that is, the outcome behind it says.
    recovered: Option<(u64, u64)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    after_ms: u64,
    tasks: HashMap<(String, String), Task>,
    order: VecDeque<(String, String)>,
    /// Dispatched and not recorded.
    pending: BTreeSet<AttemptId>,
    early: BTreeMap<AttemptId, Early>,
    journals: HashMap<(String, String), Seen>,
    /// When each node last said hello to this mirror.
    back: HashMap<NodeKey, u64>,
    /// Records that came late, for nodes that had them listed as missing.
    late: Vec<(NodeKey, Kind)>,
}

impl Index {
    /// Dispatches may be unrecorded for `after_ms` once their node is back.
    pub(crate) fn new(after_ms: u64) -> Index {
        Index {
            after_ms,
            tasks: HashMap::new(),
            order: VecDeque::new(),
            pending: BTreeSet::new(),
            early: BTreeMap::new(),
            journals: HashMap::new(),
            back: HashMap::new(),
            late: Vec::new(),
        }
    }

    /// The node is back, or came for the first time.
    pub(crate) fn back(&mut self, workspace: &str, node: &str, now_ms: u64) {
        self.back.insert((workspace.to_owned(), node.to_owned()), now_ms);
    }

    /// The next commit of a task.
    pub(crate) fn task(&mut self, key: &TaskKey, commit: &Commit, rev: u64) {
        for event in &commit.events {
            match event {
                Event::Started(started) => {
                    let dispatch = Dispatch {
                        node: started.node.to_string(),
                        incarnation: started.incarnation.to_string(),
                        fence: rev,
                        started_ms: started.at.0,
                    };
                    self.started(key, started.attempt, dispatch);
                }
                // The node said that it never began; its journal is asked for nothing.
                Event::AttemptReleased(released)
                    if released.reason == ReleaseReason::NotStarted =>
                {
                    self.pending.remove(&id(key, released.attempt));
                }
                Event::AttemptReleased(_)
                | Event::Submitted(_)
                | Event::CancelRequested(_)
                | Event::Finished(_)
                | Event::OutcomeUnknown(_)
                | Event::LateOutcome(_)
                | Event::Resolved(_)
                | Event::ConsentAsked(_)
                | Event::ConsentAnswered(_)
                | Event::Archived(_) => {}
            }
        }
    }

    fn started(&mut self, key: &TaskKey, number: u32, dispatch: Dispatch) {
        let id = id(key, number);
        self.early.remove(&id);
        let attempt = self.entry(&id.0, &id.1).attempts.entry(number).or_default();
        attempt.dispatch = Some(dispatch);
        if !attempt.recorded {
            self.pending.insert(id);
        }
    }

    /// Stored records of a journal.
    pub(crate) fn records(
        &mut self,
        workspace: &str,
        log32: &str,
        stored: &pb::AuditStored,
        now_ms: u64,
    ) {
        let lines = stored.records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for (seq, line) in (stored.first_seq..).zip(lines) {
            // Whatever is stored was verified before; what cannot be read here is no business of this index.
            let Ok(envelope) = Envelope::parse(line) else { continue };
            self.record(workspace, log32, seq, &envelope, line, now_ms);
        }
    }

    fn record(
        &mut self,
        workspace: &str,
        log32: &str,
        seq: u64,
        envelope: &Envelope,
        line: &[u8],
        now_ms: u64,
    ) {
        let seen = self.journals.entry((workspace.to_owned(), log32.to_owned())).or_default();
        seen.newest_ms = seen.newest_ms.max(parse_rfc3339(&envelope.at).unwrap_or(0) / 1_000);
        let text = |name: &str| envelope.data.get(name).and_then(|value| value.as_text());
        if envelope.kind == kind::GENESIS {
            text("node").unwrap_or_default().clone_into(&mut seen.node);
            seen.id = Some(Leaf::of(line));
        }
        let log = seen.id.unwrap_or(envelope.position.log);
        let about = envelope.data.get("intent").and_then(|seq| seq.as_u64());
        if envelope.kind == kind::RECOVERY {
            seen.recovered = about.map(|intent| (seq, intent));
        }
        let before = seen.recovered.filter(|(at, intent)| at + 1 == seq && about == Some(*intent));
        let Some((task, number)) = text("cmd").and_then(command) else { return };
        let intent = envelope.kind == kind::INTENT;
        let records = intent || envelope.kind == kind::REFUSAL;
        let entry = self.entry(workspace, task);
        for seq in before.map(|(at, _)| at).into_iter().chain([seq]) {
            if entry.records.len() < AUDIT_FOUND_MAX {
                let log = log32.to_owned();
                entry.records.push(pb::MirrorRecord { log, seq, attempt: number });
            }
        }
        if !records {
            return;
        }
        let attempt = entry.attempts.entry(number).or_default();
        let ours = attempt.dispatch.as_ref().map(|dispatch| dispatch.incarnation == log32);
        attempt.recorded |= ours != Some(false);
        let (listed, dispatch) = (attempt.listed, attempt.dispatch.clone());
        let id = (workspace.to_owned(), task.to_owned(), number);
        match (ours, dispatch) {
            (Some(true), Some(dispatch)) => {
                self.pending.remove(&id);
                // Also before a restart it may have been listed; whoever has it not listed ignores this.
                if listed || now_ms >= dispatch.started_ms + self.after_ms {
                    let found = pb::AuditRecorded { task_id: task.to_owned(), attempt: number };
                    self.late.push(((workspace.to_owned(), dispatch.node), Kind::Recorded(found)));
                }
            }
            _ if intent => {
                self.early.entry(id).or_insert(Early { log, seq, since_ms: now_ms });
            }
            _ => {}
        }
    }

    /// What is overdue, by node. To be called when both sides have been read to their present ends.
    pub(crate) fn tick(&mut self, now_ms: u64) -> BTreeMap<NodeKey, Vec<Kind>> {
        let mut found: BTreeMap<NodeKey, Vec<Kind>> = BTreeMap::new();
        for (node, kind) in self.late.drain(..) {
            found.entry(node).or_default().push(kind);
        }
        for id in &self.pending {
            let Some(task) = self.tasks.get_mut(&(id.0.clone(), id.1.clone())) else { continue };
            let Some(attempt) = task.attempts.get_mut(&id.2).filter(|attempt| !attempt.listed)
            else {
                continue;
            };
            let Some(dispatch) = &attempt.dispatch else { continue };
            let node = (id.0.clone(), dispatch.node.clone());
            let journal = self.journals.get(&(id.0.clone(), dispatch.incarnation.clone()));
            let back = self.back.get(&node).copied();
            if !is_overdue(dispatch, journal, back, now_ms, self.after_ms) {
                continue;
            }
            attempt.listed = true;
            let listed = pb::AuditUnrecorded {
                task_id: id.1.clone(),
                attempt: id.2,
                fence: dispatch.fence,
                started_at_ms: dispatch.started_ms,
                incarnation: dispatch.incarnation.clone(),
            };
            found.entry(node).or_default().push(Kind::Unrecorded(listed));
        }
        let after = self.after_ms;
        let overdue = self.early.extract_if(.., |_, early| now_ms >= early.since_ms + after);
        for ((workspace, task, attempt), early) in overdue {
            let log32: String = early.log.to_string().chars().take(32).collect();
            let Some(journal) = self.journals.get(&(workspace.clone(), log32)) else { continue };
            let kind = Kind::Undispatched(pb::AuditUndispatched {
                log: early.log.to_string(),
                seq: early.seq,
                cmd: format!("{task}/{attempt}"),
            });
            found.entry((workspace, journal.node.clone())).or_default().push(kind);
        }
        found
    }

    /// Records about a task, in the order of journals and numbers.
    pub(crate) fn find(&self, workspace: &str, task: &str) -> Vec<pb::MirrorRecord> {
        let mut records = self
            .tasks
            .get(&(workspace.to_owned(), task.to_owned()))
            .map_or(Vec::new(), |task| task.records.clone());
        records.sort_by(|a, b| (a.attempt, &a.log, a.seq).cmp(&(b.attempt, &b.log, b.seq)));
        records
    }

    fn entry(&mut self, workspace: &str, task: &str) -> &mut Task {
        let key = (workspace.to_owned(), task.to_owned());
        if !self.tasks.contains_key(&key) {
            self.forget();
            self.order.push_back(key.clone());
        }
        self.tasks.entry(key).or_default()
    }

    /// Drops the oldest tasks whose attempts are all in order.
    fn forget(&mut self) {
        let mut kept = Vec::new();
        while self.tasks.len() >= AUDIT_TASKS_INDEXED && kept.len() < AUDIT_FOUND_MAX {
            let Some(key) = self.order.pop_front() else { break };
            let open = |task: &Task| task.attempts.values().any(|attempt| !attempt.recorded);
            if self.tasks.get(&key).is_some_and(open) {
                kept.push(key);
            } else {
                self.tasks.remove(&key);
            }
        }
        self.order.extend(kept);
    }
}

fn id(key: &TaskKey, attempt: u32) -> AttemptId {
    (key.workspace.to_string(), key.task.to_string(), attempt)
}

/// `<task>/<attempt>`.
fn command(cmd: &str) -> Option<(&str, u32)> {
    let (task, attempt) = cmd.rsplit_once('/')?;
    Some((task, attempt.parse().ok()?))
}

/// A node that uploads nothing at all keeps no audit, and a node that is away may come back with what is missing.
fn is_overdue(
    dispatch: &Dispatch,
    journal: Option<&Seen>,
    back: Option<u64>,
    now_ms: u64,
    after_ms: u64,
) -> bool {
    let waited = |since: u64| now_ms >= since.max(dispatch.started_ms) + after_ms;
    // Its journal went on for long after the dispatch, and journals are in order.
    let passed = journal.is_some_and(|journal| journal.newest_ms >= dispatch.started_ms + after_ms);
    passed || back.is_some_and(waited)
}

#[cfg(test)]
mod tests;

//! The audit for programs: stable fields.

use crate::commands::audit::standing;
use cortex_model::proto as pb;
use pb::audit_node_event::Kind;
use serde::Serialize;

/// A journal.
#[derive(Debug, Serialize)]
pub(crate) struct Log {
    node: String,
    log: String,
    vkey: String,
    standing: &'static str,
    reason: String,
    current: bool,
    stored: u64,
    cosigned_note: String,
    predecessor: String,
}

impl From<&pb::AuditLog> for Log {
    fn from(log: &pb::AuditLog) -> Self {
        Log {
            node: log.node.clone(),
            log: log.log.clone(),
            vkey: log.vkey.clone(),
            standing: standing(log.standing),
            reason: log.reason.clone(),
            current: log.current,
            stored: log.stored,
            cosigned_note: log.cosigned_note.clone(),
            predecessor: log.predecessor.clone(),
        }
    }
}

/// How a node's audit stands.
#[derive(Debug, Serialize)]
pub(crate) struct NodeAudit {
    node: String,
    log: String,
    standing: &'static str,
    reason: String,
    stored: u64,
    cosigned_size: u64,
    cosigned_at_ms: u64,
    cosigned_note: String,
    unrecorded: u32,
    undispatched: u32,
    evidence_notes: Vec<String>,
}

impl From<&pb::NodeAudit> for NodeAudit {
    fn from(audit: &pb::NodeAudit) -> Self {
        NodeAudit {
            node: audit.node.clone(),
            log: audit.log.clone(),
            standing: standing(audit.standing),
            reason: audit.reason.clone(),
            stored: audit.stored,
            cosigned_size: audit.cosigned_size,
            cosigned_at_ms: audit.cosigned_at_ms,
            cosigned_note: audit.cosigned_note.clone(),
            unrecorded: audit.unrecorded,
            undispatched: audit.undispatched,
            evidence_notes: audit.evidence_notes.clone(),
        }
    }
}

/// A node's audit history.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    node: NodeAudit,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Event {
    at_ms: u64,
    kind: &'static str,
    log: String,
    seq: u64,
    task: String,
    attempt: u32,
    reason: String,
    notes: Vec<String>,
}

impl Findings {
    pub(crate) fn new(node: &pb::NodeAudit, commits: &[pb::AuditNodeCommit]) -> Findings {
        let events = commits.iter().flat_map(|commit| {
            let kinds = commit.events.iter().filter_map(|event| event.kind.as_ref());
            kinds.map(|kind| Event::new(commit.at_ms, kind))
        });
        Findings { node: node.into(), events: events.collect() }
    }
}

impl Event {
    fn new(at_ms: u64, kind: &Kind) -> Event {
        let empty = |kind| Event {
            at_ms,
            kind,
            log: String::new(),
            seq: 0,
            task: String::new(),
            attempt: 0,
            reason: String::new(),
            notes: Vec::new(),
        };
        match kind {
            Kind::LogOpened(o) => Event { log: o.log.clone(), ..empty("log_opened") },
            Kind::Suspected(s) => Event {
                log: s.log.clone(),
                seq: s.seq,
                reason: s.reason.clone(),
                ..empty("suspected")
            },
            Kind::Quarantined(q) => Event {
                log: q.log.clone(),
                seq: q.seq,
                reason: q.reason.clone(),
                notes: q.notes.clone(),
                ..empty("quarantined")
            },
            Kind::Settled(s) => Event { reason: s.reason.clone(), ..empty("settled") },
            Kind::LogRetired(r) => {
                Event { log: r.log.clone(), reason: r.reason.clone(), ..empty("log_retired") }
            }
            Kind::Unrecorded(u) => {
                Event { task: u.task_id.clone(), attempt: u.attempt, ..empty("unrecorded") }
            }
            Kind::Recorded(r) => {
                Event { task: r.task_id.clone(), attempt: r.attempt, ..empty("recorded") }
            }
            Kind::Undispatched(u) => Event {
                log: u.log.clone(),
                seq: u.seq,
                task: u.cmd.clone(),
                ..empty("undispatched")
            },
        }
    }
}

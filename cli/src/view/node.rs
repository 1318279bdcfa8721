//! A node as JSON.

use super::{text, time};
use cortex_model::proto as pb;
use serde::Serialize;
use std::collections::BTreeMap;

/// A node as it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) node: String,
    pub(crate) workspace: String,
    pub(crate) online: bool,
    pub(crate) hostname: String,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) kernel: String,
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) slots: u32,
    pub(crate) slots_free: u32,
    pub(crate) session: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) agent_version: String,
    pub(crate) incarnation: Option<String>,
    pub(crate) last_seen_ms: Option<u64>,
    pub(crate) journal: Option<JournalHead>,
    pub(crate) audit: Option<super::audit::NodeAudit>,
    /// Why it takes no work at present.
    pub(crate) unable: Option<Unable>,
    /// What it holds to of what an administrator takes away.
    pub(crate) narrowed: Option<Narrowed>,
    pub(crate) registration: Option<Registration>,
}

/// Why a node takes no work.
#[derive(Debug, Serialize)]
pub(crate) struct Unable {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// What the registry knows of a node.
#[derive(Debug, Serialize)]
pub(crate) struct Registration {
    pub(crate) state: &'static str,
    pub(crate) key_sha256: String,
    pub(crate) enrolled_at_ms: u64,
    pub(crate) token_id: String,
    pub(crate) hostname: String,
    pub(crate) address: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) certificate_not_after_ms: Option<u64>,
    pub(crate) decided_by: Option<super::Actor>,
    pub(crate) reason: Option<String>,
    pub(crate) decided_at_ms: u64,
    pub(crate) clone_suspected_at_ms: Option<u64>,
    /// What an administrator takes away from what its owner allows.
    pub(crate) narrowing: Option<Narrowing>,
}

/// What is taken away, as it was sent.
#[derive(Debug, Serialize)]
pub(crate) struct Narrowing {
    pub(crate) revision: u64,
    pub(crate) text: Option<String>,
    pub(crate) by: Option<super::Actor>,
    pub(crate) reason: Option<String>,
    pub(crate) at_ms: u64,
}

/// What a node makes of it.
#[derive(Debug, Serialize)]
pub(crate) struct Narrowed {
    pub(crate) revision: u64,
    pub(crate) applied: Vec<String>,
    pub(crate) ignored: Vec<String>,
}

impl From<&pb::Registration> for Registration {
    fn from(r: &pb::Registration) -> Registration {
        Registration {
            state: enrolment(r.state()),
            key_sha256: super::hex(&r.key_sha256),
            enrolled_at_ms: r.enrolled_at_ms,
            token_id: r.token_id.clone(),
            hostname: r.hostname.clone(),
            address: r.address.clone(),
            labels: r.labels.clone(),
            certificate_not_after_ms: time(r.certificate_not_after_ms),
            decided_by: r.decided_by.as_ref().map(Into::into),
            reason: text(&r.reason),
            decided_at_ms: r.decided_at_ms,
            clone_suspected_at_ms: time(r.clone_suspected_at_ms),
            narrowing: r.narrowing.as_ref().map(|n| Narrowing {
                revision: n.revision,
                text: text(&n.text),
                by: n.actor.as_ref().map(Into::into),
                reason: text(&n.reason),
                at_ms: n.at_ms,
            }),
        }
    }
}

/// The word for where a node stands.
pub(crate) fn enrolment(state: pb::Enrolment) -> &'static str {
    match state {
        pb::Enrolment::Pending => "pending",
        pb::Enrolment::Approved => "approved",
        pb::Enrolment::Quarantined => "quarantined",
        pb::Enrolment::Rejected => "rejected",
        pb::Enrolment::Revoked => "revoked",
        pb::Enrolment::Left => "left",
        pb::Enrolment::Unspecified => "unknown",
    }
}

/// An ability.
#[derive(Debug, Serialize)]
pub(crate) struct Capability {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) path: Option<String>,
}

/// Where the node's journal stands.
#[derive(Debug, Serialize)]
pub(crate) struct JournalHead {
    pub(crate) size: u64,
    pub(crate) leaf: String,
}

impl From<&pb::Node> for Node {
    fn from(n: &pb::Node) -> Node {
        let m = n.manifest.clone().unwrap_or_default();
        let unable = m.unable.map(|e| Unable { code: e.code, message: e.message, hint: e.hint });
        let capability = |c: pb::Capability| Capability {
            version: text(&c.version),
            path: text(&c.path),
            name: c.name,
        };
        Node {
            node: n.node.clone(),
            workspace: n.workspace.clone(),
            online: n.online,
            hostname: m.hostname,
            os: m.os,
            arch: m.arch,
            kernel: m.kernel,
            cpus: m.cpus,
            memory_bytes: m.memory_bytes,
            capabilities: m.capabilities.into_iter().map(capability).collect(),
            labels: m.labels,
            slots: n.slots,
            slots_free: n.slots_free,
            session: text(&n.session),
            gateway: text(&n.gateway),
            agent_version: n.agent_version.clone(),
            incarnation: text(&n.incarnation),
            last_seen_ms: time(n.last_seen_ms),
            journal: n.journal.as_ref().map(|j| JournalHead { size: j.size, leaf: j.leaf.clone() }),
            audit: n.audit.as_ref().map(Into::into),
            unable,
            narrowed: m.narrowed.map(|n| Narrowed {
                revision: n.revision,
                applied: n.applied,
                ignored: n.ignored,
            }),
            registration: n.registration.as_ref().map(Into::into),
        }
    }
}

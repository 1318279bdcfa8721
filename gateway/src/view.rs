//! What clients see of a task and of a node: the model as messages. It hides nothing and adds nothing.

use cortex_model::proto as pb;
use cortex_scheduler_core::TaskView;

/// A task as a message.
#[must_use]
pub(crate) fn task(v: &TaskView) -> pb::Task {
    pb::Task {
        workspace: v.key.workspace.to_string(),
        task_id: v.key.task.to_string(),
        idempotency_key: v.idempotency_key.clone(),
        spec: Some((&*v.spec).into()),
        actor: Some((&v.actor).into()),
        state: pb::TaskState::from(v.state).into(),
        submitted_at_ms: v.submitted_at.0,
        attempt: v.attempt,
        node: v.node().map(ToString::to_string).unwrap_or_default(),
        started_at_ms: v.started.as_ref().map_or(0, |s| s.at.0),
        ended_at_ms: v.ended_at.map_or(0, |t| t.0),
        outcome: v.outcome.as_deref().map(Into::into),
        cancel_requested: v.cancel_requested,
        revision: v.revision,
        evidence: v.evidence.clone(),
        retry_at_ms: v.retry_at.map_or(0, |t| t.0),
        deadline_at_ms: v.deadline_at.map_or(0, |t| t.0),
        consent: v.asking.as_deref().map(Into::into),
    }
}

/// A node as a message. `gateway` is empty for one that is offline.
#[must_use]
pub(crate) fn node(p: &pb::NodePresence, gateway: &str) -> pb::Node {
    pb::Node {
        workspace: p.workspace.clone(),
        node: p.node.clone(),
        online: !gateway.is_empty(),
        manifest: p.manifest.clone(),
        slots: p.slots,
        slots_free: if gateway.is_empty() { 0 } else { p.slots_free },
        session: p.session.clone(),
        gateway: gateway.to_owned(),
        agent_version: p.agent_version.clone(),
        incarnation: p.incarnation.clone(),
        last_seen_ms: p.last_seen_ms,
        journal: p.journal.clone(),
        audit: None,
        registration: None,
    }
}

//! The commits of one echo task, of the same content and size as the product writes them, and its request.

use anyhow::{Context as _, bail};
use cortex_model::event::{Finished, Started};
use cortex_model::ids::SessionId;
use cortex_model::proto as pb;
use cortex_model::task::{OutputChunk, OutputSummary, Stream};
use cortex_model::{
    Action, Actor, ActorKind, Commit, Ending, Event, Incarnation, NodeId, Outcome, RetryPolicy,
    TaskSpec, UnixMillis, wire,
};
use cortex_scheduler_core::decide::{NewTask, Submit, submit};
use std::collections::{BTreeMap, BTreeSet};

/// What an echo task says.
pub(crate) const PAYLOAD: &[u8] = b"the quick brown fox jumps over";
const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

/// A submit that is answered when the task is over.
pub(crate) fn request(action: pb::action::Kind) -> pb::SubmitTaskRequest {
    pb::SubmitTaskRequest {
        spec: Some(pb::TaskSpec {
            action: Some(pb::Action { kind: Some(action) }),
            ..Default::default()
        }),
        idempotency_key: uuid::Uuid::now_v7().to_string(),
        actor: Some(pb::Actor {
            kind: pb::ActorKind::Program.into(),
            id: "cortex-bench".into(),
            ..Default::default()
        }),
        wait_ms: 60_000,
    }
}

/// The request of an echo task.
pub(crate) fn echo_request() -> pb::SubmitTaskRequest {
    request(pb::action::Kind::Echo(pb::EchoAction { payload: PAYLOAD.to_vec() }))
}

/// An echo task's specification.
pub(crate) fn echo() -> TaskSpec {
    TaskSpec {
        action: Action::Echo { payload: PAYLOAD.to_vec() },
        require: BTreeSet::new(),
        node: None,
        priority: 0,
        safe_to_repeat: false,
        retry: RetryPolicy::default(),
        run_timeout_ms: 0,
        deadline_ms: 0,
        node_lost_grace_ms: 0,
        output_limit_bytes: 0,
        labels: BTreeMap::new(),
        locks: Vec::new(),
        lock_timeout_ms: 0,
    }
}

/// Submitted, Started, Finished.
///
/// # Errors
/// When the product no longer takes such a task.
pub(crate) fn commits() -> anyhow::Result<[Commit; 3]> {
    let new = NewTask {
        spec: echo(),
        idempotency_key: uuid::Uuid::now_v7().to_string(),
        actor: Actor {
            kind: ActorKind::Program,
            id: "cortex-bench".into(),
            model: String::new(),
            on_behalf_of: String::new(),
        },
        now: NOW,
    };
    let Submit::Create(submitted) = submit(None, &new) else { bail!("not a creation") };
    let node = NodeId::parse("build-machine-7").context("a node")?;
    Ok([submitted, Commit { n: 2, events: vec![started(1, node)?] }, finished(1)])
}

/// A start on that node.
///
/// # Errors
/// When the product no longer takes such names.
pub(crate) fn started(attempt: u32, node: NodeId) -> anyhow::Result<Event> {
    Ok(Event::Started(Box::new(Started {
        attempt,
        node,
        incarnation: Incarnation::parse("0123456789abcdef0123456789abcdef")
            .context("an incarnation")?,
        session: SessionId::parse("0190f0a0-0000-7000-8000-000000000000").context("a session")?,
        offered_by: "s-01234567".into(),
        offered_at: NOW,
        reason: "meets echo; least loaded (12 % used, 225 slots left, 0 other nodes ready)".into(),
        refused: Vec::new(),
        at: NOW,
        gateway: "g-01234567".into(),
    })))
}

/// The end of an echo attempt, as third commit.
pub(crate) fn finished(attempt: u32) -> Commit {
    let data = bytes::Bytes::from_static(PAYLOAD);
    let outcome = Outcome {
        ending: Ending::Exited { code: 0 },
        output: OutputSummary {
            stdout_bytes: PAYLOAD.len() as u64,
            stdout_sha256: vec![7; 32],
            stderr_sha256: vec![9; 32],
            ..OutputSummary::default()
        },
        inline_output: vec![OutputChunk { stream: Stream::Stdout, offset: 0, data }],
        started_at_ms: NOW.0,
        ended_at_ms: NOW.0 + 1,
        journal_seq: 1000,
        duration_us: 900,
        confinement: None,
        locks: Vec::new(),
        repositories: None,
    };
    let finished = Finished { attempt, outcome, at: NOW };
    Commit { n: 3, events: vec![Event::Finished(Box::new(finished))] }
}

/// A commit as the log stores it.
pub(crate) fn record(commit: &Commit) -> cortex_log::Commit {
    let kind = commit.events.iter().map(Event::name).collect::<Vec<_>>().join(",");
    cortex_log::Commit {
        id: cortex_log::CommitId::generate(),
        kind: kind.into(),
        n: commit.n,
        body: wire::encode_commit(commit),
    }
}

//! Small makers of model values for the tests of this crate.
#![allow(dead_code, reason = "each test binary uses a part")]

use cortex_model::ids::{SessionId, TaskId};
use cortex_model::{
    Action, Actor, ActorKind, Ending, Incarnation, NodeFacts, NodeId, Outcome, RetryPolicy,
    TaskKey, TaskSpec, UnixMillis, Version, Workspace,
};
use cortex_scheduler_core::decide::{self, NewTask, Submit};
use cortex_scheduler_core::{NodeView, RecordedCommit, TaskView};
use std::sync::Arc;

pub(crate) fn ws(name: &str) -> Workspace {
    Workspace::parse(name).unwrap()
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

pub(crate) fn session(name: &str) -> SessionId {
    SessionId::parse(name).unwrap()
}

pub(crate) fn life(name: &str) -> Incarnation {
    Incarnation::parse(name).unwrap()
}

pub(crate) fn key(workspace: &str, task: &str) -> TaskKey {
    TaskKey { workspace: ws(workspace), task: TaskId::parse(task).unwrap() }
}

pub(crate) fn actor() -> Actor {
    Actor {
        kind: ActorKind::Human,
        id: "ann".into(),
        model: String::new(),
        on_behalf_of: String::new(),
    }
}

pub(crate) fn spec() -> TaskSpec {
    TaskSpec {
        action: Action::Echo { payload: b"hi".to_vec() },
        require: Default::default(),
        node: None,
        priority: 0,
        safe_to_repeat: false,
        retry: RetryPolicy::default(),
        run_timeout_ms: 0,
        deadline_ms: 0,
        node_lost_grace_ms: 0,
        output_limit_bytes: 0,
        labels: Default::default(),
        locks: Vec::new(),
        lock_timeout_ms: 0,
    }
}

pub(crate) fn submitted(spec: TaskSpec, at: u64) -> cortex_model::Commit {
    let new = NewTask { spec, idempotency_key: "k".into(), actor: actor(), now: UnixMillis(at) };
    match decide::submit(None, &new) {
        Submit::Create(commit) => commit,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn outcome(ending: Ending, journal_seq: u64) -> Outcome {
    Outcome { journal_seq, started_at_ms: 1, ended_at_ms: 2, ..Outcome::without_run(ending) }
}

pub(crate) fn recorded(
    key: &TaskKey,
    revision: u64,
    at: u64,
    commit: cortex_model::Commit,
) -> RecordedCommit {
    RecordedCommit { shard: 0, task: key.clone(), revision, at: UnixMillis(at), commit }
}

pub(crate) fn apply(view: &mut Option<TaskView>, r: &RecordedCommit) {
    TaskView::apply(view, &r.task, r.revision, r.at, &r.commit).unwrap();
}

/// Facts from words: `python=3.11` is an ability, `os:linux` a label.
pub(crate) fn facts(name: &str, words: &str) -> NodeFacts {
    let mut facts = NodeFacts::default();
    facts.labels.insert("node".into(), name.into());
    facts.capabilities.insert("echo".into(), Version::parse(""));
    for word in words.split(',').filter(|w| !w.is_empty()) {
        if let Some((k, v)) = word.split_once(':') {
            facts.labels.insert(k.into(), v.into());
        } else {
            let (k, v) = word.split_once('=').unwrap_or((word, ""));
            facts.capabilities.insert(k.into(), Version::parse(v));
        }
    }
    facts
}

pub(crate) fn node_view(workspace: &str, name: &str, words: &str, slots: u32) -> NodeView {
    NodeView {
        workspace: ws(workspace),
        node: node(name),
        session: session(&format!("{name}-s1")),
        incarnation: life(&format!("{name}-i1")),
        generation: 1,
        gateway: Arc::from("g1"),
        connected_at: UnixMillis(0),
        slots,
        slots_free: slots,
        journal_size: 0,
        facts: Arc::new(facts(name, words)),
    }
}

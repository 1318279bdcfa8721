//! A fleet as one might be: a few kinds of machines, many of each, none alike in every fact.

use cortex_model::event::{Event, Finished, Started};
use cortex_model::ids::{SessionId, TaskId};
use cortex_model::{
    Action, Actor, ActorKind, Commit, Ending, Incarnation, NodeFacts, NodeId, Outcome, Requirement,
    RetryPolicy, TaskKey, TaskSpec, UnixMillis, Version, Workspace,
};
use cortex_scheduler_core::decide::{self, NewTask, Submit};
use cortex_scheduler_core::{NodeView, Offer, RecordedCommit};
use std::sync::Arc;

/// What tasks ask for.
pub(crate) const NEEDS: [&[&str]; 12] = [
    &[],
    &["os=linux"],
    &["docker"],
    &["python>=3.10"],
    &["python>=3.12", "os=linux"],
    &["memory_mb>=32768"],
    &["cpus>=16", "docker"],
    &["region=eu"],
    &["region=us", "python"],
    &["os=windows"],
    &["arch=aarch64"],
    &["os=macos", "cpus>=8"],
];

/// Node number `i`.
pub(crate) fn node_view(i: u32, slots: u32) -> NodeView {
    let name = format!("node-{i}");
    let mut facts = NodeFacts::default();
    // Mixed, so that the kinds do not follow each other.
    let mut mix = u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let mut pick = |n: u64| {
        let k = mix % n;
        mix /= n;
        k as usize
    };
    let python = ["", "3.9.2", "3.11.2", "3.12.1"][pick(4)];
    if !python.is_empty() {
        facts.capabilities.insert("python".into(), Version::parse(python));
    }
    if pick(3) > 0 {
        facts.capabilities.insert("docker".into(), Version::parse("27.1"));
    }
    facts.capabilities.insert("echo".into(), Version::parse(""));
    let labels = [
        ("os", ["linux", "linux", "linux", "macos", "windows"][pick(5)].to_owned()),
        ("arch", ["x86_64", "aarch64"][pick(2)].to_owned()),
        ("region", ["eu", "us", "asia"][pick(3)].to_owned()),
        ("cpus", [4, 8, 16, 64][pick(4)].to_string()),
        ("memory_mb", (8192 * (1 + pick(8)) + i as usize % 1000).to_string()),
        ("hostname", name.clone()),
        ("node", name.clone()),
    ];
    facts.labels.extend(labels.map(|(k, v)| (k.to_owned(), v)));
    NodeView {
        workspace: Workspace::default_workspace(),
        session: SessionId::parse(&format!("{name}-s")).unwrap(),
        incarnation: Incarnation::parse(&format!("{name}-i")).unwrap(),
        node: NodeId::parse(&name).unwrap(),
        generation: 1,
        gateway: Arc::from("g1"),
        connected_at: UnixMillis(0),
        slots,
        slots_free: slots,
        journal_size: 0,
        facts: Arc::new(facts),
    }
}

/// Task number `i` as its gateway submits it.
pub(crate) fn submit(i: u32, revision: u64) -> RecordedCommit {
    let require = NEEDS[i as usize % NEEDS.len()].iter();
    let spec = TaskSpec {
        action: Action::Echo { payload: b"hello".to_vec() },
        require: require.map(|r| Requirement::parse(r).unwrap()).collect(),
        node: None,
        priority: (i % 3) as i32,
        safe_to_repeat: false,
        retry: RetryPolicy::default(),
        run_timeout_ms: 0,
        deadline_ms: 0,
        node_lost_grace_ms: 0,
        output_limit_bytes: 0,
        labels: Default::default(),
        locks: Vec::new(),
        lock_timeout_ms: 0,
    };
    let actor = Actor {
        kind: ActorKind::Program,
        id: "load".into(),
        model: String::new(),
        on_behalf_of: String::new(),
    };
    let idempotency_key = format!("task-{i}");
    let workspace = Workspace::default_workspace();
    let task = TaskKey { task: TaskId::derive(&workspace, &idempotency_key), workspace };
    let new = NewTask { spec, idempotency_key, actor, now: UnixMillis(u64::from(i)) };
    match decide::submit(None, &new) {
        Submit::Create(commit) => recorded(task, revision, commit),
        Submit::Same | Submit::Conflict(_) => panic!("the first one is made"),
    }
}

/// The commit that a gateway makes of the node's claim.
pub(crate) fn started(o: &Offer, revision: u64) -> RecordedCommit {
    let started = Started {
        attempt: o.to.attempt,
        node: o.to.node.clone(),
        incarnation: Incarnation::parse(&format!("{}-i", o.to.node)).unwrap(),
        session: o.to.session.clone(),
        offered_by: "s".into(),
        offered_at: o.offered_at,
        reason: String::new(),
        refused: Vec::new(),
        at: o.offered_at,
        gateway: "g1".into(),
    };
    let commit = Commit { n: o.next_n, events: vec![Event::Started(Box::new(started))] };
    recorded(o.to.task.clone(), revision, commit)
}

/// The commit that a gateway makes of the node's report.
pub(crate) fn finished(o: &Offer, revision: u64) -> RecordedCommit {
    let finished = Finished {
        attempt: o.to.attempt,
        outcome: Outcome::without_run(Ending::Exited { code: 0 }),
        at: o.offered_at,
    };
    let commit = Commit { n: o.next_n + 1, events: vec![Event::Finished(Box::new(finished))] };
    recorded(o.to.task.clone(), revision, commit)
}

fn recorded(task: TaskKey, revision: u64, commit: Commit) -> RecordedCommit {
    RecordedCommit { shard: 0, task, revision, at: UnixMillis(0), commit }
}

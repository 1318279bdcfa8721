//! The scheduler process against a log in memory and a gateway that speaks the real contract: offers become claims and
//! starts, questions and cancels reach the right session, presence is followed, and schedulers stand in for each other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gateway;

use cortex_log::{EventLog, MemoryLog};
use cortex_model::proto as pb;
use cortex_model::{TaskState, UnixMillis};
use cortex_scheduler::{Config, run};
use cortex_scheduler_core::decide;
use gateway::{Gateway, Node, actor, submit, until, wall};
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Far more than anything here takes: reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(log: &MemoryLog, name: &str) -> CancellationToken {
    let stop = CancellationToken::new();
    let log: Arc<dyn EventLog> = Arc::new(log.clone());
    let task = run(log, Config { name: name.into() }, stop.clone());
    tokio::spawn(async move { task.await.unwrap() });
    stop
}

async fn explain(log: &MemoryLog, task: &str, wanted: &str) -> pb::ExplainTaskResponse {
    let ask = pb::ExplainRequest { workspace: "w".into(), task_id: task.into() }.encode_to_vec();
    tokio::time::timeout(PATIENCE, async {
        // Nothing announces an explanation, so it is asked for until it is the wanted one.
        let mut again = tokio::time::interval(Duration::from_millis(20));
        loop {
            again.tick().await;
            let answer =
                log.request("cx.s.explain", ask.clone().into(), Duration::from_secs(1)).await;
            if let Ok(bytes) = answer {
                let e = pb::ExplainTaskResponse::decode(bytes).unwrap();
                if format!("{e:?}").contains(wanted) {
                    return e;
                }
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never explained with {wanted:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_are_offered_claimed_and_finished() {
    let log = MemoryLog::new(4);
    let stop = start(&log, "s1");
    let g = Gateway::start(&log, "g1").await;
    g.connect(Node::new("a", "a-1").slots(3)).await;
    g.connect(Node::new("b", "b-1").slots(2)).await;
    let mut keys = Vec::new();
    for i in 0..200 {
        keys.push(submit(&log, &format!("t{i}"), |_| {}).await);
    }
    for key in &keys {
        let v = until(&log, key, |v| v.state == TaskState::Succeeded).await;
        assert_eq!(v.attempt, 1);
    }
    assert_eq!(g.begun(), 200);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_waits_for_its_node_and_says_so() {
    let log = MemoryLog::new(4);
    let stop = start(&log, "s1");
    let key = submit(&log, "t1", |s| s.node = Some(gateway::node_id("laptop"))).await;
    let e = explain(&log, "t1", "node laptop").await;
    assert!(e.suggestions.iter().any(|s| s.contains("laptop")), "{e:?}");
    let g = Gateway::start(&log, "g1").await;
    g.connect(Node::new("laptop", "l-1")).await;
    until(&log, &key, |v| v.state == TaskState::Succeeded).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_gone_costs_nothing_but_a_message() {
    let log = MemoryLog::new(1);
    let stop = start(&log, "s1");
    let g = Gateway::start(&log, "g1").await;
    // Announced, but nobody listens for it.
    g.announce(Node::new("ghost", "x-1").presence()).await;
    let key = submit(&log, "t1", |_| {}).await;
    explain(&log, "t1", "was not connected").await;
    g.connect(Node::new("real", "r-1")).await;
    let v = until(&log, &key, |v| v.state == TaskState::Succeeded).await;
    assert_eq!(v.node(), Some(&gateway::node_id("real")));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_whose_go_was_lost_is_asked_for_and_runs_again() {
    let log = MemoryLog::new(1);
    let stop = start(&log, "s1");
    let g = Gateway::start(&log, "g1").await;
    g.connect(Node::new("a", "a-1").forgets_claims()).await;
    let key = submit(&log, "t1", |_| {}).await;
    until(&log, &key, |v| v.state == TaskState::Running).await;
    // The agent comes back through another connection and knows of nothing.
    g.connect(Node::new("a", "a-2")).await;
    let v = until(&log, &key, |v| v.state == TaskState::Succeeded).await;
    assert_eq!((v.attempt, v.not_started), (2, 1));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_session_that_runs_the_task() {
    let log = MemoryLog::new(1);
    let stop = start(&log, "s1");
    let g = Gateway::start(&log, "g1").await;
    g.connect(Node::new("a", "a-1").runs_until_cancelled()).await;
    let key = submit(&log, "t1", |_| {}).await;
    let v = until(&log, &key, |v| v.state == TaskState::Running).await;
    let events = decide::cancel(&v, &actor(), "changed my mind", UnixMillis(wall())).unwrap();
    gateway::append(&log, &v, events).await.unwrap();
    until(&log, &key, |v| v.state == TaskState::Cancelled).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_kept_by_the_scheduler() {
    let log = MemoryLog::new(2);
    let stop = start(&log, "s1");
    let key = submit(&log, "t1", |s| s.deadline_ms = 300).await;
    let v = until(&log, &key, |v| v.state == TaskState::Expired).await;
    assert!(!v.began());
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_presence_is_closed_by_a_snapshot() {
    let log = MemoryLog::new(1);
    let stop = start(&log, "s1");
    let g = Gateway::start(&log, "g1").await;
    g.connect(Node::new("a", "a-1").slots(1)).await;
    let first = submit(&log, "t1", |_| {}).await;
    until(&log, &first, |v| v.state == TaskState::Succeeded).await;
    // This change is never announced; only a later one is.
    g.connect_silently(Node::new("b", "b-1").with("docker")).await;
    g.connect(Node::new("c", "c-1")).await;
    let key = submit(&log, "t2", |s| {
        s.require.insert(cortex_model::Requirement::parse("docker").unwrap());
    })
    .await;
    until(&log, &key, |v| v.state == TaskState::Succeeded).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_of_a_silent_gateway_are_away() {
    let log = MemoryLog::new(1);
    let stop = start(&log, "s1");
    let g = Gateway::start(&log, "g1").await;
    g.announce(Node::new("a", "a-1").presence()).await;
    submit(&log, "t1", |s| s.node = Some(gateway::node_id("a"))).await;
    explain(&log, "t1", "online: true").await;
    g.dies();
    explain(&log, "t1", "is not connected").await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_dies_is_stood_in_for() {
    let log = MemoryLog::new(8);
    let (first, second) = (start(&log, "s1"), start(&log, "s2"));
    let g = Gateway::start(&log, "g1").await;
    g.connect(Node::new("a", "a-1").slots(4)).await;
    let mut keys = Vec::new();
    for i in 0..40 {
        if i == 20 {
            first.cancel();
        }
        keys.push(submit(&log, &format!("t{i}"), |_| {}).await);
    }
    for key in &keys {
        until(&log, key, |v| v.state == TaskState::Succeeded).await;
    }
    assert_eq!(g.begun(), 40);
    // A third one, and the log read from its beginning.
    second.cancel();
    let third = start(&log, "s3");
    let key = submit(&log, "last", |_| {}).await;
    until(&log, &key, |v| v.state == TaskState::Succeeded).await;
    third.cancel();
}

//! An agent that is asked to stop: as a service manager asks (SIGTERM), and as somebody in a hurry does.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

mod support;

use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;
use rustix::process::{Pid, Signal, kill_process};
use support::*;
use tokio::process::Child;

fn send(agent: &Child, signal: Signal) {
    let pid = i32::try_from(agent.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

async fn ends_well(mut agent: Child) {
    let status = within("the agent's end", agent.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}

/// A command that says when it runs and ends when it may.
fn patient(node: &Machine) -> TaskSpec {
    let (runs, may_end) = (node.path("runs"), node.path("may-end"));
    sh(&format!(
        "echo yes > {}; until test -e {}; do sleep 0.05; done; echo done",
        runs.display(),
        may_end.display()
    ))
}

#[tokio::test]
async fn asked_to_stop_it_takes_nothing_new_and_lets_what_runs_end() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, patient(&node)).await;
    appears(&node.path("runs")).await;
    send(&agent, Signal::TERM);
    assert!(matches!(connection.next().await, Up::Leaving(_)));
    connection.send(Down::Offer(offer("t2", 2, echo("no")))).await;
    match connection.next().await {
        Up::Busy(busy) => assert_eq!(busy.reason(), BusyReason::Leaving),
        other => panic!("{other:?}"),
    }
    std::fs::write(node.path("may-end"), "").unwrap();
    let (report, output) = connection.outcome_and_output().await;
    assert_eq!(ending(&report), ending::Kind::Exited(Exited { code: 0 }));
    assert_eq!(output, b"done\n");
    connection.ack_outcome("t1").await;
    ends_well(agent).await;
}

#[tokio::test]
async fn what_runs_longer_than_the_owners_grace_is_interrupted_and_said_to_be() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    std::fs::write(node.path("agent.toml"), "stop_grace_secs = 1\n").unwrap();
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, patient(&node)).await;
    appears(&node.path("runs")).await;
    send(&agent, Signal::TERM);
    assert!(matches!(connection.next().await, Up::Leaving(_)));
    let report = connection.outcome().await;
    assert!(matches!(ending(&report), ending::Kind::Interrupted(_)), "{report:?}");
    connection.ack_outcome("t1").await;
    ends_well(agent).await;
}

#[tokio::test]
async fn a_second_signal_or_ctrl_c_does_not_wait() {
    for signals in [&[Signal::TERM, Signal::TERM][..], &[Signal::INT]] {
        let (mut gateway, node) = (Gateway::start().await, Machine::new());
        std::fs::write(node.path("agent.toml"), "stop_grace_secs = 86400\n").unwrap();
        let agent = node.start(&gateway);
        let mut connection = gateway.welcome().await;
        connection.dispatch("t1", 1, patient(&node)).await;
        appears(&node.path("runs")).await;
        for (nth, signal) in signals.iter().enumerate() {
            send(&agent, *signal);
            if nth == 0 {
                assert!(matches!(connection.next().await, Up::Leaving(_)));
            }
        }
        let report = connection.outcome().await;
        assert!(matches!(ending(&report), ending::Kind::Interrupted(_)), "{report:?}");
        connection.ack_outcome("t1").await;
        ends_well(agent).await;
    }
}

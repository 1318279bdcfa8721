//! The owner's word on the machine itself: no server takes part in it.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

mod support;

use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;
use std::process::Output;
use support::*;

/// Runs a command of the owner's.
async fn owner(node: &Machine, words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cortex-agent"));
    command.args(words).arg("--data-dir").arg(node.dir.path());
    within("the owner's command", command.output()).await.unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn offered(connection: &mut Connection, id: u64) -> Up {
    connection.send(Down::Offer(offer(&format!("t{id}"), id, echo("x")))).await;
    connection.next().await
}

#[tokio::test]
async fn a_paused_agent_takes_nothing_even_after_a_restart_until_it_is_resumed() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert!(matches!(offered(&mut connection, 1).await, Up::Claim(_)));
    assert!(text(&owner(&node, &["pause"]).await).contains("paused"));
    match offered(&mut connection, 2).await {
        Up::Busy(busy) => {
            assert_eq!(busy.reason(), BusyReason::Unable);
            assert!(busy.error.unwrap().message.contains("owner"));
        }
        other => panic!("{other:?}"),
    }
    kill(agent).await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert!(matches!(offered(&mut connection, 3).await, Up::Busy(_)));
    let json = text(&owner(&node, &["resume", "--json"]).await);
    let said: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&said["answer"], &said["paused"]), (&"status".into(), &false.into()));
    assert!(matches!(offered(&mut connection, 4).await, Up::Claim(_)));
    kill(agent).await;
}

#[tokio::test]
async fn the_history_tells_what_was_done_and_how_it_was_confined() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, sh("exit 3")).await;
    let report = connection.outcome().await;
    let confinement = report.outcome.unwrap().confinement.unwrap();
    // This policy is of the version that had no sandbox; the outcome says so.
    assert_eq!((confinement.level.as_str(), confinement.network.as_str()), ("none", "full"));
    assert!(
        confinement.limits.iter().any(|limit| limit.name == "wall" && limit.strength == "hard")
    );
    let said = text(&owner(&node, &["history"]).await);
    let line = |kind: &str| said.lines().find(|line| line.contains(kind)).unwrap().to_owned();
    assert!(line("intent").contains("t1/1  process.exec"), "{said}");
    assert!(line("outcome").contains("exited"), "{said}");
    let json = text(&owner(&node, &["history", "--count", "1", "--json"]).await);
    let entry: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(entry["kind"], "outcome");
    kill(agent).await;
    let failed = owner(&node, &["history"]).await;
    assert!(String::from_utf8_lossy(&failed.stderr).contains("CX-0404"), "{failed:?}");
}

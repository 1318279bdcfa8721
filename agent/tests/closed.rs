//! An agent whose journal cannot be used: it stays connected, takes no work, says why and what helps, and goes on by itself
//! once that was done.
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

fn journal(node: &Machine, words: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cortex-agent"));
    command.arg("journal").args(words).arg("--data-dir").arg(node.dir.path());
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

/// A node that has run one task, with its agent gone.
async fn used() -> (Gateway, Machine, String) {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, sh("echo remembered")).await;
    connection.outcome().await;
    kill(agent).await;
    let incarnation = connection.hello.incarnation.clone();
    (gateway, node, incarnation)
}

/// The next frame that is no outcome: those of the past are told again.
async fn next(connection: &mut Connection) -> Up {
    loop {
        match connection.next().await {
            Up::Outcome(_) => {}
            other => return other,
        }
    }
}

async fn refused(connection: &mut Connection) -> Error {
    connection.send(Down::Offer(offer("t9", 9, echo("x")))).await;
    let Up::Busy(busy) = next(connection).await else { panic!() };
    assert_eq!(busy.reason(), BusyReason::Unable);
    busy.error.unwrap()
}

/// Runs a task to its outcome.
async fn run(connection: &mut Connection, task: &str, spec: TaskSpec) {
    connection.send(Down::Offer(offer(task, 1, spec))).await;
    let Up::Claim(_) = next(connection).await else { panic!() };
    connection.go(&connection.hello.session.clone(), task, 1).await;
    while connection.outcome().await.task_id != task {}
}

#[tokio::test]
async fn a_damaged_journal_is_said_from_afar_and_recovering_it_brings_the_node_back() {
    let (mut gateway, node, incarnation) = used().await;
    // Break the store in its middle.
    let path = node.path("journal/log.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(connection.hello.incarnation, incarnation, "it still says which journal it lost");
    let unable = connection.hello.manifest.clone().unwrap().unable.unwrap();
    assert_eq!(unable.code, "CX-1402", "{unable:?}");
    let error = refused(&mut connection).await;
    assert_eq!(error.code, "CX-1402");
    assert!(error.hint.contains("journal recover"), "{}", error.hint);
    let doctor = journal(&node, &["doctor"]);
    assert!(!doctor.status.success());
    assert!(text(&doctor).contains("journal recover"), "{}", text(&doctor));

    let recovered = journal(&node, &["recover", "--reason", "corrupt"]);
    assert!(recovered.status.success(), "{}", text(&recovered));
    let evidence = std::fs::read_dir(node.path("evidence")).unwrap().next().unwrap().unwrap();
    let kept = evidence.path().join("journal");
    assert_eq!(std::fs::read(kept.join("log.redb")).unwrap(), bytes, "evidence is not changed");
    let sums = std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(&kept)
        .status();
    assert!(sums.unwrap().success());
    let mut connection = gateway.welcome().await;
    assert_ne!(connection.hello.incarnation, incarnation);
    assert!(connection.hello.manifest.clone().unwrap().unable.is_none());
    run(&mut connection, "t2", echo("back")).await;
    // The new journal names the old one.
    let shown = journal(&node, &["show", "--seq", "0"]);
    let shown = text(&shown);
    assert!(shown.contains(&format!("pred.log: {incarnation}")), "{shown}");
    assert!(shown.contains("pred.reason: corrupt"), "{shown}");
    let again = journal(&node, &["recover"]);
    assert!(text(&again).contains("nothing to recover"), "{}", text(&again));
    kill(agent).await;
}

#[tokio::test]
async fn a_journal_held_by_another_process_is_waited_for() {
    let (mut gateway, node, incarnation) = used().await;
    let [domain, id, workspace, version] = ["cortex", "n1", "default", "0"].map(str::to_owned);
    let who = cortex_agent::journal::Identity { domain, node: id, workspace, agent: version };
    let settings = cortex_agent::journal::Settings::default();
    let held = cortex_agent::journal::Journal::open(&node.path("journal"), &who, settings).unwrap();
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(connection.hello.incarnation, incarnation);
    assert_eq!(refused(&mut connection).await.code, "CX-1407");
    drop(held);
    let mut connection = gateway.welcome().await;
    assert_eq!(connection.hello.incarnation, incarnation);
    run(&mut connection, "t2", echo("back")).await;
    kill(agent).await;
}

#[tokio::test]
async fn a_file_that_is_deleted_under_a_running_agent_stops_work() {
    let (mut gateway, node, _) = used().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    std::fs::remove_file(node.path("journal/ahead.a")).unwrap();
    connection.send(Down::Offer(offer("t2", 1, sh("touch must-not-run")))).await;
    let Up::Claim(_) = next(&mut connection).await else { panic!() };
    connection.go(&connection.hello.session.clone(), "t2", 1).await;
    // The intent is refused, so the attempt never started and is not known.
    let refusal = async {
        for id in 10.. {
            connection.send(Down::Offer(offer(&format!("t{id}"), id, echo("x")))).await;
            match next(&mut connection).await {
                Up::Busy(busy) if busy.reason() == BusyReason::Unable => {
                    return busy.error.unwrap();
                }
                Up::Busy(_) => {}
                Up::Claim(_) => {
                    let no_go = NoGo { offer_id: id, task_id: format!("t{id}"), ..NoGo::default() };
                    connection.send(Down::NoGo(no_go)).await;
                }
                other => panic!("{other:?}"),
            }
        }
        unreachable!("there are enough numbers")
    };
    let error = within("the refusal", refusal).await;
    assert_eq!(error.code, "CX-1406");
    assert!(error.message.contains("ahead.a"), "{}", error.message);
    assert!(!node.path("tmp/must-not-run").exists());
    kill(agent).await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(refused(&mut connection).await.code, "CX-1403");
    kill(agent).await;
}

#[tokio::test]
async fn the_journal_can_be_read_beside_the_agent_and_shows_what_it_commits_to() {
    let (mut gateway, node, _) = used().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    run(&mut connection, "t2", sh("echo also-here; exit 3")).await;
    let shown = journal(&node, &["show", "--task", "t2"]);
    let shown = text(&shown);
    for words in ["intent", "also-here", "outcome", "exit_code: 3", "actor.id: tester"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let verified = journal(&node, &["verify"]);
    assert_eq!(verified.status.code(), Some(3), "nobody who is trusted vouches for it");
    assert!(text(&verified).contains("each follows the one before"), "{}", text(&verified));
    let doctor = journal(&node, &["doctor"]);
    assert!(doctor.status.success(), "{}", text(&doctor));
    assert!(text(&doctor).contains("an agent has it open"));
    let busy = journal(&node, &["recover", "--force"]);
    assert!(text(&busy).contains("in use by another process"), "{}", text(&busy));
    kill(agent).await;
}

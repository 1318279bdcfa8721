//! The agent killed with SIGKILL: nothing survives it, everything is recorded, nothing runs twice.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

mod support;

use cortex_agent::journal::{Identity, Journal, Settings};
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;
use std::collections::BTreeSet;
use support::*;

/// Opens the journal of a node whose agent is gone, checks the whole chain, and says how many intents are open and which
/// attempts have one.
async fn verify(node: &Machine) -> (usize, BTreeSet<String>) {
    let [domain, id, workspace, agent] = ["cortex", "n1", "default", "test"].map(str::to_owned);
    let who = Identity { domain, node: id, workspace, agent };
    let (journal, open) = Journal::open(&node.path("journal"), &who, Settings::default()).unwrap();
    let mut checker = cortex_audit::ChainChecker::new();
    let mut intents = BTreeSet::new();
    for body in journal.records(0, usize::MAX).await.unwrap() {
        let record = checker.push(&body).unwrap();
        if record.kind == "intent" {
            intents.insert(record.data.get("cmd").unwrap().as_text().unwrap().to_owned());
        }
    }
    assert_eq!(checker.open().len(), open.len());
    (open.len(), intents)
}

fn long_task(node: &Machine, task: &str) -> (TaskSpec, std::path::PathBuf) {
    let file = node.path(&format!("pid-{task}"));
    // The grandchild leaves the process group; its marks stay.
    let script = format!(
        "echo running; setsid sh -c 'echo $$ > {}; exec sleep 1000' & wait",
        file.display()
    );
    (sh(&script), file)
}

#[tokio::test]
async fn a_killed_agent_leaves_no_process_and_reports_the_attempt_as_interrupted() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let (spec, file) = long_task(&node, "t1");
    connection.dispatch("t1", 1, spec).await;
    let pid = appears(&file).await;
    kill(agent).await;
    // The guard does this; no agent is running.
    is_gone(&pid).await;

    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(connection.hello.attempts.len(), 1);
    let report = connection.outcome().await;
    assert_eq!((report.task_id.as_str(), report.fence), ("t1", 42));
    let ending::Kind::Interrupted(found) = ending(&report) else { panic!() };
    assert!(found.found.contains("the agent died"), "{}", found.found);
    assert_eq!(connection.query("t1").await.phase(), AttemptPhase::Known);
    connection.ack_outcome("t1").await;
    kill(agent).await;
    assert_eq!(verify(&node).await.0, 0);
}

#[tokio::test]
async fn what_even_the_guard_could_not_end_is_ended_at_the_next_start() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let (spec, file) = long_task(&node, "t1");
    connection.dispatch("t1", 1, spec).await;
    let pid = appears(&file).await;
    let guards = children(agent.id().unwrap(), "__guard");
    assert_eq!(guards.len(), 1);
    for guard in guards {
        let guard = rustix::process::Pid::from_raw(guard).unwrap();
        rustix::process::kill_process(guard, rustix::process::Signal::KILL).unwrap();
    }
    kill(agent).await;
    let left = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    assert!(left.is_ok(), "it should still run: nobody has ended it");
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    is_gone(&pid).await;
    let ending::Kind::Interrupted(found) = ending(&connection.outcome().await) else { panic!() };
    assert!(found.found.contains("were ended"), "{}", found.found);
    kill(agent).await;
}

#[tokio::test]
async fn ten_tasks_of_a_killed_agent_leave_no_process_and_each_ends_as_interrupted() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.command(&gateway).args(["--slots", "10"]).spawn().unwrap();
    let mut connection = gateway.welcome().await;
    let mut pids = Vec::new();
    for id in 1..=10 {
        let name = format!("t{id}");
        let (spec, file) = long_task(&node, &name);
        connection.dispatch(&name, id, spec).await;
        pids.push(file);
    }
    let mut left = Vec::new();
    for file in pids {
        left.push(appears(&file).await);
    }
    kill(agent).await;
    // No agent runs while this happens.
    for pid in left {
        is_gone(&pid).await;
    }
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut ended = std::collections::BTreeSet::new();
    while ended.len() < 10 {
        let report = connection.outcome().await;
        assert!(matches!(ending(&report), ending::Kind::Interrupted(_)), "{report:?}");
        ended.insert(report.task_id.clone());
        connection.ack_outcome(&report.task_id).await;
    }
    kill(agent).await;
    assert_eq!(verify(&node).await.0, 0);
}

/// Children of a process whose command line has a word.
fn children(parent: u32, word: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let child =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2)?.parse().ok());
        child == Some(parent) && String::from_utf8_lossy(&line).contains(word)
    })
    .collect()
}

#[tokio::test]
async fn killed_between_the_durable_intent_and_the_first_process_it_never_runs_the_attempt() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let (library, armed, effect) =
        (node.library("strike"), node.path("armed"), node.path("effect"));
    let mut command = node.command(&gateway);
    let mut agent =
        command.env("LD_PRELOAD", &library).env("CORTEX_TEST_STRIKE", &armed).spawn().unwrap();
    let mut connection = gateway.welcome().await;
    std::fs::write(&armed, "").unwrap();
    let script = format!("echo x >> {}", effect.display());
    connection.dispatch("t1", 1, sh(&script)).await;
    let status = within("the agent's death", agent.wait()).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert_eq!(verify(&node).await.0, 1, "the intent is durable");
    assert!(!effect.exists(), "and nothing was started");

    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let report = connection.outcome().await;
    assert!(matches!(ending(&report), ending::Kind::Interrupted(_)), "{report:?}");
    let down = Down::Offer(offer("t1", 9, sh(&script)));
    connection.send(down).await;
    match connection.next().await {
        agent_frame::Body::Busy(busy) => assert_eq!(busy.reason(), BusyReason::KnownAttempt),
        other => panic!("{other:?}"),
    }
    connection.ack_outcome("t1").await;
    kill(agent).await;
    assert!(!effect.exists(), "nobody knows how far it got, so it is not run again");
}

#[tokio::test]
async fn killed_again_and_again_at_work_it_never_runs_an_attempt_twice() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let effects = node.path("effects");
    std::fs::create_dir(&effects).unwrap();
    let mut started = 0;
    for round in 0..8_u64 {
        let agent = node.start(&gateway);
        let mut connection = gateway.welcome().await;
        let session = connection.hello.session.clone();
        // Also offers every attempt of the past once more.
        for task in 0..=started {
            let name = format!("t{task}");
            let script = format!("echo x >> {}/{name}", effects.display());
            let id = round * 1000 + task + 1;
            let down =
                cortex_model::proto::gateway_frame::Body::Offer(offer(&name, id, sh(&script)));
            connection.send(down).await;
            connection.go(&session, &name, id).await;
        }
        if round == 7 {
            // However slow the machine is: something has run in the end.
            until("an effect", || std::fs::read_dir(&effects).unwrap().next().is_some()).await;
        } else {
            // Each offer is answered, so these frames come; then it is killed, wherever it is.
            for _ in 0..random.u64(0..=started) {
                connection.next().await;
            }
        }
        kill(agent).await;
        let (_, intents) = verify(&node).await;
        // Whatever was started left its mark, and has an intent.
        for entry in std::fs::read_dir(&effects).unwrap().map(Result::unwrap) {
            let attempt = format!("{}/1", entry.file_name().to_string_lossy());
            assert!(intents.contains(&attempt), "{attempt} ran without an intent");
        }
        started += 4;
    }
    let ran: Vec<_> = std::fs::read_dir(&effects).unwrap().map(Result::unwrap).collect();
    assert!(!ran.is_empty(), "nothing ran at all");
    for entry in ran {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        assert_eq!(text, "x\n", "{:?} ran more than once", entry.file_name());
    }
}

//! The network between agent and gateway goes away, for longer than every timeout, while a task writes.

use crate::support::{Agent, Proxy, Server, effects, sha256, text, wait};
use std::time::Duration;

/// Heartbeats make either side give a connection up after 3 s; offers, queries and credit wait less.
const OUTAGE: Duration = Duration::from_secs(8);

/// 53,888,896 bytes.
const LAST: u64 = 7_000_000;

#[test]
fn fifty_megabytes_written_during_an_outage_arrive_to_the_byte() {
    let server = Server::start(&["--no-agent"]);
    let proxy = Proxy::start(&server, "far");
    let mut agent = Agent::prepare(&server, "far", proxy.endpoint(), &[]);
    agent.launch();
    agent.until_online(&server);
    let written = server.path("written");
    let script = format!(
        "seq 1 {0}; echo > {2}; seq {1} {LAST}; echo > {2}.all",
        LAST / 10,
        LAST / 10 + 1,
        text(&written)
    );
    let client = server.spawn(&["run", "--node", "far", "--", "sh", "-c", &script]);
    wait::until("the first part", || written.exists().then_some(()));
    proxy.cut();
    wait::until("the whole to be written", || server.path("written.all").exists().then_some(()));
    wait::pass(OUTAGE);
    let away = server.nodes();
    assert_eq!(away[0]["online"], false, "the outage was not noticed: {away:?}");
    proxy.heal();
    let ended = client.end().ok();
    let expected: String = (1..=LAST).map(|n| format!("{n}\n")).collect();
    assert_eq!(ended.stdout.len(), expected.len());
    assert_eq!(sha256(&ended.stdout), sha256(expected.as_bytes()));
    let tasks = server.tasks(&["--node", "far"]);
    let task = &tasks[0];
    assert_eq!((&task["state"], &task["attempt"]), (&"succeeded".into(), &1.into()));
    assert_eq!(task["outcome"]["stdout_sha256"], sha256(expected.as_bytes()));
}

#[test]
fn a_connection_that_is_cut_again_and_again_delivers_in_order() {
    let server = Server::start(&["--no-agent"]);
    let proxy = Proxy::start(&server, "shaky");
    let mut agent = Agent::prepare(&server, "shaky", proxy.endpoint(), &[]);
    agent.launch();
    agent.until_online(&server);
    let client = server.spawn(&["run", "--node", "shaky", "--", "seq", "1", "2000000"]);
    for step in 1..=4 {
        let goal = proxy.passed() + 600_000;
        wait::until("bytes to pass, or the end", || {
            let over = String::from_utf8_lossy(&client.stdout()).ends_with("\n2000000\n");
            (proxy.passed() >= goal || over).then_some(())
        });
        proxy.cut();
        wait::pass(Duration::from_millis(100 * step));
        proxy.heal();
    }
    let expected: String = (1..=2_000_000).map(|n| format!("{n}\n")).collect();
    let ended = client.end().ok();
    assert_eq!(sha256(&ended.stdout), sha256(expected.as_bytes()), "{} bytes", ended.stdout.len());
}

#[test]
fn what_is_safe_to_repeat_moves_on_and_the_late_report_changes_nothing() {
    let server = Server::start(&["--no-agent"]);
    let proxy = Proxy::start(&server, "far");
    let mut far = Agent::prepare(&server, "far", proxy.endpoint(), &[]);
    far.launch();
    far.until_online(&server);
    let (gate, file) = (server.path("gate"), server.path("effects"));
    // The first attempt waits, and fails when it may go on; the second succeeds at once.
    let script = format!(
        "echo x >> {1}; [ $(wc -l < {1}) -gt 1 ] && exit 0; while ! [ -e {0} ]; do sleep 0.02; done; exit 8",
        text(&gate),
        text(&file)
    );
    let flags = ["--safe-to-repeat", "--node-lost-grace", "500ms"];
    let id = server.submit(&flags, &["sh", "-c", &script]);
    wait::until("its effect", || (effects(&file) == 1).then_some(()));
    proxy.cut();
    let _near = Agent::join(&server, "near", &[]);
    let task = server.until_state(&id, &["succeeded", "failed"]);
    assert_eq!((&task["state"], &task["node"]), (&"succeeded".into(), &"near".into()), "{task:#}");
    std::fs::write(&gate, "").unwrap();
    proxy.heal();
    wait::until("the late report", || {
        server.events(&id).contains(&"LateOutcome".to_owned()).then_some(())
    });
    let task = server.task(&id);
    assert_eq!((&task["state"], &task["attempt"]), (&"succeeded".into(), &2.into()));
    assert_eq!(effects(&file), 2);
}

#[test]
fn a_cancel_during_an_outage_is_carried_out_when_the_node_is_back() {
    let server = Server::start(&["--no-agent"]);
    let proxy = Proxy::start(&server, "far");
    let mut agent = Agent::prepare(&server, "far", proxy.endpoint(), &[]);
    agent.launch();
    agent.until_online(&server);
    let mark = text(&server.path("mark-of-outage"));
    let script = format!("while true; do sleep 1; done # {mark}");
    let id = server.submit(&["--node", "far"], &["sh", "-c", &script]);
    server.until_state(&id, &["running"]);
    proxy.cut();
    server.cortex(&["task", "cancel", &id]).ok();
    wait::until("the outage to be noticed", || {
        (server.nodes()[0]["online"] == false).then_some(())
    });
    assert_eq!(server.task(&id)["state"], "running");
    assert_eq!(server.task(&id)["cancel_requested"], true);
    proxy.heal();
    server.until_state(&id, &["cancelled"]);
    assert_eq!(crate::support::processes::with_argument(&mark), Vec::<i32>::new());
}

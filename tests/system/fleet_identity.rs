//! Who may be here when tunnels and watches end at another gateway than the one that is told: revocation, quarantine, and a gateway
//! that slept while its node went elsewhere. On a real nats-server, with real agents.

use crate::support::run::{self, Running};
use crate::support::{Fleet, Server, effects, text, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How soon a revocation must have taken effect everywhere.
const SOON: Duration = Duration::from_secs(2);

/// A fleet whose agent's tunnel ends at the second gateway; the first one is told everything.
fn fleet() -> Fleet {
    Fleet::start(1, &["--slots", "4"])
}

#[track_caller]
fn soon(what: &str, since: Instant, ask: impl FnMut() -> Option<()>) {
    wait::until(what, ask);
    assert!(since.elapsed() < SOON, "{what}: {:?}", since.elapsed());
}

fn node(gateway: &Server) -> Value {
    gateway.cortex(&["node", "show", "n1", "--json"]).ok().json()
}

/// A script that counts its effect and waits for the gate.
fn gated(gateway: &Server) -> String {
    let (file, gate) = (text(&gateway.path("effects")), text(&gateway.path("gate")));
    format!("echo x >> {file}; echo begun; while ! [ -e {gate} ]; do sleep 0.02; done; echo done")
}

fn running(gateway: &Server, flags: &[&str]) -> String {
    let id = gateway.submit(flags, &["sh", "-c", &gated(gateway)]);
    gateway.until_state(&id, &["running"]);
    id
}

#[test]
fn a_node_that_is_revoked_at_one_gateway_is_cut_at_the_other_and_its_work_ends_in_the_truth() {
    let fleet = fleet();
    let [a, b] = &fleet.gateways;
    let once = running(a, &[]);
    let again = running(a, &["--safe-to-repeat", "--node-lost-grace", "1s"]);
    let waiting = a.submit(&["--node", "n1", "--require", "nothere"], &["true"]);
    a.cortex(&["node", "revoke", "n1", "--reason", "stolen"]).ok();
    let since = Instant::now();
    soon("the agent to be told", since, || fleet.agent.log().contains("CX-0509").then_some(()));
    for gateway in [a, b] {
        wait::until("the node to be offline", || {
            (!node(gateway)["online"].as_bool()?).then_some(())
        });
        assert_eq!(node(gateway)["registration"]["state"], "revoked");
        let task = gateway.until_state(&once, &["indeterminate"]);
        let evidence = task["evidence"].as_str().unwrap();
        assert!(evidence.contains("revoked") && evidence.contains("stolen"), "{evidence}");
        // Given up, and offered to nobody: no other node is there.
        gateway.until_state(&again, &["pending"]);
        assert_eq!(gateway.events(&waiting), ["Submitted"]);
    }
    let late = b.submit(&["--node", "n1"], &["true"]);
    let free = a.submit(&[], &["true"]);
    // What would be dispatched at once if the node were still there.
    wait::until("an explanation", || {
        let said = a.cortex(&["task", "explain", &free]);
        (said.code == 0).then_some(())
    });
    for id in [&late, &free, &waiting] {
        assert_eq!(a.events(id), ["Submitted"]);
    }
    assert_eq!(effects(&a.path("effects")), 2);
    let evil = a.cortex(&["node", "approve", "n1"]);
    evil.with(125).complains(&["CX-0519"]);
}

#[test]
fn a_node_in_quarantine_is_cut_at_the_other_gateway_keeps_its_work_and_comes_back() {
    let fleet = fleet();
    let [a, b] = &fleet.gateways;
    let id = running(a, &[]);
    a.cortex(&["node", "quarantine", "n1", "--reason", "odd"]).ok();
    let since = Instant::now();
    soon("the agent to be told", since, || fleet.agent.log().contains("CX-0508").then_some(()));
    wait::until("the node to be offline", || (!node(b)["online"].as_bool()?).then_some(()));
    let meanwhile = b.submit(&[], &["echo", "meanwhile"]);
    assert_eq!(node(b)["registration"]["state"], "quarantined");
    // It works on, and nobody says otherwise: it may come back.
    assert_eq!(b.task(&id)["state"], "running");
    assert_eq!(b.events(&meanwhile), ["Submitted"]);
    std::fs::write(a.path("gate"), "").unwrap();
    b.cortex(&["node", "approve", "n1", "--reason", "looked at it"]).ok();
    for task in [&id, &meanwhile] {
        a.until_state(task, &["succeeded"]);
        assert_eq!(a.events(task), ["Submitted", "Started", "Finished"]);
    }
    assert_eq!(effects(&a.path("effects")), 1);
}

#[test]
fn a_token_that_is_revoked_at_one_gateway_ends_its_watch_at_the_other() {
    let fleet = fleet();
    let [a, b] = &fleet.gateways;
    let id = running(a, &[]);
    let token = a.user_token(&["--role", "viewer", "--for", "anna"]);
    let dir = b.client_dir("anna", &token);
    let as_anna = |args: &[&str]| {
        let mut command = run::command(&dir);
        command.env("CORTEX_ACTOR_ID", "anna").args(args);
        Running::start(command, b"")
    };
    wait::until("the other gateway to know the token", || {
        (as_anna(&["whoami"]).end().code == 0).then_some(())
    });
    let mut watch = as_anna(&["task", "watch", &id]);
    let others = b.spawn(&["task", "watch", &id]);
    watch.until_it_says("begun");
    let token_id = token.split('.').nth(2).unwrap();
    a.cortex(&["token", "revoke", token_id]).ok();
    let since = Instant::now();
    soon("the watch to end", since, || watch.is_over().then_some(()));
    watch.end().with(125).complains(&["CX-0504", "hint"]);
    as_anna(&["task", "list"]).end().with(125).complains(&["CX-0504"]);
    // Another one's watch of the same task goes on.
    std::fs::write(a.path("gate"), "").unwrap();
    others.end().ok().says(&["done"]);
}

#[test]
fn a_gateway_that_slept_while_its_node_went_elsewhere_lets_it_go_when_it_wakes() {
    let fleet = Fleet::start(0, &[]);
    let [a, b] = &fleet.gateways;
    let before = node(b)["gateway"].clone();
    let id = running(a, &[]);
    fleet.lead_agent_to(1);
    a.up_process().signal(Signal::STOP);
    wait::until("the node at the other gateway", || {
        let shown = node(b);
        (shown["online"] == true && shown["gateway"] != before).then_some(())
    });
    std::fs::write(a.path("gate"), "").unwrap();
    b.until_state(&id, &["succeeded"]);
    a.up_process().signal(Signal::CONT);
    wait::until("the older connection to end", || {
        a.up_process().stderr().contains("tunnel ended").then_some(())
    });
    assert_eq!(b.events(&id), ["Submitted", "Started", "Finished"]);
    assert_eq!(effects(&a.path("effects")), 1);
    assert_eq!(a.run(&["echo", "next"]).ok().text(), "next\n");
    assert_ne!(node(a)["gateway"], before);
}

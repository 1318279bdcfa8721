//! The audit when something dies or lies: nothing of a journal is lost, nothing stands twice, what is countersigned is stored, and a copy of
//! a node is found out with evidence on both sides.

use crate::audit::{journal, on_node, policy, until_told, verdict};
use crate::support::agent::copy;
use crate::support::{Agent, Fleet, Server, text, wait};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Waits until all of these tasks are recorded from intent to outcome, once each, and proven.
#[track_caller]
pub(crate) fn all_recorded_once(server: &Server, ids: &[String]) {
    for id in ids {
        let told = until_told(server, id, "outcome");
        let kinds: Vec<_> = told.iter().map(|record| record["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["intent", "outcome"], "{id}");
    }
}

/// The server's whole copy verifies, and the node's own says the same as far as both go.
#[track_caller]
fn both_copies_verify(server: &Server, node: &str, policy: &str) {
    let verified = server.cortex(&["audit", "verify", node, "--policy", policy, "--json"]).ok();
    let source = &verified.json()["sources"][0];
    assert_eq!(source["freshness"]["cosigned_size"], source["range"][1], "{source}");
}

/// Waits until nothing of what an export holds is missing on the server, and all of it is the same to the byte.
#[track_caller]
fn until_there_again(server: &Server, kept: &Path, policy: &str) {
    let notes = std::fs::read_dir(kept.join("checkpoints")).unwrap();
    let since = notes.map(|note| text(&note.unwrap().path())).max().unwrap();
    wait::until("the records to be there again", || {
        let bundle = text(kept);
        let both = ["audit", "verify", "n1", "--bundle", &bundle, "--policy", policy];
        let verified = server.cortex(&[&both[..], &["--since", &since]].concat());
        (verified.code == 0).then_some(())
    });
}

/// So many tasks, accepted by somebody.
pub(crate) fn submit(server: &Server, count: usize) -> Vec<String> {
    (0..count).map(|n| server.submit(&[], &["echo", &n.to_string()])).collect()
}

#[test]
fn a_server_that_is_killed_during_replay_loses_and_doubles_nothing() {
    let mut server = Server::start(&[]);
    let node = server.nodes()[0]["node"].as_str().unwrap().to_owned();
    let mut ids = Vec::new();
    for round in 0..5 {
        ids.extend(submit(&server, 8));
        // Somewhere between offer, intent, upload, store and cosignature.
        wait::pass(Duration::from_millis(fastrand::u64(0..400)));
        server.kill_up();
        if round % 2 == 1 {
            // What runs goes on meanwhile, and is uploaded later.
            wait::pass(Duration::from_millis(300));
        }
        server.up();
    }
    for id in &ids {
        server.until_state(id, &["succeeded"]);
    }
    all_recorded_once(&server, &ids);
    let policy = policy(&server);
    both_copies_verify(&server, &node, &policy);
    on_node(&server, &["verify", "--policy", &policy]).ok();
    let log = journal(&server, &node).unwrap();
    assert_eq!(log["standing"], "active", "{log}");
}

#[test]
fn whatever_is_killed_of_a_fleet_during_replay_nothing_is_lost_or_doubled() {
    let mut fleet = Fleet::start(0, &[]);
    fleet.start_mirror(0);
    fleet.start_mirror(1);
    let mut ids = Vec::new();
    for round in 0..6 {
        ids.extend(submit(&fleet.gateways[1], 6));
        wait::pass(Duration::from_millis(fastrand::u64(0..300)));
        match round % 3 {
            0 => {
                fleet.kill_mirror(round % 2);
                ids.extend(submit(&fleet.gateways[1], 2));
                fleet.start_mirror(round % 2);
            }
            1 => {
                fleet.gateways[0].kill_up();
                ids.extend(submit(&fleet.gateways[1], 2));
                fleet.gateways[0].up();
                fleet.lead_agent_to(0);
            }
            _ => {
                fleet.nats.kill();
                wait::pass(Duration::from_millis(200));
                fleet.nats.restart();
                fleet.gateways.iter().for_each(Server::until_answers);
            }
        }
    }
    let gateway = &fleet.gateways[1];
    for id in &ids {
        gateway.until_state(id, &["succeeded"]);
    }
    all_recorded_once(gateway, &ids);
    both_copies_verify(gateway, "n1", &policy(gateway));
    assert_eq!(journal(gateway, "n1").unwrap()["standing"], "active");
}

#[test]
fn what_a_restored_log_has_forgotten_is_sent_again_and_was_countersigned_only_once() {
    let mut server = Server::start(&["--no-agent"]);
    let mut agent = Agent::join(&server, "n1", &[]);
    let early = submit(&server, 3);
    all_recorded_once(&server, &early);
    let policy = policy(&server);
    server.terminate();
    let backup = server.path("backup");
    copy(server.data(), &backup);
    server.up();
    agent.until_online(&server);
    let late = submit(&server, 5);
    all_recorded_once(&server, &late);
    let kept = server.path("kept");
    server.cortex(&["audit", "export", "n1", &text(&kept)]).ok();
    // The backup comes back: records, openings and what the mirror signed since are gone from the server.
    server.terminate();
    std::fs::remove_dir_all(server.data()).unwrap();
    copy(&backup, server.data());
    server.up();
    agent.until_online(&server);
    until_there_again(&server, &kept, &policy);
    let after = submit(&server, 2);
    all_recorded_once(&server, &after);
    agent.kill();
}

#[test]
fn what_a_jetstream_that_was_set_back_has_forgotten_is_sent_again_too() {
    let mut fleet = Fleet::start(0, &[]);
    fleet.start_mirror(0);
    all_recorded_once(&fleet.gateways[0], &submit(&fleet.gateways[0], 3));
    let policy = policy(&fleet.gateways[0]);
    let (live, backup) = (fleet.gateways[0].path("nats/data"), fleet.gateways[0].path("backup"));
    fleet.nats.kill();
    copy(&live, &backup);
    fleet.nats.restart();
    fleet.gateways.iter().for_each(Server::until_answers);
    all_recorded_once(&fleet.gateways[0], &submit(&fleet.gateways[0], 5));
    let kept = fleet.gateways[0].path("kept");
    fleet.gateways[0].cortex(&["audit", "export", "n1", &text(&kept)]).ok();
    // Whoever remembers more than the log dies with it; the agent remembers its journal.
    fleet.kill_mirror(0);
    (0..2).for_each(|number| fleet.kill_scheduler(number));
    fleet.gateways.iter_mut().for_each(Server::kill_up);
    fleet.nats.kill();
    std::fs::remove_dir_all(&live).unwrap();
    copy(&backup, &live);
    fleet.nats.restart();
    fleet.gateways.iter_mut().for_each(Server::up);
    (0..2).for_each(|_| fleet.start_scheduler());
    fleet.start_mirror(0);
    fleet.lead_agent_to(0);
    fleet.agent.until_online(&fleet.gateways[0]);
    until_there_again(&fleet.gateways[0], &kept, &policy);
    all_recorded_once(&fleet.gateways[0], &submit(&fleet.gateways[0], 2));
}

#[test]
fn of_two_clones_the_second_is_found_out_with_evidence_on_both_sides() {
    let server = Server::start(&["--no-agent"]);
    let mut agent = Agent::join(&server, "n1", &[]);
    all_recorded_once(&server, &submit(&server, 2));
    // Something runs when the machine is copied: each copy writes down how that ended, in its own words.
    let cut = server.submit(&[], &["sleep", "600"]);
    server.until_state(&cut, &["running"]);
    agent.kill();
    let mut clone = agent.copied(&server, "clone");
    // The first goes on and is countersigned.
    agent.launch();
    agent.until_online(&server);
    until_told(&server, &cut, "outcome");
    all_recorded_once(&server, &submit(&server, 2));
    let policy = policy(&server);
    server.cortex(&["audit", "verify", "n1", "--policy", &policy]).ok();
    agent.kill();
    clone.launch();
    let log = wait::until("the quarantine", || {
        journal(&server, "n1").filter(|log| log["standing"] == "QUARANTINED")
    });
    assert!(log["reason"].as_str().unwrap().contains("two histories"), "{log}");
    // It gets no work.
    let waiting = server.submit(&["--node", "n1"], &["echo", "never"]);
    server.cortex(&["audit", "show", "n1"]).ok().says(&["QUARANTINED, fork", "gets no work"]);
    // Evidence on the node, which stays closed.
    wait::until("evidence on the node", || {
        let kept = std::fs::read_dir(clone.dir().join("evidence")).ok()?;
        kept.flatten().any(|e| e.path().join("SHA256SUMS").exists()).then_some(())
    });
    // And on the server: an export proves the fork to anybody, offline.
    let bundle = server.path("bundle");
    server.cortex(&["audit", "export", "n1", &text(&bundle)]).ok();
    let judged = ["audit", "verify", "--bundle", &text(&bundle), "--policy", &policy];
    server.cortex(&judged).with(4).says(&["FORK"]);
    assert_eq!(verdict(&server, &bundle, &policy), 4);
    assert_eq!(server.task(&waiting)["state"], "pending");
    // Somebody looked: the true one works again, and both facts stay in the history.
    clone.kill();
    server.cortex(&["audit", "settle", "n1", "--reason", "the clone was wiped"]).ok();
    agent.launch();
    agent.until_online(&server);
    server.until_state(&waiting, &["succeeded"]);
    let found = server.cortex(&["audit", "show", "n1", "--json"]).ok().json();
    let events: Vec<&Value> = found["events"].as_array().unwrap().iter().collect();
    for kind in ["quarantined", "settled"] {
        assert!(events.iter().any(|event| event["kind"] == kind), "{found}");
    }
}

#[test]
fn a_tail_that_nobody_had_countersigned_and_is_cut_off_is_missed() {
    let mut fleet = Fleet::start(0, &[]);
    fleet.start_mirror(0);
    all_recorded_once(&fleet.gateways[0], &submit(&fleet.gateways[0], 2));
    // Nobody countersigns what comes now.
    fleet.kill_mirror(0);
    fleet.agent.kill();
    let snapshot = fleet.agent.copied(&fleet.gateways[0], "snapshot");
    fleet.agent.launch();
    fleet.agent.until_online(&fleet.gateways[0]);
    let hidden = fleet.gateways[0].submit(&[], &["echo", "hidden"]);
    fleet.gateways[0].until_state(&hidden, &["succeeded"]);
    fleet.agent.kill();
    // The machine is set back to before it: every file of it agrees with every other.
    std::fs::remove_dir_all(fleet.agent.dir()).unwrap();
    copy(snapshot.dir(), fleet.agent.dir());
    fleet.agent.launch();
    fleet.agent.until_online(&fleet.gateways[0]);
    fleet.start_mirror_with(0, &["--reconcile-after", "1s"]);
    let gateway = &fleet.gateways[0];
    let log = wait::until("suspicion", || {
        journal(gateway, "n1").filter(|log| log["standing"] == "SUSPECT")
    });
    let reason = log["reason"].as_str().unwrap();
    assert!(reason.contains(&hidden) && reason.contains("not in the journal"), "{log}");
    gateway.cortex(&["audit", "show", "n1"]).ok().says(&["missing  1 attempts", &hidden]);
    // Suspicion is for a person to look at; work goes on, and is countersigned.
    all_recorded_once(gateway, &submit(gateway, 1));
}

//! A machine that was set back: its newest files, its journal or all of it come from an older copy. What it can see by itself it says when it
//! starts; the rest the mirror or the floor of a dispatch says, before anything runs and before a second history is written.

use crate::audit::{journal, policy, until_told};
use crate::audit_faults::{all_recorded_once, submit};
use crate::support::agent::copy;
use crate::support::run::{self, Ended, Running};
use crate::support::{Agent, Fleet, Server, wait};
use std::path::Path;

/// `cortex-agent journal ...` about a node's own directory.
pub(crate) fn on(agent: &Agent, args: &[&str]) -> Ended {
    let mut command = run::command(agent.dir());
    command.env_remove("CORTEX_DATA_DIR").args(["__agent", "journal"]).args(args);
    command.arg("--data-dir").arg(agent.dir());
    Running::start(command, b"").end()
}

/// What of the old copy comes back; an empty name stands for all of it.
fn put_back(from: &Agent, to: &Agent, what: &[&str]) {
    for what in what {
        let (from, to) = match *what {
            "" => (from.dir().to_owned(), to.dir().to_owned()),
            what => (from.dir().join(what), to.dir().join(what)),
        };
        if from.is_dir() {
            std::fs::remove_dir_all(&to).unwrap();
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// A node with a copy of its state, after which it went on and was countersigned. It does not run.
fn gone_on(server: &Server) -> (Agent, Agent) {
    let mut agent = Agent::join(server, "n1", &[]);
    all_recorded_once(server, &submit(server, 2));
    agent.kill();
    let old = agent.copied(server, "old");
    agent.launch();
    agent.until_online(server);
    all_recorded_once(server, &submit(server, 2));
    // What is upstream is in the store; what comes now says so in the anchors, which then know of a newer store than the old one.
    all_recorded_once(server, &submit(server, 1));
    agent.kill();
    (agent, old)
}

/// Records that the node's own files hold.
fn records(agent: &Agent) -> u64 {
    let verified = on(agent, &["verify", "--json"]);
    verified.json()["size"].as_u64().unwrap()
}

#[test]
fn a_journal_that_was_put_back_is_a_rollback_and_no_fork_and_runs_nothing() {
    for what in ["journal", ""] {
        let server = Server::start(&["--no-agent"]);
        let (mut agent, old) = gone_on(&server);
        put_back(&old, &agent, &[what]);
        let size = records(&agent);
        let waiting = server.submit(&["--node", "n1"], &["echo", "never"]);
        agent.launch();
        let log = wait::until("the quarantine", || {
            journal(&server, "n1").filter(|log| log["standing"] == "QUARANTINED")
        });
        let reason = log["reason"].as_str().unwrap();
        let said = format!("has {size} records, but ");
        assert!(reason.contains(&said) && reason.contains(" were cosigned"), "{what}: {log}");
        server
            .cortex(&["audit", "show", "n1"])
            .ok()
            .says(&["QUARANTINED, rollback", "gets no work"]);
        evidence(&agent);
        assert_eq!(server.task(&waiting)["state"], "pending", "{what}");
        // It wrote nothing that would be a second history, also when it ends in order.
        agent.terminate();
        assert_eq!(records(&agent), size, "{what}");
        on(&agent, &["show", "--task", &waiting]).with(2);
        on(&agent, &["doctor"]).with(5).says(&["WRONG", "journal recover"]);
        // What was countersigned is whole all the same, and says so to whoever asks.
        let policy = policy(&server);
        server.cortex(&["audit", "verify", "n1", "--policy", &policy]).ok();
        // The owner looked, and begins a new journal; the operator looked, and lets it work.
        on(&agent, &["recover"]).ok().says(&["names the old one"]);
        server.cortex(&["audit", "settle", "n1", "--reason", "restored from a backup"]).ok();
        agent.launch();
        server.until_state(&waiting, &["succeeded"]);
        until_told(&server, &waiting, "outcome");
    }
}

#[track_caller]
fn evidence(agent: &Agent) {
    wait::until("evidence on the node", || {
        let kept = std::fs::read_dir(agent.dir().join("evidence")).ok()?;
        kept.flatten().any(|e| e.path().join("SHA256SUMS").exists()).then_some(())
    });
}

#[test]
fn while_no_mirror_answers_the_floor_of_a_dispatch_stops_a_node_that_was_set_back() {
    let mut fleet = Fleet::start(0, &[]);
    fleet.start_mirror(0);
    all_recorded_once(&fleet.gateways[0], &submit(&fleet.gateways[0], 2));
    fleet.agent.kill();
    let old = fleet.agent.copied(&fleet.gateways[0], "old");
    fleet.agent.launch();
    fleet.agent.until_online(&fleet.gateways[0]);
    all_recorded_once(&fleet.gateways[0], &submit(&fleet.gateways[0], 2));
    fleet.agent.kill();
    fleet.kill_mirror(0);
    put_back(&old, &fleet.agent, &[""]);
    let size = records(&fleet.agent);
    let touched = fleet.gateways[0].path("touched");
    fleet.agent.launch();
    fleet.agent.until_online(&fleet.gateways[0]);
    let asked =
        fleet.gateways[0].submit(&[], &["sh", "-c", &format!("echo x > {}", touched.display())]);
    evidence(&fleet.agent);
    let explained = wait::until("the refusal", || {
        let told = fleet.gateways[0].cortex(&["task", "explain", &asked]).text();
        told.contains("CX-14").then_some(told)
    });
    assert!(explained.contains("CX-1409") || explained.contains("CX-1403"), "{explained}");
    assert_eq!(fleet.gateways[0].task(&asked)["state"], "pending");
    fleet.agent.terminate();
    assert_eq!(records(&fleet.agent), size);
    assert!(!Path::new(&touched).exists(), "it ran");
}

#[test]
fn an_older_store_is_filled_up_again_and_older_anchors_take_the_node_out_of_service() {
    let server = Server::start(&["--no-agent"]);
    let (mut agent, old) = gone_on(&server);
    let now = agent.copied(&server, "now");
    put_back(&old, &agent, &["journal/log.redb"]);
    agent.launch();
    agent.until_online(&server);
    all_recorded_once(&server, &submit(&server, 1));
    let policy = policy(&server);
    on(&agent, &["verify", "--policy", &policy]).ok();
    on(&agent, &["show", "--last", "1000"]).ok().says(&["refilled"]);
    assert_eq!(journal(&server, "n1").unwrap()["standing"], "active");
    agent.kill();
    put_back(&now, &agent, &["journal"]);
    put_back(&old, &agent, &["journal/ahead.a", "journal/ahead.b"]);
    agent.launch();
    agent.until_online(&server);
    server.cortex(&["node", "show", "n1"]).ok().says(&["CX-1403"]);
    let waiting = server.submit(&[], &["echo", "never"]);
    wait::until("the reason", || {
        let told = server.cortex(&["task", "explain", &waiting]).text();
        told.contains("CX-1403").then_some(())
    });
    on(&agent, &["doctor"]).with(5).says(&["WRONG", "journal recover"]);
}

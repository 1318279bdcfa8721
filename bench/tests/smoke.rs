//! Shows that the benchmark runs, with everything tiny. The figures of a debug build mean nothing and are not looked at.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

fn bench(args: &[&str]) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let done = Command::new(env!("CARGO_BIN_EXE_cortex-bench"))
        .arg("run")
        .args(args)
        .args(["--tiny", "--seconds", "0.2", "--rounds", "1", "--json"])
        .arg(&json)
        .arg("--directory")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

fn figure(all: &serde_json::Value, name: &str) -> f64 {
    let found = all["figures"].as_array().unwrap().iter().find(|f| f["figure"] == name);
    found.unwrap_or_else(|| panic!("no figure {name:?} in {all:#}"))["value"].as_f64().unwrap()
}

#[test]
fn the_fold_is_measured_and_looks_at_few_nodes_per_decision() {
    let all = bench(&["fold"]);
    assert!(figure(&all, "offers") > 0.0);
    assert!(figure(&all, "nodes examined per decision") >= 1.0);
}

#[test]
fn the_yardstick_writes_and_answers() {
    let all = bench(&["yardstick"]);
    for in_flight in [1, 64, 256] {
        assert!(figure(&all, &format!("p50, {in_flight} in flight")) > 0.0);
    }
}

#[test]
fn agents_are_let_in_beside_bare_handshakes() {
    let all = bench(&["tunnel-auth"]);
    assert!(figure(&all, "handshakes") > 0.0);
    assert!(figure(&all, "tunnels opened") > 0.0);
}

#[test]
fn the_journal_makes_intents_durable() {
    let all = bench(&["journal"]);
    assert!(figure(&all, "durable intent, p50") > 0.0);
    assert!(figure(&all, "records, 64 in flight") > 0.0);
}

#[test]
fn the_agent_is_watched_while_a_task_writes() {
    let all = bench(&["output"]);
    assert!(figure(&all, "output, from submit to durable") > 0.0);
    assert!(figure(&all, "what the agent grows by") >= 0.0);
}

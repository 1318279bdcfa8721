//! A server takes something away from what a node's owner allows. It can give back only what it took.

use super::Owned;
use crate::support::server::kill_all;
use crate::support::{text, wait};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

impl Owned {
    fn node(&self) -> String {
        self.server.nodes()[0]["node"].as_str().unwrap().to_owned()
    }

    /// Sends a text as it is, and waits until the node says what it makes of it.
    #[track_caller]
    fn narrow(&self, text: &str) -> Value {
        let (node, file) = (self.node(), self.server.path("narrowing.toml"));
        fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let sent = ["node", "narrow", &node, "--file", file, "--as-is", "--json"];
        let sent = self.server.cortex(&sent).ok().json();
        self.holds(&sent["narrowing"]["revision"])
    }

    /// What the node says that it holds to, once it holds to this revision.
    #[track_caller]
    fn holds(&self, revision: &Value) -> Value {
        wait::until("the node to say what it holds to", || {
            let nodes = self.server.nodes();
            let held = nodes[0]["narrowed"].clone();
            (nodes[0]["online"] == true && held["revision"] == *revision).then_some(held)
        })
    }
}

#[test]
fn a_server_takes_away_and_gives_back_only_what_it_took() {
    let mut owned = Owned::start(&[]);
    owned.server.run(&["cat", "/etc/os-release"]).ok();
    let sent = "version = 1\ndeny = [\"cat\"]\nfs = \"read-only\"\n[limits.task]\nwall = \"7s\"\noutput = \"1KiB\"\n";
    let held = owned.narrow(sent);
    let takes =
        ["deny cat", "roots read-only", "wall at most 7000 ms", "output at most 1024 bytes"];
    assert_eq!(
        (&held["applied"], &held["ignored"]),
        (&takes.as_slice().into(), &Value::Array(vec![]))
    );
    let denied = |owned: &Owned| {
        let said = owned.server.run(&["cat", "/etc/os-release"]).with(126);
        said.complains(&["CX-1007", "an administrator of the server denies it on this node"]);
    };
    denied(&owned);
    // A script is held to the same, and cannot write where the policy lets it.
    owned.server.cortex(&["run", "-c", "echo x | cat"]).with(126);
    let script = owned.script(
        "w.sh",
        "echo x > made && exit 3\nhead -c 5000 /dev/zero\necho the last words\nexit 4\n",
    );
    let id = owned.server.submit(&[], &["bash", &script]);
    let task = owned.server.until_state(&id, &["failed"]);
    assert_eq!(task["outcome"]["ending"]["code"], 4, "{task}");
    assert_eq!(super::limit(&task, "wall")["limit"], 7_000);
    assert_eq!(super::limit(&task, "output")["limit"], 1_024);
    assert!(!owned.root.join("made").exists());
    // The end of output that is too long is there, and where something is missing is said.
    let outcome = &task["outcome"];
    let (gap, kept) = (outcome["gap_stdout"].as_u64().unwrap(), outcome["stdout_bytes"].as_u64());
    assert!(gap > 0 && gap < kept.unwrap() && outcome["dropped_bytes"].as_u64() > Some(4_000));
    let output = owned.server.cortex(&["task", "output", &id]).ok();
    assert!(output.stdout.ends_with(b"the last words\n"), "{output:?}");
    output.complains(&["bytes of output were dropped", &format!("behind byte {gap} of stdout")]);
    let node = owned.node();
    owned
        .server
        .cortex(&["node", "show", &node])
        .ok()
        .says(&["narrowed yes", "takes away: deny cat"]);
    // It holds across the death of both, and before any server is there.
    let agents = owned.server.agent_pids();
    owned.server.kill_up();
    kill_all(&agents);
    let dir = text(&owned.server.data().join("agent"));
    let explain = ["__agent", "policy", "explain", "--data-dir", &dir, "--", "cat", "/etc/hosts"];
    let explained = owned.server.cortex(&explain);
    assert!(explained.text().contains("rule server denies it"), "{}", explained.text());
    owned.server.up();
    denied(&owned);
    // The node's own record of it.
    let history = owned.owner(&["history", "--json"]).ok().json_lines();
    let record = history.iter().find(|record| record["kind"] == "config").unwrap();
    let what = record["data"]["what"].as_str().unwrap();
    assert!(what.contains("takes away: deny cat; roots read-only"), "{what}");
    assert!(record["data"]["new"].is_string() && record["data"]["old"].is_null(), "{record}");
    let cleared = owned.server.cortex(&["node", "narrow", &node, "--clear", "--json"]).ok().json();
    owned.holds(&cleared["narrowing"]["revision"]);
    owned.server.run(&["cat", "/etc/os-release"]).ok();
    owned.server.cortex(&["node", "show", &node]).ok().says(&["narrowed no more"]);
}

#[test]
fn what_would_widen_is_ignored_and_recorded_and_a_repository_says_nothing() {
    let owned = Owned::start(&[]);
    let outside = owned.server.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "token").unwrap();
    let widening = format!(
        "version = 1\nstrict = \"off\"\nnetwork = \"full\"\ndefault = \"allow\"\n[paths]\nroots = [{outside:?}]\n\
         [[rule]]\nid = \"x\"\nprogram = \"rm\"\nargs = \"any\"\neffect = \"allow\"\n"
    );
    // A repository that brings a policy of its own.
    let brought = owned.root.join(".cortex");
    fs::create_dir(&brought).unwrap();
    fs::write(brought.join("policy.toml"), &widening).unwrap();
    let held = owned.narrow(&widening);
    assert_eq!(held["applied"], Value::Array(vec![]));
    let ignored = held["ignored"].to_string();
    for wish in ["strict", "network", "default", "paths", "rule"] {
        assert!(ignored.contains(&format!("{wish} = ")), "{wish}: {ignored}");
    }
    let secret = outside.join("secret").to_str().unwrap().to_owned();
    owned.server.run(&["cat", &secret]).with(126).complains(&["CX-1003"]);
    owned.server.run(&["rm", "x"]).with(126);
    let script = owned.script("n.sh", "exec 3<> /dev/tcp/127.0.0.1/1\ncat \"$1\"\n");
    let ran = owned.server.run(&["bash", &script, &secret]).with(126);
    ran.complains(&["CX-1003"]);
    let id = owned.server.submit(&[], &["true"]);
    let task = owned.server.until_state(&id, &["succeeded"]);
    assert_eq!(task["outcome"]["confinement"]["network"], "none");
    let history = owned.owner(&["history", "--json"]).ok().json_lines();
    let record = history.iter().find(|record| record["kind"] == "config").unwrap();
    let what = record["data"]["what"].as_str().unwrap();
    assert!(what.contains("takes away: nothing; ignored: ") && what.contains("paths = "), "{what}");
    // What cannot be read at all gives nothing back.
    owned.narrow("version = 1\ndeny = [\"cat\"]\n");
    let held = owned.narrow("version = 9\nnetwork = \"none\"\n");
    assert_eq!(held["applied"], serde_json::json!(["deny cat"]), "{held}");
    assert!(held["ignored"].to_string().contains("version 9 is not known here"), "{held}");
    owned.server.run(&["cat", "/etc/os-release"]).with(126);
    // An administrator who errs hears so before anything is sent.
    let node = owned.node();
    let file = owned.server.path("narrowing.toml");
    fs::write(&file, widening).unwrap();
    let refused = owned.server.cortex(&["node", "narrow", &node, "--file", file.to_str().unwrap()]);
    refused.with(125).complains(&["a server can only take away"]);
}

#[test]
fn terminals_are_taken_away_and_given_back_while_programs_go_on_without() {
    let owned = Owned::start(&[]);
    owned.policy("terminal = \"allow\"");
    let offers = |wanted: bool| {
        wait::until("the node to say whether it has terminals", || {
            let nodes = owned.server.nodes();
            let able = nodes[0]["capabilities"].as_array()?;
            (able.iter().any(|able| able["name"] == "terminal") == wanted).then_some(())
        });
    };
    offers(true);
    let held = owned.narrow("version = 1\nterminal = \"deny\"\n");
    assert_eq!(held["applied"], serde_json::json!(["no terminals"]), "{held}");
    offers(false);
    let dir = text(&owned.server.data().join("agent"));
    let explain =
        ["__agent", "policy", "explain", "--data-dir", &dir, "--tty", "--", "cat", "/etc/hosts"];
    let explained = owned.server.cortex(&explain).text();
    assert!(explained.contains("a terminal: deny"), "{explained}");
    owned.server.run(&["cat", "/etc/os-release"]).ok();
    owned.narrow("version = 1\n");
    offers(true);
    let explained = owned.server.cortex(&explain).text();
    assert!(explained.contains("a terminal: allow"), "{explained}");
}

#[test]
fn a_node_that_is_connected_holds_at_once_to_what_a_server_takes_away() {
    let owned = Owned::start(&[]);
    // Each round by the clock; the best of them, because the machine may be busy with other things.
    let mut best = Duration::MAX;
    for round in 0..5 {
        let deny = round % 2 == 0;
        let sent = if deny { "version = 1\ndeny = [\"cat\"]\n" } else { "version = 1\n" };
        let begun = Instant::now();
        owned.narrow(sent);
        best = best.min(begun.elapsed());
        // It holds: not only was it said.
        owned.server.run(&["cat", "/etc/os-release"]).with(if deny { 126 } else { 0 });
    }
    assert!(best < Duration::from_secs(2), "the quickest of five took {best:?}");
}

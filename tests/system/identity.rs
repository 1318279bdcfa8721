//! Who may be here, with real agents: what becomes of a removed node's work, workspaces that keep to themselves, and no secret where
//! others could read it.

use crate::support::run::{self, Running};
use crate::support::{Agent, Server, text, wait};
use serde_json::Value;

/// What a credential's secret is: the fourth part of its text.
fn secret(token: &str) -> String {
    token.trim().split('.').nth(3).unwrap().to_owned()
}

fn node(server: &Server, name: &str) -> Value {
    server.cortex(&["node", "show", name, "--json"]).ok().json()
}

#[test]
fn what_a_revoked_node_was_doing_is_said_to_be_unknown_and_what_may_be_repeated_moves_on() {
    let server = Server::start(&["--no-agent"]);
    let _far = Agent::join(&server, "far", &[]);
    let argv = ["sh", "-c", "sleep 600"];
    let once = server.submit(&["--node", "far"], &argv);
    let repeats = ["--safe-to-repeat", "--node-lost-grace", "1s"];
    let again = server.submit(&repeats, &["sleep", "5"]);
    let waiting = server.submit(&["--node", "far", "--require", "nothere"], &argv);
    for id in [&once, &again] {
        server.until_state(id, &["running", "succeeded"]);
    }
    server.cortex(&["node", "revoke", "far", "--reason", "stolen"]).ok();
    let task = server.until_state(&once, &["indeterminate"]);
    let evidence = task["evidence"].as_str().unwrap();
    assert!(evidence.contains("revoked") && evidence.contains("stolen"), "{evidence}");
    let shown = node(&server, "far");
    assert_eq!(
        (&shown["online"], &shown["registration"]["state"]),
        (&false.into(), &"revoked".into())
    );
    // Nothing of it started, and nothing is dispatched to the node any more.
    assert_eq!(server.task(&waiting)["state"], "pending");
    let late = server.submit(&["--node", "far"], &["true"]);
    assert_eq!(server.task(&late)["state"], "pending");
    let _near = Agent::join(&server, "near", &[]);
    server.until_state(&again, &["succeeded"]);
    assert_eq!(server.task(&late)["state"], "pending");
    server.cortex(&["task", "resolve", &once, "--as", "failed", "--reason", "looked"]).ok();
}

#[test]
fn two_workspaces_share_a_server_and_see_nothing_of_each_other() {
    let server = Server::start(&[]);
    let red = server.user_token(&["--role", "admin", "--for", "rita", "--workspace", "red"]);
    let red = server.client_dir("red", &red);
    let as_red = |args: &[&str]| {
        let mut command = run::command(&red);
        command.env_remove("CORTEX_ACTOR_ID").env("CORTEX_ACTOR_ID", "rita").args(args);
        Running::start(command, b"").end()
    };
    // The default workspace has a node; red has none, and waits.
    let ours = server.submit(&[], &["echo", "blue"]);
    server.until_state(&ours, &["succeeded"]);
    let theirs = as_red(&["run", "--detach", "--json", "--", "echo", "red"]).ok().json();
    let theirs = theirs["task"]["task_id"].as_str().unwrap().to_owned();
    assert_eq!(as_red(&["node", "list"]).ok().stdout, b"no nodes\n");
    as_red(&["task", "show", &ours]).with(125).complains(&["CX-0201"]);
    as_red(&["task", "output", &ours]).with(125).complains(&["CX-0201"]);
    server.cortex(&["task", "cancel", &theirs]).with(125).complains(&["CX-0201"]);
    // A machine of red runs it.
    let token = as_red(&["token", "create", "node", "--json"]).ok().json();
    let _agent = Agent::join_with(&server, "red-1", token["text"].as_str().unwrap());
    let state = || as_red(&["task", "show", "--json", &theirs]).ok().json()["state"].clone();
    wait::until("red's task to end", || (state() == "succeeded").then_some(()));
    let task = as_red(&["task", "show", "--json", &theirs]).ok().json();
    assert_eq!((&task["node"], &task["workspace"]), (&"red-1".into(), &"red".into()));
    let names: Vec<_> = server.nodes().iter().map(|n| n["node"].clone()).collect();
    assert!(!names.contains(&"red-1".into()), "{names:?}");
}

#[test]
fn no_secret_reaches_a_log_an_event_or_the_text_of_an_error() {
    let server = Server::start(&[]);
    let root = std::fs::read_to_string(server.data().join("client.token")).unwrap();
    let user = server.user_token(&["--role", "viewer", "--for", "anna"]);
    let join = server.join_token();
    let _far = Agent::join_with(&server, "far", &join);
    let mut said = String::new();
    // Used up, shown to the wrong purpose, cut, and of the right form with a wrong secret.
    for token in [&join, &user, &join[..join.len() - 9].to_owned()] {
        let dir = text(&server.path("other"));
        let mut command = run::command(&server.path("other"));
        command.args(["__agent", "join", &server.url(), "--token-file", "-", "--data-dir", &dir]);
        let ended = Running::start(command, token.as_bytes()).end();
        assert_ne!(ended.code, 0);
        said.push_str(&ended.stderr);
    }
    let dir = server.client_dir("viewer", &user);
    let mut command = run::command(&dir);
    command.env("CORTEX_ACTOR_ID", "anna").args(["token", "list"]);
    said.push_str(&Running::start(command, b"").end().with(125).stderr);
    said.push_str(&server.up_process().stderr());
    let raw = |hex: &str| -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    };
    let log = std::fs::read(server.data().join("log/log.redb")).unwrap();
    for token in [&root, &user, &join] {
        let secret = secret(token);
        assert!(!said.contains(&secret), "{said}");
        for form in [secret.clone().into_bytes(), raw(&secret)] {
            assert!(!log.windows(form.len()).any(|w| w == form), "a secret is in the log");
        }
    }
    for file in ["authority/ca.key", "authority/token-1.key"] {
        let key = std::fs::read_to_string(server.data().join(file)).unwrap();
        let line = key.lines().nth(1).unwrap();
        assert!(!said.contains(line), "{file} is in a log");
    }
}

#[test]
fn who_stands_behind_a_token_reaches_the_task_and_the_nodes_own_journal() {
    let server = Server::start(&[]);
    let flags = ["--role", "operator", "--for", "helper", "--kind", "ai"];
    let whose = ["--model", "vendor/model-1", "--acts-for", "anna"];
    let token = server.user_token(&[&flags[..], &whose].concat());
    // As its holder has it: logged in, and not beside the server's own directory.
    let as_helper = |args: &[&str], input: &str| {
        let mut command = run::command(&server.path("helper/none"));
        command.env_remove("CORTEX_DATA_DIR").env_remove("CORTEX_ACTOR_ID").args(args);
        Running::start(command, input.as_bytes()).end().ok()
    };
    as_helper(&["login", &server.url()], &token);
    let ran = as_helper(&["task", "submit", "--", "echo", "hello"], "");
    let id = ran.text().trim().to_owned();
    server.until_state(&id, &["succeeded"]);
    let expected = serde_json::json!({
        "kind": "ai", "id": "helper", "model": "vendor/model-1", "on_behalf_of": "anna"
    });
    assert_eq!(server.task(&id)["actor"], expected);
    let shown = server.cortex(&["task", "show", &id]).ok();
    shown.says(&["helper", "vendor/model-1", "anna"]);
    // On the node, before anything ran.
    let agent = server.data().join("agent");
    let mut command = run::command(&agent);
    command.args(["__agent", "journal", "show", "--json", "--task", &id]);
    command.arg("--data-dir").arg(&agent);
    let records = Running::start(command, b"").end().ok().json_lines();
    let intent = records.iter().find(|r| r["record"]["data"]["auth"]["decision"] == "allow");
    let intent = intent.unwrap_or_else(|| panic!("no intent in {records:#?}"));
    let recorded = serde_json::json!({
        "type": "ai", "id": "helper", "model": "vendor/model-1", "for": "anna"
    });
    assert_eq!(intent["record"]["data"]["actor"], recorded, "{intent:#}");
}

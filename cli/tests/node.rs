//! `cortex node`: what is listed and shown, and what an administrator decides.

use crate::support::{Done, Running, Up, cortex, private, wait_until};
use serde_json::Value;

#[test]
fn nodes_are_listed_found_by_requirement_and_shown() {
    let up = Up::start();
    let all = up.cortex(&["node", "list", "--json"]).exited(0).json();
    let node = &all["nodes"][0];
    let name = node["node"].as_str().unwrap();
    assert_eq!(node["online"], true);
    assert!(node["capabilities"].as_array().unwrap().iter().any(|c| c["name"] == "shell"));

    let text = up.cortex(&["node", "list", "--require", "shell", "--online"]).exited(0);
    let mut lines = text.out().lines();
    assert!(lines.next().unwrap().starts_with("NODE"), "{text:?}");
    assert!(lines.next().unwrap().starts_with(name), "{text:?}");

    let none = up.cortex(&["node", "list", "--require", "shell", "--require", "nothere"]).exited(0);
    assert_eq!(none.out(), "no nodes\n");

    let shown = up.cortex(&["node", "show", name]).exited(0);
    assert!(shown.out().starts_with(&format!("node     {name} (online")), "{shown:?}");
    let json = up.cortex(&["node", "show", name, "--json"]).exited(0).json();
    assert_eq!(json["incarnation"], node["incarnation"]);
}

#[test]
fn an_unknown_node_is_an_error() {
    let up = Up::start();
    let done = up.cortex(&["node", "show", "nowhere"]).exited(125);
    assert!(done.stderr.starts_with("error: CX-0205: "), "{done:?}");
}

/// A machine asks to join, and does not wait for the answer.
fn joins(up: &Up, node: &str, token: &str) -> Done {
    let file = up.file(&format!("{node}.token"));
    private(&file, token);
    let mut command = cortex(&up.file("unused"));
    command.args(["__agent", "join", &format!("https://{}", up.address()), "--node", node]);
    command.arg("--token-file").arg(file).arg("--no-wait").arg("--data-dir").arg(up.file(node));
    Running::start(&mut command).end()
}

/// What the list says of a node, in words and as JSON.
fn listed(up: &Up, node: &str) -> (String, Value) {
    let words = up.cortex(&["node", "list"]).exited(0);
    let line = words.out().lines().find(|line| line.starts_with(&format!("{node} ")));
    let state = line.unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let json = up.cortex(&["node", "list", "--json"]).exited(0).json();
    let all = json["nodes"].as_array().unwrap();
    (state, all.iter().find(|n| n["node"] == node).unwrap().clone())
}

#[test]
fn an_administrator_decides_on_nodes_and_everybody_sees_where_they_stand() {
    let up = Up::start();
    let token = ["token", "create", "node", "--require-approval", "--uses", "2", "--json"];
    let made = up.cortex(&token).exited(0).json();
    let text = made["text"].as_str().unwrap();
    for node in ["desk", "odd"] {
        let said = joins(&up, node, text).exited(0);
        assert!(said.out().contains(&format!("cortex node approve {node}")), "{said:?}");
        let (state, json) = listed(&up, node);
        assert_eq!((state.as_str(), &json["online"]), ("pending", &false.into()));
        assert_eq!(json["registration"]["token_id"], made["token"]["token_id"]);
    }

    let done = up.cortex(&["node", "approve", "desk", "--reason", "bought it"]).exited(0);
    assert_eq!(done.out(), "node desk is approved\n");
    let shown = up.cortex(&["node", "show", "desk"]).exited(0);
    assert!(shown.out().contains("standing approved since "), "{shown:?}");
    assert!(shown.out().contains(" by cortex-up: bought it\n"), "{shown:?}");
    joins(&up, "desk", text).exited(0);

    let rejected = up.cortex(&["node", "reject", "odd", "--json"]).exited(0).json();
    assert_eq!(
        (&rejected["state"], &rejected["decided_by"]["id"]),
        (&"rejected".into(), &"cortex-up".into())
    );
    let refused = joins(&up, "odd", text).exited(1);
    assert!(refused.stderr.contains("CX-0509") && refused.stderr.contains("hint"), "{refused:?}");

    let quarantined =
        up.cortex(&["node", "quarantine", "desk", "--reason", "odd", "--json"]).exited(0).json();
    assert_eq!(
        (&quarantined["state"], &quarantined["reason"]),
        (&"quarantined".into(), &"odd".into())
    );
    // Said twice it changes nothing.
    let again = up.cortex(&["node", "quarantine", "desk", "--json"]).exited(0).json();
    assert_eq!(again, quarantined);
    assert_eq!(
        up.cortex(&["node", "approve", "desk", "--json"]).exited(0).json()["state"],
        "approved"
    );
    assert_eq!(up.cortex(&["node", "revoke", "desk"]).exited(0).out(), "node desk is revoked\n");
    for (node, state) in [("desk", "revoked"), ("odd", "rejected")] {
        assert_eq!(listed(&up, node).0, state);
        assert_eq!(
            up.cortex(&["node", "show", node, "--json"]).exited(0).json()["registration"]["state"],
            state
        );
    }
    // What is final stays so.
    for (verb, node) in
        [("approve", "desk"), ("quarantine", "desk"), ("reject", "desk"), ("approve", "odd")]
    {
        let done = up.cortex(&["node", verb, node]).exited(125);
        assert!(
            done.stderr.starts_with("error: CX-0519: ") && done.stderr.contains("hint"),
            "{done:?}"
        );
    }
}

#[test]
fn a_node_that_is_cut_off_is_offline_at_once_and_its_agent_says_why() {
    let up = Up::start();
    let name = up.cortex(&["node", "list", "--json"]).exited(0).json()["nodes"][0]["node"].clone();
    let name = name.as_str().unwrap();
    let online = || up.cortex(&["node", "show", name, "--json"]).exited(0).json()["online"] == true;
    up.cortex(&["node", "quarantine", name]).exited(0);
    wait_until("the node to be offline", || (!online()).then_some(()));
    let waits = up.cortex(&["task", "submit", "--", "uname"]).exited(0).out().trim().to_owned();
    assert_eq!(up.state(&waits), "pending");
    up.cortex(&["node", "approve", name]).exited(0);
    wait_until("the node to come back and work", || {
        (up.state(&waits) == "succeeded").then_some(())
    });
    assert!(online());
}

#[test]
fn who_may_not_decide_and_what_cannot_be_decided_on_is_said() {
    let up = Up::start();
    for verb in ["approve", "reject", "quarantine", "revoke", "show"] {
        for (node, code) in [("nowhere", "CX-0205"), ("No Node", "CX-0102")] {
            let done = up.cortex(&["node", verb, node]).exited(125);
            assert!(done.stderr.starts_with(&format!("error: {code}: ")), "{verb}: {done:?}");
        }
    }
    let make = ["token", "create", "user", "--role", "operator", "--for", "bert", "--json"];
    let token = up.cortex(&make).exited(0).json();
    let url = format!("https://{}", up.address());
    let bert = up.client_dir("bert", &url, token["text"].as_str());
    for verb in ["approve", "reject", "quarantine", "revoke"] {
        let mut command = cortex(&bert);
        let done = Running::start(command.env("USER", "bert").args(["node", verb, "x"])).end();
        assert!(done.exited(125).stderr.starts_with("error: CX-0502: "), "{verb}");
    }
    let mut command = cortex(&bert);
    Running::start(command.env("USER", "bert").args(["node", "list"])).end().exited(0);
}

//! The commands about tasks and nodes, against a server that did something.

use crate::support::{Server, effects, processes, text, wait};

#[test]
fn a_finished_task_can_be_shown_listed_followed_and_explained() {
    let server = Server::start(&[]);
    let id =
        server.submit(&["--label", "team=web"], &["sh", "-c", "echo out; echo err >&2; exit 3"]);
    let task = server.until_state(&id, &["failed"]);
    assert_eq!(task["outcome"]["ending"]["code"], 3);
    assert_eq!(task["outcome"]["stdout_bytes"], 4);
    assert_eq!(server.events(&id), ["Submitted", "Started", "Finished"]);
    server.cortex(&["task", "show", &id]).ok().says(&[&id, "exited with code 3"]);
    server.cortex(&["task", "list"]).ok().says(&[&id]);
    server.cortex(&["task", "list", "--state", "failed", "--label", "team=web"]).ok().says(&[&id]);
    let none = server.cortex(&["task", "list", "--label", "team=none"]).ok();
    assert!(!none.text().contains(&id), "{none:?}");
    server.cortex(&["task", "history", &id]).ok().says(&["Submitted", "Started", "Finished"]);
    server.cortex(&["task", "explain", &id]).ok().says(&["over"]);
    let output = server.cortex(&["task", "output", &id]).ok();
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let watched = server.cortex(&["task", "watch", &id]).with(3);
    assert!(!watched.text().is_empty());
}

#[test]
fn nodes_can_be_listed_and_shown_with_what_they_have() {
    let server = Server::start(&["--slots", "3"]);
    let nodes = server.nodes();
    assert_eq!(nodes.len(), 1);
    let name = nodes[0]["node"].as_str().unwrap();
    assert_eq!((&nodes[0]["slots"], &nodes[0]["os"]), (&3.into(), &"linux".into()));
    server.cortex(&["node", "list"]).ok().says(&[name]);
    server.cortex(&["node", "show", name]).ok().says(&[name, "shell"]);
    assert_eq!(server.cortex(&["node", "show", "--json", name]).ok().json()["node"], name);
    server.cortex(&["node", "show", "nobody"]).with(125).complains(&["CX-0205"]);
}

#[test]
fn a_task_that_no_node_can_take_waits_and_says_what_is_missing() {
    let server = Server::start(&[]);
    let mut running = server.spawn(&["run", "--json", "--require", "warp-drive>=9", "--", "true"]);
    running.until_it_says("task_id");
    let first: serde_json::Value =
        serde_json::from_str(String::from_utf8(running.stdout()).unwrap().lines().next().unwrap())
            .unwrap();
    let id = first["task"]["task_id"].as_str().unwrap();
    server.cortex(&["task", "explain", id]).ok().says(&["warp-drive>=9"]);
    assert_eq!(server.task(id)["state"], "pending");
    server.cortex(&["task", "cancel", id]).ok();
    running.end().with(130);
    assert_eq!(server.task(id)["outcome"]["ending"]["never_started"], true);
}

#[test]
fn the_same_key_and_request_is_the_same_task_across_restarts_and_another_is_a_conflict() {
    let mut server = Server::start(&[]);
    let file = server.path("effects");
    let script = format!("echo x >> {}", file.display());
    let once = ["--key", "nightly", "--timeout", "1m"];
    let argv = ["sh", "-c", script.as_str()];
    let first = server.submit(&once, &argv);
    server.until_state(&first, &["succeeded"]);
    assert_eq!(server.submit(&once, &argv), first);
    server.kill_up();
    server.up();
    assert_eq!(server.submit(&once, &argv), first);
    server.cortex(&[&["run"], &once[..], &["--"], &argv].concat()).ok();
    assert_eq!(effects(&file), 1);
    let other =
        server.cortex(&["run", "--key", "nightly", "--timeout", "2m", "--", "sh", "-c", &script]);
    other.with(125).complains(&["CX-0202", "timeout"]);
    assert_eq!(effects(&file), 1);
}

#[test]
fn two_clients_with_one_key_at_the_same_moment_make_one_task() {
    let server = Server::start(&[]);
    let file = server.path("effects");
    let script = format!("echo x >> {}; echo done", file.display());
    let args = ["run", "--key", "same", "--", "sh", "-c", &script];
    let clients: Vec<_> = (0..6).map(|_| server.spawn(&args)).collect();
    for client in clients {
        assert_eq!(client.end().ok().text(), "done\n");
    }
    assert_eq!(effects(&file), 1);
}

#[test]
fn a_client_that_is_killed_changes_nothing_and_its_task_can_be_followed() {
    let server = Server::start(&[]);
    let gate = server.path("gate-of-the-follower");
    let script =
        format!("echo begun; while ! [ -e {} ]; do sleep 0.05; done; echo ended", text(&gate));
    let mut client = server.spawn(&["run", "--key", "follow-me", "--", "sh", "-c", &script]);
    client.until_it_says("begun");
    drop(client);
    let id = server.submit(&["--key", "follow-me"], &["sh", "-c", &script]);
    let mut watch = server.spawn(&["task", "watch", &id]);
    watch.until_it_says("begun");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(watch.end().ok().text(), "begun\nended\n");
    wait::until("no process", || processes::with_argument(&text(&gate)).is_empty().then_some(()));
}

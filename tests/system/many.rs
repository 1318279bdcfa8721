//! Many tasks, several nodes: each runs once, where it may.

use crate::support::{Agent, Server, effects, text, wait};

#[test]
fn a_thousand_tasks_submitted_twice_have_a_thousand_effects() {
    const TASKS: usize = 1000;
    let server = Server::start(&["--slots", "8"]);
    let (effect, file) = (server.path("effects"), server.path("tasks.jsonl"));
    // dash starts in a millisecond; each line has its number, so that a doubled one is seen.
    let line = |n| {
        let script = format!("echo {n} >> {}", text(&effect));
        serde_json::json!({ "argv": ["sh", "-c", script], "key": format!("effect-{n}") })
            .to_string()
    };
    let lines: Vec<String> = (0..TASKS).map(line).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let submit = ["task", "submit", "-f", &text(&file)];
    let first = server.spawn(&submit);
    server.cortex(&submit).ok();
    first.end().ok();
    wait::until("every task to succeed", || (effects(&effect) >= TASKS).then_some(()));
    wait::until("no task to be open", || {
        server.tasks(&["--state", "pending,running"]).is_empty().then_some(())
    });
    server.cortex(&submit).ok();
    let done = std::fs::read_to_string(&effect).unwrap();
    let mut seen: Vec<usize> = done.lines().map(|l| l.parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..TASKS).collect::<Vec<_>>());
}

#[test]
fn tasks_share_the_slots_of_a_node_and_all_of_them_finish() {
    let server = Server::start(&["--slots", "5"]);
    let (gate, begun) = (server.path("gate"), server.path("begun"));
    let script =
        format!("echo x >> {}; while ! [ -e {} ]; do sleep 0.02; done", text(&begun), text(&gate));
    let ids: Vec<String> = (0..8).map(|_| server.submit(&[], &["sh", "-c", &script])).collect();
    wait::until("five to run", || (effects(&begun) == 5).then_some(()));
    let waiting = wait::until("the others to be told why they wait", || {
        let pending = server.tasks(&["--state", "pending"]);
        (pending.len() == 3).then_some(pending)
    });
    let first = waiting[0]["task_id"].as_str().unwrap();
    wait::until("an explanation that names the slots", || {
        let said = server.cortex(&["task", "explain", first]).ok().text();
        said.contains("none of its 5 slots free").then_some(())
    });
    assert_eq!(effects(&begun), 5, "more tasks than slots");
    std::fs::write(&gate, "").unwrap();
    for id in &ids {
        server.until_state(id, &["succeeded"]);
    }
    assert_eq!(effects(&begun), 8);
}

#[test]
fn the_higher_priority_goes_first() {
    let server = Server::start(&["--slots", "1"]);
    let (gate, order) = (server.path("gate"), server.path("order"));
    let blocker = format!("while ! [ -e {} ]; do sleep 0.02; done", text(&gate));
    let id = server.submit(&[], &["sh", "-c", &blocker]);
    server.until_state(&id, &["running"]);
    for priority in ["0", "-5", "50", "7"] {
        let script = format!("echo {priority} >> {}", text(&order));
        server.submit(&["--priority", priority], &["sh", "-c", &script]);
    }
    std::fs::write(&gate, "").unwrap();
    wait::until("all to run", || (effects(&order) == 4).then_some(()));
    assert_eq!(std::fs::read_to_string(&order).unwrap(), "50\n7\n0\n-5\n");
}

#[test]
fn a_task_goes_where_it_was_pinned_or_where_its_requirements_are_met() {
    let server = Server::start(&[]);
    let near = server.nodes()[0]["node"].as_str().unwrap().to_owned();
    let far = Agent::join(&server, "far", &["--label", "rack=b"]);
    let node_of = |flags: &[&str]| {
        let id = server.submit(flags, &["true"]);
        server.until_state(&id, &["succeeded"])["node"].as_str().unwrap().to_owned()
    };
    for _ in 0..3 {
        assert_eq!(node_of(&["--node", "far"]), "far");
        assert_eq!(node_of(&["--node", &near]), near);
        assert_eq!(node_of(&["--require", "rack=b", "--require", "os=linux"]), "far");
    }
    let list = server.cortex(&["node", "list", "--json", "--require", "rack=b"]).ok().json();
    assert_eq!(list["nodes"].as_array().unwrap().len(), 1);
    drop(far);
    wait::until("the far node to be away", || {
        server.nodes().iter().any(|n| n["node"] == "far" && n["online"] == false).then_some(())
    });
    let id = server.submit(&["--require", "rack=b"], &["true"]);
    server.cortex(&["task", "explain", &id]).ok().says(&["offline", "far"]);
    let _back = Agent::join(&server, "far", &["--label", "rack=b"]);
    assert_eq!(server.until_state(&id, &["succeeded"])["node"], "far");
}

#[test]
fn a_task_for_a_node_that_does_not_exist_yet_runs_when_it_comes() {
    let server = Server::start(&["--no-agent"]);
    let id = server.submit(&["--node", "newcomer"], &["echo", "welcome"]);
    assert_eq!(server.task(&id)["state"], "pending");
    let _agent = Agent::join(&server, "newcomer", &[]);
    server.until_state(&id, &["succeeded"]);
    assert_eq!(server.cortex(&["task", "output", &id]).ok().text(), "welcome\n");
}

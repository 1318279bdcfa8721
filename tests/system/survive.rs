//! What a kill leaves: the truth about what ran, no survivor, and a way on.

use crate::support::server::kill_all;
use crate::support::{Server, effects, processes, text, wait};

#[test]
fn a_task_goes_on_while_the_server_is_dead_and_its_output_arrives_whole() {
    let mut server = Server::start(&[]);
    let gate = server.path("gate");
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    let script = format!(
        "seq 1 150000; while ! [ -e {0} ]; do sleep 0.02; done; seq 150001 300000; touch {0}.done",
        text(&gate)
    );
    server.allow(&["sh", "seq", "sleep", "touch"]);
    let id = server.submit(&[], &["sh", "-c", &script]);
    wait::until("some output", || {
        server.cortex(&["task", "output", &id]).text().contains("\n100\n").then_some(())
    });
    server.kill_up();
    std::fs::write(&gate, "").unwrap();
    // It finishes while nobody listens.
    wait::until("the task to end", || server.path("gate.done").exists().then_some(()));
    server.up();
    let task = server.until_state(&id, &["succeeded"]);
    let output = server.cortex(&["task", "output", &id]).ok();
    assert_eq!(output.stdout.len(), expected.len());
    assert!(output.stdout == expected.as_bytes(), "same length, other bytes");
    assert_eq!(task["outcome"]["stdout_sha256"], crate::support::sha256(expected.as_bytes()));
    assert_eq!(server.events(&id), ["Submitted", "Started", "Finished"]);
}

#[test]
fn output_that_nobody_had_heard_arrives_whole_after_server_and_agent_died() {
    let mut server = Server::start(&[]);
    server.allow(&["sh", "seq", "sleep", "touch"]);
    let gate = server.path("gate");
    let script = format!(
        "while ! [ -e {0} ]; do sleep 0.02; done; seq 1 2000000; touch {0}.written; exit 6",
        text(&gate)
    );
    let id = server.submit(&[], &["sh", "-c", &script]);
    server.until_state(&id, &["running"]);
    server.kill_up();
    std::fs::write(&gate, "").unwrap();
    wait::until("the task to write", || server.path("gate.written").exists().then_some(()));
    let spool = server.data().join("agent/spool");
    let size = || -> u64 {
        let files = std::fs::read_dir(&spool).unwrap();
        files.filter_map(|f| Some(f.ok()?.metadata().ok()?.len())).sum()
    };
    let expected: String = (1..=2_000_000).map(|n| format!("{n}\n")).collect();
    wait::until("all of it to be on the disk", || (size() > expected.len() as u64).then_some(()));
    // The outcome follows the output into the journal; the next life of the agent tells which came first.
    kill_all(&server.agent_pids());
    server.up();
    let task = server.until_state(&id, &["failed", "indeterminate"]);
    let output = server.cortex(&["task", "output", &id]).ok();
    assert_eq!(crate::support::sha256(&output.stdout), crate::support::sha256(expected.as_bytes()));
    if task["state"] == "failed" {
        assert_eq!(task["outcome"]["ending"]["code"], 6);
        assert_eq!(task["outcome"]["stdout_bytes"], expected.len());
    }
}

#[test]
fn a_client_that_waits_sees_the_end_through_a_restart_of_the_server() {
    let mut server = Server::start(&[]);
    let gate = server.path("gate");
    let script = format!(
        "echo begun; while ! [ -e {} ]; do sleep 0.02; done; echo ended; exit 5",
        text(&gate)
    );
    let mut client = server.spawn(&["run", "--", "sh", "-c", &script]);
    client.until_it_says("begun");
    server.kill_up();
    server.up();
    std::fs::write(&gate, "").unwrap();
    let ended = client.end().with(5);
    assert_eq!(ended.text(), "begun\nended\n");
}

#[test]
fn the_agents_death_makes_a_running_task_indeterminate_until_somebody_settles_it() {
    let server = Server::start(&[]);
    let (file, mark) = (server.path("effects"), text(&server.path("mark-of-the-tree")));
    let script = format!(
        "trap '' TERM; echo x >> {}; sh -c 'while true; do sleep 1; done # {mark}' & while true; do sleep 1; done # {mark}",
        text(&file)
    );
    let client = server.spawn(&["run", "--key", "once", "--", "sh", "-c", &script]);
    wait::until("its effect", || (effects(&file) == 1).then_some(()));
    server.kill_agent();
    let ended = client.end().with(123);
    let ended = ended.complains(&["is not known", "cortex task resolve"]);
    let doubtful = server.tasks(&["--state", "indeterminate"]);
    let id = doubtful[0]["task_id"].as_str().unwrap().to_owned();
    assert!(ended.stderr.contains(&id));
    wait::until("no survivor", || processes::with_argument(&mark).is_empty().then_some(()));
    assert!(server.task(&id)["evidence"].as_str().is_some_and(|e| !e.is_empty()));
    server.cortex(&["task", "explain", &id]).ok().says(&["resolve"]);
    let why = ["--as", "failed", "--reason", "the machine was looked at"];
    server.cortex(&[&["task", "resolve", &id], &why[..]].concat()).ok();
    assert_eq!(server.task(&id)["state"], "failed");
    assert!(server.events(&id).contains(&"Resolved".to_owned()));
    server.cortex(&["task", "watch", &id]).with(1);
    assert_eq!(effects(&file), 1);
}

#[test]
fn an_operator_can_have_it_tried_again() {
    let server = Server::start(&[]);
    let file = server.path("effects");
    // The first time it waits for ever; the second time the file has a line already.
    let script = format!("echo x >> {0}; [ $(wc -l < {0}) -gt 1 ] || sleep 600", text(&file));
    let id = server.submit(&[], &["sh", "-c", &script]);
    wait::until("its effect", || (effects(&file) == 1).then_some(()));
    server.kill_agent();
    server.until_state(&id, &["indeterminate"]);
    server.cortex(&["task", "resolve", &id, "--as", "retry", "--reason", "safe, I looked"]).ok();
    assert_eq!(server.until_state(&id, &["succeeded"])["attempt"], 2);
    assert_eq!(effects(&file), 2);
}

#[test]
fn a_task_that_is_safe_to_repeat_is_run_again_by_itself() {
    let server = Server::start(&[]);
    let file = server.path("effects");
    let script =
        format!("echo x >> {0}; [ $(wc -l < {0}) -gt 1 ] || sleep 600; echo again", text(&file));
    let client = server.spawn(&["run", "--safe-to-repeat", "--", "sh", "-c", &script]);
    wait::until("its effect", || (effects(&file) == 1).then_some(()));
    server.kill_agent();
    assert!(client.end().ok().text().ends_with("again\n"));
    assert_eq!(effects(&file), 2);
    let tasks = server.tasks(&[]);
    let task = tasks.iter().find(|t| t["attempt"] == 2).unwrap();
    let events = server.events(task["task_id"].as_str().unwrap());
    assert_eq!(events, ["Submitted", "Started", "AttemptReleased", "Started", "Finished"]);
}

#[test]
fn everything_killed_at_once_leaves_no_process_of_a_task_and_tells_the_truth() {
    let mut server = Server::start(&[]);
    let (file, mark) = (server.path("effects"), text(&server.path("mark-of-all")));
    let script = format!("echo x >> {}; while true; do sleep 1; done # {mark}", text(&file));
    let id = server.submit(&[], &["sh", "-c", &script]);
    wait::until("its effect", || (effects(&file) == 1).then_some(()));
    // First the server, or it would start another agent in between.
    let agents = server.agent_pids();
    server.kill_up();
    kill_all(&agents);
    wait::until("no survivor", || processes::with_argument(&mark).is_empty().then_some(()));
    server.up();
    server.until_state(&id, &["indeterminate"]);
    assert_eq!(effects(&file), 1);
    server.run(&["echo", "works"]).ok();
}

#[test]
fn a_failing_task_is_tried_again_only_as_often_as_its_author_said() {
    let server = Server::start(&[]);
    let file = server.path("effects");
    let script = format!("echo x >> {}; exit 9", text(&file));
    let args = ["run", "--retries", "2", "--retry-on", "exit", "--", "sh", "-c", &script];
    server.cortex(&args).with(9);
    assert_eq!(effects(&file), 3);
    server.run(&["sh", "-c", &script]).with(9);
    assert_eq!(effects(&file), 4);
}

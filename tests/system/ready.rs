//! `cortex up`: what it says, that it stays, and that it goes in order.

use crate::support::{Server, processes, wait};

#[test]
fn up_shows_its_first_task_says_what_to_type_and_stays() {
    let mut server = Server::start(&[]);
    let said = String::from_utf8(server.up_process().stdout()).unwrap();
    for text in ["cortex is up at https://127.0.0.1:", "/etc/os-release", "cortex run -- uname -a"]
    {
        assert!(said.contains(text), "no {text:?} in {said}");
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    let name = release.lines().next().unwrap();
    assert!(said.contains(name), "no {name:?} in {said}");
    for step in ["submitted", "started", "finished"] {
        assert!(said.to_lowercase().contains(step), "no {step} in the timeline: {said}");
    }
    server.run(&["true"]).ok();
    let agents = server.agent_pids();
    assert!(!agents.is_empty());
    server.terminate().with(0);
    for pid in agents {
        assert!(!processes::alive(pid), "the agent outlived an ordinary stop");
    }
}

#[test]
fn two_servers_on_one_machine_keep_to_themselves() {
    let (one, two) = (Server::start(&[]), Server::start(&[]));
    let id = one.submit(&[], &["echo", "one"]);
    one.until_state(&id, &["succeeded"]);
    two.cortex(&["task", "show", &id]).with(125).complains(&["CX-0201"]);
    two.run(&["echo", "two"]).ok().says(&["two"]);
}

#[test]
fn an_ordinary_stop_waits_for_no_task_and_loses_none() {
    let mut server = Server::start(&[]);
    let file = server.path("effects");
    let script = format!("echo x >> {}; exit 4", file.display());
    let waiting = server.submit(&["--require", "label-of-later"], &["sh", "-c", &script]);
    let done = server.submit(&[], &["sh", "-c", &script]);
    server.until_state(&done, &["failed"]);
    server.terminate().with(0);
    server.up();
    assert_eq!(server.task(&waiting)["state"], "pending");
    let task = server.task(&done);
    assert_eq!((&task["state"], &task["outcome"]["ending"]["code"]), (&"failed".into(), &4.into()));
    wait::until("one effect", || (crate::support::effects(&file) == 1).then_some(()));
}

#[test]
fn a_backup_taken_while_it_runs_is_a_server_of_its_own() {
    let server = Server::start(&[]);
    let id = server.submit(&[], &["echo", "kept"]);
    server.until_state(&id, &["succeeded"]);
    let copy = server.cortex(&["backup", "--json"]).ok().json();
    let copy = std::path::PathBuf::from(copy["directory"].as_str().unwrap());
    let mut restored = Server::prepare_in(&copy, &["--no-agent"]);
    restored.up();
    assert_eq!(restored.task(&id)["state"], "succeeded");
    assert_eq!(restored.cortex(&["task", "output", &id]).ok().text(), "kept\n");
}

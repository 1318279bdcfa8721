//! `cortex run` when the node dies under a task, and `cortex task resolve`.

use crate::support::{Running, Up, wait_until};
use std::fs;

#[test]
fn doubt_is_told_with_its_exit_code_and_settled_by_a_person() {
    let up = Up::start();
    let (mark, seen) = (up.file("mark"), up.file("seen"));
    let script = format!("echo begun; echo x >> {}; sleep 600", mark.display());
    let mut command = up.command(&["run", "--", "sh", "-c", &script]);
    let running = Running::start(command.stdout(fs::File::create(&seen).unwrap()));
    let output = || fs::read_to_string(&seen).unwrap();
    wait_until("output and effect", || (mark.exists() && !output().is_empty()).then_some(()));
    up.kill_agent();
    let done = running.end().exited(123);
    assert_eq!(output(), "begun\n");
    assert!(done.stderr.contains("ended is not known: "), "{done:?}");
    let list = up.cortex(&["task", "list", "--state", "indeterminate", "--json"]).exited(0).json();
    let id = list["tasks"][0]["task_id"].as_str().unwrap();
    let way_out = format!("cortex task resolve {id} --as succeeded|failed|retry --reason TEXT");
    assert!(done.stderr.contains(&way_out), "{done:?}");
    let shown = up.cortex(&["task", "show", id]).exited(0);
    assert!(shown.out().contains("ended    nobody knows how\nknown    "), "{shown:?}");

    let settle = ["task", "resolve", id, "--as", "succeeded", "--reason", "looked at the file"];
    let settled = up.cortex(&settle).exited(0);
    assert_eq!(settled.out(), format!("task {id} is succeeded now\n"));
    assert_eq!(up.cortex(&["task", "watch", id]).exited(0).out(), "begun\n");
    let history = up.cortex(&["task", "history", id]).exited(0);
    let line = "Resolved         as succeeded by anna (human): looked at the file -> SUCCEEDED";
    assert!(history.out().contains(line), "{history:?}");
    assert_eq!(fs::read_to_string(&mark).unwrap(), "x\n", "it ran once");
}

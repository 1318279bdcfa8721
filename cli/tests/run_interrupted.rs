//! `cortex run` and Ctrl-C or SIGTERM.

use crate::support::{Proxy, Running, Up, cortex, wait_until};
use rustix::process::Signal;
use std::fs;

/// Begins a task that would run for long, and returns when it runs.
fn long(up: &Up) -> (Running, String) {
    let mark = up.file("mark");
    let script = format!(": > {}; sleep 600", mark.display());
    let running =
        Running::start(&mut up.command(&["run", "--key", "long", "--", "sh", "-c", &script]));
    wait_until("the command to run", || mark.exists().then_some(()));
    let list = up.cortex(&["task", "list", "--state", "running", "--json"]).exited(0).json();
    (running, list["tasks"][0]["task_id"].as_str().unwrap().to_owned())
}

#[test]
fn an_interrupt_cancels_the_task_and_waits_for_the_proof() {
    for signal in [Signal::INT, Signal::TERM] {
        let up = Up::start();
        let (running, id) = long(&up);
        running.signal(signal);
        let done = running.end().exited(130);
        assert!(done.stderr.contains("cortex: cancelling"), "{done:?}");
        assert!(done.stderr.contains("cancelled; no process is left"), "{done:?}");
        assert_eq!(up.state(&id), "cancelled");
        let history = up.cortex(&["task", "history", &id]).exited(0);
        assert!(history.out().contains("CancelRequested  by anna (human)"), "{history:?}");
    }
}

#[test]
fn a_second_interrupt_leaves_and_says_how_to_watch_on() {
    let up = Up::start();
    let proxy = Proxy::to(up.address());
    let dir = up.client_dir("client", &proxy.url(), None);
    let (mark, told) = (up.file("mark"), up.file("told"));
    let script = format!(": > {}; sleep 600", mark.display());
    let mut command = cortex(&dir);
    command.args(["run", "--", "sh", "-c", &script]);
    let running = Running::start(command.stderr(fs::File::create(&told).unwrap()));
    wait_until("the command to run", || mark.exists().then_some(()));
    let text = || fs::read_to_string(&told).unwrap();
    // Without a connection the proof cannot come.
    drop(proxy);
    running.signal(Signal::INT);
    wait_until("the first answer", || text().contains("cancelling").then_some(()));
    running.signal(Signal::INT);
    running.end().exited(125);
    let list = up.cortex(&["task", "list", "--state", "running", "--json"]).exited(0).json();
    let id = list["tasks"][0]["task_id"].as_str().unwrap();
    assert!(text().contains(&format!("cortex task watch {id}")), "{}", text());
    up.cortex(&["task", "cancel", "--wait", id]).exited(0);
}

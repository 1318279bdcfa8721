//! Ctrl-C and `task cancel`: the task ends, and the end is proven.

use crate::support::{Server, processes, text, wait};
use rustix::process::Signal;

/// A script that ignores the polite signal, has children, and carries a mark that `/proc` shows.
fn stubborn(mark: &str) -> String {
    format!(
        "trap '' TERM INT; sh -c 'trap \"\" TERM; while true; do sleep 1; done # {mark}' & echo begun; while true; do sleep 1; done # {mark}"
    )
}

#[test]
fn an_interrupt_cancels_and_leaves_no_process() {
    let server = Server::start(&[]);
    let mark = text(&server.path("mark-of-interrupt"));
    let mut client = server.spawn(&["run", "--json", "--", "sh", "-c", &stubborn(&mark)]);
    // Two of the script's shells; the client, which also carries the mark, is the third.
    wait::until("the script and its child", || {
        (processes::with_argument(&mark).len() >= 3).then_some(())
    });
    client.until_it_says("\"submitted\"");
    client.signal(Signal::INT);
    let ended = client.end().with(130);
    assert_eq!(processes::with_argument(&mark), Vec::<i32>::new(), "survivors of a cancelled task");
    let last = ended.json_lines().pop().unwrap();
    assert_eq!(last["task"]["state"], "cancelled");
    assert_eq!(last["task"]["outcome"]["ending"]["survivors"], 0);
    let id = last["task"]["task_id"].as_str().unwrap();
    assert_eq!(server.events(id), ["Submitted", "Started", "CancelRequested", "Finished"]);
}

#[test]
fn a_second_interrupt_leaves_the_task_and_says_how_to_follow_it() {
    let server = Server::start(&[]);
    let mark = text(&server.path("mark-of-the-second"));
    let mut client = server.spawn(&["run", "--", "sh", "-c", &stubborn(&mark)]);
    client.until_it_says("begun");
    client.signal(Signal::INT);
    let id = wait::until("the cancellation to be recorded", || {
        let tasks = server.tasks(&["--state", "running"]);
        let task = tasks.iter().find(|t| t["cancel_requested"] == true)?;
        Some(task["task_id"].as_str()?.to_owned())
    });
    client.signal(Signal::INT);
    client.end().with(125).complains(&[&id, "cortex task watch"]);
    server.cortex(&["task", "watch", &id]).with(130);
    assert_eq!(processes::with_argument(&mark), Vec::<i32>::new());
}

#[test]
fn cancelling_twice_is_the_same_and_a_finished_task_cannot_be_cancelled() {
    let server = Server::start(&["--slots", "1"]);
    let long = server.submit(&[], &["sleep", "600"]);
    server.until_state(&long, &["running"]);
    let queued = server.submit(&[], &["true"]);
    server.cortex(&["task", "cancel", &queued]).ok();
    server.until_state(&queued, &["cancelled"]);
    server.cortex(&["task", "cancel", &long]).ok();
    server.until_state(&long, &["cancelled"]);
    assert_eq!(server.events(&queued), ["Submitted", "CancelRequested", "Finished"]);
    let done = server.submit(&[], &["true"]);
    server.until_state(&done, &["succeeded"]);
    server.cortex(&["task", "cancel", &done]).with(125).complains(&["CX-0203"]);
    assert_eq!(server.task(&done)["state"], "succeeded");
}

#[test]
fn a_deadline_ends_what_waits_and_what_runs() {
    let server = Server::start(&["--slots", "1"]);
    let mark = text(&server.path("mark-of-deadline"));
    let script = format!("while true; do sleep 1; done # {mark}");
    let waits = server.submit(&["--require", "nobody-has-this", "--deadline", "500ms"], &["true"]);
    let runs = server.submit(&["--deadline", "2s"], &["sh", "-c", &script]);
    assert_eq!(server.until_state(&waits, &["expired"])["attempt"], 0);
    server.until_state(&runs, &["expired", "cancelled"]);
    assert_eq!(processes::with_argument(&mark), Vec::<i32>::new());
    server.cortex(&["task", "watch", &waits]).with(124);
}

//! Ends and limits of confined tasks: whatever they do, the agent stays, and when an end is told nothing of them is left.

use super::{Owned, limit};
use crate::support::server::kill_all;
use crate::support::{processes, wait};
use rustix::process::Signal;
use std::fs;

#[test]
fn whatever_a_task_does_the_agent_and_its_session_stay() {
    let owned = Owned::start(&[]);
    owned.policy(
        "limits.task = { memory = \"64MiB\", pids = 40, output = \"1MiB\", file_size = \"8MiB\" }",
    );
    let agent = owned.server.agent_pids();
    let session = owned.server.nodes()[0]["session"].clone();
    let eats =
        owned.script("eats.sh", "x=$(head -c 400000000 /dev/zero | tr '\\0' x)\necho ${#x}\n");
    let forks = owned.script("forks.sh", "f() { sleep 60 & f; }\nf\n");
    let talks = owned.script("talks.sh", "exec cat /dev/zero\n");
    let fills = owned.script("fills.sh", "head -c 100000000 /dev/zero > big\n");
    for (script, killed_by) in [(&eats, "memory"), (&forks, ""), (&talks, "output"), (&fills, "")] {
        let id = owned.server.submit(&["--timeout", "20s"], &["bash", script]);
        let task = owned.server.until_state(&id, &["failed", "succeeded"]);
        let confinement = &task["outcome"]["confinement"];
        if !killed_by.is_empty() {
            assert_eq!(confinement["killed_by"], killed_by, "{script}: {task}");
        }
        assert_eq!(limit(&task, "pids")["limit"], 40);
        let left = processes::with_argument(script);
        assert_eq!(left, [0_i32; 0], "{script}");
        owned.server.run(&["echo", "still here"]).ok().says(&["still here"]);
    }
    assert_eq!(fs::metadata(owned.root.join("big")).unwrap().len(), 8 << 20);
    assert_eq!(owned.server.agent_pids(), agent);
    let now = &owned.server.nodes()[0];
    assert_eq!((&now["session"], &now["online"]), (&session, &true.into()));
}

/// A tree that does not want to end: it ignores the polite signal and has a child in a session of its own.
fn stubborn(owned: &Owned, name: &str) -> String {
    owned.script(
        name,
        "trap '' TERM INT HUP\n(setsid bash -c 'trap \"\" TERM HUP; while :; do sleep 1; done' \"$0\" &)\nwhile :; do sleep 1; done\n",
    )
}

/// Waits until the tree of a script is complete.
#[track_caller]
fn runs(script: &str) {
    wait::until("the whole tree", || (processes::with_argument(script).len() >= 2).then_some(()));
}

#[test]
fn however_a_task_is_ended_nothing_of_it_is_left_when_that_is_said() {
    let owned = Owned::start(&[]);
    let server = &owned.server;
    let by_cancel = stubborn(&owned, "by-cancel.sh");
    let id = server.submit(&[], &["bash", &by_cancel]);
    runs(&by_cancel);
    server.cortex(&["task", "cancel", &id]).ok();
    let task = server.until_state(&id, &["cancelled"]);
    assert_eq!(processes::with_argument(&by_cancel), [0_i32; 0]);
    assert_eq!(task["outcome"]["ending"]["survivors"], 0);

    let by_interrupt = stubborn(&owned, "by-interrupt.sh");
    let client = server.spawn(&["run", "--", "bash", &by_interrupt]);
    // The client's own command line has the name too.
    wait::until("the tree", || (processes::with_argument(&by_interrupt).len() >= 3).then_some(()));
    client.signal(Signal::INT);
    client.end().with(130);
    assert_eq!(processes::with_argument(&by_interrupt), [0_i32; 0]);

    let by_timeout = stubborn(&owned, "by-timeout.sh");
    let id = server.submit(&["--timeout", "2s"], &["bash", &by_timeout]);
    runs(&by_timeout);
    let task = server.until_state(&id, &["failed"]);
    assert_eq!(processes::with_argument(&by_timeout), [0_i32; 0]);
    assert_eq!(task["outcome"]["confinement"]["killed_by"], "wall");

    let by_deadline = stubborn(&owned, "by-deadline.sh");
    let id = server.submit(&["--deadline", "3s"], &["bash", &by_deadline]);
    runs(&by_deadline);
    server.until_state(&id, &["expired"]);
    assert_eq!(processes::with_argument(&by_deadline), [0_i32; 0]);

    let by_owner = stubborn(&owned, "by-owner.sh");
    server.submit(&[], &["bash", &by_owner]);
    runs(&by_owner);
    owned.owner(&["stop-all"]).ok().says(&["with all its processes"]);
    assert_eq!(processes::with_argument(&by_owner), [0_i32; 0]);
    owned.owner(&["resume"]).ok();

    let by_shutdown = stubborn(&owned, "by-shutdown.sh");
    server.submit(&[], &["bash", &by_shutdown]);
    runs(&by_shutdown);
    let agents = server.agent_pids();
    agents.iter().for_each(|pid| processes::signal(*pid, Signal::INT));
    wait::until("the agent to be gone", || {
        agents.iter().all(|pid| !processes::alive(*pid)).then_some(())
    });
    assert_eq!(processes::with_argument(&by_shutdown), [0_i32; 0]);
}

#[test]
fn a_revoked_node_ends_what_it_runs() {
    let owned = Owned::start(&[]);
    let script = stubborn(&owned, "revoked.sh");
    owned.server.submit(&[], &["bash", &script]);
    runs(&script);
    let node = owned.server.nodes()[0]["node"].as_str().unwrap().to_owned();
    owned.server.cortex(&["node", "revoke", &node, "--reason", "test"]).ok();
    wait::until("its processes to be gone", || {
        processes::with_argument(&script).is_empty().then_some(())
    });
}

#[test]
fn ten_confined_tasks_of_a_killed_agent_leave_no_process_and_each_ends_as_interrupted() {
    let owned = Owned::start(&["--slots", "10"]);
    let script = stubborn(&owned, "ten.sh");
    let ids: Vec<String> = (0..10).map(|_| owned.server.submit(&[], &["bash", &script])).collect();
    wait::until("ten trees", || (processes::with_argument(&script).len() >= 20).then_some(()));
    kill_all(&owned.server.agent_pids());
    wait::until("their end", || processes::with_argument(&script).is_empty().then_some(()));
    for id in ids {
        let task = owned.server.until_state(&id, &["indeterminate"]);
        assert_eq!(task["outcome"]["ending"]["kind"], "interrupted", "{task}");
    }
}

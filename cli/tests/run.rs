//! `cortex run`: output as it is, the command's exit code, and Cortex's own.

use crate::support::{Proxy, Running, Up, cortex, point, wait_until};
use std::fs;

#[test]
fn output_goes_to_its_stream_byte_for_byte_and_the_exit_code_is_the_commands() {
    let up = Up::start();
    let script = r"printf 'out\377\000\n'; printf 'err\n' >&2; exit 42";
    let done = up.cortex(&["run", "--", "sh", "-c", script]).exited(42);
    assert_eq!(done.stdout, b"out\xff\x00\n");
    assert_eq!(done.stderr, "err\n");

    let done = up.cortex(&["run", "--", "sh", "-c", "kill -9 $$"]).exited(137);
    assert!(done.stderr.contains("ended by signal 9"), "{done:?}");
}

#[test]
fn stdin_environment_and_directory_reach_the_command() {
    let up = Up::start();
    let input = up.file("input");
    fs::write(&input, b"from a file").unwrap();
    let script = r#"cat; printf ' %s %s' "$WORD" "$PWD""#;
    let args = ["--stdin", input.to_str().unwrap(), "--env", "WORD=a=b", "--cwd", "/usr"];
    let args = [&["run"][..], &args, &["--", "sh", "-c", script]].concat();
    assert_eq!(up.cortex(&args).exited(0).out(), "from a file a=b /usr");

    let mut piped = up.command(&["run", "--stdin", "-", "--", "cat"]);
    let done = Running::start(piped.stdin(fs::File::open(&input).unwrap())).end().exited(0);
    assert_eq!(done.out(), "from a file");
}

#[test]
fn what_cortex_decides_has_its_own_exit_codes() {
    let up = Up::start();
    let done = up.cortex(&["run", "--timeout", "200ms", "--", "sleep", "600"]).exited(124);
    assert!(done.stderr.contains("ended by its timeout of 200ms"), "{done:?}");
    let done = up.cortex(&["run", "--", "no-such-program-here"]);
    // Not on the owner's list, or not there: which of the two is told first is the node's business.
    assert!(done.code == 126 || done.code == 127, "{done:?}");
    let done = up.cortex(&["run", "--", "chmod", "700", "/nowhere"]).exited(126);
    assert!(done.stderr.contains("denied by the node's owner: CX-0401"), "{done:?}");
    assert!(done.stderr.contains("hint: "), "{done:?}");
    let args = ["run", "--require", "nothere", "--deadline", "3s", "--", "true"];
    let done = up.cortex(&args).exited(124);
    assert!(done.stderr.contains("cortex: waiting: "), "{done:?}");
    assert!(done.stderr.contains("expired before it started"), "{done:?}");
}

#[test]
fn the_same_key_and_request_is_the_same_task_and_another_request_a_conflict() {
    let up = Up::start();
    let marks = up.file("marks");
    let script = format!("echo mark >> {}; echo done", marks.display());
    let args = ["run", "--key", "once", "--", "sh", "-c", &script];
    for _ in 0..2 {
        assert_eq!(up.cortex(&args).exited(0).out(), "done\n");
    }
    assert_eq!(fs::read_to_string(&marks).unwrap(), "mark\n");
    let done = up.cortex(&["run", "--key", "once", "--", "true"]).exited(125);
    assert!(done.stderr.starts_with("error: CX-0202: "), "{done:?}");
    assert!(done.stderr.contains("shell.argv"), "the difference is shown: {done:?}");
}

#[test]
fn detached_the_task_is_left_alone_and_found_again() {
    let up = Up::start();
    let done = up.cortex(&["run", "--detach", "--label", "k=v", "--", "echo", "later"]).exited(0);
    let id = done.out().trim();
    assert_eq!(up.cortex(&["task", "watch", id]).exited(0).out(), "later\n");
}

#[test]
fn json_tells_the_submission_the_events_the_output_and_the_end() {
    let up = Up::start();
    let done = up.cortex(&["run", "--json", "--", "sh", "-c", r"printf '\377'; exit 3"]).exited(3);
    let lines = done.json_lines();
    let types: Vec<_> = lines.iter().map(|l| l["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], types[types.len() - 1]), ("submitted", "task"), "{types:?}");
    let output: Vec<_> = lines.iter().filter(|l| l["type"] == "output").collect();
    assert_eq!(output.len(), 1);
    assert_eq!(output[0]["data"], serde_json::json!({ "b64": "/w==" }));
    let events: Vec<_> =
        lines.iter().flat_map(|l| l["events"].as_array().cloned().unwrap_or_default()).collect();
    let names: Vec<_> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["Submitted", "Started", "Finished"]);
    let last = &lines[lines.len() - 1]["task"];
    assert_eq!(last["state"], "failed");
    assert_eq!(last["outcome"]["ending"], serde_json::json!({ "kind": "exited", "code": 3 }));
    assert_eq!(last["actor"]["id"], "anna");
}

#[test]
fn a_cut_connection_is_taken_up_again_with_nothing_lost_or_doubled() {
    let up = Up::start();
    let (half, gate, result) = (up.file("half"), up.file("gate"), up.file("result"));
    let script = format!(
        "seq 1 30000; : > {}; until [ -e {} ]; do sleep 0.05; done; seq 30001 60000",
        half.display(),
        gate.display()
    );
    let first = Proxy::to(up.address());
    let dir = up.client_dir("client", &first.url(), None);
    let mut command = cortex(&dir);
    command.args(["run", "--", "sh", "-c", &script]);
    let running = Running::start(command.stdout(fs::File::create(&result).unwrap()));
    wait_until("the first half", || half.exists().then_some(()));
    let some = || fs::metadata(&result).is_ok_and(|m| m.len() > 100_000).then_some(());
    wait_until("output to arrive", some);
    drop(first);
    fs::write(&gate, "").unwrap();
    // A server that comes back elsewhere.
    let second = Proxy::to(up.address());
    point(&dir, &second.url());
    running.end().exited(0);
    assert!(second.was_used(), "the connection was not cut");
    let want: String = (1..=60_000).map(|n| format!("{n}\n")).collect();
    assert!(fs::read(&result).unwrap() == want.as_bytes(), "output differs");
}

#[test]
fn when_nobody_reads_the_output_the_task_is_ended() {
    let up = Up::start();
    let mut command = up.command(&["run", "--key", "pipe", "--", "sh", "-c", "seq 1 100000000"]);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    drop(child.stderr.take());
    let status = wait_until("run to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(141));
    let list = up.cortex(&["task", "list", "--json"]).exited(0).json();
    assert_eq!(list["tasks"][0]["idempotency_key"], "pipe");
    assert_eq!(list["tasks"][0]["state"], "cancelled");
}

#[test]
fn a_terminal_is_refused_in_words_before_anything_is_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = cortex(dir.path());
    let done = Running::start(command.args(["run", "--tty", "--", "top"])).end().exited(125);
    assert!(done.stderr.starts_with("error: CX-1313: "), "{done:?}");
    assert!(done.stderr.contains("hint: run it in a terminal, or leave --tty out"), "{done:?}");
}

//! `cortex task list|show|watch|output|history|cancel|explain|resolve`.

use crate::support::Up;

#[test]
fn a_task_is_shown_in_words_and_its_history_event_by_event() {
    let up = Up::start();
    let args = [
        "task",
        "submit",
        "--on-behalf-of",
        "berta",
        "--label",
        "team=web",
        "--",
        "echo",
        "hi there",
    ];
    let id = up.cortex(&args).exited(0).out().trim().to_owned();
    up.cortex(&["task", "watch", &id, "--quiet"]).exited(0);

    let shown = up.cortex(&["task", "show", &id]).exited(0);
    for line in [
        &format!("task     {id} is succeeded"),
        "asked    by anna (human) on behalf of berta at ",
        "what     echo 'hi there'",
        "label    team=web",
        "where    attempt 1 on node ",
        "ended    exited with code 0, at ",
        "output   9 bytes on stdout, 0 on stderr kept",
        "journal  entry ",
    ] {
        assert!(shown.out().contains(line), "lacks {line:?}: {shown:?}");
    }
    let history = up.cortex(&["task", "history", &id]).exited(0);
    let lines: Vec<_> = history.out().lines().collect();
    assert_eq!(lines.len(), 3, "{history:?}");
    assert!(lines[0].contains("Submitted") && lines[0].ends_with("-> PENDING"), "{history:?}");
    assert!(lines[1].contains("Started") && lines[1].ends_with("-> RUNNING"), "{history:?}");
    assert!(lines[2].contains("Finished") && lines[2].ends_with("-> SUCCEEDED"), "{history:?}");
    let entries = up.cortex(&["task", "history", &id, "--json"]).exited(0).json();
    assert_eq!(entries["entries"][0]["events"][0]["actor"]["on_behalf_of"], "berta");
}

#[test]
fn tasks_are_listed_newest_first_filtered_and_paged() {
    let up = Up::start();
    for (n, code) in [("1", "0"), ("2", "1"), ("3", "0")] {
        let script = format!("exit {code}");
        let label = format!("n={n}");
        let args = ["run", "--label", &label, "--label", "all=yes", "--", "sh", "-c", &script];
        up.cortex(&args).exited(code.parse().unwrap());
    }
    let list = |args: &[&str]| {
        let args = [&["task", "list", "--json", "--label", "all=yes"], args].concat();
        let page = up.cortex(&args).exited(0).json();
        let tasks = page["tasks"].as_array().unwrap().iter();
        let found: Vec<String> =
            tasks.map(|t| t["spec"]["labels"]["n"].as_str().unwrap().to_owned()).collect();
        (found, page["next_page_token"].as_str().unwrap().to_owned())
    };
    assert_eq!(list(&[]).0, ["3", "2", "1"]);
    assert_eq!(list(&["--state", "failed"]).0, ["2"]);
    assert_eq!(list(&["--label", "n=1"]).0, ["1"]);
    assert_eq!(list(&["--until", "1h"]).0, [""; 0]);
    let (first, token) = list(&["--limit", "2"]);
    assert_eq!(first, ["3", "2"]);
    assert_eq!(list(&["--limit", "2", "--page-token", &token]).0, ["1"]);
    let text = up.cortex(&["task", "list", "--label", "n=2"]).exited(0);
    assert!(text.out().contains("failed") && text.out().contains("sh -c 'exit 1'"), "{text:?}");
}

#[test]
fn output_is_kept_by_stream() {
    let up = Up::start();
    let id = up.submit_sh("echo one; echo two >&2; echo three");
    up.cortex(&["task", "watch", &id, "--quiet"]).exited(0);
    let both = up.cortex(&["task", "output", &id]).exited(0);
    assert_eq!((both.out(), both.stderr.as_str()), ("one\nthree\n", "two\n"));
    let one = up.cortex(&["task", "output", &id, "--stream", "stderr"]).exited(0);
    assert_eq!((one.out(), one.stderr.as_str()), ("", "two\n"));
    let lines = up.cortex(&["task", "output", &id, "--json", "--stream", "stderr"]).exited(0);
    let lines = lines.json_lines();
    assert_eq!((&lines[0]["stream"], &lines[0]["data"]), (&"stderr".into(), &"two\n".into()));
    assert_eq!(up.cortex(&["task", "output", &id, "--attempt", "2"]).exited(0).out(), "");
}

#[test]
fn a_waiting_task_is_explained_and_cancelled() {
    let up = Up::start();
    let args = ["task", "submit", "--require", "nothere", "--", "true"];
    let id = up.cortex(&args).exited(0).out().trim().to_owned();
    let why = up.cortex(&["task", "explain", &id]).exited(0);
    assert!(why.out().contains("nothere"), "{why:?}");
    let json = up.cortex(&["task", "explain", &id, "--json"]).exited(0).json();
    assert!(json["summary"].as_str().unwrap().contains("nothere"), "{json}");
    let done = up.cortex(&["task", "cancel", &id, "--reason", "typo", "--wait"]).exited(0);
    assert_eq!(done.out(), format!("task {id}: cancelled before it started\n"));
    let again = up.cortex(&["task", "cancel", &id]);
    assert!(again.code == 0 || again.stderr.starts_with("error: CX-0203: "), "{again:?}");
    up.cortex(&["task", "watch", &id]).exited(130);
}

#[test]
fn only_doubt_can_be_resolved_and_a_reason_is_needed() {
    let up = Up::start();
    let id = up.submit_sh("exit 0");
    up.cortex(&["task", "watch", &id, "--quiet"]).exited(0);
    let done = up.cortex(&["task", "resolve", &id, "--as", "failed", "--reason", "x"]).exited(125);
    assert!(
        done.stderr.starts_with("error: CX-0204: ") || done.stderr.starts_with("error: CX-0203: "),
        "{done:?}"
    );
    let done = up.cortex(&["task", "resolve", &id, "--as", "failed"]).exited(125);
    assert!(done.stderr.starts_with("error: CX-0803: "), "{done:?}");
}

#[test]
fn an_unknown_task_is_an_error_everywhere() {
    let up = Up::start();
    for args in [&["show"][..], &["watch"], &["output"], &["history"], &["cancel"], &["explain"]] {
        let args = [&["task"], args, &["nosuchtask"]].concat();
        let done = up.cortex(&args).exited(125);
        assert!(done.stderr.starts_with("error: CX-0201: "), "{args:?}: {done:?}");
    }
}

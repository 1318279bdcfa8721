//! `cortex task submit -f`.

use crate::support::{Running, Up};
use std::fs;

#[test]
fn a_bad_line_keeps_the_whole_file_from_being_submitted() {
    let up = Up::start();
    let file = up.file("tasks.jsonl");
    let good = "{\"argv\":[\"true\"],\"labels\":{\"from\":\"file\"}}\n";
    fs::write(
        &file,
        format!("{}{{\"argv\":[\"true\"],\"timeot\":\"1s\"}}\n{good}", good.repeat(6)),
    )
    .unwrap();
    let done = up.cortex(&["task", "submit", "-f", file.to_str().unwrap()]).exited(125);
    assert!(done.stderr.starts_with("error: CX-0802: line 7: "), "{done:?}");
    assert!(done.stderr.contains("timeot"), "{done:?}");
    assert!(done.stderr.contains("nothing of the file was submitted"), "{done:?}");
    let list = up.cortex(&["task", "list", "--label", "from=file"]).exited(0);
    assert_eq!(list.out(), "no tasks\n");
}

#[test]
fn the_same_file_again_is_the_same_tasks() {
    let up = Up::start();
    let (file, marks) = (up.file("tasks.jsonl"), up.file("marks"));
    let line = format!("{{\"argv\":[\"sh\",\"-c\",\"echo x >> {}\"]}}\n", marks.display());
    fs::write(&file, line.repeat(100)).unwrap();
    let path = file.to_str().unwrap();
    let first = up.cortex(&["task", "submit", "-f", path]).exited(0);
    assert_eq!(first.stderr, "cortex: 100 submitted, 0 existed already, 0 refused\n");
    let second = up.cortex(&["task", "submit", "-f", path]).exited(0);
    assert_eq!(second.stderr, "cortex: 0 submitted, 100 existed already, 0 refused\n");
    assert_eq!(first.stdout, second.stdout);
    for id in first.out().lines() {
        up.cortex(&["task", "watch", "--quiet", id]).exited(0);
    }
    assert_eq!(fs::read_to_string(&marks).unwrap(), "x\n".repeat(100));
}

#[test]
fn what_the_server_refuses_is_told_by_line_and_the_rest_is_submitted() {
    let up = Up::start();
    up.cortex(&["task", "submit", "--key", "taken", "--", "true"]).exited(0);
    let file = up.file("tasks.jsonl");
    fs::write(
        &file,
        "{\"argv\":[\"echo\",\"1\"]}\n{\"argv\":[\"echo\",\"2\"],\"key\":\"taken\"}\n{\"echo\":\"3\"}\n",
    )
    .unwrap();
    let mut piped = up.command(&["task", "submit", "--json", "-f", "-"]);
    let done = Running::start(piped.stdin(fs::File::open(&file).unwrap())).end().exited(125);
    let lines = done.json_lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["line"], 2);
    assert_eq!(lines[1]["error"]["code"], "CX-0202");
    assert_eq!((&lines[0]["created"], &lines[2]["created"]), (&true.into(), &true.into()));
    let echo = lines[2]["task_id"].as_str().unwrap();
    assert_eq!(up.cortex(&["task", "watch", echo]).exited(0).out(), "3");
}

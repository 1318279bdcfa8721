//! What a task leaves behind is told wherever its result is shown, and recorded on the node.

use super::Owned;
use crate::support::text;
use serde_json::json;

#[test]
fn a_repository_that_a_task_makes_is_named_wherever_its_result_is_shown() {
    let owned = Owned::start(&[]);
    let server = &owned.server;
    let make = owned.script(
        "make.sh",
        "git init -q \"$(printf 'new\\033[2J')\" && git init -q \"$TMPDIR/gone\"\n",
    );
    let line = format!(r"a repository appeared: $'{}/new\u{{1b}}[2J'", text(&owned.root));
    let ran = server.run(&["bash", &make]).ok().complains(&[&line]);
    assert!(!ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
    let id = server.tasks(&[])[0]["task_id"].as_str().unwrap().to_owned();
    server.cortex(&["task", "show", &id]).ok().says(&[&format!("left     {line}")]);
    server.cortex(&["task", "history", &id]).ok().says(&[&format!("bytes of output; {line}")]);
    let shown = server.cortex(&["task", "show", &id, "--json"]).ok().json();
    let path = format!("{}/new\u{1b}[2J", text(&owned.root));
    assert_eq!(shown["outcome"]["repositories"], json!({ "paths": [path], "gaps": [] }));
    // The journal has it too, so that nobody on the way can leave it out; opened for whoever may see it.
    let dir = text(&server.data().join("agent"));
    let words = ["__agent", "journal", "show", "--json", "--task", &id, "--data-dir", &dir];
    let journal = server.cortex(&words).ok().text();
    let changes = json!({ "gaps": [], "repositories": [path] });
    let opened = journal.lines().any(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let openings = record["openings"].as_array().unwrap();
        record["record"]["kind"] == "outcome"
            && openings.iter().any(|one| one["name"] == "changes" && one["value"] == changes)
    });
    assert!(opened, "{journal}");
    // One that makes none says so to programs, and nothing to people.
    let ran = server.run(&["echo", "x"]).ok();
    assert!(!ran.stderr.contains("repositor"), "{}", ran.stderr);
}

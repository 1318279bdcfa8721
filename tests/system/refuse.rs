//! Bad input and bad circumstances of a client: a clear error with its code, and nothing done.

use crate::support::{Server, effects, text};
use std::os::unix::fs::PermissionsExt;

#[test]
fn ten_megabytes_of_arguments_are_refused_in_words() {
    let server = Server::start(&["--no-agent"]);
    // One argument may have 128 KiB on Linux; together they may have more.
    let piece = "x".repeat(100_000);
    let many = vec![piece.as_str(); 15];
    server.run(&[&["echo"], &many[..]].concat()).with(125).complains(&["CX-0103", "hint"]);
    let line = serde_json::json!({ "argv": ["echo", "x".repeat(10 * 1024 * 1024)] }).to_string();
    let file = server.path("tasks.jsonl");
    std::fs::write(&file, line).unwrap();
    let ended = server.cortex(&["task", "submit", "-f", &text(&file)]);
    ended.with(125).complains(&["CX-0103", "line 1"]);
    assert_eq!(server.tasks(&[]), [] as [serde_json::Value; 0]);
}

#[test]
fn a_task_file_with_a_bad_line_is_refused_as_a_whole() {
    let server = Server::start(&["--no-agent"]);
    let mut lines = [r#"{"argv":["true"]}"#; 12];
    lines[6] = r#"{"argv":["true"],"#;
    let file = server.path("tasks.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let ended = server.cortex(&["task", "submit", "-f", &text(&file)]).with(125);
    ended.complains(&["CX-0802", "line 7", "nothing of the file was submitted"]);
    assert_eq!(server.tasks(&[]), [] as [serde_json::Value; 0]);
}

#[test]
fn without_a_server_a_client_says_how_to_start_one() {
    let mut server = Server::prepare(&["--no-agent"]);
    server.run(&["true"]).with(125).complains(&["CX-0801", "cortex up"]);
    server.up();
    server.kill_up();
    server.cortex(&["task", "list"]).with(125).complains(&["CX-0801", "cortex up"]);
    let json = server.cortex(&["task", "list", "--json"]).with(125);
    let error: serde_json::Value = serde_json::from_str(json.stderr.trim()).unwrap();
    assert_eq!(error["error"]["code"], "CX-0801");
    assert_eq!(error["error"]["retryable"], true);
}

#[test]
fn a_token_that_others_can_read_is_not_used() {
    let server = Server::start(&["--no-agent"]);
    let token = server.data().join("client.token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    server.cortex(&["task", "list"]).with(125).complains(&["CX-0706", "chmod 600"]);
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    server.cortex(&["task", "list"]).ok();
    let own = std::fs::read_to_string(&token).unwrap();
    std::fs::write(&token, "0".repeat(64)).unwrap();
    server.cortex(&["task", "list"]).with(125).complains(&["CX-0522"]);
    // The right server and a wrong secret: only the server can tell.
    let parts: Vec<&str> = own.trim().split('.').collect();
    let [prefix, workspace, id, secret, ca] = parts[..] else { panic!("{} parts", parts.len()) };
    let wrong = [prefix, workspace, id, &"0".repeat(secret.len()), ca].join(".");
    std::fs::write(&token, wrong).unwrap();
    server.cortex(&["task", "list"]).with(125).complains(&["CX-0501"]);
}

#[test]
fn what_is_not_a_task_a_key_or_a_requirement_is_told_apart() {
    let server = Server::start(&["--no-agent"]);
    let missing = "f".repeat(32);
    let table: [(&[&str], &str); 7] = [
        (&["run", "--require", "Python", "--", "true"], "CX-0104"),
        (&["run", "--timeout", "soon", "--", "true"], "CX-0105"),
        (&["run", "--env", "1A=x", "--", "true"], "CX-0106"),
        (&["run", "--retries", "1", "--retry-on", "lost", "--", "true"], "CX-0107"),
        (&["run", "--priority", "101", "--", "true"], "CX-0112"),
        (&["task", "show", &missing], "CX-02"),
        (&["run", "--no-such-flag", "--", "true"], "CX-0803"),
    ];
    for (args, code) in table {
        server.cortex(args).with(125).complains(&[code]);
    }
}

#[test]
fn a_running_task_cannot_be_resolved() {
    let server = Server::start(&[]);
    let file = server.path("effects");
    let id = server.submit(&[], &["sh", "-c", &format!("echo x >> {}", text(&file))]);
    server.until_state(&id, &["succeeded"]);
    let refused = server.cortex(&["task", "resolve", &id, "--as", "retry", "--reason", "again"]);
    refused.with(125).complains(&["CX-02"]);
    assert_eq!(effects(&file), 1);
}

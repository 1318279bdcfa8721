//! Errors: code, cause and hint on stderr, exit code 125, and the same as JSON.

use crate::support::{Done, Running, Up, cortex, private};
use std::os::unix::fs::PermissionsExt;

fn offline(args: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    Running::start(cortex(dir.path()).args(args)).end()
}

#[test]
fn without_a_server_every_command_says_how_to_start_one() {
    for args in [
        &["run", "--", "true"][..],
        &["task", "submit", "--", "true"],
        &["task", "list"],
        &["task", "watch", "t1"],
        &["node", "list"],
        &["backup"],
    ] {
        let done = offline(args).exited(125);
        assert!(done.stderr.starts_with("error: CX-0801: no server was started in "), "{done:?}");
        assert!(done.stderr.contains("\n  hint: start it with 'cortex up'"), "{done:?}");
        assert_eq!(done.out(), "");
    }
}

/// A token that no server made.
fn stranger() -> String {
    format!("cxu1.default.0123456789abcdef.{}.{}", "0".repeat(64), "1".repeat(64))
}

#[test]
fn a_server_that_is_gone_is_told_with_its_address() {
    let dir = tempfile::tempdir().unwrap();
    // Bound and closed: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    crate::support::point(dir.path(), &format!("https://{free}"));
    private(&dir.path().join("client.token"), &stranger());
    let done = Running::start(cortex(dir.path()).args(["task", "list"])).end().exited(125);
    assert!(done.stderr.contains("CX-0801") && done.stderr.contains(&free.to_string()), "{done:?}");
}

#[test]
fn a_command_line_that_cannot_be_read_is_an_error_with_a_code() {
    let done = offline(&["run"]).exited(125);
    assert!(done.stderr.starts_with("error: CX-0803: "), "{done:?}");
    assert!(done.stderr.contains("hint: usage: cortex run"), "{done:?}");
    let done = offline(&["task", "list", "--json", "--state", "happy"]).exited(125);
    let error: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!(error["error"]["code"], "CX-0803");
    assert!(error["error"]["message"].as_str().unwrap().contains("happy"), "{done:?}");
}

#[test]
fn help_and_version_are_no_errors() {
    let help = offline(&["run", "--help"]).exited(0);
    assert!(help.out().contains("cortex run -- uname -a") && help.stderr.is_empty(), "{help:?}");
    assert!(offline(&["--version"]).exited(0).out().starts_with("cortex "));
}

#[test]
fn what_no_server_would_take_is_refused_before_one_is_asked() {
    let big = "x".repeat(100 * 1024);
    for (args, code) in [
        (&["run", "--timeout", "5", "--", "true"][..], "CX-0105"),
        (&["run", "--require", "Docker", "--", "true"], "CX-0104"),
        (&["run", "--env", "1A=x", "--", "true"], "CX-0106"),
        (&["run", "--priority", "-101", "--", "true"], "CX-0112"),
        (&["run", "--retries", "2", "--", "true"], "CX-0107"),
        (&["run", "--actor-kind", "ai", "--", "true"], "CX-0111"),
        (&["run", "--", "echo", &big, &big], "CX-0103"),
        (&["task", "show", "A/B"], "CX-0102"),
    ] {
        let done = offline(args).exited(125);
        assert!(done.stderr.starts_with(&format!("error: {code}: ")), "{args:?}: {done:?}");
        assert!(done.stderr.contains("\n  hint: "), "{done:?}");
    }
}

#[test]
fn a_token_that_others_can_read_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::point(dir.path(), "https://127.0.0.1:1");
    let token = dir.path().join("client.token");
    private(&token, &stranger());
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let done = Running::start(cortex(dir.path()).args(["task", "list"])).end().exited(125);
    assert!(done.stderr.starts_with("error: CX-0706: "), "{done:?}");
    assert!(done.stderr.contains(&format!("hint: run: chmod 600 {}", token.display())), "{done:?}");
}

#[test]
fn a_wrong_token_is_refused_and_not_retried() {
    let up = Up::start();
    let url = format!("https://{}", up.address());
    let own = std::fs::read_to_string(up.data().join("client.token")).unwrap();
    let ca = own.trim().rsplit_once('.').unwrap().1;
    let wrong = format!("{}.{ca}", stranger().rsplit_once('.').unwrap().0);
    let dir = up.client_dir("stranger", &url, Some(&wrong));
    for args in [&["task", "list"][..], &["run", "--", "true"], &["task", "watch", "t1"]] {
        let done = Running::start(cortex(&dir).args(args)).end().exited(125);
        assert!(done.stderr.starts_with("error: CX-0501: "), "{done:?}");
    }
}

#[test]
fn another_server_than_the_tokens_own_sees_no_token() {
    let up = Up::start();
    let url = format!("https://{}", up.address());
    let dir = up.client_dir("misled", &url, Some(&stranger()));
    let done = Running::start(cortex(&dir).args(["task", "list"])).end().exited(125);
    assert!(done.stderr.starts_with("error: CX-0523: "), "{done:?}");
}

#[test]
fn what_is_no_token_is_told_without_repeating_it() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::point(dir.path(), "https://127.0.0.1:1");
    private(&dir.path().join("client.token"), "cxu1.default.secretsecret");
    let done = Running::start(cortex(dir.path()).args(["task", "list"])).end().exited(125);
    assert!(done.stderr.starts_with("error: CX-0522: "), "{done:?}");
    assert!(!done.stderr.contains("secretsecret"), "{done:?}");
}

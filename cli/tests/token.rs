//! `cortex token`, `login`, `context`, `whoami`.

use crate::support::{Done, Running, Up, cortex};
use rustix::process::Signal;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command of somebody who has nothing but a home directory.
fn at_home(home: &Path) -> Command {
    let mut command = cortex(home);
    command.env_remove("CORTEX_DATA_DIR").env("HOME", home);
    command
}

/// Runs a command that reads a token.
fn with_input(command: &mut Command, input: &str) -> Done {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(input.as_bytes()).unwrap();
    command.stdin(Stdio::from(std::fs::File::open(file.path()).unwrap()));
    Running::start(command).end()
}

fn login(up: &Up, home: &Path, token: &str, name: &str) -> Done {
    let url = format!("https://{}", up.address());
    with_input(at_home(home).args(["login", &url, "--name", name]), &format!("{token}\n"))
}

fn user_token(up: &Up, flags: &[&str]) -> String {
    let args = [&["token", "create", "user", "--json"], flags].concat();
    up.cortex(&args).exited(0).json()["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_person_logs_in_is_known_and_ends_with_the_token() {
    let (up, home) = (Up::start(), tempfile::tempdir().unwrap());
    let token = user_token(&up, &["--role", "operator", "--for", "bert", "--note", "for bert"]);
    let done = login(&up, home.path(), &token, "work").exited(0);
    assert_eq!(
        done.out(),
        "work: you are bert (human) with the role operator in workspace default\n"
    );
    let run = |args: &[&str]| Running::start(at_home(home.path()).args(args)).end();
    let who = run(&["whoami", "--json"]).exited(0).json();
    assert_eq!((&who["role"], &who["actor"]["id"]), (&"operator".into(), &"bert".into()));
    // The author is the holder of the token, whatever the machine's user is called.
    let id = run(&["task", "submit", "--", "uname"]).exited(0).out().trim().to_owned();
    let task = run(&["task", "show", &id, "--json"]).exited(0).json();
    assert_eq!(task["actor"]["id"], "bert");
    let denied = run(&["token", "list"]).exited(125);
    assert!(denied.stderr.starts_with("error: CX-0502: "), "{denied:?}");
    let token_id = who["token_id"].as_str().unwrap();
    let revoked = up.cortex(&["token", "revoke", token_id, "--reason", "left"]).exited(0);
    assert_eq!(revoked.out(), format!("token {token_id} is revoked\n"));
    let ended = run(&["whoami"]).exited(125);
    assert!(ended.stderr.starts_with("error: CX-0504: "), "{ended:?}");
    let listed = up.cortex(&["token", "list", "--all", "--json"]).exited(0);
    assert!(listed.out().contains(token_id) && !listed.out().contains(&token), "{listed:?}");
    assert!(!up.cortex(&["token", "list"]).exited(0).out().contains(token_id));
}

#[test]
fn contexts_are_listed_chosen_and_forgotten_and_their_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (up, home) = (Up::start(), tempfile::tempdir().unwrap());
    let run = |args: &[&str]| Running::start(at_home(home.path()).args(args)).end();
    assert_eq!(
        run(&["context", "list"]).exited(0).out(),
        "no contexts: log in with 'cortex login URL'\n"
    );
    for (name, role) in [("one", "viewer"), ("two", "operator")] {
        let token = user_token(&up, &["--role", role, "--for", "anna"]);
        login(&up, home.path(), &token, name).exited(0);
        let file = home.path().join(format!(".config/cortex/contexts/{name}.json"));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let role = |args: &[&str]| run(args).exited(0).json()["role"].as_str().unwrap().to_owned();
    assert_eq!(role(&["whoami", "--json"]), "operator");
    assert_eq!(role(&["whoami", "--json", "--context", "one"]), "viewer");
    assert_eq!(run(&["context", "use", "one"]).exited(0).out(), "commands talk to one now\n");
    assert_eq!(role(&["whoami", "--json"]), "viewer");
    let listed = run(&["context", "list", "--json"]).exited(0).json();
    let names: Vec<_> =
        listed["contexts"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["one", "two"]);
    run(&["context", "remove", "one"]).exited(0);
    let gone = run(&["context", "use", "one"]).exited(125);
    assert!(gone.stderr.starts_with("error: CX-0524: "), "{gone:?}");
    // CORTEX_DATA_DIR still wins.
    assert_eq!(up.cortex(&["whoami", "--json"]).exited(0).json()["role"], "root");
}

#[test]
fn what_is_no_login_is_said_before_anything_is_kept() {
    let (up, home) = (Up::start(), tempfile::tempdir().unwrap());
    let join = up.cortex(&["token", "create", "node"]).exited(0);
    assert!(join.out().starts_with("cxj1.default."), "{join:?}");
    assert!(join.stderr.contains("its text is not shown again"), "{join:?}");
    let token = user_token(&up, &["--role", "viewer", "--for", "anna"]);
    let (front, ca) = token.rsplit_once('.').unwrap();
    let misled = format!("{front}.{}", "0".repeat(ca.len()));
    for (text, code) in [
        ("", "CX-0522"),
        ("cxu1.default.half", "CX-0522"),
        (join.out().trim(), "CX-0522"),
        (misled.as_str(), "CX-0523"),
        ("a.b.c", "CX-0803"),
    ] {
        let done = login(&up, home.path(), text, "x").exited(125);
        assert!(done.stderr.starts_with(&format!("error: {code}: ")), "{text}: {done:?}");
        assert!(text.len() < 9 || !done.stderr.contains(text), "{done:?}");
    }
    assert!(!home.path().join(".config/cortex/contexts/x.json").exists());
}

#[test]
fn a_token_outside_its_limits_is_refused() {
    let up = Up::start();
    for (args, code) in [
        (&["node", "--uses", "0"][..], "CX-0527"),
        (&["node", "--uses", "1001"], "CX-0527"),
        (&["node", "--ttl", "31d"], "CX-0527"),
        (&["node", "--ttl", "soon"], "CX-0105"),
        (&["node", "--label", "x"], "CX-0803"),
        (&["node", "--node", "A B"], "CX-0102"),
        (&["user", "--role", "king", "--for", "a"], "CX-0803"),
        (&["user", "--role", "viewer", "--for", "a", "--kind", "ai"], "CX-0111"),
        (&["user", "--role", "viewer", "--for", "a", "--workspace", "W W"], "CX-0102"),
    ] {
        let done = up.cortex(&[&["token", "create"], args].concat()).exited(125);
        assert!(done.stderr.starts_with(&format!("error: {code}: ")), "{args:?}: {done:?}");
    }
    let gone = up.cortex(&["token", "revoke", "0123"]).exited(125);
    assert!(gone.stderr.starts_with("error: CX-0518: "), "{gone:?}");
}

#[test]
fn up_makes_a_context_so_that_commands_just_work() {
    let home = tempfile::tempdir().unwrap();
    let server = Running::start(at_home(home.path()).args(["up", "--no-agent"]));
    crate::support::wait_until("the server", || {
        let done = Running::start(at_home(home.path()).args(["task", "list"])).end();
        (done.code == 0).then_some(())
    });
    let listed = Running::start(at_home(home.path()).args(["context", "list", "--json"])).end();
    let listed = listed.exited(0).json();
    assert_eq!(listed["contexts"][0]["name"], "local");
    assert_eq!(listed["contexts"][0]["current"], true);
    server.signal(Signal::TERM);
    server.end().exited(0);
}

#[test]
fn tokens_are_listed_without_their_secrets_and_end_when_they_are_revoked() {
    let up = Up::start();
    let flags = ["--role", "operator", "--for", "helper", "--kind", "ai", "--model", "vendor/m-1"];
    let make = [&["token", "create", "user", "--json", "--note", "nightly"], &flags[..]].concat();
    let made = up.cortex(&make).exited(0).json();
    let (text, id) = (made["text"].as_str().unwrap(), made["token"]["token_id"].as_str().unwrap());
    let join =
        up.cortex(&["token", "create", "node", "--label", "site=b", "--uses", "3", "--json"]);
    let join = join.exited(0).json()["token"].clone();

    let listed = up.cortex(&["token", "list", "--json"]).exited(0);
    let secret = text.split('.').nth(3).unwrap();
    assert!(!listed.out().contains(secret), "{listed:?}");
    let tokens = listed.json()["tokens"].clone();
    let find = |id: &str| tokens.as_array().unwrap().iter().find(|t| t["token_id"] == id).cloned();
    let user = find(id).unwrap();
    assert_eq!(
        (&user["state"], &user["kind"], &user["role"]),
        (&"valid".into(), &"user".into(), &"operator".into())
    );
    assert_eq!((&user["note"], &user["created_by"]), (&"nightly".into(), &"cortex-up".into()));
    let nodes = find(join["token_id"].as_str().unwrap()).unwrap();
    assert_eq!((&nodes["uses"], &nodes["labels"]["site"]), (&3.into(), &"b".into()));
    let words = up.cortex(&["token", "list"]).exited(0);
    let line = words.out().lines().find(|line| line.starts_with(id)).unwrap();
    assert!(line.contains("valid") && line.contains("operator helper"), "{line}");

    let helper = up.client_dir("helper", &format!("https://{}", up.address()), Some(text));
    let as_helper =
        |args: &[&str]| Running::start(cortex(&helper).env_remove("USER").args(args)).end();
    as_helper(&["task", "list"]).exited(0);
    let revoked =
        up.cortex(&["token", "revoke", id, "--reason", "over", "--json"]).exited(0).json();
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(
        up.cortex(&["token", "revoke", id, "--json"]).exited(0).json(),
        revoked,
        "twice is fine"
    );
    let ended = as_helper(&["task", "list"]).exited(125);
    assert!(
        ended.stderr.starts_with("error: CX-0504: ") && ended.stderr.contains("hint"),
        "{ended:?}"
    );
    assert!(!up.cortex(&["token", "list"]).exited(0).out().contains(id));
    let all = up.cortex(&["token", "list", "--all"]).exited(0);
    assert!(all.out().lines().any(|l| l.starts_with(id) && l.contains("revoked")), "{all:?}");
    let denied = up.cortex(&["token", "revoke", "../x"]).exited(125);
    assert!(denied.stderr.starts_with("error: CX-0518: "), "{denied:?}");
}

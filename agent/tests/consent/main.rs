//! A task that needs its owner: real agent, real socket, the owner's own command.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

#[path = "../support/attacks.rs"]
mod attacks;
mod restart;
#[path = "../support/mod.rs"]
mod support;

use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use support::*;

/// A node whose owner is asked about everything, with a root to work in.
fn owned() -> (Machine, tempfile::TempDir) {
    let (node, root) = (Machine::new(), tempfile::tempdir().unwrap());
    write_policy(&node, root.path(), "");
    (node, root)
}

fn write_policy(node: &Machine, root: &Path, more: &str) {
    let policy = format!(
        "version = 1\nopaque_shell = \"ask\"\nprograms.search = [\"/usr/bin\", \"/bin\"]\n\
         sandbox.allow_none = true\nconsent = {{ channels = [\"socket\"], remember = \"session\" }}\n\
         [paths]\nroots = [{root:?}]\nread = [\"@system\"]\n\
         [[rule]]\nid = \"touch\"\nprogram = [\"touch\", \"rm\"]\nargs = \"path:write\"\neffect = \"ask\"\n{more}"
    );
    std::fs::write(node.path("policy.toml"), policy).unwrap();
}

fn owner(node: &Machine, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(agent_program());
    command
        .args(["consent", "--json", "--data-dir"])
        .arg(node.dir.path())
        .args(args)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The number of the first question that waits.
fn waiting(node: &Machine) -> Option<String> {
    let output = owner(node, &["list"]);
    let value: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(value["waiting"][0]["id"].as_u64()?.to_string())
}

/// Waits until a question waits, and gives its number.
async fn question(node: &Machine) -> String {
    until("a question", || waiting(node).is_some()).await;
    waiting(node).unwrap()
}

/// What is shown of a question, all of it.
fn shown(node: &Machine, id: &str) -> (Value, String) {
    let shown = json(&owner(node, &["show", id, "--all"]));
    let lines = shown["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    let text = lines.collect::<Vec<_>>().join("\n");
    (shown, text)
}

async fn denied(connection: &mut Connection) -> String {
    match ending(&connection.outcome().await) {
        ending::Kind::Denied(denied) => denied.error.unwrap().code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nothing_starts_before_the_owner_agrees_to_exactly_this() {
    let (node, root) = owned();
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let file = root.path().join("made");
    connection.dispatch("t1", 1, shell(&["touch", "made"])).await;
    let id = question(&node).await;
    assert!(!file.exists());
    // It waits, is known, and holds no slot.
    assert_eq!(connection.query("t1").await.phase(), AttemptPhase::Known);
    // Unseen is not agreed to.
    assert!(complaint(&owner(&node, &["allow", &id])).contains("CX-1208"));
    let (_, text) = shown(&node, &id);
    for part in ["argument 1 made", "asked for by tester", "sandbox   full", "network   none"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    json(&owner(&node, &["allow", &id]));
    let report = connection.outcome().await;
    assert_eq!(ending(&report), ending::Kind::Exited(Exited { code: 0 }));
    assert!(file.exists());
    assert!(complaint(&owner(&node, &["allow", &id])).contains("CX-1207"));
    kill(agent).await;
}

#[tokio::test]
async fn a_no_and_a_missing_code_start_nothing() {
    let (node, root) = owned();
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let file = root.path().join("precious");
    std::fs::write(&file, "x").unwrap();
    connection.dispatch("t1", 1, shell(&["rm", "precious"])).await;
    let id = question(&node).await;
    let (value, _) = shown(&node, &id);
    assert_eq!(value["code"].as_str().unwrap().len(), 4);
    for wrong in [&["allow", &id][..], &["allow", &id, "--code", "YYYY"]] {
        assert!(complaint(&owner(&node, wrong)).contains("CX-1208"));
    }
    json(&owner(&node, &["deny", &id]));
    assert_eq!(denied(&mut connection).await, "CX-1202");
    assert!(file.exists());
    kill(agent).await;
}

#[tokio::test]
async fn a_policy_that_changed_while_the_owner_thought_is_asked_about_again() {
    let (node, root) = owned();
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["touch", "made"])).await;
    let first = question(&node).await;
    shown(&node, &first);
    write_policy(&node, root.path(), "# another text\n");
    json(&owner(&node, &["allow", &first]));
    let again = || waiting(&node).filter(|id| *id != first);
    until("the question again", || again().is_some()).await;
    assert!(!root.path().join("made").exists());
    json(&owner(&node, &["deny", &again().unwrap()]));
    assert_eq!(denied(&mut connection).await, "CX-1202");
    kill(agent).await;
}

#[tokio::test]
async fn a_cancel_ends_the_question() {
    let (node, root) = owned();
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["touch", "made"])).await;
    question(&node).await;
    let cancel = Cancel {
        workspace: "default".into(),
        task_id: "t1".into(),
        attempt: 1,
        ..Cancel::default()
    };
    connection.send(Down::Cancel(cancel)).await;
    assert!(matches!(connection.next().await, Up::CancelAnswer(_)));
    let report = connection.outcome().await;
    assert!(matches!(ending(&report), ending::Kind::Cancelled(_)));
    assert_eq!(json(&owner(&node, &["list"]))["waiting"], serde_json::json!([]));
    assert!(!root.path().join("made").exists());
    kill(agent).await;
}

#[tokio::test]
async fn without_a_channel_or_an_answer_in_time_it_is_a_no() {
    let (node, root) = owned();
    let text = std::fs::read_to_string(node.path("policy.toml")).unwrap();
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    for (number, to, code) in [
        (1, "channels = []", "CX-1204"),
        // Nobody started this agent on a terminal, and a notification only announces.
        (2, "channels = [\"tty\"]", "CX-1204"),
        (3, "channels = [\"desktop\"]", "CX-1204"),
        (4, "channels = [\"socket\"], timeout = \"1s\"", "CX-1203"),
    ] {
        let changed = text.replace("channels = [\"socket\"]", to);
        std::fs::write(node.path("policy.toml"), changed).unwrap();
        connection.dispatch(&format!("t{number}"), number, shell(&["touch", "made"])).await;
        assert_eq!(denied(&mut connection).await, code, "{to}");
    }
    assert!(!root.path().join("made").exists());
    kill(agent).await;
}

#[tokio::test]
async fn the_desktop_is_told_that_a_task_asks_and_nothing_of_what_it_says() {
    use std::os::unix::fs::PermissionsExt as _;
    let (node, root) = owned();
    let text = std::fs::read_to_string(node.path("policy.toml")).unwrap();
    let both = text.replace("[\"socket\"]", "[\"socket\", \"desktop\"]");
    std::fs::write(node.path("policy.toml"), both).unwrap();
    let (program, told) = (node.path("notify"), node.path("told"));
    let script = format!(
        "#!/bin/sh\n{{ printf '%s|' \"$@\" \"$DISPLAY\" \"$CORTEX_LOG\"; echo; }} > {}\n",
        told.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(node.path("agent.toml"), format!("notify = {program:?}\n")).unwrap();
    let mut gateway = Gateway::start().await;
    let agent = node.command(&gateway).env("DISPLAY", ":7").spawn().unwrap();
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["touch", "made; rm -rf /"])).await;
    let id = question(&node).await;
    let words = ["--app-name=cortex", "--urgency=critical", "Cortex: a task asks"];
    let expected = format!("{}|cortex-agent consent show {id}|:7||\n", words.join("|"));
    assert_eq!(appears(&told).await, expected);
    json(&owner(&node, &["deny", &id]));
    assert_eq!(denied(&mut connection).await, "CX-1202");
    assert!(!root.path().join("made; rm -rf ").exists());
    kill(agent).await;
}

#[tokio::test]
async fn an_answer_that_is_remembered_counts_for_the_same_until_it_is_taken_back() {
    let (node, root) = owned();
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let exited = ending::Kind::Exited(Exited { code: 0 });
    connection.dispatch("t1", 1, shell(&["touch", "made"])).await;
    let id = question(&node).await;
    shown(&node, &id);
    json(&owner(&node, &["allow", &id, "--remember", "session"]));
    assert_eq!(ending(&connection.outcome().await), exited);
    connection.dispatch("t2", 2, shell(&["touch", "made"])).await;
    assert_eq!(ending(&connection.outcome().await), exited, "nobody was asked again");
    let grants = json(&owner(&node, &["grants"]));
    assert_eq!(grants["grants"][0]["used"], 1, "{grants}");
    // Anything else is another question.
    connection.dispatch("t3", 3, shell(&["touch", "other"])).await;
    let other = question(&node).await;
    json(&owner(&node, &["deny", &other]));
    assert_eq!(denied(&mut connection).await, "CX-1202");
    let grant = grants["grants"][0]["id"].as_u64().unwrap().to_string();
    json(&owner(&node, &["grants", "--revoke", &grant]));
    connection.dispatch("t4", 4, shell(&["touch", "made"])).await;
    let again = question(&node).await;
    json(&owner(&node, &["deny", &again]));
    assert_eq!(denied(&mut connection).await, "CX-1202");
    assert!(!root.path().join("other").exists());
    kill(agent).await;
}

#[tokio::test]
async fn without_a_sandbox_nothing_runs_unless_the_owner_allows_that_and_agrees_each_time() {
    let (node, root) = owned();
    let text = std::fs::read_to_string(node.path("policy.toml")).unwrap();
    let without = text.replace("allow_none = true", "allow_none = false");
    let allowing = |text: &str| text.replace("effect = \"ask\"", "effect = \"allow\"");
    std::fs::write(node.path("policy.toml"), allowing(&without)).unwrap();
    let mut gateway = Gateway::start().await;
    let attack = attacks::attacks();
    let agent = node.start_behind(&gateway, &[attack.to_str().unwrap(), "bare"]);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["touch", "made"])).await;
    assert_eq!(denied(&mut connection).await, "CX-1009");
    std::fs::write(node.path("policy.toml"), allowing(&text)).unwrap();
    connection.dispatch("t2", 2, shell(&["touch", "made"])).await;
    let id = question(&node).await;
    let (value, text) = shown(&node, &id);
    assert!(text.contains("NONE: the process has all rights of the agent"), "{text}");
    assert_eq!(value["rememberable"], false);
    assert!(!root.path().join("made").exists());
    json(&owner(&node, &["allow", &id]));
    let report = connection.outcome().await;
    assert_eq!(ending(&report), ending::Kind::Exited(Exited { code: 0 }));
    assert_eq!(report.outcome.unwrap().confinement.unwrap().level, "none");
    assert!(root.path().join("made").exists());
    kill(agent).await;
}

#[tokio::test]
async fn a_task_cannot_answer_its_own_question() {
    let (node, root) = owned();
    // The task runs the owner's own command, with the token at hand: no sandbox hides it here. As itself, and as something that
    // has left its parents, its session and its environment behind.
    let program = root.path().join("answer");
    let ask = format!(
        "{} consent --data-dir {} list",
        env!("CARGO_BIN_EXE_cortex-agent"),
        node.dir.path().display()
    );
    let script = format!(
        "#!/bin/sh\n{ask}\ncd {}\n(setsid env -i /bin/sh -c '{ask} > late 2>&1; echo done >> late' &)\n\
         while ! grep -q done late 2>/dev/null; do sleep 0.05; done\ncat late\n",
        root.path().display()
    );
    std::fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    write_policy(
        &node,
        root.path(),
        "[[rule]]\nid = \"own\"\nprogram = \"@root/answer\"\neffect = \"allow\"\n",
    );
    let mut gateway = Gateway::start().await;
    let attack = attacks::attacks();
    let agent = node.start_behind(&gateway, &[attack.to_str().unwrap(), "bare"]);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&[&program.to_string_lossy()])).await;
    let id = question(&node).await;
    shown(&node, &id);
    json(&owner(&node, &["allow", &id]));
    let (report, output) = connection.outcome_and_output().await;
    let said = String::from_utf8_lossy(&output).into_owned();
    assert_eq!(said.matches("CX-1206").count(), 2, "{said} {report:?}");
    kill(agent).await;
}

/// An agent in the foreground of a terminal of its own, which `script` makes: what is typed, and what is on the screen.
struct Terminal {
    process: tokio::process::Child,
    keys: tokio::process::ChildStdin,
    screen: std::path::PathBuf,
}

impl Terminal {
    fn start(node: &Machine, gateway: &Gateway) -> Self {
        let agent = node.command(gateway);
        let agent = agent.as_std();
        let words = std::iter::once(agent.get_program()).chain(agent.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().unwrap().to_owned()).collect();
        let screen = node.path("screen");
        let mut process = tokio::process::Command::new("script")
            .args(["-qfec", &format!("exec {}", words.join(" "))])
            .arg(&screen)
            .env("CORTEX_LOG", "warn")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let keys = process.stdin.take().unwrap();
        Self { process, keys, screen }
    }

    async fn types(&mut self, text: &str) {
        use tokio::io::AsyncWriteExt as _;
        self.keys.write_all(text.as_bytes()).await.unwrap();
    }

    /// Waits until so many places of the screen have a text; gives the whole screen.
    async fn shows(&self, text: &str, times: usize) -> String {
        let screen = || std::fs::read_to_string(&self.screen).unwrap_or_default();
        until(&format!("{text:?} on the screen"), || screen().matches(text).count() >= times).await;
        screen()
    }
}

#[tokio::test]
async fn on_the_terminal_only_what_is_typed_after_the_question_counts() {
    let (node, root) = owned();
    let text = std::fs::read_to_string(node.path("policy.toml")).unwrap();
    let only_tty = text.replace("channels = [\"socket\"]", "channels = [\"tty\"]");
    std::fs::write(node.path("policy.toml"), only_tty).unwrap();
    let mut gateway = Gateway::start().await;
    let mut terminal = Terminal::start(&node, &gateway);
    let mut connection = gateway.welcome().await;
    let made = root.path().join("made");
    // Typed ahead: it is echoed before the question and counts for nothing.
    terminal.types("y\n").await;
    terminal.shows("y\r\n", 1).await;
    connection.dispatch("t1", 1, shell(&["touch", "made"])).await;
    let screen = terminal.shows("y: agree once, anything else: no [N] ", 1).await;
    assert!(screen.contains("argument 1 made"), "{screen}");
    // The policy names no socket: nobody can answer there.
    let id = question(&node).await;
    shown(&node, &id);
    assert!(complaint(&owner(&node, &["allow", &id])).contains("CX-1206"));
    assert!(!made.exists());
    // The line end alone is a no.
    terminal.types("\n").await;
    assert_eq!(denied(&mut connection).await, "CX-1202");
    connection.dispatch("t2", 2, shell(&["touch", "made"])).await;
    terminal.shows("y: agree once", 2).await;
    terminal.types("y\n").await;
    let exited = ending::Kind::Exited(Exited { code: 0 });
    assert_eq!(ending(&connection.outcome().await), exited);
    assert!(made.exists());
    // What destroys needs its code; a yes is not enough.
    connection.dispatch("t3", 3, shell(&["rm", "made"])).await;
    terminal.shows("it destroys. Type ", 1).await;
    terminal.types("y\n").await;
    assert_eq!(denied(&mut connection).await, "CX-1202");
    assert!(made.exists());
    connection.dispatch("t4", 4, shell(&["rm", "made"])).await;
    let screen = terminal.shows("it destroys. Type ", 2).await;
    let (_, after) = screen.rsplit_once("it destroys. Type ").unwrap();
    terminal.types(&format!("{}\n", &after[..4])).await;
    assert_eq!(ending(&connection.outcome().await), exited);
    assert!(!made.exists());
    kill(terminal.process).await;
}

/// Continuous integration is root; whoever has an agent mostly is not.
#[test]
fn an_ordinary_user_is_asked_and_answers_in_the_same_way() {
    use std::os::unix::fs::PermissionsExt as _;
    const USER: &str = "61236";
    if !rustix::process::geteuid().is_root() {
        // Then all others have run as one.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (own, room) = (dir.path().join("consent"), dir.path().join("room"));
    std::fs::copy(std::env::current_exe().unwrap(), &own).unwrap();
    std::fs::create_dir(&room).unwrap();
    for (path, mode) in [(dir.path(), 0o755), (&own, 0o755), (&room, 0o700)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let id = USER.parse().unwrap();
    std::os::unix::fs::chown(&room, Some(id), Some(id)).unwrap();
    let tests = std::process::Command::new("setpriv")
        .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
        .arg(&own)
        .args(["--skip", "an_ordinary_user", "--test-threads", "4"])
        .current_dir(&room)
        .env("HOME", &room)
        .env("TMPDIR", &room)
        .env("CORTEX_TEST_PROGRAMS", attacks::programs())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tests.stdout);
    assert!(tests.status.success(), "{said}\n{}", String::from_utf8_lossy(&tests.stderr));
    let passed = said.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(passed >= 15, "{said}");
}

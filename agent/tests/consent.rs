//! A task that needs its owner: real agent, real socket, the owner's own command. The policy goes without a sandbox, so that the
//! owner is asked about everything, on every machine.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

mod support;

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
        "version = 1\nstrict = \"all\"\nopaque_shell = \"ask\"\nprograms.search = [\"/usr/bin\", \"/bin\"]\n\
         sandbox.allow_none = true\nconsent = {{ channels = [\"socket\"], remember = \"session\" }}\n\
         [paths]\nroots = [{root:?}]\nread = [\"@system\"]\n\
         [[rule]]\nid = \"touch\"\nprogram = [\"touch\", \"rm\"]\nargs = \"path:write\"\neffect = \"allow\"\n{more}"
    );
    std::fs::write(node.path("policy.toml"), policy).unwrap();
}

fn owner(node: &Machine, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_cortex-agent");
    let mut command = std::process::Command::new(program);
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

/// Waits until a question waits, and gives its number.
async fn question(node: &Machine) -> String {
    let first = || {
        let output = owner(node, &["list"]);
        let value: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(value["waiting"][0]["id"].as_u64()?.to_string())
    };
    until("a question", || first().is_some()).await;
    first().unwrap()
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
    let blind = owner(&node, &["allow", &id]);
    assert!(String::from_utf8_lossy(&blind.stderr).contains("CX-1208"));
    let shown = json(&owner(&node, &["show", &id]));
    let lines: Vec<&str> =
        shown["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    for part in ["argument 1 made", "asked for by tester", "NONE: the process has all rights"] {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:?}");
    }
    json(&owner(&node, &["allow", &id]));
    let report = connection.outcome().await;
    assert_eq!(ending(&report), ending::Kind::Exited(Exited { code: 0 }));
    assert!(file.exists());
    let gone = owner(&node, &["allow", &id]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("CX-1207"));
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
    let shown = json(&owner(&node, &["show", &id, "--all"]));
    assert_eq!(shown["code"].as_str().unwrap().len(), 4);
    for wrong in [&["allow", &id][..], &["allow", &id, "--code", "YYYY"]] {
        assert!(String::from_utf8_lossy(&owner(&node, wrong).stderr).contains("CX-1208"));
    }
    json(&owner(&node, &["deny", &id]));
    let ending::Kind::Denied(denied) = ending(&connection.outcome().await) else { panic!() };
    assert_eq!(denied.error.unwrap().code, "CX-1202");
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
    owner(&node, &["show", &first]);
    write_policy(&node, root.path(), "# another text\n");
    json(&owner(&node, &["allow", &first]));
    let again = || {
        let value: Value = serde_json::from_slice(&owner(&node, &["list"]).stdout).ok()?;
        let id = value["waiting"][0]["id"].as_u64()?.to_string();
        Some(id).filter(|id| *id != first)
    };
    until("the question again", || again().is_some()).await;
    assert!(!root.path().join("made").exists());
    json(&owner(&node, &["deny", &again().unwrap()]));
    connection.outcome().await;
    kill(agent).await;
}

#[tokio::test]
async fn a_cancel_ends_the_question_and_a_dead_agent_leaves_nothing_started() {
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
    let report = connection.outcome().await;
    assert!(matches!(ending(&report), ending::Kind::Cancelled(_)));
    assert_eq!(json(&owner(&node, &["list"]))["waiting"], serde_json::json!([]));
    connection.dispatch("t2", 2, shell(&["touch", "made"])).await;
    question(&node).await;
    kill(agent).await;
    // The journal knows nothing of it: it is offered again, and asked again.
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(connection.query("t2").await.phase(), AttemptPhase::Unknown);
    assert!(!root.path().join("made").exists());
    kill(agent).await;
}

#[tokio::test]
async fn a_task_cannot_answer_its_own_question() {
    let (node, root) = owned();
    // The task runs the owner's own command, with the token at hand: no sandbox hides it here.
    let program = root.path().join("answer");
    let script = format!(
        "#!/bin/sh\n{} consent --data-dir {} list\n",
        env!("CARGO_BIN_EXE_cortex-agent"),
        node.dir.path().display()
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
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&[&program.to_string_lossy()])).await;
    let id = question(&node).await;
    json(&owner(&node, &["show", &id, "--all"]));
    json(&owner(&node, &["allow", &id]));
    let (report, output) = connection.outcome_and_output().await;
    let said = String::from_utf8_lossy(&output).into_owned();
    assert!(said.contains("CX-1206"), "{said} {report:?}");
    kill(agent).await;
}

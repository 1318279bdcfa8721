//! The owner's word on the machine itself: no server takes part in it.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

mod support;

use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;
use std::process::Output;
use support::*;

/// Runs a command of the owner's.
async fn owner(node: &Machine, words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cortex-agent"));
    command.args(words).arg("--data-dir").arg(node.dir.path());
    within("the owner's command", command.output()).await.unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn offered(connection: &mut Connection, id: u64) -> Up {
    connection.send(Down::Offer(offer(&format!("t{id}"), id, echo("x")))).await;
    connection.next().await
}

#[tokio::test]
async fn a_paused_agent_takes_nothing_even_after_a_restart_until_it_is_resumed() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert!(matches!(offered(&mut connection, 1).await, Up::Claim(_)));
    assert!(text(&owner(&node, &["pause"]).await).contains("paused"));
    match offered(&mut connection, 2).await {
        Up::Busy(busy) => {
            assert_eq!(busy.reason(), BusyReason::Unable);
            assert!(busy.error.unwrap().message.contains("owner"));
        }
        other => panic!("{other:?}"),
    }
    kill(agent).await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert!(matches!(offered(&mut connection, 3).await, Up::Busy(_)));
    let json = text(&owner(&node, &["resume", "--json"]).await);
    let said: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&said["answer"], &said["paused"]), (&"status".into(), &false.into()));
    assert!(matches!(offered(&mut connection, 4).await, Up::Claim(_)));
    kill(agent).await;
}

#[tokio::test]
async fn stop_all_returns_when_no_process_is_left() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut pids = Vec::new();
    for id in 1..=3_u64 {
        let file = node.path(&format!("pid-{id}"));
        let script = format!(
            "trap '' TERM; setsid sh -c 'echo $$ > {}; exec sleep 1000' & wait",
            file.display()
        );
        connection.dispatch(&format!("t{id}"), id, sh(&script)).await;
        pids.push(appears(&file).await);
    }
    let running = text(&owner(&node, &["running"]).await);
    assert_eq!(running.lines().filter(|line| line.starts_with("running ")).count(), 3, "{running}");
    let said = text(&owner(&node, &["stop-all"]).await);
    for id in 1..=3 {
        assert!(said.contains(&format!("ended default/t{id}/1, with all its processes")), "{said}");
    }
    for pid in pids {
        is_gone(&pid).await;
    }
    // What it can do has changed, so it connects anew, and says again what nobody acknowledged.
    let mut connection = gateway.welcome().await;
    for _ in 0..3 {
        let ending::Kind::Cancelled(how) = ending(&connection.outcome().await) else { panic!() };
        assert_eq!((how.never_started, how.survivors), (false, 0));
    }
    assert!(matches!(offered(&mut connection, 9).await, Up::Busy(_)));
    kill(agent).await;
}

#[tokio::test]
async fn the_history_tells_what_was_done_and_how_it_was_confined() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, sh("exit 3")).await;
    let report = connection.outcome().await;
    let confinement = report.outcome.unwrap().confinement.unwrap();
    // This policy is of the version that had no sandbox; the outcome says so.
    assert_eq!((confinement.level.as_str(), confinement.network.as_str()), ("none", "full"));
    assert!(
        confinement.limits.iter().any(|limit| limit.name == "wall" && limit.strength == "hard")
    );
    let said = text(&owner(&node, &["history"]).await);
    let line = |kind: &str| said.lines().find(|line| line.contains(kind)).unwrap().to_owned();
    assert!(line("intent").contains("t1/1  process.exec"), "{said}");
    assert!(line("outcome").contains("exited"), "{said}");
    let json = text(&owner(&node, &["history", "--count", "1", "--json"]).await);
    let entry: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(entry["kind"], "outcome");
    kill(agent).await;
    let failed = owner(&node, &["history"]).await;
    assert!(String::from_utf8_lossy(&failed.stderr).contains("CX-0404"), "{failed:?}");
}

#[tokio::test]
async fn doctor_tries_everything_and_says_what_holds() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cortex-agent"));
    let output = within("doctor", command.args(["doctor", "--json"]).output()).await.unwrap();
    let report: serde_json::Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(report["level"], "full", "{report}");
    let state = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name}: {report}"))["state"].clone()
    };
    let exact = [
        "files",
        "sockets",
        "network",
        "processes",
        "namespaces",
        "end",
        "terminals",
        "domains",
        "browser",
    ];
    for name in exact {
        assert_eq!(state(name), "enforced", "{name}: {report}");
    }
    for name in ["cpu", "memory", "pids"] {
        assert!(state(name) == "enforced" || state(name) == "approx", "{name}: {report}");
    }
}

/// What the agent's own environment has, and what a task must not see of it.
const AGENTS_OWN: [(&str, &str); 4] = [
    ("GH_TOKEN", "ghp_of_the_owner"),
    ("SSH_AUTH_SOCK", "/run/user/1000/ssh"),
    // Harmless: it is loaded anyway.
    ("LD_PRELOAD", "libc.so.6"),
    ("GIT_EXTERNAL_DIFF", "/bin/false"),
];

#[tokio::test]
async fn neither_what_is_first_in_the_agents_path_nor_its_variables_reach_a_task() {
    use std::os::unix::fs::PermissionsExt as _;
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let root = tempfile::tempdir().unwrap();
    let (marker, planted) = (root.path().join("marker"), root.path().join("env"));
    std::fs::write(&planted, format!("#!/bin/sh\necho x >> {}\n/usr/bin/env\n", marker.display()))
        .unwrap();
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o755)).unwrap();
    let policy = format!(
        "version = 1\nprograms.search = [\"/usr/bin\", \"/bin\"]\n[paths]\nroots = [{:?}]\nread = [\"@system\"]\n\
         [[rule]]\nid = \"env\"\nprogram = \"env\"\neffect = \"allow\"\n",
        root.path()
    );
    std::fs::write(node.path("policy.toml"), policy).unwrap();
    let path = format!("{}:/usr/bin:/bin", root.path().display());
    let agent = node.command(&gateway).envs(AGENTS_OWN).env("PATH", &path).spawn().unwrap();
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["env"])).await;
    let (report, output) = connection.outcome_and_output().await;
    assert_eq!(ending(&report), ending::Kind::Exited(Exited { code: 0 }));
    let said = String::from_utf8(output).unwrap();
    assert!(
        said.contains("PATH=/usr/bin") && !said.contains(root.path().to_str().unwrap()),
        "{said}"
    );
    for (name, value) in AGENTS_OWN {
        assert!(!said.contains(name) && !said.contains(value), "{name}: {said}");
    }
    assert!(!marker.exists(), "the planted program ran");
    kill(agent).await;
    // The control: whoever looks in PATH and passes on what it has.
    let mut control = std::process::Command::new("sh");
    control.args(["-c", "env"]).envs(AGENTS_OWN).env("PATH", &path);
    let control = control.output().unwrap();
    assert!(marker.exists() && text(&control).contains("ghp_of_the_owner"), "{control:?}");
}

//! The agent as a process against a scripted gateway: what it claims, runs, refuses, delivers and survives.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test ends where something else comes than it waits for"
)]

mod support;

use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;
use support::*;

#[tokio::test]
async fn a_task_runs_after_go_and_its_outcome_carries_its_output() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let manifest = connection.hello.manifest.clone().unwrap();
    assert_eq!(manifest.os, std::env::consts::OS);
    let able: Vec<_> = manifest.capabilities.iter().map(|able| able.name.as_str()).collect();
    assert!(able.contains(&"echo") && able.contains(&"shell"), "{able:?}");
    // It asks before it writes: the session is recorded with the first work, or when the mirror has nothing against it.
    assert_eq!(connection.hello.journal.clone().unwrap().size, 1);

    connection.dispatch("t1", 1, echo("hello")).await;
    let report = connection.outcome().await;
    assert_eq!((report.fence, ending(&report)), (42, ending::Kind::Exited(Exited { code: 0 })));
    let outcome = report.outcome.unwrap();
    assert_eq!(outcome.inline_output[0].data, "hello");
    assert!(outcome.journal_seq > 2);

    connection.dispatch("t2", 2, sh("echo $CORTEX_TASK $CORTEX_FENCE; exit 3")).await;
    let (report, output) = connection.outcome_and_output().await;
    assert_eq!(ending(&report), ending::Kind::Exited(Exited { code: 3 }));
    assert_eq!(output, b"default/t2 42\n");
    kill(agent).await;
}

#[tokio::test]
async fn an_attempt_seen_before_is_never_started_again() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let effects = node.path("effects");
    let spec = || sh(&format!("echo x >> {}", effects.display()));
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(connection.query("t1").await.phase(), AttemptPhase::Unknown);
    // A Go without a claim, and a Go for another session, start nothing.
    connection.go(&connection.hello.session.clone(), "t1", 9).await;
    connection.send(Down::Offer(offer("t1", 1, spec()))).await;
    assert!(matches!(connection.next().await, Up::Claim(_)));
    assert_eq!(connection.query("t1").await.phase(), AttemptPhase::Claiming);
    connection.go("another-session", "t1", 1).await;
    assert_eq!(connection.query("t1").await.phase(), AttemptPhase::Claiming);
    connection.go(&connection.hello.session.clone(), "t1", 1).await;
    connection.outcome().await;
    connection.ack_outcome("t1").await;
    let known = async |connection: &mut Connection, id| {
        connection.send(Down::Offer(offer("t1", id, spec()))).await;
        loop {
            match connection.next().await {
                Up::Busy(busy) => return assert_eq!(busy.reason(), BusyReason::KnownAttempt),
                // The agent was killed before it could note the acknowledgement.
                Up::Outcome(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    known(&mut connection, 2).await;
    kill(agent).await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    known(&mut connection, 1).await;
    assert_eq!(std::fs::read_to_string(&effects).unwrap(), "x\n");
    kill(agent).await;
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_denied_with_a_code_and_stays_denied() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["uname", "-a"])).await;
    let ending::Kind::Denied(denied) = ending(&connection.outcome().await) else { panic!() };
    let error = denied.error.unwrap();
    assert_eq!(error.code, "CX-0401");
    assert!(error.hint.contains("policy.toml"), "{}", error.hint);
    connection.dispatch("t2", 2, shell(&["no-such-program"])).await;
    let ending::Kind::SpawnFailed(failed) = ending(&connection.outcome().await) else { panic!() };
    assert_eq!(failed.error.unwrap().code, "CX-0402");
    let mut spec = sh("echo x");
    if let Some(action::Kind::Shell(shell)) = spec.action.as_mut().unwrap().kind.as_mut() {
        shell.env.push(EnvVar { name: "LD_PRELOAD".into(), value: b"/x.so".to_vec() });
    }
    connection.dispatch("t3", 3, spec).await;
    let ending::Kind::Denied(denied) = ending(&connection.outcome().await) else { panic!() };
    assert_eq!(denied.error.unwrap().code, "CX-0406");
    // A policy that others can write takes the node out of service, in words.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(node.path("policy.toml"), mode).unwrap();
    connection.send(Down::Offer(offer("t4", 4, echo("x")))).await;
    let Up::Busy(busy) = connection.next().await else { panic!() };
    assert_eq!(busy.reason(), BusyReason::Unable);
    assert!(busy.error.unwrap().message.contains("written by others"));
    kill(agent).await;
}

#[tokio::test]
async fn cancel_and_timeout_end_the_whole_tree_before_they_are_reported() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let script = |file: &std::path::Path| {
        format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' & wait", file.display())
    };
    let pid = node.path("pid1");
    connection.dispatch("t1", 1, sh(&script(&pid))).await;
    let pid = appears(&pid).await;
    connection
        .send(Down::Cancel(Cancel {
            workspace: "default".into(),
            task_id: "t1".into(),
            attempt: 1,
            reason: "enough".into(),
            query_id: 5,
        }))
        .await;
    let Up::CancelAnswer(answer) = connection.next().await else { panic!() };
    assert_eq!(answer.phase(), AttemptPhase::Known);
    let cancelled = ending::Kind::Cancelled(Cancelled { never_started: false, survivors: 0 });
    assert_eq!(ending(&connection.outcome().await), cancelled);
    is_gone(&pid).await;

    let mut spec = sh(&script(&node.path("pid2")));
    spec.run_timeout_ms = 1_500;
    connection.dispatch("t2", 2, spec).await;
    let timed_out = ending::Kind::Timeout(TimedOut { after_ms: 1_500 });
    assert_eq!(ending(&connection.outcome().await), timed_out);
    kill(agent).await;
}

#[tokio::test]
async fn large_output_arrives_to_the_byte_across_a_cut() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome_with(256 * 1024).await;
    let script = "i=0; while [ $i -lt 200 ]; do head -c 10007 /dev/zero | tr '\\0' x; \
                  echo e$i >&2; i=$((i+1)); done";
    connection.dispatch("t1", 1, sh(script)).await;
    let mut bytes: Vec<u8> = Vec::new();
    let collect = |bytes: &mut Vec<u8>, report: OutputReport| {
        let chunk = report.chunk.unwrap();
        let at = usize::try_from(chunk.offset).unwrap();
        assert!(at <= bytes.len(), "a gap at {at}");
        bytes.truncate(at);
        bytes.extend_from_slice(&chunk.data);
        chunk.data.len() as u64
    };
    for _ in 0..2 {
        let Up::Output(report) = connection.next().await else { panic!() };
        collect(&mut bytes, report);
    }
    connection.ack_output("t1", bytes.len() as u64).await;
    drop(connection);
    let mut connection = gateway.welcome().await;
    let known: Vec<_> = connection.hello.attempts.iter().map(|known| &known.task_id).collect();
    assert_eq!(known, ["t1"]);
    let report = loop {
        match connection.next().await {
            Up::Output(report) => {
                let output_bytes = collect(&mut bytes, report);
                connection.send(Down::Credit(Credit { output_bytes })).await;
            }
            Up::Outcome(report) => break report,
            other => panic!("{other:?}"),
        }
    };
    let output = report.outcome.unwrap().output.unwrap();
    assert_eq!(output.stdout_bytes, 200 * 10_007);
    assert_eq!(output.stdout_bytes + output.stderr_bytes, bytes.len() as u64);
    assert_eq!(bytes.iter().filter(|byte| **byte == b'x').count(), 200 * 10_007);
    // What is acknowledged leaves the disk.
    connection.ack_output("t1", bytes.len() as u64).await;
    connection.ack_outcome("t1").await;
    let spool = node.path("spool");
    until("an empty spool", || std::fs::read_dir(&spool).unwrap().next().is_none()).await;
    kill(agent).await;
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_ends_its_tasks_and_says_so() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let mut agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let file = node.path("pid");
    let script = format!("echo $$ > {}; exec sleep 1000", file.display());
    connection.dispatch("t1", 1, sh(&script)).await;
    let pid = appears(&file).await;
    let id = rustix::process::Pid::from_raw(agent.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(matches!(connection.next().await, Up::Leaving(_)));
    let ending::Kind::Interrupted(found) = ending(&connection.outcome().await) else { panic!() };
    assert!(found.found.contains("agent was stopped"), "{}", found.found);
    is_gone(&pid).await;
    connection.ack_outcome("t1").await;
    let status = within("the agent's end", agent.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_used_directory_and_a_machine_that_never_joined_are_said_in_words() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    gateway.welcome().await;
    let output = within("refusal", node.command(&gateway).output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("CX-0701"), "{text}");
    kill(agent).await;
    let empty = tempfile::tempdir().unwrap();
    let mut bare = tokio::process::Command::new(env!("CARGO_BIN_EXE_cortex-agent"));
    bare.args(["run", "--data-dir"]).arg(empty.path()).kill_on_drop(true);
    let output = within("its refusal", bare.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("CX-0540") && text.contains("cortex-agent join"), "{text}");
    assert_eq!(output.status.code(), Some(78));
}

#[tokio::test]
async fn a_policy_that_becomes_usable_is_told_without_a_restart() {
    let (mut gateway, machine) = (Gateway::start().await, Machine::new());
    let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
    std::fs::set_permissions(machine.path("policy.toml"), mode(0o666)).unwrap();
    let agent = machine.start(&gateway);
    let connection = gateway.welcome().await;
    let able = |hello: &Hello, name: &str| {
        let manifest = hello.manifest.clone().unwrap();
        manifest.capabilities.iter().any(|able| able.name == name)
    };
    assert!(!able(&connection.hello, "echo") && !able(&connection.hello, "shell"));
    std::fs::set_permissions(machine.path("policy.toml"), mode(0o600)).unwrap();
    let next = gateway.welcome().await;
    assert!(able(&next.hello, "echo") && able(&next.hello, "shell"));
    assert_eq!(next.hello.session, connection.hello.session);
    assert!(next.hello.generation > connection.hello.generation);
    kill(agent).await;
}

#[tokio::test]
async fn a_journal_that_cannot_grow_takes_the_node_out_of_service_and_loses_nothing() {
    let (mut gateway, machine) = (Gateway::start().await, Machine::new());
    // No file of the agent may be larger than 5 MiB: the store cannot grow any more.
    let direct = machine.command(&gateway);
    let mut limited = tokio::process::Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 10240; exec \"$@\"", "sh"]);
    limited.arg(direct.as_std().get_program()).args(direct.as_std().get_args());
    let agent = limited.kill_on_drop(true).spawn().unwrap();
    let mut connection = gateway.welcome().await;
    let payload = "x".repeat(8 * 1024);
    let session = connection.hello.session.clone();
    let mut outcomes = 0;
    let fill = async {
        for id in 1.. {
            let task = format!("t{id}");
            connection.send(Down::Offer(offer(&task, id, echo(&payload)))).await;
            loop {
                match connection.next().await {
                    Up::Claim(_) => break connection.go(&session, &task, id).await,
                    Up::Outcome(_) => outcomes += 1,
                    Up::Busy(busy) if busy.reason() == BusyReason::NoSlot => break,
                    Up::Busy(busy) => return busy,
                    other => panic!("{other:?}"),
                }
            }
        }
        unreachable!("there are enough numbers")
    };
    let busy = within("the end of the room", fill).await;
    assert_eq!(busy.reason(), BusyReason::Unable);
    let error = busy.error.unwrap();
    assert!(error.message.contains("the journal"), "{}", error.message);
    assert!(outcomes > 0);
    kill(agent).await;
    // With room again everything recorded is there, and is reported.
    let agent = machine.start(&gateway);
    let mut connection = gateway.welcome().await;
    for _ in 0..outcomes {
        let report = connection.outcome().await;
        connection.ack_outcome(&report.task_id).await;
    }
    kill(agent).await;
}

#[tokio::test]
async fn a_tunnel_whose_token_ran_out_is_given_up_by_the_agent_too() {
    let (mut gateway, node) = (Gateway::start().await, Machine::new());
    let agent = node.start(&gateway);
    // The gateway takes no newer token and does not end the tunnel either; silence would end it after a minute.
    let first = gateway.welcome_for(1_000).await;
    let begun = std::time::Instant::now();
    let second = gateway.welcome().await;
    assert_eq!(second.hello.session, first.hello.session);
    assert_eq!(second.hello.generation, first.hello.generation + 1);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1), "it was given up too soon");
    assert!(begun.elapsed() < std::time::Duration::from_secs(50), "silence ended it");
    kill(agent).await;
}

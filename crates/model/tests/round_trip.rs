//! Every event survives its way to bytes and back, and bad bytes are refused instead of repaired.

#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test may panic; the table of events is long"
)]

use bytes::Bytes;
use cortex_model::event::*;
use cortex_model::ids::{Incarnation, SessionId};
use cortex_model::task::{Confinement, LimitUse, OutputChunk, OutputSummary, ShellAction, Stream};
use cortex_model::wire::{decode_commit, encode_commit};
use cortex_model::*;
use proptest::prelude::*;

fn actor() -> Actor {
    Actor { kind: ActorKind::Ai, id: "a1".into(), model: "m/1".into(), on_behalf_of: "jo".into() }
}

fn spec(argv: Vec<Vec<u8>>, timeout: u64, stdin: Vec<u8>) -> TaskSpec {
    TaskSpec {
        action: Action::Shell(ShellAction {
            argv,
            cwd: "/tmp".into(),
            env: vec![("A".into(), vec![1, 255])],
            stdin,
            secret_env: vec![("B".into(), "token".into())],
            ..ShellAction::default()
        }),
        require: ["python>=3.10", "os=linux"]
            .iter()
            .map(|r| Requirement::parse(r).unwrap())
            .collect(),
        node: Some(NodeId::parse("n1").unwrap()),
        priority: -7,
        safe_to_repeat: true,
        retry: RetryPolicy {
            max_attempts: 3,
            on: [RetryOn::Exit, RetryOn::Lost].into(),
            backoff_ms: 5,
            max_backoff_ms: 9,
        },
        run_timeout_ms: timeout,
        deadline_ms: 1,
        node_lost_grace_ms: 2,
        output_limit_bytes: 3,
        labels: [("k".to_owned(), "v".to_owned())].into(),
        locks: vec![cortex_model::PathLock { path: b"d\xff".to_vec(), shared: true }],
        lock_timeout_ms: 4,
    }
}

fn outcome(ending: Ending) -> Outcome {
    Outcome {
        ending,
        output: OutputSummary {
            stdout_bytes: 3,
            stderr_bytes: 1,
            stdout_sha256: vec![1; 32],
            stderr_sha256: vec![2; 32],
            dropped_bytes: 9,
            lost_bytes: 2,
            gap_stdout: 2,
            gap_stderr: 1,
        },
        inline_output: vec![OutputChunk {
            stream: Stream::Stderr,
            offset: 0,
            data: Bytes::from_static(b"x"),
        }],
        started_at_ms: 4,
        ended_at_ms: 5,
        journal_seq: 6,
        duration_us: 7,
        confinement: Some(Confinement {
            level: "full".into(),
            not_enforced: vec!["x".into()],
            network: "none".into(),
            limits: vec![LimitUse {
                name: "pids".into(),
                limit: 9,
                used: 3,
                strength: "hard".into(),
            }],
            killed_by: "pids".into(),
        }),
        locks: vec![cortex_model::HeldLock { path: b"d".to_vec(), shared: false, fence: 7 }],
        repositories: Some(cortex_model::NewRepositories {
            paths: vec![b"/r\xff".to_vec()],
            gaps: vec!["y".into()],
        }),
    }
}

fn events(argv: Vec<Vec<u8>>, n: u64, stdin: Vec<u8>) -> Vec<Event> {
    let at = UnixMillis(n);
    let node = NodeId::parse("n1").unwrap();
    let submitted = Submitted {
        spec: spec(argv, 1000, stdin),
        idempotency_key: "k".into(),
        request_hash: vec![9; 32],
        request_version: 1,
        actor: actor(),
        at,
    };
    let denied = task::WireError {
        code: "CX-0401".into(),
        message: "m".into(),
        hint: "h".into(),
        retryable: false,
    };
    let endings = [
        Ending::Exited { code: -1 },
        Ending::Signaled { signal: 9 },
        Ending::SpawnFailed(denied.clone()),
        Ending::Timeout { after_ms: 8 },
        Ending::Cancelled { never_started: false, survivors: 1 },
        Ending::Denied { error: denied, rule: "r".into() },
        Ending::Interrupted { found: "crash".into() },
        Ending::Expired { never_started: true },
    ];
    let finished = endings
        .into_iter()
        .map(|e| Event::Finished(Box::new(Finished { attempt: 1, outcome: outcome(e), at })));
    let mut all = vec![
        Event::Submitted(Box::new(submitted.clone())),
        Event::Started(Box::new(Started {
            attempt: 1,
            node: node.clone(),
            incarnation: Incarnation::parse("ab12").unwrap(),
            session: SessionId::parse("s-1").unwrap(),
            offered_by: "s".into(),
            offered_at: at,
            reason: "r".into(),
            at,
            gateway: "g".into(),
            refused: vec![RefusedOffer { node: node.clone(), why: "busy".into(), at }],
        })),
        Event::AttemptReleased(Box::new(AttemptReleased {
            attempt: 1,
            reason: ReleaseReason::NodeLost,
            retry_at: at,
            outcome: Some(outcome(Ending::Exited { code: 1 })),
            evidence: "e".into(),
            at,
        })),
        Event::CancelRequested(CancelRequested { actor: actor(), reason: "r".into(), at }),
        Event::OutcomeUnknown(Box::new(OutcomeUnknown {
            attempt: 1,
            evidence: "e".into(),
            at,
            outcome: None,
        })),
        Event::LateOutcome(Box::new(LateOutcome {
            attempt: 1,
            outcome: outcome(Ending::Exited { code: 1 }),
            node: node.clone(),
            at,
        })),
        Event::ConsentAsked(Box::new(ConsentAsked {
            attempt: 1,
            node: node.clone(),
            question: n,
            rule: "rm".into(),
            classes: vec!["destructive".into()],
            asked_at: at,
            until: Some(at),
            at,
        })),
        Event::ConsentAnswered(ConsentAnswered {
            attempt: 1,
            node,
            question: n,
            answer: ConsentAnswer::Refused,
            answered_at: at,
            at,
        }),
        Event::Resolved(Resolved {
            resolve_as: ResolveAs::Retry,
            reason: "r".into(),
            actor: actor(),
            at,
        }),
        Event::Archived(Box::new(Archived {
            submitted,
            state: TaskState::Failed,
            outcome: None,
            attempts: 2,
            commits: 5,
            at,
            reference: "x".into(),
        })),
    ];
    all.extend(finished);
    all
}

proptest! {
    #[test]
    fn every_event_survives_bytes(
        argv in prop::collection::vec(prop::collection::vec(1u8..=255, 1..20), 1..5),
        n in 1u64..,
        stdin in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let commit = Commit { n, events: events(argv, n, stdin) };
        prop_assert_eq!(decode_commit(encode_commit(&commit)), Ok(commit));
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let read = decode_commit(Bytes::from(bytes));
        prop_assert!(read.is_ok() || read.is_err());
    }
}

#[test]
fn specifications_outside_the_limits_are_refused_with_their_code() {
    let good: proto::TaskSpec = (&spec(vec![b"ls".to_vec()], 1, vec![])).into();
    type Change = fn(&mut proto::TaskSpec);
    let shell = |f: fn(&mut proto::ShellAction)| {
        move |s: &mut proto::TaskSpec| {
            if let Some(proto::action::Kind::Shell(sh)) =
                s.action.as_mut().and_then(|a| a.kind.as_mut())
            {
                f(sh)
            }
        }
    };
    assert!(wire::task::spec(good.clone()).is_ok());
    let plain: &[(Code, Change)] = &[
        (Code::Malformed, |s| s.action = None),
        (Code::Malformed, |s| s.action = Some(proto::Action { kind: None })),
        (Code::BadRequirement, |s| s.require.push("!!".into())),
        (Code::TooLarge, |s| s.require = vec!["a".into(); 33]),
        (Code::BadIdentifier, |s| s.node = "A b".into()),
        (Code::BadPriority, |s| s.priority = 101),
        (Code::BadDuration, |s| s.run_timeout_ms = u64::MAX),
        (Code::BadDuration, |s| s.lock_timeout_ms = u64::MAX),
        (Code::TooLarge, |s| s.locks = vec![s.locks[0].clone(); 17]),
        (Code::BadFileAction, |s| s.locks[0].path.push(0)),
        (Code::BadRetry, |s| s.safe_to_repeat = false),
        (Code::BadRetry, |s| s.retry.get_or_insert_default().max_attempts = 101),
        (Code::Malformed, |s| s.retry.get_or_insert_default().on.push(99)),
    ];
    for (code, change) in plain {
        let mut s = good.clone();
        change(&mut s);
        assert_eq!(wire::task::spec(s).unwrap_err().code, *code);
    }
    type Boxed = Box<dyn Fn(&mut proto::TaskSpec)>;
    let shells: Vec<(Code, Boxed)> = vec![
        (Code::BadArgv, Box::new(shell(|s| s.argv.clear()))),
        (Code::BadArgv, Box::new(shell(|s| s.argv = vec![vec![]]))),
        (Code::BadArgv, Box::new(shell(|s| s.argv.push(vec![0])))),
        (Code::TooLarge, Box::new(shell(|s| s.argv.push(vec![b'x'; 10 << 20])))),
        (Code::TooLarge, Box::new(shell(|s| s.argv = vec![vec![b'x']; 4097]))),
        (Code::BadCwd, Box::new(shell(|s| s.cwd = "relative".into()))),
        (Code::BadEnvironment, Box::new(shell(|s| s.env[0].name = "1A".into()))),
        (Code::BadEnvironment, Box::new(shell(|s| s.env.push(s.env[0].clone())))),
    ];
    for (code, change) in shells {
        let mut s = good.clone();
        change(&mut s);
        assert_eq!(wire::task::spec(s).unwrap_err().code, code);
    }
}

#[test]
fn an_actor_is_complete_or_refused() {
    let good = proto::Actor::from(&actor());
    assert!(wire::task::actor(Some(good.clone())).is_ok());
    let cases: [fn(&mut proto::Actor); 5] = [
        |a| a.kind = 0,
        |a| a.id.clear(),
        |a| a.model.clear(),
        |a| a.kind = 1,
        |a| a.id = "a\u{1b}".into(),
    ];
    for change in cases {
        let mut a = good.clone();
        change(&mut a);
        assert_eq!(wire::task::actor(Some(a)).unwrap_err().code, Code::BadActor);
    }
    assert_eq!(wire::task::actor(None).unwrap_err().code, Code::BadActor);
}

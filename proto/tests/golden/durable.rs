//! Examples of what the log stores for ever: a commit with each kind of event, each kind of ending.

use crate::examples::{Example, example};
use crate::values::{
    INCARNATION, SESSION, actor, browser_spec, echo_spec, error, file_spec, outcome, shell_spec,
    terminal_spec,
};
use cortex_proto::v1::*;

const AT: u64 = 1_760_000_000_000;

pub(crate) fn examples() -> Vec<Example> {
    let mut all = vec![
        example("task-spec-shell", shell_spec()),
        example("task-spec-echo", echo_spec()),
        example("task-spec-locks", locked_spec()),
        example("task-spec-terminal", terminal_spec()),
        example("task-spec-browser", browser_spec()),
        commit("commit-finished-locks", 5, event::Kind::Finished(held())),
        commit("commit-submitted", 1, event::Kind::Submitted(submitted())),
        commit("commit-started", 2, event::Kind::Started(started())),
        commit("commit-attempt-released", 3, event::Kind::AttemptReleased(released())),
        commit("commit-cancel-requested", 4, event::Kind::CancelRequested(cancel_requested())),
        commit("commit-finished", 5, event::Kind::Finished(finished(exited()))),
        commit("commit-outcome-unknown", 6, event::Kind::OutcomeUnknown(outcome_unknown())),
        commit("commit-late-outcome", 7, event::Kind::LateOutcome(late_outcome())),
        commit("commit-resolved", 8, event::Kind::Resolved(resolved())),
        commit("commit-archived", 9, event::Kind::Archived(archived())),
        example("commit-of-several-events", resolved_and_released()),
        commit("commit-finished-confined", 5, event::Kind::Finished(confined())),
        commit("commit-finished-repositories", 5, event::Kind::Finished(left_behind())),
        commit("commit-consent-asked", 3, event::Kind::ConsentAsked(consent_asked())),
        commit("commit-consent-answered", 4, event::Kind::ConsentAnswered(consent_answered())),
    ];
    all.extend(file_ops().into_iter().map(|(name, op)| example(name, file_spec(op))));
    let endings = endings().into_iter();
    all.extend(endings.map(|(name, kind)| commit(name, 3, event::Kind::Finished(finished(kind)))));
    all
}

fn file_ops() -> Vec<(&'static str, file_action::Op)> {
    use file_action::Op;
    let (sha256, part) = (vec![0x5a; 32], "00ff".to_owned());
    let replacement = FileReplacement { old: b"a".to_vec(), new: b"b\xff".to_vec(), count: 2 };
    vec![
        ("task-spec-file-read", {
            let expect_version = "1.2.3".to_owned();
            Op::Read(FileRead { offset: 7, length: 1 << 33, expect_version })
        }),
        ("task-spec-file-write", {
            let (content, expect_sha256) = (b"x\0".to_vec(), sha256.clone());
            Op::Write(FileWrite {
                content,
                expect_sha256,
                mode: 0o640,
                new_only: true,
                parents: true,
            })
        }),
        ("task-spec-file-edit", {
            let (replace, diff) = (vec![replacement], b"@@ -1 +1 @@".to_vec());
            Op::Edit(FileEdit { replace, diff, expect_sha256: sha256.clone() })
        }),
        ("task-spec-file-list", Op::List(FileList { limit: 9 })),
        ("task-spec-file-stat", Op::Stat(FileStat { sha256: true, link: true })),
        ("task-spec-file-glob", {
            Op::Glob(FileGlob { patterns: vec!["*.rs".into()], all: true, limit: 9 })
        }),
        ("task-spec-file-search", {
            let globs = vec!["src/**".into()];
            let (pattern, context, limit) = ("a.b".to_owned(), 2, 9);
            let (literal, ignore_case, all) = (true, true, true);
            Op::Search(FileSearch { pattern, literal, ignore_case, globs, all, context, limit })
        }),
        ("task-spec-file-delete", {
            let expect_sha256 = sha256.clone();
            Op::Delete(FileDelete { recursive: true, expect_sha256, missing_ok: true })
        }),
        ("task-spec-file-move", {
            let expect_sha256 = sha256.clone();
            Op::Move(FileMove { to: b"to\xff".to_vec(), replace: true, expect_sha256 })
        }),
        ("task-spec-file-receive", {
            Op::Receive(FileReceive { size: 1 << 40, sha256: sha256.clone() })
        }),
        ("task-spec-file-chunk", {
            let (part, data) = (part.clone(), b"\0\xff".to_vec());
            Op::Chunk(FileChunk { part, offset: 1 << 35, data, sha256: sha256.clone() })
        }),
        ("task-spec-file-finish", {
            let (size, mode, expect_sha256) = (1 << 40, 0o755, sha256.clone());
            Op::Finish(FileFinish { part, size, sha256, mode, new_only: true, expect_sha256 })
        }),
    ]
}

fn locked_spec() -> TaskSpec {
    let lock = |path: &[u8], shared| PathLock { path: path.to_vec(), shared };
    let locks = vec![lock(b"data/\xff", false), lock(b"/srv/shared", true)];
    TaskSpec { locks, lock_timeout_ms: 90_000, ..echo_spec() }
}

fn held() -> Finished {
    let lock = HeldLock { path: b"/srv/data".to_vec(), shared: true, fence: 7 };
    let outcome = Outcome { locks: vec![lock], ..outcome(exited()) };
    Finished { attempt: 2, outcome: Some(outcome), at_ms: AT + 9 }
}

fn event(kind: event::Kind) -> Event {
    Event { kind: Some(kind) }
}

fn commit(name: &'static str, n: u64, kind: event::Kind) -> Example {
    example(name, Commit { n, events: vec![event(kind)] })
}

fn resolved_and_released() -> Commit {
    let events = vec![
        event(event::Kind::Resolved(resolved())),
        event(event::Kind::AttemptReleased(released())),
    ];
    Commit { n: 300, events }
}

fn consent_asked() -> ConsentAsked {
    ConsentAsked {
        attempt: 2,
        node: "desk-1".into(),
        question: 7,
        rule: "clean".into(),
        classes: vec!["destructive".into(), "outward".into()],
        asked_at_ms: AT,
        until_ms: AT + 120_000,
        at_ms: AT + 5,
    }
}

fn consent_answered() -> ConsentAnswered {
    ConsentAnswered {
        attempt: 2,
        node: "desk-1".into(),
        question: 7,
        answer: ConsentAnswer::Refused.into(),
        answered_at_ms: AT + 9_000,
        at_ms: AT + 9_005,
    }
}

fn submitted() -> Submitted {
    Submitted {
        spec: Some(shell_spec()),
        idempotency_key: "nightly/2026-01-02".into(),
        request_hash: vec![0x5a; 32],
        request_version: 1,
        actor: Some(actor()),
        at_ms: AT,
    }
}

fn started() -> Started {
    Started {
        attempt: 2,
        node: "desk-1".into(),
        incarnation: INCARNATION.into(),
        session: SESSION.into(),
        offered_by: "scheduler-1".into(),
        offered_at_ms: AT + 1,
        reason: "the only node with python>=3.10".into(),
        refused: vec![RefusedOffer { node: "desk-2".into(), why: "no slot".into(), at_ms: AT + 2 }],
        at_ms: AT + 3,
        gateway: "gateway-1".into(),
    }
}

fn released() -> AttemptReleased {
    AttemptReleased {
        attempt: 2,
        reason: ReleaseReason::Interrupted.into(),
        retry_at_ms: AT + 1_000,
        outcome: Some(outcome(ending::Kind::Interrupted(interrupted()))),
        evidence: "the journal has an intent without an outcome".into(),
        at_ms: AT + 4,
    }
}

fn cancel_requested() -> CancelRequested {
    CancelRequested { actor: Some(actor()), reason: "not needed".into(), at_ms: AT + 5 }
}

fn finished(kind: ending::Kind) -> Finished {
    Finished { attempt: 2, outcome: Some(outcome(kind)), at_ms: AT + 6 }
}

fn confined() -> Finished {
    let limit =
        LimitUse { name: "memory".into(), limit: 1 << 30, used: 12_345, strength: "hard".into() };
    let confinement = Confinement {
        level: "landlock".into(),
        not_enforced: vec!["metadata of files outside".into()],
        network: "domains".into(),
        limits: vec![limit],
        killed_by: "memory".into(),
    };
    let outcome = Outcome { confinement: Some(confinement), ..outcome(exited()) };
    Finished { attempt: 2, outcome: Some(outcome), at_ms: AT + 6 }
}

fn left_behind() -> Finished {
    let repositories = NewRepositories {
        paths: vec![b"/home/anna/projects/nested\xff".to_vec()],
        gaps: vec!["the look was cut short after 500 ms".into()],
    };
    let outcome = Outcome { repositories: Some(repositories), ..outcome(exited()) };
    Finished { attempt: 2, outcome: Some(outcome), at_ms: AT + 6 }
}

fn outcome_unknown() -> OutcomeUnknown {
    OutcomeUnknown {
        attempt: 2,
        evidence: "the node was not heard of since".into(),
        at_ms: AT + 7,
        outcome: Some(outcome(ending::Kind::Interrupted(interrupted()))),
    }
}

fn late_outcome() -> LateOutcome {
    LateOutcome {
        attempt: 1,
        outcome: Some(outcome(exited())),
        node: "desk-2".into(),
        at_ms: AT + 8,
    }
}

fn resolved() -> Resolved {
    Resolved {
        r#as: ResolveAs::Retry.into(),
        reason: "looked at the machine".into(),
        actor: Some(actor()),
        at_ms: AT + 9,
    }
}

fn archived() -> Archived {
    Archived {
        submitted: Some(submitted()),
        state: TaskState::Succeeded.into(),
        outcome: Some(outcome(exited())),
        attempts: 2,
        commits: 8,
        at_ms: AT + 10,
        reference: "archive/2026/01".into(),
    }
}

fn exited() -> ending::Kind {
    ending::Kind::Exited(Exited { code: -3 })
}

fn interrupted() -> Interrupted {
    Interrupted { found: "two processes of the attempt, ended".into() }
}

fn endings() -> Vec<(&'static str, ending::Kind)> {
    use ending::Kind;
    vec![
        ("ending-exited", exited()),
        ("ending-signaled", Kind::Signaled(Signaled { signal: 11 })),
        ("ending-spawn-failed", Kind::SpawnFailed(SpawnFailed { error: Some(error()) })),
        ("ending-timeout", Kind::Timeout(TimedOut { after_ms: 90_000 })),
        ("ending-cancelled", Kind::Cancelled(Cancelled { never_started: true, survivors: 1 })),
        (
            "ending-denied",
            Kind::Denied(Denied { error: Some(error()), rule: "shell.allow".into() }),
        ),
        ("ending-interrupted", Kind::Interrupted(interrupted())),
        ("ending-expired", Kind::Expired(Expired { never_started: true })),
    ]
}

//! Histories that can be and histories that cannot: each line of a table is one history, and what the fold makes of it.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod support;

use cortex_model::event::{
    Archived, AttemptReleased, CancelRequested, ConsentAnswered, ConsentAsked, Event, Finished,
    LateOutcome, OutcomeUnknown, ReleaseReason, Resolved, Started, Submitted,
};
use cortex_model::{Commit, ConsentAnswer, Ending, ResolveAs, TaskState, UnixMillis};
use cortex_scheduler_core::TaskView;
use cortex_scheduler_core::decide::{self, NewTask, OutcomeDecision, Submit};
use support::*;

/// Commits are separated by `;`, events of one commit by `+`. `safe:` in front makes the task safe to repeat.
const TABLE: &str = "
submit                                                     => PENDING
submit; start 1                                            => RUNNING
submit; start 1; finish 1 exit0                            => SUCCEEDED
submit; start 1; finish 1 exit1                            => FAILED
submit; start 1; finish 1 timeout                          => FAILED
submit; start 1; finish 1 denied                           => DENIED
submit; finish 0 expired                                   => EXPIRED
submit; cancel+finish 0 cancelled                          => CANCELLED
submit; start 1; cancel; finish 1 cancelled                => CANCELLED
submit; start 1; unknown 1                                 => INDETERMINATE
submit; start 1; unknown 1; finish 1 exit0                 => SUCCEEDED
submit; start 1; unknown 1; resolve succeeded              => SUCCEEDED
submit; start 1; unknown 1; resolve failed                 => FAILED
submit; start 1; unknown 1; resolve retry+release 1 resolved; start 2 => RUNNING
submit; start 1; release 1 not-started; start 2            => RUNNING
safe: submit; start 1; release 1 node-lost; start 2; late 1; finish 2 exit0; late 1 => SUCCEEDED
submit; start 1; finish 1 exit0; archive                   => SUCCEEDED
submit; start 1; ask 3                                     => RUNNING
submit; start 1; ask 3; answer 3; finish 1 exit0           => SUCCEEDED
submit; start 1; ask 3+answer 3; ask 4; finish 1 denied    => DENIED
submit; start 1; ask 3; release 1 not-started; start 2     => RUNNING

start 1                                                    => broken: Started before Submitted
submit; ask 3                                              => broken: ConsentAsked of attempt 1 while 0 is current
submit; start 1; answer 3                                  => broken: ConsentAnswered to question 3 that does not wait
submit; start 1; ask 3; answer 4                           => broken: ConsentAnswered to question 4 that does not wait
submit; start 1; ask 3; answer 3; answer 3                 => broken: ConsentAnswered to question 3 that does not wait
submit; start 1; finish 1 exit0; ask 3                     => broken: ConsentAsked of node n while SUCCEEDED
submit; start 1; ask 3; release 1 not-started; answer 3    => broken: ConsentAnswered of node n while PENDING
submit; submit                                             => broken: a second Submitted
submit; start 2                                            => broken: Started attempt 2 after attempt 0
submit; start 1; start 1                                   => broken: Started while RUNNING
submit; start 1; start 2                                   => broken: Started while RUNNING
submit; start 1; release 1 not-started; start 1            => broken: Started attempt 1 after attempt 1
submit; start 1; release 1 node-lost                       => broken: not safe to repeat
submit; start 1; release 1 interrupted                     => broken: not safe to repeat
submit; release 1 not-started                              => broken: AttemptReleased of attempt 1 while 0 is current
submit; start 1; finish 2 exit0                            => broken: Finished of attempt 2 while 1 is current
submit; finish 1 exit0                                     => broken: Finished attempt 1 while PENDING
submit; start 1; finish 1 exit0; finish 1 exit0            => broken: Finished while SUCCEEDED
submit; start 1; finish 1 exit0; cancel                    => broken: CancelRequested while SUCCEEDED
submit; start 1; finish 1 exit0; start 2                   => broken: Started while SUCCEEDED
submit; start 1; resolve failed                            => broken: Resolved while RUNNING
submit; start 1; unknown 1; unknown 1                      => broken: OutcomeUnknown while INDETERMINATE
submit; late 1                                             => broken: LateOutcome of attempt 1 that never started
submit; cancel+start 2                                     => broken: Started attempt 2 after attempt 0
submit; skip; start 1                                      => broken: commit 3 where 2 was due
";

#[test]
fn histories_end_as_the_table_says() {
    for line in TABLE.lines().filter(|l| !l.trim().is_empty()) {
        let (history, expected) = line.split_once("=>").unwrap();
        let (safe, history) = match history.trim().strip_prefix("safe:") {
            Some(rest) => (true, rest),
            None => (false, history),
        };
        let is = match fold(history, safe) {
            Ok(view) => view.state.name().to_owned(),
            Err(why) => format!("broken: {why}"),
        };
        let fits = if expected.contains("broken") {
            is.contains(expected.trim().trim_start_matches("broken: "))
        } else {
            is == expected.trim()
        };
        assert!(fits, "{line}\nis {is}");
    }
}

fn fold(history: &str, safe: bool) -> Result<TaskView, String> {
    let mut view = None;
    for (n, commit) in (1..).zip(history.split(';')) {
        if commit.trim() == "skip" {
            continue;
        }
        let events = commit.split('+').map(|e| event(e.trim(), safe)).collect();
        let before = view.clone();
        let commit = Commit { n, events };
        let at = UnixMillis(n);
        let done = TaskView::apply(&mut view, &key("w", "t"), n, at, &commit);
        if let Err(violation) = done {
            assert_eq!(view, before, "a violation changes nothing");
            return Err(violation.why);
        }
    }
    Ok(view.unwrap())
}

fn consent(words: &[&str], at: UnixMillis) -> Event {
    let question = words[1].parse().unwrap();
    if words[0] == "answer" {
        return Event::ConsentAnswered(ConsentAnswered {
            attempt: 1,
            node: node("n"),
            question,
            answer: ConsentAnswer::Allowed,
            answered_at: at,
            at,
        });
    }
    Event::ConsentAsked(Box::new(ConsentAsked {
        attempt: 1,
        node: node("n"),
        question,
        rule: String::new(),
        classes: Vec::new(),
        asked_at: at,
        until: None,
        at,
    }))
}

fn event(words: &str, safe: bool) -> Event {
    let words: Vec<&str> = words.split_whitespace().collect();
    let attempt = words.get(1).and_then(|w| w.parse().ok()).unwrap_or(0);
    let (at, how) = (UnixMillis(1), words.get(2).copied().unwrap_or_default());
    match words[0] {
        "submit" => Event::Submitted(Box::new(first(safe))),
        "start" => Event::Started(Box::new(Started {
            attempt,
            node: node("n"),
            incarnation: life("i"),
            session: session("s"),
            offered_by: String::new(),
            offered_at: at,
            reason: String::new(),
            refused: Vec::new(),
            at,
            gateway: String::new(),
        })),
        "finish" => {
            Event::Finished(Box::new(Finished { attempt, outcome: outcome(ending(how), 1), at }))
        }
        "cancel" => {
            Event::CancelRequested(CancelRequested { actor: actor(), reason: String::new(), at })
        }
        "unknown" => Event::OutcomeUnknown(Box::new(OutcomeUnknown {
            attempt,
            evidence: "silence".into(),
            at,
            outcome: None,
        })),
        "late" => Event::LateOutcome(Box::new(LateOutcome {
            attempt,
            outcome: outcome(ending("exit0"), how.parse().unwrap_or(5)),
            node: node("n"),
            at,
        })),
        "release" => Event::AttemptReleased(Box::new(AttemptReleased {
            attempt,
            reason: match how {
                "not-started" => ReleaseReason::NotStarted,
                "node-lost" => ReleaseReason::NodeLost,
                "interrupted" => ReleaseReason::Interrupted,
                _ => ReleaseReason::Resolved,
            },
            retry_at: at,
            outcome: None,
            evidence: String::new(),
            at,
        })),
        "resolve" => Event::Resolved(Resolved {
            resolve_as: match words[1] {
                "succeeded" => ResolveAs::Succeeded,
                "failed" => ResolveAs::Failed,
                _ => ResolveAs::Retry,
            },
            reason: String::new(),
            actor: actor(),
            at,
        }),
        "ask" | "answer" => consent(&words, at),
        "archive" => Event::Archived(Box::new(Archived {
            submitted: first(safe),
            state: TaskState::Succeeded,
            outcome: None,
            attempts: 1,
            commits: 3,
            at,
            reference: String::new(),
        })),
        other => panic!("{other}"),
    }
}

fn first(safe: bool) -> Submitted {
    let mut spec = spec();
    spec.safe_to_repeat = safe;
    let mut commit = submitted(spec, 0);
    match commit.events.remove(0) {
        Event::Submitted(s) => *s,
        other => panic!("{}", other.name()),
    }
}

fn ending(word: &str) -> Ending {
    match word {
        "exit0" => Ending::Exited { code: 0 },
        "exit1" => Ending::Exited { code: 1 },
        "timeout" => Ending::Timeout { after_ms: 1 },
        "expired" => Ending::Expired { never_started: true },
        "cancelled" => Ending::Cancelled { never_started: true, survivors: 0 },
        "denied" => Ending::Denied { error: Default::default(), rule: String::new() },
        other => panic!("{other}"),
    }
}

#[test]
fn the_same_request_under_a_key_is_the_same_task_and_another_is_a_conflict_that_says_why() {
    let existing = fold("submit; start 1; finish 1 exit0", false).unwrap();
    let mut new =
        NewTask { spec: spec(), idempotency_key: "k".into(), actor: actor(), now: UnixMillis(9) };
    assert_eq!(decide::submit(Some(&existing), &new), Submit::Same);
    new.spec.labels.insert("found".into(), "by".into());
    assert_eq!(decide::submit(Some(&existing), &new), Submit::Same, "labels do not count");
    new.spec.priority = 7;
    let Submit::Conflict(fault) = decide::submit(Some(&existing), &new) else {
        panic!("another request");
    };
    assert!(fault.message.contains("priority: \"0\" -> \"7\""), "{fault}");
}

#[test]
fn reports_are_taken_once_and_only_for_the_current_attempt() {
    let decided = |history: &str, on: &str, attempt: u32, seq: u64| {
        let v = fold(history, true).unwrap();
        let o = outcome(ending("exit0"), seq);
        match decide::outcome(&v, &node(on), attempt, &o, UnixMillis(9)) {
            OutcomeDecision::Append(e) => format!("append {}", e[0].name()),
            OutcomeDecision::Late(e) => format!("late {}", e[0].name()),
            OutcomeDecision::AlreadyKnown => "known".to_owned(),
            OutcomeDecision::NotHeard => "not heard".to_owned(),
            OutcomeDecision::Behind => "behind".to_owned(),
        }
    };
    let table = [
        ("submit; start 1", "n", 1, "append Finished"),
        ("submit; start 1; unknown 1", "n", 1, "append Finished"),
        ("submit; start 1; finish 1 exit0", "n", 1, "known"),
        ("submit; start 1; finish 1 exit1", "n", 2, "behind"),
        ("submit", "n", 1, "behind"),
        ("submit; start 1; release 1 node-lost", "n", 1, "late LateOutcome"),
        ("submit; start 1; release 1 node-lost; start 2", "n", 1, "late LateOutcome"),
        ("submit; start 1", "other", 1, "not heard"),
        ("submit; start 1; release 1 node-lost; start 2", "other", 1, "not heard"),
    ];
    for (history, on, attempt, expected) in table {
        assert_eq!(decided(history, on, attempt, 1), expected, "{history}");
    }
    let twice = "submit; start 1; release 1 node-lost; late 1";
    assert_eq!(decided(twice, "n", 1, 5), "known", "late, and recorded");
    assert_eq!(decided(twice, "n", 1, 6), "late LateOutcome", "another entry of the journal");
    let tales: String = (5..9).map(|seq| format!("; late 1 {seq}")).collect();
    let tales = format!("submit; start 1; release 1 node-lost{tales}");
    assert_eq!(decided(&tales, "n", 1, 9), "not heard", "a node cannot fill a history with tales");
}

#[test]
fn what_is_over_cannot_be_cancelled_and_only_the_indeterminate_can_be_resolved() {
    let now = UnixMillis(9);
    let over = fold("submit; start 1; finish 1 exit0", false).unwrap();
    assert_eq!(decide::cancel(&over, &actor(), "", now).unwrap_err().code.as_str(), "CX-0203");
    let resolved = decide::resolve(&over, ResolveAs::Failed, &actor(), "", now);
    assert_eq!(resolved.unwrap_err().code.as_str(), "CX-0204");
    let cancelled = fold("submit; cancel+finish 0 cancelled", false).unwrap();
    assert_eq!(decide::cancel(&cancelled, &actor(), "", now), Ok(Vec::new()), "asked twice");
    let asked = fold("submit; start 1; cancel", false).unwrap();
    assert_eq!(decide::cancel(&asked, &actor(), "", now), Ok(Vec::new()), "asked twice");
}

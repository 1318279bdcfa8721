//! Journals whose records contradict each other, signed by everybody.

use crate::disk::{Bundle, Case};
use crate::good::{answer, answer_data, consent};
use crate::log::*;
use cortex_audit::record::*;
use cortex_audit::{Leaf, Stamp, Value};

fn case(name: &str, code: &'static str, seq: u64, make: impl Fn(&mut Log)) -> Case {
    let mut log = Log::small();
    make(&mut log);
    let size = log.size();
    Case::new(name, &log, vec![Bundle::of(&log, &[size])]).expect(7, code, Some(seq))
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = outcomes();
    cases.extend(intents());
    cases.extend(consents());
    cases.extend(clocks());
    cases
}

fn outcome(log: &mut Log, intent: u64, hash: Leaf) {
    log.add(Outcome::new("0190b2f0/1".to_owned(), intent, hash, Status::Exited));
}

fn outcomes() -> Vec<Case> {
    let recovery = |log: &mut Log, intent: u64, hash: Leaf| {
        log.add(Recovery {
            intent: Some(intent),
            intent_hash: Some(hash),
            found: "crash".to_owned(),
            orphans: 0,
        });
    };
    vec![
        case("outcome-without-intent", "outcome.unmatched", 5, |log| {
            let leaf = log.leaf(1);
            outcome(log, 1, leaf);
        }),
        case("outcome-of-a-later-record", "outcome.unmatched", 5, |log| {
            outcome(log, 6, Leaf::ZERO)
        }),
        case("two-outcomes", "outcome.unmatched", 5, |log| {
            let leaf = log.leaf(2);
            outcome(log, 2, leaf);
        }),
        case("outcome-with-the-hash-of-another-record", "outcome.hash", 6, |log| {
            let intent = log.intent("0190b2f1/1");
            let leaf = log.leaf(2);
            outcome(log, intent, leaf);
        }),
        case("recovery-of-an-answered-intent", "recovery.unmatched", 5, |log| {
            let leaf = log.leaf(2);
            recovery(log, 2, leaf);
        }),
        case("recovery-with-the-hash-of-another-record", "recovery.hash", 6, |log| {
            let intent = log.intent("0190b2f1/1");
            let leaf = log.leaf(2);
            recovery(log, intent, leaf);
        }),
        case("outcome-without-fields", "data", 5, |log| {
            log.value("outcome", Value::map([("cmd", Value::from("c"))]));
        }),
        case("recovery-with-half-an-intent", "data", 5, |log| {
            log.value(
                "recovery",
                Value::map([("intent", Value::Int(2)), ("intent_hash", Value::Null)]),
            );
        }),
        case("redaction-without-a-list", "data", 5, |log| {
            log.value("redact", Value::map([("commitments", Value::from("all"))]));
        }),
        case("change-of-key-without-fields", "data", 5, |log| {
            log.value("key.rotate", Value::map([("old", Value::from("x"))]));
        }),
        case("record-behind-the-close", "closed", 6, |log| {
            log.add(LogClose { reason: "leave".to_owned(), by: None });
            log.add(heartbeat());
        }),
        case("more-contradictions-than-are-reported", "closed", 105, |log| {
            log.add(LogClose { reason: "leave".to_owned(), by: None });
            for _ in 0..120 {
                log.add(heartbeat());
            }
            let leaf = log.leaf(1);
            outcome(log, 1, leaf);
        }),
    ]
}

fn intents() -> Vec<Case> {
    let with = |name: &str, code: &'static str, change: &dyn Fn(&mut Auth)| {
        case(name, code, 5, |log| {
            let mut data = log.intent_data("0190b2f1/1");
            change(&mut data.auth);
            log.add(data);
        })
    };
    vec![
        with("started-below-the-floor", "intent.floor", &|auth| auth.floor = Some(6)),
        with("started-although-denied", "intent.denied", &|auth| auth.decision = "deny".to_owned()),
        with("started-without-the-answer-that-the-rule-asks-for", "intent.approval", &|auth| {
            auth.decision = "ask".to_owned();
        }),
        with("approved-by-a-record-that-is-no-answer", "intent.approval", &|auth| {
            auth.decision = "ask".to_owned();
            auth.approval = Some(Approval { seq: 4, leaf: Leaf::ZERO });
        }),
        with("decided-in-an-unknown-word", "data", &|auth| auth.decision = "Allow".to_owned()),
        case("intent-without-authorisation", "data", 5, |log| {
            log.value("intent", Value::map([("cmd", Value::from("c"))]));
        }),
        case("floor-as-text", "data", 5, |log| {
            let auth = Value::map([
                ("decision", Value::from("allow")),
                ("floor", Value::from("0")),
                ("approval", Value::Null),
            ]);
            log.value("intent", Value::map([("auth", auth)]));
        }),
        case("approved-by-an-answer-with-another-hash", "intent.approval", 7, |log| {
            let asked = consent(log);
            let seq = answer(log, asked);
            approved(log, Approval { seq, leaf: log.leaf(2) });
        }),
        case("approved-by-a-denial", "intent.approval", 7, |log| {
            let asked = consent(log);
            let mut data = answer_data(log, asked);
            data.answer = "deny".to_owned();
            let seq = log.add(data);
            approved(log, Approval { seq, leaf: log.leaf(seq) });
        }),
        case("approved-by-a-later-answer", "intent.approval", 6, |log| {
            consent(log);
            approved(log, Approval { seq: 7, leaf: Leaf::ZERO });
        }),
    ]
}

fn approved(log: &mut Log, approval: Approval) {
    let mut data = log.intent_data("0190b2f1/1");
    data.auth = Auth { approval: Some(approval), ..auth("ask") };
    log.add(data);
}

fn consents() -> Vec<Case> {
    let answered = |name: &str, code: &'static str, change: &dyn Fn(&mut ConsentAnswered)| {
        case(name, code, 6, |log| {
            let asked = consent(log);
            let mut data = answer_data(log, asked);
            change(&mut data);
            log.add(data);
        })
    };
    vec![
        answered("answer-to-another-text", "consent.mismatch", &|data| {
            data.shown = digest("something else")
        }),
        answered("answer-to-another-plan", "consent.mismatch", &|data| {
            data.fingerprint = digest("rm -rf /")
        }),
        answered("answer-with-the-hash-of-another-question", "consent.mismatch", &|data| {
            data.asked_hash = Leaf::ZERO
        }),
        answered("answer-without-question", "consent.unmatched", &|data| data.asked = 4),
        case("two-answers-to-one-question", "consent.unmatched", 7, |log| {
            let asked = consent(log);
            answer(log, asked);
            answer(log, asked);
        }),
        case("question-without-fields", "data", 5, |log| {
            log.value("consent.asked", Value::map([("ask", Value::from("a"))]));
        }),
        case("answer-without-fields", "data", 5, |log| {
            log.value("consent.answered", Value::map([("ask", Value::from("a"))]));
        }),
    ]
}

fn clocks() -> Vec<Case> {
    let boot = |log: &mut Log, n: u64| {
        let boot = format!("3e1b1a4c-1111-4222-8333-{n:012}");
        log.stamp = Stamp { boot, mono_us: 1, ..log.stamp.clone() };
        log.add(heartbeat());
    };
    let mut forgotten = Log::small();
    (0..66).for_each(|n| boot(&mut forgotten, n));
    forgotten.stamp.boot = BOOT.to_owned();
    forgotten.add(heartbeat());
    let size = forgotten.size();
    let forgotten =
        Case::new("boot-that-was-forgotten", &forgotten, vec![Bundle::of(&forgotten, &[size])]);
    vec![
        case("time-since-boot-goes-back", "clock.mono", 5, |log| {
            log.stamp.mono_us -= 1_000_000;
            log.add(heartbeat());
        }),
        case("boot-that-returns", "clock.boot", 6, |log| {
            boot(log, 0);
            log.stamp.boot = BOOT.to_owned();
            log.stamp.mono_us += 100_000_000;
            log.add(heartbeat());
        }),
        case("record-from-the-future", "clock.future", 5, |log| {
            log.stamp.unix_us = (START_S + 6 + 300) * 1_000_000 + 1;
            log.add(heartbeat());
        }),
        forgotten,
    ]
}

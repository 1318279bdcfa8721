//! Questions and answers, without a clock.

use super::*;
use cortex_model::{TaskId, TaskKey, Workspace};

fn key(task: &str) -> AttemptKey {
    let task = TaskId::parse(task).unwrap();
    AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 1 }
}

fn question(task: &str, print: u8, classes: &[Class]) -> Question {
    Question {
        key: key(task),
        fingerprint: Fingerprint([print; 32]),
        classes: classes.iter().copied().collect(),
        rule: "r".to_owned(),
        shown: Shown { lines: vec!["runs x".to_owned(); 3], sha256: [0; 32] },
        rememberable: true,
        until_ms: Some(1_000),
    }
}

fn approval() -> Approval {
    Approval { seq: 7, leaf: cortex_audit::Leaf::of(b"x") }
}

/// Asks now, under the next number.
fn ask(desk: &mut Desk, question: Question, now_ms: u64) -> Result<Asked, Fault> {
    let (id, code) = desk.draw(&question, 7);
    desk.ask(id, question, code, now_ms, now_ms)
}

fn waits(desk: &mut Desk, question: Question) -> u64 {
    match ask(desk, question, 0).unwrap() {
        Asked::Waits(id) => id,
        Asked::Granted(id) => panic!("granted by {id}"),
    }
}

fn code(result: Result<(AttemptKey, Verdict), Fault>) -> Code {
    result.unwrap_err().code
}

#[test]
fn an_answer_counts_only_after_a_look_at_all_of_it() {
    let mut desk = Desk::default();
    let mut long = question("a", 1, &[]);
    long.shown.lines = vec!["x".to_owned(); 60];
    let id = waits(&mut desk, long);
    let allow = |desk: &mut Desk| desk.allow(id, "", Scope::Once, Remember::Until, 5);
    assert_eq!(code(allow(&mut desk)), Code::ConsentBadAnswer);
    assert_eq!(desk.look(id, false).unwrap().1, 20);
    assert_eq!(code(allow(&mut desk)), Code::ConsentBadAnswer);
    assert_eq!(desk.look(id, true).unwrap().1, 0);
    assert_eq!(allow(&mut desk).unwrap(), (key("a"), Verdict::Allowed(Fingerprint([1; 32]))));
    assert_eq!(code(allow(&mut desk)), Code::ConsentNotFound);
}

#[test]
fn something_destructive_needs_the_code_that_was_shown() {
    let mut desk = Desk::default();
    let id = waits(&mut desk, question("a", 1, &[Class::Destructive]));
    desk.look(id, true).unwrap();
    let wanted = desk.waiting().next().unwrap().1.code.clone().unwrap();
    assert_eq!(wanted.len(), 4);
    for wrong in ["", "y", "Y", "yes", "AAA", &wanted[..3]] {
        assert_eq!(
            code(desk.allow(id, wrong, Scope::Once, Remember::Until, 5)),
            Code::ConsentBadAnswer
        );
    }
    assert!(desk.allow(id, &wanted.to_lowercase(), Scope::Once, Remember::Until, 5).is_ok());
}

#[test]
fn no_answer_is_a_no() {
    let mut desk = Desk::default();
    let id = waits(&mut desk, question("a", 1, &[]));
    desk.look(id, true).unwrap();
    assert_eq!(desk.next_timeout(), Some(1_000));
    assert_eq!(
        code(desk.allow(id, "", Scope::Once, Remember::Until, 1_000)),
        Code::ConsentNotFound
    );
    assert_eq!(desk.expired(999), []);
    assert_eq!(desk.expired(1_000), [(key("a"), Verdict::TimedOut)]);
    assert_eq!(desk.expired(1_000), []);
    assert_eq!(Verdict::TimedOut.fault().unwrap().code, Code::ConsentTimedOut);
    let id = waits(&mut desk, question("a", 1, &[]));
    assert_eq!(desk.refuse(id).unwrap().1, Verdict::Refused);
    assert_eq!(code(desk.refuse(id)), Code::ConsentNotFound);
}

#[test]
fn the_queue_is_short_so_that_it_is_read() {
    let mut desk = Desk::default();
    for number in 0..CONSENT_QUEUE_MAX {
        waits(&mut desk, question(&format!("t{number}"), 1, &[]));
    }
    let refused = ask(&mut desk, question("more", 1, &[]), 0).unwrap_err();
    assert_eq!(refused.code, Code::ConsentQueueFull);
    desk.withdraw(&key("t3"));
    assert!(ask(&mut desk, question("more", 1, &[]), 0).is_ok());
}

#[test]
fn a_remembered_answer_counts_for_exactly_the_same_and_no_longer_than_it_may() {
    let mut desk = Desk::default();
    let id = waits(&mut desk, question("a", 1, &[]));
    desk.look(id, true).unwrap();
    assert_eq!(
        code(desk.allow(id, "", Scope::Until(50), Remember::Session, 5)),
        Code::ConsentBadAnswer
    );
    assert_eq!(
        code(desk.allow(id, "", Scope::Until(4), Remember::Until, 5)),
        Code::ConsentBadAnswer
    );
    assert_eq!(
        code(desk.allow(id, "", Scope::Until(u64::MAX), Remember::Until, 5)),
        Code::ConsentBadAnswer
    );
    desk.allow(id, "", Scope::Until(50), Remember::Until, 5).unwrap();
    assert_eq!(desk.granted(&question("b", 1, &[]), 49), None, "the journal does not have it yet");
    desk.approve(Fingerprint([1; 32]), &approval());
    assert!(matches!(ask(&mut desk, question("b", 1, &[]), 49), Ok(Asked::Granted(_))));
    // One thing is different: another fingerprint.
    assert!(matches!(ask(&mut desk, question("b", 2, &[]), 49), Ok(Asked::Waits(_))));
    let (grant, used) = desk.grants().map(|(id, grant)| (id, grant.used)).next().unwrap();
    assert_eq!(used, 1);
    assert!(matches!(ask(&mut desk, question("c", 1, &[]), 50), Ok(Asked::Waits(_))));
    assert_eq!(desk.revoke(grant).unwrap_err().code, Code::ConsentNotFound);
}

#[test]
fn an_answer_for_a_task_counts_for_that_task_and_can_be_taken_back() {
    let mut desk = Desk::default();
    let id = waits(&mut desk, question("a", 1, &[]));
    desk.look(id, true).unwrap();
    desk.allow(id, "", Scope::Task, Remember::Task, 5).unwrap();
    desk.approve(Fingerprint([1; 32]), &approval());
    assert!(matches!(ask(&mut desk, question("b", 1, &[]), 6), Ok(Asked::Waits(_))));
    let Ok(Asked::Granted(grant)) = ask(&mut desk, question("a", 1, &[]), 6) else { panic!() };
    desk.revoke(grant).unwrap();
    assert!(matches!(ask(&mut desk, question("a", 1, &[]), 6), Ok(Asked::Waits(_))));
}

#[test]
fn what_runs_code_is_never_remembered() {
    let mut desk = Desk::default();
    let id = waits(&mut desk, Question { rememberable: false, ..question("a", 1, &[]) });
    desk.look(id, true).unwrap();
    assert_eq!(code(desk.allow(id, "", Scope::Task, Remember::Until, 5)), Code::ConsentBadAnswer);
    assert!(desk.allow(id, "", Scope::Once, Remember::Until, 5).is_ok());
}

#[test]
fn only_answers_with_a_time_of_their_own_outlive_the_agent() {
    let mut desk = Desk::default();
    let grant = |until_ms| Grant {
        fingerprint: Fingerprint([1; 32]),
        task: None,
        until_ms,
        used: 3,
        title: String::new(),
        approval: Some(approval()),
    };
    desk.restore(7, [grant(None), grant(Some(100))]);
    assert_eq!(desk.grants().count(), 1);
}

#[test]
fn a_question_waits_on_under_its_number_and_no_number_is_given_twice() {
    let mut desk = Desk::default();
    desk.restore(7, []);
    let asked = desk.ask(5, question("a", 1, &[]), Some("K7QX".to_owned()), 90, 3);
    assert_eq!(asked.unwrap(), Asked::Waits(5));
    let (id, waiting) = desk.waiting().next().unwrap();
    assert_eq!((id, waiting.asked_ms, waiting.code.as_deref()), (5, 3, Some("K7QX")));
    // It has to be looked at again.
    assert_eq!(
        code(desk.allow(5, "K7QX", Scope::Once, Remember::Until, 9)),
        Code::ConsentBadAnswer
    );
    desk.look(5, true).unwrap();
    assert!(desk.allow(5, "K7QX", Scope::Once, Remember::Until, 9).is_ok());
    assert_eq!(waits(&mut desk, question("b", 1, &[])), 8);
    assert_eq!(desk.last(), 8);
}

#[test]
fn nothing_that_a_terminal_obeys_or_an_eye_misreads_is_shown() {
    for (text, safe) in [
        ("plain 'text'", "plain 'text'"),
        ("\u{1b}[2J", "\\u{1b}[2J"),
        ("a\u{202e}b", "a\\u{202e}b"),
        ("a\u{200b}b", "a\\u{200b}b"),
        ("\u{430}dmin", "\\u{430}dmin"),
        ("a\rb\tc\u{9b}", "a\\u{d}b\\u{9}c\\u{9b}"),
    ] {
        let (shown, odd) = escape(text);
        assert_eq!((shown.as_str(), odd), (safe, text != safe));
    }
}

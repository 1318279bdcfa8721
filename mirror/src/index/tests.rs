//! The index alone, with time made by hand.

use super::*;
use cortex_audit::{Position, Stamp, Value};
use cortex_model::event::Started;
use cortex_model::ids::SessionId;
use cortex_model::{Incarnation, NodeId, TaskId, UnixMillis, Workspace};

const LOG32: &str = "b00459f4f810eea4976b6241f2e12c0a";
const AFTER: u64 = 600_000;

fn key(task: &str) -> TaskKey {
    let task = TaskId::parse(task).unwrap();
    TaskKey { workspace: Workspace::default_workspace(), task }
}

fn started(at: u64) -> Commit {
    let started = Started {
        attempt: 1,
        node: NodeId::parse("n1").unwrap(),
        incarnation: Incarnation::parse(LOG32).unwrap(),
        session: SessionId::parse("s1").unwrap(),
        offered_by: "s".into(),
        offered_at: UnixMillis(at),
        reason: String::new(),
        refused: Vec::new(),
        at: UnixMillis(at),
        gateway: "g".into(),
    };
    Commit { n: 2, events: vec![Event::Started(Box::new(started))] }
}

fn stored(first_seq: u64, kind: &str, cmd: &str, at_ms: u64) -> pb::AuditStored {
    let position = Position { log: Leaf::ZERO, seq: first_seq, prev: Leaf::ZERO };
    let boot = "0d9dcf7e-0000-4000-8000-000000000000".into();
    let stamp = Stamp { unix_us: at_ms * 1_000, mono_us: 0, boot };
    let data = Value::map([("cmd", Value::from(cmd)), ("node", Value::from("n1"))]);
    let mut line = Envelope::encode(position, kind, &stamp, data).unwrap();
    line.push(b'\n');
    pb::AuditStored { first_seq, count: 1, records: line.into(), ..pb::AuditStored::default() }
}

#[test]
fn the_deadline_is_counted_from_the_dispatch_or_from_the_return_of_the_node() {
    for (back, now, found) in [
        (None, 10 * AFTER, 0),
        (Some(500), 1_000 + AFTER - 1, 0),
        (Some(500), 1_000 + AFTER, 1),
        (Some(9_000), 1_000 + AFTER, 0),
        (Some(9_000), 9_000 + AFTER, 1),
    ] {
        let mut index = Index::new(AFTER);
        index.task(&key("t1"), &started(1_000), 7);
        if let Some(back) = back {
            index.back("default", "n1", back);
        }
        assert_eq!(index.tick(now).len(), found, "back {back:?}, now {now}");
        assert!(index.tick(now).is_empty(), "it is said once");
    }
}

#[test]
fn either_side_may_be_read_first() {
    for record_first in [true, false] {
        let mut index = Index::new(AFTER);
        index.back("default", "n1", 0);
        let intent = stored(1, "intent", "t1/1", 1_100);
        if record_first {
            index.records("default", LOG32, &intent, 1_200);
        }
        index.task(&key("t1"), &started(1_000), 7);
        if !record_first {
            index.records("default", LOG32, &intent, 1_200);
        }
        assert!(index.tick(100 * AFTER).is_empty(), "record first: {record_first}");
    }
}

#[test]
fn an_intent_in_another_journal_does_not_count() {
    let mut index = Index::new(AFTER);
    index.back("default", "n1", 0);
    index.task(&key("t1"), &started(1_000), 7);
    let other = "11111111111111111111111111111111";
    index.records("default", other, &stored(0, "genesis", "", 0), 0);
    index.records("default", other, &stored(1, "intent", "t1/1", 1_100), 1_200);
    let found = index.tick(2 * AFTER);
    let kinds: Vec<_> = found.values().flatten().collect();
    assert!(matches!(kinds[..], [Kind::Unrecorded(_)]), "{kinds:?}");
}

#[test]
fn a_record_that_comes_after_it_was_listed_is_told() {
    let mut index = Index::new(AFTER);
    index.back("default", "n1", 0);
    index.task(&key("t1"), &started(1_000), 7);
    assert_eq!(index.tick(2 * AFTER).len(), 1);
    index.records("default", LOG32, &stored(1, "intent", "t1/1", 1_100), 2 * AFTER + 5);
    let found = index.tick(2 * AFTER + 10);
    let kinds: Vec<_> = found.values().flatten().collect();
    assert!(matches!(kinds[..], [Kind::Recorded(_)]), "{kinds:?}");
}

#[test]
fn a_command_is_a_task_and_a_number() {
    assert_eq!(command("t1/2"), Some(("t1", 2)));
    for bad in ["", "t1", "t1/", "t1/x", "t1/-1"] {
        assert_eq!(command(bad), None, "{bad}");
    }
}

#[test]
fn what_was_found_at_a_start_belongs_to_the_task_whose_outcome_follows_it() {
    let mut index = Index::new(AFTER);
    let line = |seq: u64, kind: &str, data: Value| {
        let position = Position { log: Leaf::ZERO, seq, prev: Leaf::ZERO };
        let boot = "0d9dcf7e-0000-4000-8000-000000000000".into();
        let stamp = Stamp { unix_us: 1_000_000, mono_us: 0, boot };
        let mut line = Envelope::encode(position, kind, &stamp, data).unwrap();
        line.push(b'\n');
        line
    };
    let seq = |seq: u64| ("intent", Value::number(seq));
    let cmd = |cmd: &str| ("cmd", Value::from(cmd));
    let lines = [
        line(0, "intent", Value::map([cmd("t1/1")])),
        line(1, "intent", Value::map([cmd("t2/1")])),
        line(2, "recovery", Value::map([seq(1)])),
        line(3, "outcome", Value::map([seq(1), cmd("t2/1")])),
        line(4, "recovery", Value::map([("intent", Value::Null)])),
        line(5, "outcome", Value::map([seq(0), cmd("t1/1")])),
    ];
    // In two uploads, with the border between what was found and the outcome.
    for (first, lines) in [(0, &lines[..3]), (3, &lines[3..])] {
        let records = lines.concat().into();
        let count = lines.len() as u32;
        let stored =
            pb::AuditStored { first_seq: first, count, records, ..pb::AuditStored::default() };
        index.records("default", LOG32, &stored, 1);
    }
    let found = |task: &str| index.find("default", task).iter().map(|r| r.seq).collect::<Vec<_>>();
    assert_eq!((found("t1"), found("t2")), (vec![0, 5], vec![1, 2, 3]));
}

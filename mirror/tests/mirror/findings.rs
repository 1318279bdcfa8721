//! Both sides against each other: dispatches and records. And what operators settle.

use crate::World;
use crate::node::{Node, WORKSPACE};
use cortex_audit::Leaf;
use cortex_audit::record::{Base64, Predecessor};
use cortex_log::{CommitId, EventLog, Expect, Key, Space};
use cortex_model::event::{AttemptReleased, ReleaseReason, Started};
use cortex_model::ids::SessionId;
use cortex_model::proto as pb;
use cortex_model::{Commit, Event, Incarnation, NodeId, UnixMillis, wire};
use pb::mirror_reply::Body as Reply;
use pb::mirror_request::Body as Ask;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SOON: Duration = Duration::from_millis(300);

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

async fn append(log: &dyn EventLog, task: &str, n: u64, event: Event) {
    let key = Key::new(Space::Task, WORKSPACE, task).unwrap();
    let commit = cortex_log::Commit {
        id: CommitId::generate(),
        kind: "Started".into(),
        n,
        body: wire::event::encode_commit(&Commit { n, events: vec![event] }),
    };
    log.append(&key, Expect::Any, commit).await.unwrap();
}

fn started(node: &Node, attempt: u32) -> Event {
    Event::Started(Box::new(Started {
        attempt,
        node: NodeId::parse(&node.name).unwrap(),
        incarnation: Incarnation::parse(&node.log32()).unwrap(),
        session: SessionId::parse("s-1").unwrap(),
        offered_by: "sched".into(),
        offered_at: UnixMillis(now_ms()),
        reason: "the only one".into(),
        refused: Vec::new(),
        at: UnixMillis(now_ms()),
        gateway: "g".into(),
    }))
}

#[tokio::test]
async fn a_dispatch_that_is_not_in_the_journal_makes_the_node_suspect_until_it_is() {
    let world = World::new();
    let mirror = world.mirror_named("m1", SOON).await;
    let mut node = Node::new("n1", 1);
    append(world.log.as_ref(), "t1", 2, started(&node, 1)).await;
    append(world.log.as_ref(), "t2", 2, started(&node, 1)).await;
    node.intent("t2", 1);
    mirror.gateway.state(&node).await;
    mirror.gateway.acked(&node, 0, 2).await;
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
    assert_eq!((audit.unrecorded, audit.undispatched), (1, 0));
    assert!(audit.reason.contains("attempt 1 of task t1 was dispatched"), "{}", audit.reason);
    // It had only been slow.
    node.intent("t1", 1);
    mirror.gateway.acked(&node, 2, 3).await;
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Active).await;
    assert_eq!(audit.unrecorded, 0);
}

#[tokio::test]
async fn a_refusal_is_a_record_and_an_attempt_that_never_began_needs_none() {
    let world = World::new();
    let mirror = world.mirror_named("m1", SOON).await;
    let mut node = Node::new("n1", 1);
    for task in ["t1", "t2", "t3"] {
        append(world.log.as_ref(), task, 2, started(&node, 1)).await;
    }
    let released = Event::AttemptReleased(Box::new(AttemptReleased {
        attempt: 1,
        reason: ReleaseReason::NotStarted,
        retry_at: UnixMillis(0),
        outcome: None,
        evidence: String::new(),
        at: UnixMillis(now_ms()),
    }));
    append(world.log.as_ref(), "t2", 3, released).await;
    let cmd = cortex_audit::Value::from("t1/1");
    node.write("refusal", cortex_audit::Value::map([("cmd", cmd)]));
    mirror.gateway.state(&node).await;
    mirror.gateway.acked(&node, 0, 2).await;
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
    assert!(audit.reason.contains("task t3 "), "{}", audit.reason);
    assert_eq!(audit.unrecorded, 1, "t3 alone");
}

#[tokio::test]
async fn an_intent_that_nobody_dispatched_is_listed() {
    let world = World::new();
    let mirror = world.mirror_named("m1", SOON).await;
    let mut node = Node::new("n1", 1);
    let elsewhere = Node::new("n2", 2);
    append(world.log.as_ref(), "t1", 2, started(&elsewhere, 1)).await;
    node.intent("t1", 1);
    node.intent("t9", 4);
    mirror.gateway.acked(&node, 0, 3).await;
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
    assert_eq!((audit.unrecorded, audit.undispatched), (0, 2));
    assert!(audit.reason.contains("was not dispatched to this node"), "{}", audit.reason);
}

#[tokio::test]
async fn a_node_that_is_away_is_not_suspected_before_it_is_back() {
    let world = World::new();
    let node = Node::new("n1", 1);
    append(world.log.as_ref(), "t1", 2, started(&node, 1)).await;
    let mirror = world.mirror_named("m1", SOON).await;
    let mut other = Node::new("n2", 2);
    append(world.log.as_ref(), "t2", 2, started(&other, 1)).await;
    other.grow(1);
    mirror.gateway.state(&other).await;
    mirror.gateway.acked(&other, 0, 2).await;
    // Long enough for the one that is back.
    mirror.gateway.stands("n2", pb::AuditStanding::Suspect).await;
    assert_eq!(mirror.gateway.audit("n1").await, pb::NodeAudit::default());
    mirror.gateway.state(&node).await;
    mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
}

#[tokio::test]
async fn a_journal_that_went_on_past_a_dispatch_without_it_is_enough() {
    let world = World::new();
    let mirror = world.mirror_named("m1", Duration::from_secs(600)).await;
    let mut node = Node::new("n1", 1);
    append(world.log.as_ref(), "t1", 2, started(&node, 1)).await;
    node.set_clock(now_ms() + 700_000);
    node.grow(1);
    mirror.gateway.acked(&node, 0, 2).await;
    mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
}

#[tokio::test]
async fn the_records_of_a_task_are_found() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    let (a, b) = (node.intent("t1", 1), node.intent("t1", 2));
    node.intent("t2", 1);
    mirror.gateway.acked(&node, 0, 4).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let found = loop {
        let ask = Ask::Find(pb::MirrorFind { task_id: "t1".into() });
        match mirror.gateway.ask("", "", ask).await {
            Reply::Found(found) if found.records.len() == 2 => break found.records,
            Reply::Found(_) | Reply::Error(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    };
    let found: Vec<_> = found.iter().map(|r| (r.log.clone(), r.seq, r.attempt)).collect();
    assert_eq!(found, [(node.log32(), a, 1), (node.log32(), b, 2)]);
}

#[tokio::test]
async fn a_journal_that_names_what_was_cosigned_of_the_one_before_closes_it() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut old = Node::new("n1", 1);
    old.grow(4);
    mirror.gateway.acked(&old, 0, 5).await;
    let pred = |size: u64| Predecessor {
        log: Leaf::parse(&old.log()).unwrap(),
        size,
        root: Base64(old.root(size).0.to_vec()),
        reason: "rekey".into(),
        evidence: None,
    };
    let new = Node::following("n1", 2, Some(pred(5)));
    mirror.gateway.acked(&new, 0, 1).await;
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Active).await;
    assert_eq!(audit.log, new.log());
    match mirror.gateway.send(&old, 4, 5).await {
        Reply::Reject(reject) => assert!(reject.detail.contains("is closed"), "{}", reject.detail),
        other => panic!("{other:?}"),
    }
    // One that forgets the end of the journal before, or the journal itself, is for a person to judge.
    let forgetful = Node::following(
        "n1",
        3,
        Some(Predecessor { log: Leaf::parse(&new.log()).unwrap(), ..pred(0) }),
    );
    mirror.gateway.acked(&forgetful, 0, 1).await;
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
    assert!(audit.reason.contains("from size 0, but 1 records were cosigned"), "{}", audit.reason);
}

#[tokio::test]
async fn an_operator_ends_suspicion_and_quarantine_and_closes_journals() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    let snapshot = node.clone();
    node.grow(5);
    mirror.gateway.acked(&node, 0, 15).await;
    let state = mirror.gateway.state(&snapshot).await;
    mirror.gateway.ask("n1", &node.log32(), Ask::Evidence(snapshot.present(&state))).await;
    mirror.gateway.stands("n1", pb::AuditStanding::Quarantined).await;
    let settle = |retire_log: String| {
        let reason = "the disk was restored from a backup".into();
        Ask::Settle(pb::MirrorSettle { by: None, reason, retire_log })
    };
    let Reply::Settled(settled) = mirror.gateway.ask("n1", "", settle(String::new())).await else {
        panic!("not settled")
    };
    assert_eq!(settled.node.unwrap().standing(), pb::AuditStanding::Active);
    mirror.gateway.state(&node).await;
    let Reply::Settled(settled) = mirror.gateway.ask("n1", "", settle(node.log32())).await else {
        panic!("not closed")
    };
    assert_eq!(settled.node.unwrap().standing(), pb::AuditStanding::Retired);
    assert!(matches!(mirror.gateway.hello(&node).await, Reply::Reject(_)));
    for (name, log) in [("n1", "0".repeat(32)), ("n1", "0".into()), ("stranger", String::new())] {
        match mirror.gateway.ask(name, "", settle(log)).await {
            Reply::Error(error) => assert_eq!(error.code, "CX-1502"),
            other => panic!("{other:?}"),
        }
    }
}

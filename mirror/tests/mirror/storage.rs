//! Storing, acknowledging, resuming.

use crate::World;
use crate::node::{Node, WORKSPACE};
use cortex_log::audit::{OPENINGS_BUCKET, journal_key, openings_key};
use cortex_log::{Commit, CommitId, Expect, MemoryLog};
use cortex_model::proto as pb;
use pb::mirror_reply::Body as Reply;
use pb::mirror_request::Body as Ask;
use prost::Message as _;
use std::sync::Arc;

#[tokio::test]
async fn an_acknowledgement_is_a_cosignature_of_what_is_stored() {
    let world = World::new();
    let mirror = world.mirror().await;
    let gateway = &mirror.gateway;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    let state = gateway.state(&node).await;
    assert_eq!((state.resume_from, state.cosigned_note.as_str()), (0, ""));
    assert_eq!(state.mirror_vkey, gateway.vkey.to_string());
    let note = gateway.acked(&node, 0, 4).await;
    assert_eq!((note.checkpoint().size, note.checkpoint().root), (4, node.root(4)));
    let note = gateway.acked(&node, 4, 10).await;
    assert_eq!(note.checkpoint().size, 10);
    let stored = gateway.stored(&node.log32()).await;
    let bytes: Vec<u8> = stored.iter().flat_map(|batch| batch.records.to_vec()).collect();
    assert_eq!(bytes, node.batch(0, 10).records, "to the byte");
    assert_eq!(stored[1].cosigned_note.lines().nth(1), Some("4"));
    let state = gateway.state(&node).await;
    assert_eq!(state.resume_from, 10);
    gateway.check(&node, &state.cosigned_note, 10);
    let audit = gateway.stands("n1", pb::AuditStanding::Active).await;
    assert_eq!((audit.log, audit.stored), (node.log(), 10));
}

#[tokio::test]
async fn what_is_known_is_stored_once_whatever_the_batches() {
    let world = World::new();
    let mirror = world.mirror().await;
    let gateway = &mirror.gateway;
    let mut node = Node::new("n1", 1);
    node.grow(29);
    gateway.acked(&node, 0, 10).await;
    for (first, end) in [(0, 10), (0, 3), (5, 10), (2, 17), (16, 17), (0, 20), (19, 21), (0, 30)] {
        gateway.acked(&node, first, end).await;
    }
    let stored = gateway.stored(&node.log32()).await;
    let ranges: Vec<_> = stored.iter().map(|s| (s.first_seq, s.count)).collect();
    assert_eq!(ranges, [(0, 10), (10, 7), (17, 3), (20, 1), (21, 9)]);
    let bytes: Vec<u8> = stored.iter().flat_map(|batch| batch.records.to_vec()).collect();
    assert_eq!(bytes, node.batch(0, 30).records);
}

#[tokio::test]
async fn a_gap_is_answered_with_where_to_go_on() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 3).await;
    let Reply::Resend(resend) = mirror.gateway.send(&node, 5, 8).await else { panic!("taken") };
    assert_eq!((resend.id, resend.from, resend.after_ms), (1, 3, 0));
    mirror.gateway.acked(&node, 3, 8).await;
}

#[tokio::test]
async fn another_mirror_goes_on_where_one_died_and_signs_what_was_stored_and_not_signed() {
    let world = World::new();
    let mut node = Node::new("n1", 1);
    node.grow(9);
    let first = world.mirror().await;
    first.gateway.acked(&node, 0, 4).await;
    drop(first);
    // It died between storing and signing.
    let batch = node.batch(4, 7);
    let stored = pb::AuditStored {
        first_seq: 4,
        count: 3,
        encoding: batch.encoding,
        records: batch.records,
        note: batch.note,
        cosigned_note: String::new(),
    };
    let key = journal_key(WORKSPACE, &node.log32()).unwrap();
    let last = world.log.last(&key).await.unwrap().unwrap().rev;
    let commit = Commit {
        id: CommitId::generate(),
        kind: "AuditStored".into(),
        n: 2,
        body: stored.encode_to_vec().into(),
    };
    world.log.append(&key, Expect::At(last), commit).await.unwrap();
    let second = world.mirror_named("m2", std::time::Duration::from_secs(600)).await;
    let state = second.gateway.state(&node).await;
    assert_eq!(state.resume_from, 7);
    second.gateway.check(&node, &state.cosigned_note, 7);
    second.gateway.acked(&node, 7, 10).await;
}

#[tokio::test]
async fn what_storage_lost_is_sent_again_and_nothing_else_is_taken_in_its_place() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(19);
    let cosigned = mirror.gateway.acked(&node, 0, 20).await;
    drop(mirror);
    // All but what the key signed is gone.
    let kept =
        world.log.kv_get(cortex_log::audit::MIRROR_BUCKET, &signed_at(&cosigned, &node)).await;
    let world = World { log: Arc::new(MemoryLog::new(4)), ..world };
    let value = kept.unwrap().expect("what was signed is kept").value;
    let place = signed_at(&cosigned, &node);
    world
        .log
        .kv_put(cortex_log::audit::MIRROR_BUCKET, &place, Expect::Absent, value)
        .await
        .unwrap();
    let mirror = world.mirror().await;
    node.grow(5);
    let state = mirror.gateway.state(&node).await;
    assert_eq!(state.resume_from, 0, "storage begins anew");
    mirror.gateway.check(&node, &state.cosigned_note, 20);
    // Acknowledged by the old cosignature until it is passed.
    assert_eq!(mirror.gateway.acked(&node, 0, 8).await, cosigned);
    // A copy with another history cannot slip in what was lost.
    let clone = rewritten(&node, 12);
    match mirror.gateway.send(&clone, 8, 22).await {
        Reply::Reject(reject) => {
            assert_eq!(reject.code(), pb::AuditRejectCode::Fork);
            assert_eq!(reject.evidence_notes.len(), 3);
        }
        other => panic!("taken: {other:?}"),
    }
    assert_eq!(mirror.gateway.stored(&node.log32()).await.len(), 1);
}

#[tokio::test]
async fn a_cosignature_that_only_the_node_still_has_binds_the_mirror() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(19);
    let cosigned = mirror.gateway.acked(&node, 0, 20).await;
    drop(mirror);
    // Storage and what was signed are both gone: a backup was restored.
    let world = World { log: Arc::new(MemoryLog::new(4)), ..world };
    let mirror = world.mirror().await;
    let hello = pb::AuditHello { newest_cosigned: cosigned.to_string(), ..node.hello() };
    let Reply::State(state) = mirror.gateway.ask("n1", &node.log32(), Ask::Hello(hello)).await
    else {
        panic!("refused")
    };
    assert_eq!(state.resume_from, 0);
    mirror.gateway.check(&node, &state.cosigned_note, 20);
    match mirror.gateway.send(&rewritten(&node, 12), 0, 20).await {
        Reply::Reject(reject) => assert_eq!(reject.code(), pb::AuditRejectCode::Fork),
        other => panic!("a second history of the same size: {other:?}"),
    }
}

#[tokio::test]
async fn openings_follow_their_records_without_a_gap_and_open_nothing_else() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    let one = node.commit(&["a", "b"]);
    node.grow(1);
    let three = &node.commit(&["c"])[0];
    node.grow(1);
    let five = &node.commit(&["d"])[0];
    node.grow(4);
    mirror.gateway.acked(&node, 0, 6).await;
    let openings = |first_seq, count, text: &str| {
        let openings = text.to_owned().into();
        Ask::Openings(pb::AuditOpenings { id: 4, first_seq, count, openings })
    };
    let ask = async |body| mirror.gateway.ask("n1", &node.log32(), body).await;
    let resend = |from| Reply::Resend(pb::AuditResend { id: 4, from, after_ms: 0 });
    let acked = |openings_from| Reply::OpeningsAck(pb::AuditOpeningsAck { id: 4, openings_from });
    let good = format!("1 {}\n1 {}\n3 {three}\n", one[0], one[1]);
    assert_eq!(ask(openings(2, 2, &format!("3 {three}\n"))).await, resend(0), "a gap");
    assert_eq!(ask(openings(0, 7, "")).await, resend(0), "beyond what is stored");
    assert_eq!(ask(openings(0, 4, &good)).await, acked(4));
    assert_eq!(ask(openings(0, 4, &good)).await, acked(4), "again");
    assert_eq!(ask(openings(4, 1, "")).await, acked(5), "records without openings count");
    for bad in [
        format!("3 {three}\n"),
        format!("7 {five}\n"),
        format!("5 {five}\n4 {five}\n"),
        "5 \n".to_owned(),
        "x y\n".to_owned(),
        format!("5 {five}"),
        format!("5 {three}\n"),
        format!("5 {five}\n5 {five}\n"),
        format!("5 {}\n", "W".repeat(100_000)),
    ] {
        mirror.gateway.acked(&node, 6, 10).await;
        let answer = ask(openings(4, 2, &bad)).await;
        let Reply::Reject(reject) = answer else { panic!("{bad:?} taken: {answer:?}") };
        assert_eq!(reject.code(), pb::AuditRejectCode::Invalid, "{bad:?}");
    }
    for (count, text) in [(2, "W".repeat(705 * 1024)), (4_097, String::new())] {
        let Reply::Reject(reject) = ask(openings(4, count, &text)).await else { panic!("taken") };
        assert_eq!(reject.code(), pb::AuditRejectCode::TooLarge);
    }
    let key = openings_key(&node.log32(), 0, 0);
    let kept = world.log.kv_get(OPENINGS_BUCKET, &key).await.unwrap().unwrap();
    assert_eq!(&kept.value[..], good.as_bytes());
    assert_eq!(mirror.gateway.state(&node).await.openings_from, 5);
    assert_eq!(ask(openings(4, 2, &format!("5 {five}\n"))).await, acked(6));
}

#[tokio::test]
async fn many_openings_lie_in_groups_and_parts() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    let long = "a".repeat(45_000);
    let mut all: Vec<(u64, String)> = Vec::new();
    for seq in 1..=600 {
        match seq % 200 {
            0..4 => all.push((seq, node.commit(&[&long]).remove(0))),
            _ => node.grow(1),
        }
    }
    for first in [0, 300] {
        mirror.gateway.acked(&node, first, (first + 300).min(601)).await;
    }
    let lines = |range: std::ops::Range<u64>| {
        let of_range = all.iter().filter(|(seq, _)| range.contains(seq));
        of_range.map(|(seq, text)| format!("{seq} {text}\n")).collect::<String>()
    };
    for (first, end) in [(0, 300), (300, 600)] {
        let openings = pb::AuditOpenings {
            id: 1,
            first_seq: first,
            count: (end - first) as u32,
            openings: lines(first..end).into(),
        };
        // Again too, as after a lost answer.
        for _ in 0..2 {
            let ask = Ask::Openings(openings.clone());
            match mirror.gateway.ask("n1", &node.log32(), ask).await {
                Reply::OpeningsAck(ack) => assert_eq!(ack.openings_from, end),
                other => panic!("{other:?}"),
            }
        }
    }
    let mut kept = String::new();
    for group in 0..3 {
        for part in 0.. {
            let key = openings_key(&node.log32(), group, part);
            let Some(entry) = world.log.kv_get(OPENINGS_BUCKET, &key).await.unwrap() else { break };
            assert!(entry.value.len() <= 384 * 1024);
            kept.push_str(std::str::from_utf8(&entry.value).unwrap());
        }
    }
    assert!(!kept.is_empty());
    assert_eq!(kept, lines(0..600));
}

/// Where the mirror keeps what it signed.
fn signed_at(note: &cortex_audit::SignedNote, node: &Node) -> String {
    let mirror = note.signatures().iter().find(|line| line.name == crate::KEY_NAME).unwrap();
    format!("{}.{}", cortex_audit::leaf::hex(&mirror.id), node.log32())
}

/// The same journal with another history from a record on, as long and signed by the same key.
pub(crate) fn rewritten(node: &Node, from: u64) -> Node {
    let mut other = node.clone();
    other.cut(from);
    other.write("note", cortex_audit::Value::map([("n", cortex_audit::Value::from("another"))]));
    while other.size() < node.size() {
        other.grow(1);
    }
    other
}

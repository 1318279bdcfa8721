//! What an attacker might try, each with the answer that the mirror must give.

use crate::World;
use crate::node::{DOMAIN, Node};
use crate::storage::rewritten;
use cortex_audit::{LogKey, SignedNote, Value};
use cortex_model::proto as pb;
use pb::AuditRejectCode as Code;
use pb::mirror_reply::Body as Reply;
use pb::mirror_request::Body as Ask;

fn code(reply: Reply) -> Code {
    match reply {
        Reply::Reject(reject) => reject.code(),
        other => panic!("not refused: {other:?}"),
    }
}

/// The batch with other bytes under the same note, as a gateway could make it.
fn tampered(batch: &pb::AuditBatch, change: impl Fn(&mut Vec<u8>)) -> pb::AuditBatch {
    let mut records = batch.records.to_vec();
    change(&mut records);
    pb::AuditBatch { records: records.into(), ..batch.clone() }
}

#[tokio::test]
async fn bytes_that_were_changed_on_the_way_are_invalid_and_three_times_make_the_node_suspect() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 4).await;
    let good = node.batch(4, 8);
    let flips = [9, good.records.len() / 2, good.records.len() - 3];
    for at in flips {
        let bad = tampered(&good, |bytes| bytes[at] ^= 1);
        assert_eq!(
            code(mirror.gateway.ask("n1", &node.log32(), Ask::Batch(bad)).await),
            Code::Invalid
        );
    }
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
    assert!(audit.reason.contains("3 uploads in a row were invalid"), "{}", audit.reason);
    // It goes on nevertheless: the journal itself may be in order.
    mirror.gateway.acked(&node, 4, 8).await;
}

#[tokio::test]
async fn records_that_are_left_out_doubled_swapped_or_miscounted_are_invalid() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 4).await;
    let line = |seq: usize| [&node.lines[seq][..], b"\n"].concat();
    let of = |seqs: &[usize]| seqs.iter().flat_map(|seq| line(*seq)).collect::<Vec<u8>>();
    for (what, records, count) in [
        ("left out", of(&[4, 6, 7]), 3),
        ("doubled", of(&[4, 4, 5, 6]), 4),
        ("swapped", of(&[5, 4, 6, 7]), 4),
        ("miscounted", of(&[4, 5, 6, 7]), 3),
        ("without a line feed", of(&[4, 5, 6, 7])[1..].to_vec(), 4),
        ("an empty line", [of(&[4, 5]), b"\n".to_vec(), of(&[7])].concat(), 4),
    ] {
        let bad = pb::AuditBatch { records: records.into(), count, ..node.batch(4, 8) };
        let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Batch(bad)).await;
        assert_eq!(code(answer), Code::Invalid, "{what}");
    }
    assert_eq!(mirror.gateway.stored(&node.log32()).await.len(), 1);
}

#[tokio::test]
async fn of_two_clones_the_first_wins_and_the_second_is_a_fork_with_evidence() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut first = Node::new("n1", 1);
    first.grow(9);
    mirror.gateway.acked(&first, 0, 10).await;
    let mut second = first.clone();
    first.grow(3);
    second.write("note", cortex_audit::Value::map([("n", cortex_audit::Value::from("clone"))]));
    second.grow(2);
    mirror.gateway.acked(&first, 10, 13).await;
    let Reply::Reject(reject) = mirror.gateway.send(&second, 10, 13).await else { panic!("taken") };
    assert_eq!((reject.code(), reject.seq), (Code::Fork, 10));
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Quarantined).await;
    assert_eq!(audit.evidence_notes, reject.evidence_notes);
    // Anybody can check it: the journal's own key signed two roots of one size.
    let notes: Vec<SignedNote> = reject
        .evidence_notes
        .iter()
        .map(|note| SignedNote::parse(note.as_bytes()).unwrap())
        .collect();
    assert!(notes.iter().all(|note| note.verify_log(&first.vkey()).is_ok()));
    let roots: std::collections::BTreeSet<String> = notes
        .iter()
        .filter(|note| note.checkpoint().size == 13)
        .map(|note| note.checkpoint().root.to_base64())
        .collect();
    assert_eq!(roots.len(), 2);
    // Neither of them gets anything more, nor does a mirror that comes later know less.
    assert_eq!(code(mirror.gateway.send(&first, 12, 13).await), Code::Quarantined);
    drop(mirror);
    let mirror = world.mirror_named("m2", std::time::Duration::from_secs(600)).await;
    assert_eq!(code(mirror.gateway.hello(&first).await), Code::Quarantined);
}

#[tokio::test]
async fn a_gateway_cannot_make_a_fork_of_a_journal_that_has_none() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 10).await;
    // The node's own signature over other records than it signed.
    let other = rewritten(&node, 5);
    let forged = pb::AuditBatch { records: other.batch(3, 8).records, ..node.batch(3, 8) };
    assert_eq!(
        code(mirror.gateway.ask("n1", &node.log32(), Ask::Batch(forged)).await),
        Code::Invalid
    );
    // A true note under which the records do not stand at this place.
    let shifted =
        pb::AuditBatch { first_seq: 2, note: node.note(7).to_string(), ..node.batch(3, 8) };
    assert_eq!(
        code(mirror.gateway.ask("n1", &node.log32(), Ask::Batch(shifted)).await),
        Code::Invalid
    );
    assert_eq!(mirror.gateway.state(&node).await.standing(), pb::AuditStanding::Active);
}

#[tokio::test]
async fn a_journal_that_was_set_back_below_what_was_cosigned_says_so_itself_and_is_quarantined() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    let snapshot = node.clone();
    node.grow(5);
    let cosigned = mirror.gateway.acked(&node, 0, 15).await;
    let state = mirror.gateway.state(&snapshot).await;
    assert_eq!(state.challenge.len(), 32);
    assert_eq!(state.cosigned_note, cosigned.to_string());
    let present = snapshot.present(&state);
    let ack = Reply::EvidenceAck(pb::AuditEvidenceAck { id: 2 });
    assert_eq!(mirror.gateway.ask("n1", &node.log32(), Ask::Evidence(present)).await, ack);
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Quarantined).await;
    assert!(audit.reason.contains("has 10 records, but 15 were cosigned"), "{}", audit.reason);
    assert!(audit.evidence_notes.contains(&cosigned.to_string()));
    assert!(audit.evidence_notes.contains(&snapshot.note(10).to_string()));
    assert_eq!(code(mirror.gateway.hello(&node).await), Code::Quarantined);
}

#[tokio::test]
async fn an_old_hello_that_a_gateway_says_again_is_no_rollback_and_neither_is_an_old_answer() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    let early = node.clone();
    node.grow(5);
    mirror.gateway.acked(&node, 0, 15).await;
    // Any number of times, before and after the node goes on.
    for round in 0..3 {
        let state = mirror.gateway.state(&early).await;
        assert_ne!(state.standing(), pb::AuditStanding::Quarantined);
        assert_eq!(state.resume_from, 15 + round);
        node.grow(1);
        mirror.gateway.acked(&node, 15 + round, 16 + round).await;
        // Without the node's own signature over the newest challenge nothing follows from a short checkpoint.
        let stale = early.present(&state);
        mirror.gateway.state(&early).await;
        let forged = pb::AuditEvidence { challenge: vec![1; 32], ..early.present(&state) };
        let unsigned = pb::AuditEvidence { presence: vec![0; 64], ..early.present(&state) };
        for evidence in [stale, forged, unsigned] {
            let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Evidence(evidence)).await;
            assert!(matches!(answer, Reply::EvidenceAck(_)), "{answer:?}");
        }
    }
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
    assert_eq!(audit.cosigned_size, 18);
    // A true answer of a journal that is not set back proves that it is in order.
    mirror.gateway.state(&node).await;
}

#[tokio::test]
async fn a_shorter_head_with_another_root_is_a_fork_at_once() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    let mut clone = node.clone();
    node.grow(5);
    mirror.gateway.acked(&node, 0, 15).await;
    // What a restored copy does first: it writes that it starts.
    clone.write("session.close", Value::map([("clean", Value::Bool(true))]));
    let Reply::Reject(reject) = mirror.gateway.hello(&clone).await else { panic!("welcomed") };
    assert_eq!((reject.code(), reject.seq), (Code::Fork, 10));
    let audit = mirror.gateway.stands("n1", pb::AuditStanding::Quarantined).await;
    assert!(audit.evidence_notes.contains(&clone.note(11).to_string()));
}

#[tokio::test]
async fn a_head_of_the_same_size_with_another_root_is_a_fork() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 10).await;
    assert_eq!(code(mirror.gateway.hello(&rewritten(&node, 5)).await), Code::Fork);
    mirror.gateway.stands("n1", pb::AuditStanding::Quarantined).await;
}

#[tokio::test]
async fn only_the_key_that_the_journal_itself_names_signs_it() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 4).await;
    let origin = node.vkey().name().to_owned();
    let stranger = LogKey::from_seed(&[9; 32], &origin).unwrap();
    let elsewhere = format!("{DOMAIN}/audit/n2/{}", node.log32());
    let elsewhere = LogKey::from_seed(&[1; 32], &elsewhere).unwrap();
    for (what, note) in [
        ("right name, other key", node.note_by(&stranger, 8).to_string()),
        ("right key, other origin", node.note_by(&elsewhere, 8).to_string()),
    ] {
        let bad = pb::AuditBatch { note, ..node.batch(4, 8) };
        let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Batch(bad)).await;
        assert_eq!(code(answer), Code::WrongKey, "{what}");
    }
    for (what, note) in [
        ("of another size", node.note(7).to_string()),
        ("without signatures", node.note(8).text().to_owned() + "\n"),
        ("with a size that was edited", node.note(7).to_string().replacen("\n7\n", "\n8\n", 1)),
        ("with carriage returns", node.note(8).to_string().replace('\n', "\r\n")),
        ("without its last line feed", node.note(8).to_string().trim_end().to_owned()),
        ("with too many signatures", {
            let text = node.note(8).to_string();
            let line = text.lines().last().unwrap().to_owned();
            format!("{text}{}", format!("{line}\n").repeat(15))
        }),
    ] {
        let bad = pb::AuditBatch { note, ..node.batch(4, 8) };
        let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Batch(bad)).await;
        assert!(matches!(code(answer), Code::Invalid | Code::WrongKey), "{what}");
    }
    assert_eq!(mirror.gateway.stored(&node.log32()).await.len(), 1);
}

#[tokio::test]
async fn records_of_another_journal_node_or_workspace_are_refused() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    let mut other = Node::new("n2", 2);
    other.grow(9);
    mirror.gateway.acked(&node, 0, 4).await;
    // Records of another journal under this one's name.
    let foreign = pb::AuditBatch { records: other.batch(4, 8).records, ..node.batch(4, 8) };
    assert_eq!(
        code(mirror.gateway.ask("n1", &node.log32(), Ask::Batch(foreign)).await),
        Code::Invalid
    );
    // Another node's whole journal as one's own.
    let stolen = mirror.gateway.ask("n1", &other.log32(), Ask::Batch(other.batch(0, 4))).await;
    assert_eq!(code(stolen), Code::WrongKey);
    let hello = mirror.gateway.ask("n1", &other.log32(), Ask::Hello(other.hello())).await;
    assert_eq!(code(hello), Code::WrongKey);
    // A journal under an id that is not its own.
    let renamed = mirror.gateway.ask("n2", &node.log32(), Ask::Batch(other.batch(0, 4))).await;
    assert_eq!(code(renamed), Code::WrongKey);
    assert!(mirror.gateway.stored(&other.log32()).await.is_empty());
}

#[tokio::test]
async fn a_node_may_prove_a_contradiction_and_only_a_proof_quarantines() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 10).await;
    let other = rewritten(&node, 5);
    let evidence = |notes: Vec<String>| {
        Ask::Evidence(pb::AuditEvidence {
            id: 2,
            notes,
            reason: "another root".into(),
            ..Default::default()
        })
    };
    let ack = Reply::EvidenceAck(pb::AuditEvidenceAck { id: 2 });
    let claim = vec![node.note(10).to_string(), node.note(9).to_string()];
    assert_eq!(mirror.gateway.ask("n1", &node.log32(), evidence(claim)).await, ack);
    mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
    let proof = vec![node.note(10).to_string(), other.note(10).to_string()];
    assert_eq!(mirror.gateway.ask("n1", &node.log32(), evidence(proof)).await, ack);
    mirror.gateway.stands("n1", pb::AuditStanding::Quarantined).await;
}

#[tokio::test]
async fn made_up_evidence_fills_nobodys_history() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 10).await;
    for n in 0..200 {
        let evidence = pb::AuditEvidence {
            id: 2,
            notes: vec![node.note(9).to_string()],
            reason: format!("reason {n}"),
            ..Default::default()
        };
        let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Evidence(evidence)).await;
        assert!(matches!(answer, Reply::EvidenceAck(_)), "{answer:?}");
    }
    mirror.gateway.stands("n1", pb::AuditStanding::Suspect).await;
    let key = cortex_log::audit::node_key(crate::node::WORKSPACE, "n1").unwrap();
    let commits = mirror.gateway.log.read(&key, 0).await.unwrap().len();
    assert!((64..=70).contains(&commits), "{commits} commits");
}

#[tokio::test]
async fn numbers_at_the_end_of_their_range_are_refused_like_any_other() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(9);
    mirror.gateway.acked(&node, 0, 4).await;
    let good = node.batch(4, 8);
    for first_seq in [u64::MAX, u64::MAX - 3, 1 << 63, (1 << 53) - 1, 1 << 53] {
        for count in [0, 1, 4, u32::MAX] {
            let batch = pb::AuditBatch { first_seq, count, ..good.clone() };
            match mirror.gateway.ask("n1", &node.log32(), Ask::Batch(batch)).await {
                Reply::Resend(resend) => assert_eq!(resend.from, 4),
                Reply::Reject(_) => {}
                other => panic!("{first_seq} {count}: {other:?}"),
            }
            let openings = pb::AuditOpenings { id: 3, first_seq, count, ..Default::default() };
            match mirror.gateway.ask("n1", &node.log32(), Ask::Openings(openings)).await {
                Reply::Resend(resend) => assert_eq!(resend.from, 0),
                Reply::Reject(_) => {}
                other => panic!("{first_seq} {count}: {other:?}"),
            }
            let batch = pb::AuditBatch { count, ..good.clone() };
            if count != 4 {
                let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Batch(batch)).await;
                assert!(matches!(answer, Reply::Reject(_)), "{count}: {answer:?}");
            }
        }
        let hello = pb::AuditHello { size: first_seq, ..node.hello() };
        let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Hello(hello)).await;
        assert_eq!(code(answer), Code::WrongKey);
    }
    // The same mirror goes on.
    mirror.gateway.acked(&node, 4, 8).await;
    assert_eq!(mirror.gateway.stored(&node.log32()).await.len(), 2);
}

#[tokio::test]
async fn a_change_of_key_is_taken_with_both_signatures_and_from_then_on_only_the_new_key_counts() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(4);
    let old = node.clone();
    mirror.gateway.acked(&node, 0, 5).await;
    node.change_key(2);
    node.grow(3);
    // Both must have signed the checkpoint behind the change, and it must end its batch.
    let both = node.batch(5, 6);
    for (what, batch) in [
        ("only the old key", pb::AuditBatch { note: old.note_of(6, &node), ..both.clone() }),
        ("only the new key", pb::AuditBatch { note: node.by_newest(6), ..both.clone() }),
        ("with records behind it", node.batch(5, 8)),
    ] {
        let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Batch(batch)).await;
        assert!(matches!(code(answer), Code::Invalid | Code::WrongKey), "{what}");
    }
    assert!(matches!(mirror.gateway.send(&node, 5, 6).await, Reply::Ack(_)));
    assert!(matches!(mirror.gateway.send(&node, 6, 9).await, Reply::Ack(_)));
    // What was sent before is still known, and the old key signs nothing more.
    assert!(matches!(mirror.gateway.send(&node, 2, 5).await, Reply::Ack(_)));
    node.grow(1);
    let stolen = pb::AuditBatch { note: old.note_of(10, &node), ..node.batch(9, 10) };
    let answer = mirror.gateway.ask("n1", &node.log32(), Ask::Batch(stolen)).await;
    assert_eq!(code(answer), Code::WrongKey);
    // A mirror that comes later reads the same out of what is stored.
    drop(mirror);
    let mirror = world.mirror_named("m2", std::time::Duration::from_secs(600)).await;
    assert_eq!(mirror.gateway.state(&node).await.resume_from, 9);
    assert!(matches!(mirror.gateway.send(&node, 9, 10).await, Reply::Ack(_)));
}

#[tokio::test]
async fn a_change_of_key_without_proof_is_invalid() {
    let world = World::new();
    let mirror = world.mirror().await;
    let mut node = Node::new("n1", 1);
    node.grow(4);
    mirror.gateway.acked(&node, 0, 5).await;
    // The key of somebody else, who never agreed.
    let mut thief = node.clone();
    thief.change_key(2);
    let line = String::from_utf8(thief.lines[5].clone()).unwrap();
    let mut other = node.clone();
    other.change_key(3);
    let theirs = String::from_utf8(other.lines[5].clone()).unwrap();
    let field = |line: &str, name: &str| {
        let at = line.find(&format!("\"{name}\":\"")).unwrap() + name.len() + 4;
        line[at..].split('"').next().unwrap().to_owned()
    };
    let forged = line.replace(&field(&line, "pop"), &field(&theirs, "pop"));
    thief.replace_last(forged.into_bytes());
    let Reply::Reject(reject) = mirror.gateway.send(&thief, 5, 6).await else { panic!("taken") };
    assert_eq!((reject.code(), reject.seq), (Code::Invalid, 5));
    assert!(reject.detail.contains("proves nothing"), "{}", reject.detail);
}

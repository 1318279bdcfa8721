//! The engine by itself. What it finds in which journal is in the vectors; see `tests/verifiers`.

use super::*;
use crate::chain::ChainChecker;
use crate::entry::Envelope;
use crate::record::{Heartbeat, Record};
use crate::{Leaf, LogKey, Origin, Position, Stamp};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn genesis() -> Record {
    use crate::record::{ALG, Base64, Genesis};
    let genesis = Genesis {
        domain: "cortex.example".to_owned(),
        node: "n1".to_owned(),
        tenant: "default".to_owned(),
        enroll: None,
        key: Base64(crate::key::public_key(&[1; 32]).as_bytes().to_vec()),
        nonce: "ab".repeat(32),
        alg: ALG.to_owned(),
        agent: "0.1.0".to_owned(),
        pred: None,
    };
    genesis.into()
}

fn journal(size: u64) -> Vec<Vec<u8>> {
    let boot = "0d9dcf7e-2f0b-4c5e-8a40-5a3c1e8f7b21".to_owned();
    let mut stamp = Stamp { unix_us: 1_795_440_602_500_000, mono_us: 0, boot };
    let (mut next, mut bodies) = (Position::GENESIS, Vec::new());
    for seq in 0..size {
        let beat =
            Heartbeat { open_intents: 0, unacked: seq, skew_ms: None, free_mb: 1, cosigned: 0 };
        let record = if seq == 0 { genesis() } else { beat.into() };
        let body = Envelope::encode(next, record.kind(), &stamp, record.to_value()).unwrap();
        let leaf = Leaf::of(&body);
        next = Position { log: if seq == 0 { leaf } else { next.log }, seq: seq + 1, prev: leaf };
        stamp.mono_us += 1;
        bodies.push(body);
    }
    bodies
}

fn source(bodies: Vec<Vec<u8>>) -> Source<'static> {
    Source {
        records: Box::new(Bodies::new(bodies.into_iter().map(Ok))),
        openings: None,
        checkpoints: Vec::new(),
        head: None,
        frontier: None,
    }
}

/// A policy that wants nobody's cosignature, and the signed note of a journal.
fn anchored(bodies: &[Vec<u8>]) -> (Trust, Vec<u8>) {
    let log = Leaf::of(&bodies[0]);
    let origin = Origin::new("cortex.example", "n1", log).unwrap().to_string();
    let key = LogKey::from_seed(&[1; 32], &origin).unwrap();
    let mut frontier = crate::Frontier::new();
    bodies.iter().for_each(|body| frontier.push(Leaf::of(body)));
    let checkpoint = crate::Checkpoint { origin, size: frontier.size(), root: frontier.root() };
    let policy = format!("log {}\nquorum none\n", key.verifier());
    let policy = Some(Policy::parse(policy.as_bytes()).unwrap());
    (Trust { policy, ..Trust::default() }, checkpoint.sign(&key).unwrap().to_string().into_bytes())
}

#[test]
fn nothing_is_verified_without_a_policy_or_without_a_source() {
    let report = verify(vec![source(journal(3))], &Trust::default());
    assert_eq!(report.verdict, Verdict::Unanchored);
    assert_eq!(verify(Vec::new(), &Trust::default()).verdict, Verdict::Unreadable);
}

#[test]
fn an_input_error_is_reported_as_such_and_nothing_is_concluded() {
    let bodies = journal(4);
    let (trust, note) = anchored(&bodies);
    let broken = bodies[..3].iter().cloned().map(Ok).chain([Err(Unreadable("EIO".to_owned()))]);
    let records = Box::new(Bodies::new(broken.collect::<Vec<_>>()));
    let report =
        verify(vec![Source { records, checkpoints: vec![note], ..source(Vec::new()) }], &trust);
    assert_eq!((report.verdict, report.verdict.exit()), (Verdict::Unreadable, 8));
    assert_eq!(report.sources[0].integrity, Word::Unknown);
}

#[test]
fn every_flipped_bit_of_records_and_note_is_found() {
    let bodies = journal(4);
    let (trust, note) = anchored(&bodies);
    let whole = |bodies: &[Vec<u8>], note: &[u8]| {
        let source = Source { checkpoints: vec![note.to_vec()], ..source(bodies.to_vec()) };
        verify(vec![source], &trust).verdict
    };
    assert_eq!(whole(&bodies, &note), Verdict::Verified);
    for index in 0..bodies.len() {
        for at in 0..bodies[index].len() {
            let mut bodies = bodies.clone();
            bodies[index][at] ^= 1 << (at % 8);
            assert_ne!(whole(&bodies, &note), Verdict::Verified, "record {index} byte {at}");
        }
    }
    for at in 0..note.len() {
        let mut note = note.clone();
        note[at] ^= 1 << (at % 8);
        assert_ne!(whole(&bodies, &note), Verdict::Verified, "note byte {at}");
    }
}

#[test]
fn lines_longer_than_the_limit_are_cut_and_the_next_is_found() {
    let text = [vec![b'x'; 3 * 1024 * 1024], b"\nnext\nlast".to_vec()].concat();
    let mut lines = Text::new(text.as_slice());
    let line = lines.next_line().unwrap().unwrap();
    assert_eq!((line.bytes.len(), line.ended), (1024 * 1024, true));
    assert_eq!(lines.next_line().unwrap().unwrap().bytes, b"next");
    let last = lines.next_line().unwrap().unwrap();
    assert_eq!((last.bytes, last.ended), (b"last".as_slice(), false));
    assert!(lines.next_line().unwrap().is_none());
}

#[test]
fn codes_are_told_apart_and_each_leads_to_a_failing_exit() {
    let words: BTreeSet<&str> = Code::ALL.iter().map(|code| code.word()).collect();
    assert_eq!(words.len(), Code::ALL.len());
    assert!(Code::ALL.iter().all(|code| code.verdict().exit() != 0 && !code.why().is_empty()));
}

#[test]
fn the_format_document_names_every_code() {
    let document = include_str!("../../../../docs/journal-format.md");
    for code in Code::ALL {
        let named = document.contains(&format!("`{code}`"));
        let family = code.word().split('.').next().unwrap_or_default();
        assert!(named || document.contains(&format!("`{family}.{code}`")), "{code}");
    }
}

proptest! {
    #[test]
    fn a_changed_record_is_judged_as_the_chain_checker_judges_it(
        index in 0usize..4, at in 0usize..400, byte in any::<u8>()
    ) {
        let mut bodies = journal(4);
        let at = at % bodies[index].len();
        bodies[index][at] = byte;
        let mut checker = ChainChecker::new();
        let faulty = bodies.iter().any(|body| checker.push(body).is_err());
        let report = verify(vec![source(bodies)], &Trust::default());
        // The engine reads more of genesis than the checker, so it may find more.
        prop_assert!(!faulty || report.sources[0].integrity == Word::Invalid);
        if index > 0 {
            prop_assert_eq!(faulty, report.sources[0].integrity == Word::Invalid);
        }
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[a-z0-9+— \n=/.]{0,200}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            if let Ok(note) = SignedNote::parse(bytes) {
                prop_assert_eq!(note.to_string().into_bytes(), bytes);
            }
            drop(Policy::parse(bytes));
            drop(crate::TlogProof::parse(bytes));
            let text = Source {
                records: Box::new(Text::new(bytes)),
                openings: Some(Box::new(Text::new(bytes))),
                checkpoints: vec![bytes.to_vec()],
                head: None,
                frontier: Some(bytes.to_vec()),
            };
            prop_assert_ne!(verify(vec![text], &Trust::default()).verdict, Verdict::Verified);
        }
    }
}

//! The format against the specification's vector, against the SD-JWT standard's, and against damage.

use crate::canonical::{self, Value};
use crate::chain::{ChainChecker, ChainFault};
use crate::commitment::{Commitment, Opening};
use crate::entry::{Envelope, FORMAT, FormatError, Position};
use crate::key::public_key;
use crate::leaf::Leaf;
use crate::record::{
    ALG, Actor, Auth, Base64, Decimal, Genesis, Intent, Outcome, Record, SessionClose, Status,
};
use crate::stamp::{Stamp, parse_rfc3339, rfc3339};
use proptest::prelude::*;

fn stamp(n: u64) -> Stamp {
    Stamp {
        unix_us: 1_795_440_602_500_000 + n,
        mono_us: n,
        boot: "0d9dcf7e-2f0b-4c5e-8a40-5a3c1e8f7b21".to_owned(),
    }
}

fn intent(cmd: &str) -> Intent {
    Intent {
        cmd: cmd.to_owned(),
        workspace: "default".to_owned(),
        fence: Decimal(u64::MAX),
        incarnation: "00".repeat(16),
        run: None,
        step: None,
        trace: None,
        span: None,
        actor: Actor::unknown(),
        auth: Auth {
            decision: "allow".to_owned(),
            policy: "cd".repeat(32),
            rule: Some("echo".to_owned()),
            approval: None,
            dispatch: None,
            floor: None,
        },
        op: "echo".to_owned(),
        exec: None,
        target: None,
    }
}

/// A small journal: genesis, session, intent, outcome, intent.
fn journal() -> Vec<Vec<u8>> {
    let genesis = Genesis {
        domain: "cortex.example".to_owned(),
        node: "n1".to_owned(),
        tenant: "default".to_owned(),
        enroll: None,
        key: Base64(public_key(&[1; 32]).as_bytes().to_vec()),
        nonce: "ab".repeat(32),
        alg: ALG.to_owned(),
        agent: "0.1.0".to_owned(),
        pred: None,
    };
    let session = SessionClose { session: "s1".to_owned(), clean: true, cosigned: 0 };
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    let mut next = Position::GENESIS;
    let mut push = |record: Record| {
        let (kind, data) = (record.kind(), record.to_value());
        let body = Envelope::encode(next, kind, &stamp(next.seq), data).unwrap();
        let leaf = Leaf::of(&body);
        let log = if next.seq == 0 { leaf } else { next.log };
        next = Position { log, seq: next.seq + 1, prev: leaf };
        bodies.push(body);
        leaf
    };
    push(genesis.into());
    push(session.into());
    let hash = push(intent("t1/1").into());
    push(Outcome::new("t1/1".to_owned(), 2, hash, Status::Exited).into());
    push(intent("t2/1").into());
    bodies
}

fn check(bodies: &[Vec<u8>]) -> Result<ChainChecker, ChainFault> {
    let mut checker = ChainChecker::new();
    for body in bodies {
        checker.push(body).map_err(|err| err.why)?;
    }
    Ok(checker)
}

#[test]
fn the_specifications_record_has_the_specified_leaf_and_is_canonical() {
    let body = br#"{"boot":"b1","data":{"cmd":"c1","dur_us":1500000,"exit_code":0,"intent":2,"intent_hash":"ea389ce0041944df17eb813227f023e3d15fe20276c026cb9c1c70cfbc170958","status":"exited","stdout":{"$c":"s2YJcNh1ACU1phsSCM5gdlQPINIEjOZc4RXtygCTOwE"}},"kind":"outcome","log":"b00459f4f810eea4976b6241f2e12c0aafeee9181f188cfed2482d21adca2851","mono":3500000,"prev":"ea389ce0041944df17eb813227f023e3d15fe20276c026cb9c1c70cfbc170958","seq":3,"t":"2026-11-23T13:00:02.500000Z","v":"cortex-audit/1"}"#;
    assert_eq!(
        Leaf::of(body).to_string(),
        "41c8c5432cf231561d0832bd015941e63aa3e102d8d0c29aaaddd19036abd858"
    );
    assert_eq!(canonical::parse(body).unwrap().to_bytes().unwrap(), body);
    let refused = Envelope::parse(body).unwrap_err();
    // The vector's ids are shortened.
    assert_eq!(refused, FormatError::Field("boot"));
}

#[test]
fn the_sd_jwt_standards_disclosure_has_its_digest() {
    let opening = Opening::from_stored(
        "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0",
    );
    assert_eq!(opening.commitment().as_str(), "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0");
}

#[test]
fn a_commitment_opens_to_what_was_committed_and_differs_by_salt() {
    let value = Value::List(vec![Value::from("ls"), Value::bytes(&[0xff])]);
    let (commitment, opening) = Commitment::new([7; 16], "argv", value.clone()).unwrap();
    assert_eq!(opening.commitment(), commitment);
    assert_eq!(opening.reveal(), Some(("argv".to_owned(), value.clone())));
    assert_eq!(Commitment::from_value(&commitment.to_value()), Some(commitment.clone()));
    let (other, _) = Commitment::new([8; 16], "argv", value).unwrap();
    assert_ne!(other, commitment);
}

#[test]
fn wall_clock_is_written_with_six_decimals() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(rfc3339(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
    assert_eq!(rfc3339(1_795_438_802_500_000), "2026-11-23T13:00:02.500000Z");
    assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999999Z");
    for at in [0, 951_782_400_000_001, 1_795_438_802_500_000, 253_402_300_799_999_999] {
        assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
    }
    for text in [
        "2026-11-23T13:00:02.5Z",
        "2026-11-31T13:00:02.500000Z",
        "2027-02-29T00:00:00.000000Z",
        "2100-02-29T00:00:00.000000Z",
        "2026-00-01T00:00:00.000000Z",
        "2026-13-01T00:00:00.000000Z",
        "2026-01-00T00:00:00.000000Z",
        "2026-01-01T24:00:00.000000Z",
        "2026-01-01T00:60:00.000000Z",
        "2016-12-31T23:59:60.000000Z",
        "1969-12-31T23:59:59.000000Z",
        "2026-01-01t00:00:00.000000Z",
        "2026-01-01T00:00:00.000000z",
        "+026-01-01T00:00:00.000000Z",
    ] {
        assert_eq!(parse_rfc3339(text), None, "{text}");
    }
}

#[test]
fn only_the_bytes_that_would_be_written_are_accepted() {
    let refused = [
        "",
        " {}",
        "{} ",
        "{ }",
        "[1, 2]",
        "1.0",
        "1e3",
        "-0",
        "01",
        "-",
        "9007199254740992",
        "-9007199254740992",
        "tru",
        "nul",
        "\"a",
        "\"\u{1}\"",
        "\"\\u0041\"",
        "\"\\u000A\"",
        "\"\\u000a\"",
        "\"\\/\"",
        "{\"b\":1,\"a\":1}",
        "{\"a\":1,\"a\":1}",
        "{\"A\":1}",
        "{\"\":1}",
        "{\"a\":1,}",
        "[1,]",
        "[[[[[[[[[]]]]]]]]]",
        "\u{feff}{}",
        "{\"a\"}",
    ];
    for text in refused {
        assert!(canonical::parse(text.as_bytes()).is_err(), "{text:?} was accepted");
    }
    assert!(canonical::parse(b"\"\xff\"").is_err());
    let accepted = [
        "{}",
        "[]",
        "\"\u{7f}\u{2028}\\b\\t\\n\\f\\r\\\"\\\\\\u0000\\u001f\"",
        "0",
        "-1",
        "9007199254740991",
        "{\"$c\":\"x\",\"a.b_1\":[null,true,false]}",
        "[[[[[[[[]]]]]]]]",
    ];
    for text in accepted {
        let value = canonical::parse(text.as_bytes()).unwrap();
        assert_eq!(value.to_bytes().unwrap(), text.as_bytes());
    }
}

#[test]
fn values_outside_the_profile_are_not_written() {
    assert!(Value::Int(canonical::MAX_INT).to_bytes().is_err());
    assert!(Value::map([("Upper", Value::Null)]).to_bytes().is_err());
    let deep = (0..=canonical::MAX_DEPTH).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert!(deep.to_bytes().is_err());
    let huge = Value::map([("a", Value::from("x".repeat(70_000)))]);
    let refused = Envelope::encode(Position::GENESIS, "x", &stamp(0), huge).unwrap_err();
    assert!(matches!(refused, FormatError::TooLarge(_)));
}

#[test]
fn a_journal_verifies_and_shows_its_open_intents() {
    let bodies = journal();
    let checker = check(&bodies).unwrap();
    let head = checker.head().unwrap();
    assert_eq!((head.size, head.leaf), (5, Leaf::of(&bodies[4])));
    assert_eq!(head.log, Leaf::of(&bodies[0]));
    assert_eq!(head.incarnation(), head.log.to_string()[..32]);
    assert_eq!(checker.open().keys().copied().collect::<Vec<_>>(), [4]);
    assert!(String::from_utf8(bodies[4].clone()).unwrap().contains(FORMAT));
}

#[test]
fn damage_of_every_kind_is_found_at_its_place() {
    let good = journal();
    let damaged = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut bodies = good.clone();
        change(&mut bodies);
        check(&bodies).unwrap_err()
    };
    assert_eq!(damaged(&|b| drop(b.remove(1))), ChainFault::Seq(2));
    assert_eq!(damaged(&|b| b.swap(1, 2)), ChainFault::Seq(2));
    assert_eq!(damaged(&|b| b.insert(1, b[1].clone())), ChainFault::Seq(1));
    assert_eq!(damaged(&|b| drop(b.remove(0))), ChainFault::Seq(1));
    let edit = |body: &[u8], from: &str, to: &str| {
        String::from_utf8(body.to_vec()).unwrap().replacen(from, to, 1).into_bytes()
    };
    assert_eq!(damaged(&|b| b[1] = edit(&b[1], "s1", "s2")), ChainFault::Prev);
    assert!(matches!(
        damaged(&|b| b[1] = edit(&b[1], "\"kind\":\"session.close\"", "\"kind\":\"genesis\"")),
        ChainFault::Kind(_)
    ));
    assert_eq!(
        damaged(&|b| b[3] = edit(&b[3], "\"intent\":2", "\"intent\":1")),
        ChainFault::NoIntent
    );
    assert!(matches!(
        damaged(&|b| b[3] = edit(&b[3], "\"boot\"", "\"bood\"")),
        ChainFault::Format(FormatError::Field("boot"))
    ));
    assert!(matches!(
        damaged(&|b| b[3] = edit(&b[3], "{\"boot\"", "{\"a\":1,\"boot\"")),
        ChainFault::Format(FormatError::Field("(unknown)"))
    ));
    assert!(matches!(damaged(&|b| b[2].push(b'\n')), ChainFault::Format(_)));
}

#[test]
fn every_flipped_bit_of_a_journal_is_found() {
    let good = journal();
    let end = check(&good).unwrap().head();
    for index in 0..good.len() {
        for at in 0..good[index].len() {
            let mut bodies = good.clone();
            bodies[index][at] ^= 1;
            let found = check(&bodies).map(|checker| checker.head());
            assert!(found.is_err() || found.ok() != Some(end), "entry {index} byte {at}");
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (1 - canonical::MAX_INT..canonical::MAX_INT).prop_map(Value::Int),
        any::<String>().prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::btree_map("[a-z0-9_.$]{1,8}", inner, 0..6).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn writing_and_reading_give_the_same_value_and_agree_with_serde(value in any_value()) {
        let bytes = value.to_bytes().unwrap();
        prop_assert_eq!(canonical::parse(&bytes).unwrap(), value);
        let other: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(serde_json::to_vec(&other).unwrap(), bytes);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = canonical::parse(&bytes) {
            prop_assert_eq!(value.to_bytes().unwrap(), bytes);
        }
    }
}

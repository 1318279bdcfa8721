//! Attacks on what stands beside the records: openings, the frontier of a pruned journal, proofs of single records.

use crate::bytes::flip;
use crate::disk::{Bundle, Case};
use crate::good::pruned;
use crate::log::*;
use cortex_audit::{TlogProof, Value};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = openings();
    cases.extend(frontiers());
    cases.extend(proofs());
    cases
}

fn openings() -> Vec<Case> {
    let log = Log::small();
    let good = String::from_utf8(log.openings_text()).unwrap();
    let with = |name: &str, text: String| {
        let bundle = Bundle { openings: Some(text.into_bytes()), ..Bundle::of(&log, &[5]) };
        Case::new(name, &log, vec![bundle])
    };
    let first = log.openings[0].1.as_str();
    let mut other = first.to_owned();
    other.replace_range(10..11, if &other[10..11] == "A" { "B" } else { "A" });
    let (_, guess) = cortex_audit::Commitment::new(
        [0; 16],
        "argv",
        Value::List(vec![Value::from("ls"), Value::from("-l")]),
    )
    .unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let missing = |name: &str, text: Option<String>| {
        let openings = text.map(String::into_bytes);
        let bundle = Bundle { openings, ..Bundle::of(&log, &[5]) };
        let mut case = Case::new(name, &log, vec![bundle]).expect(6, "openings", Some(2));
        case.require_openings = true;
        case
    };
    vec![
        with("opening-altered", good.replacen(first, &other, 1)).expect(1, "opening", Some(2)),
        with("opening-with-another-salt", format!("2 {}\n", guess.as_str())).expect(
            1,
            "opening",
            Some(2),
        ),
        with("opening-of-another-record", good.replacen("2 ", "1 ", 1)).expect(
            1,
            "opening",
            Some(1),
        ),
        with("opening-beyond-the-end", format!("{good}9 {first}\n")).expect(1, "opening", Some(9)),
        with("openings-out-of-order", format!("{}\n{}\n", lines[3], lines[0])).expect(
            1,
            "opening",
            Some(2),
        ),
        with("opening-malformed", format!("2 {first}=\n")).expect(1, "opening", None),
        with("opening-without-newline", good.trim_end().to_owned()).expect(1, "opening", None),
        with("opening-with-a-number-in-another-spelling", format!("02 {first}\n"))
            .expect(1, "opening", None),
        missing("openings-required-and-none-there", None),
        missing(
            "openings-required-and-one-missing",
            Some(good.lines().skip(1).map(|l| format!("{l}\n")).collect()),
        ),
    ]
}

fn frontiers() -> Vec<Case> {
    let log = Log::small();
    let edit = |name: &str, start: u64, from: &str, to: &str| {
        let mut bundle = pruned(&log, start);
        let text = String::from_utf8(bundle.frontier.take().unwrap()).unwrap();
        assert!(text.contains(from), "{name}");
        bundle.frontier = Some(text.replacen(from, to, 1).into_bytes());
        Case::new(name, &log, vec![bundle])
    };
    let leaf = |seq: u64| log.leaf(seq).to_string();
    let mut without = pruned(&log, 3);
    without.checkpoints.remove(0);
    let mut unsigned = pruned(&log, 3);
    unsigned.checkpoints[0] = log.signed(3).to_string().into_bytes();
    let mut none = pruned(&log, 3);
    none.checkpoints.clear();
    let hash = log.frontier(3).hashes()[0].to_base64();
    vec![
        edit("frontier-with-another-hash", 3, &hash, &log.root(5).to_base64()).expect(
            1,
            "root",
            Some(2),
        ),
        edit("frontier-with-another-leaf", 3, &leaf(2), &leaf(1)).expect(1, "frontier", None),
        edit("frontier-with-another-leaf-inside", 4, &leaf(3), &leaf(1)).expect(
            1,
            "record.prev",
            Some(4),
        ),
        edit("frontier-of-another-size", 3, "\"size\":3", "\"size\":7").expect(1, "frontier", None),
        edit("frontier-with-a-fourth-key", 3, "\"size\":3", "\"size\":3,\"x\":0")
            .expect(1, "frontier", None),
        edit("frontier-not-canonical", 3, "\"size\":3", "\"size\": 3").expect(1, "frontier", None),
        Case::new("pruned-without-its-checkpoint", &log, vec![without]).expect(6, "pruned", None),
        Case::new("pruned-with-a-checkpoint-that-nobody-cosigned", &log, vec![unsigned])
            .expect(3, "pruned", None),
        Case::new("pruned-without-any-checkpoint", &log, vec![none]).expect(3, "pruned", None),
    ]
}

fn proofs() -> Vec<Case> {
    let log = Log::small();
    let case = |name: &str, record: &[u8], proof: String| {
        let mut case = Case::new(name, &log, Vec::new());
        case.proof = Some((record.to_vec(), proof.into_bytes()));
        case
    };
    let good = log.proof(3, 5);
    let with = |change: &dyn Fn(&mut TlogProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        proof.to_string()
    };
    let record = &log.bodies[3];
    let mut altered = record.clone();
    flip(&mut altered, "500000");
    let mut stranger = Log::new("n2");
    for _ in 0..4 {
        stranger.add(heartbeat());
    }
    let mut anybody =
        case("proof-without-policy", record, good.to_string()).expect(3, "policy.none", None);
    anybody.policy = None;
    let text = good.to_string();
    vec![
        case("proof-of-an-altered-record", &altered, text.clone()).expect(1, "proof", Some(3)),
        case("proof-of-the-neighbour", &log.bodies[2], text.clone()).expect(
            1,
            "record.seq",
            Some(3),
        ),
        case("proof-of-another-journals-record", &stranger.bodies[3], text.clone()).expect(
            1,
            "record.log",
            Some(3),
        ),
        case("proof-with-another-hash", record, with(&|p| p.hashes[1] = log.root(1))).expect(
            1,
            "proof",
            Some(3),
        ),
        case("proof-with-swapped-hashes", record, with(&|p| p.hashes.swap(0, 1))).expect(
            1,
            "proof",
            Some(3),
        ),
        case("proof-with-a-missing-hash", record, with(&|p| p.hashes.truncate(1))).expect(
            1,
            "proof",
            Some(3),
        ),
        case("proof-with-a-hash-too-many", record, with(&|p| p.hashes.push(log.root(1)))).expect(
            1,
            "proof",
            Some(3),
        ),
        case("proof-beyond-the-end", record, with(&|p| p.index = 7)).expect(
            1,
            "record.seq",
            Some(7),
        ),
        case(
            "proof-with-an-unsigned-extra-line",
            record,
            text.replacen("index", "extra QQ==\nindex", 1),
        )
        .expect(1, "proof", None),
        case("proof-with-a-leading-zero", record, text.replacen("index 3", "index 03", 1))
            .expect(1, "proof", None),
        case("proof-cut", record, text[..text.len() / 3].to_owned()).expect(1, "proof", None),
        case("proof-under-a-stripped-note", record, with(&|p| p.note = log.signed(5))).expect(
            3,
            "note.quorum",
            None,
        ),
        anybody,
    ]
}

//! Attacks on checkpoints and cosignatures, forks and rollbacks.

use crate::disk::{Bundle, Case};
use crate::log::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cortex_audit::{CosignerKey, LogKey, SignedNote};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = signatures();
    cases.extend(malformed());
    cases.extend(histories());
    cases.extend(copies());
    cases
}

pub(crate) fn bytes(note: &SignedNote) -> Vec<u8> {
    note.to_string().into_bytes()
}

fn with_note(name: &str, log: &Log, note: Vec<u8>) -> Case {
    Case::new(name, log, vec![Bundle { checkpoints: vec![note], ..Bundle::of(log, &[]) }])
}

/// The base64 of the n-th signature line, changed.
fn resigned(note: &str, line: usize, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut lines: Vec<String> = note.lines().map(str::to_owned).collect();
    let at = 4 + line;
    let (head, signature) = lines[at].rsplit_once(' ').unwrap();
    let mut raw = STANDARD.decode(signature).unwrap();
    change(&mut raw);
    lines[at] = format!("{head} {}", STANDARD.encode(raw));
    (lines.join("\n") + "\n").into_bytes()
}

fn add_group_order(scalar: &mut [u8]) {
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    for (byte, add) in scalar.iter_mut().zip(order) {
        let sum = u16::from(*byte) + add + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
}

fn signatures() -> Vec<Case> {
    let log = Log::small();
    let note = log.note(5).to_string();
    let case = |name: &str, note: Vec<u8>| with_note(name, &log, note);
    let thief = LogKey::from_seed(&[66; 32], &log.origin).unwrap();
    let mut forged = log.checkpoint(5).sign(&thief).unwrap();
    forged.cosign(&mirror(), START_S).unwrap();
    let id = log.key().verifier().id();
    let mirror_id = mirror().verifier().id();
    let forged_id = resigned(&forged.to_string(), 0, |raw| raw[..4].copy_from_slice(&id));
    let no_log: String = note
        .lines()
        .filter(|line| !line.starts_with("— cortex.example/audit"))
        .map(|l| format!("{l}\n"))
        .collect();
    let no_mirror = bytes(&log.signed(5));
    let fake = CosignerKey::from_seed(&[99; 32], mirror().verifier().name()).unwrap();
    let mut fake_mirror = log.signed(5);
    fake_mirror.cosign(&fake, START_S).unwrap();
    let fake_mirror = fake_mirror.to_string();
    let mut moved = Log::small();
    moved.add(heartbeat());
    let (five, six) = (log.note(5).to_string(), moved.note(6).to_string());
    let line = |note: &str, n: usize| note.lines().nth(4 + n).unwrap().to_owned() + "\n";
    let bare = |note: &str| note.split("\n\n").next().unwrap().to_owned() + "\n\n";
    let older = bare(&five) + &line(&five, 0) + &line(&six, 1);
    let as_log = LogKey::from_seed(&MIRROR_SEED, &log.origin).unwrap();
    let by_mirror = bytes(&log.checkpoint(5).sign(&as_log).unwrap());
    vec![
        case("checkpoint-by-another-key", bytes(&forged)).expect(3, "note.unsigned", None),
        case("checkpoint-by-another-key-under-the-right-id", forged_id).expect(
            3,
            "note.false",
            None,
        ),
        case("checkpoint-signed-with-the-mirrors-key", by_mirror).expect(3, "note.unsigned", None),
        case("size-line-edited", note.replacen("\n5\n", "\n4\n", 1).into_bytes()).expect(
            3,
            "note.false",
            None,
        ),
        case("size-line-edited-upwards", note.replacen("\n5\n", "\n50\n", 1).into_bytes()).expect(
            3,
            "note.false",
            None,
        ),
        case(
            "root-line-edited",
            note.replacen(&log.root(5).to_base64(), &log.root(4).to_base64(), 1).into_bytes(),
        )
        .expect(3, "note.false", None),
        case("origin-line-edited", note.replacen("/audit/n1/", "/audit/n2/", 1).into_bytes())
            .expect(3, "note.origin", None),
        case("signature-bit-flipped", resigned(&note, 0, |raw| raw[20] ^= 1)).expect(
            3,
            "note.false",
            None,
        ),
        case("signature-cut", resigned(&note, 0, |raw| raw.truncate(60))).expect(
            3,
            "note.false",
            None,
        ),
        case("signature-with-another-byte-behind", resigned(&note, 0, |raw| raw.push(0))).expect(
            3,
            "note.false",
            None,
        ),
        case(
            "signature-of-a-second-spelling",
            resigned(&note, 0, |raw| add_group_order(&mut raw[36..])),
        )
        .expect(3, "note.false", None),
        case("signature-of-zeros", resigned(&note, 0, |raw| raw[4..].fill(0))).expect(
            3,
            "note.false",
            None,
        ),
        case("log-signature-stripped", no_log.into_bytes()).expect(3, "note.unsigned", None),
        case("cosignature-stripped", no_mirror).expect(3, "note.quorum", None),
        case("all-signatures-stripped", bare(&note).into_bytes()).expect(3, "note.malformed", None),
        case("cosignature-by-another-key", fake_mirror.clone().into_bytes()).expect(
            3,
            "note.quorum",
            None,
        ),
        case(
            "cosignature-by-another-key-under-the-right-id",
            resigned(&fake_mirror, 1, |raw| raw[..4].copy_from_slice(&mirror_id)),
        )
        .expect(3, "note.false", None),
        case("cosignature-with-another-time", resigned(&note, 1, |raw| raw[11] ^= 1)).expect(
            3,
            "note.false",
            None,
        ),
        case("cosignature-of-another-checkpoint", older.into_bytes()).expect(3, "note.false", None),
        case("second-cosignature-is-false", (note.clone() + &line(&six, 1)).into_bytes()).expect(
            3,
            "note.false",
            None,
        ),
        case("second-log-signature-is-false", (note.clone() + &line(&six, 0)).into_bytes()).expect(
            3,
            "note.false",
            None,
        ),
    ]
}

fn malformed() -> Vec<Case> {
    let log = Log::small();
    let note = log.note(5).to_string();
    let root = log.root(5).to_base64();
    let case = |name: &str, note: String| {
        with_note(name, &log, note.into_bytes()).expect(3, "note.malformed", None)
    };
    let mut many = log.note(5);
    for seed in 100..114 {
        many.cosign(&cosigner(seed, &format!("stranger{seed}")), START_S).unwrap();
    }
    let many = many.to_string();
    let seventeenth = many.clone() + many.lines().last().unwrap() + "\n";
    // The last character of a root carries two bits that must be zero.
    let mut loose = root.clone();
    loose.replace_range(42..43, if &root[42..43] == "B" { "C" } else { "B" });
    vec![
        case("note-with-seventeen-signatures", seventeenth),
        case("note-with-carriage-returns", note.replace('\n', "\r\n")),
        case("note-without-final-newline", note.trim_end().to_owned()),
        case("note-with-an-empty-line-behind", note.clone() + "\n"),
        case("note-without-blank-line", note.replacen("\n\n", "\n", 1)),
        case("note-with-an-extension-line", note.replacen("\n\n", "\nextension\n\n", 1)),
        case("note-with-a-leading-zero", note.replacen("\n5\n", "\n05\n", 1)),
        case("note-with-a-negative-size", note.replacen("\n5\n", "\n-5\n", 1)),
        case(
            "note-with-a-size-of-two-to-the-53",
            note.replacen("\n5\n", "\n9007199254740992\n", 1),
        ),
        case("note-with-a-size-in-digits-beyond-ascii", note.replacen("\n5\n", "\n\u{665}\n", 1)),
        case("note-without-root", note.replacen(&format!("{root}\n"), "", 1)),
        case("note-with-a-root-of-31-bytes", note.replacen(&root, &STANDARD.encode([1; 31]), 1)),
        case(
            "note-with-a-root-in-base64url",
            note.replacen(&root, &root.replace('/', "_").replace('+', "-").replace('=', ""), 1),
        ),
        case("note-with-loose-bits-in-the-root", note.replacen(&root, &loose, 1)),
        case("note-with-a-hyphen-for-the-dash", note.replacen("— ", "- ", 1)),
        case("note-with-two-spaces", note.replacen("— cortex", "—  cortex", 1)),
        case("note-with-a-tab", note.replacen("n1/", "n1\t/", 1)),
        case("note-with-a-zero-byte", note.clone() + "\u{0}"),
        case("note-with-a-signature-of-four-bytes", note.clone() + "— x AAAAAA==\n"),
        case("note-with-a-signature-that-is-no-base64", note.clone() + "— x A*AA\n"),
        case("note-is-empty", String::new()),
        with_note("note-is-not-utf-8", &log, [note.as_bytes(), b"\xff\n"].concat()).expect(
            3,
            "note.malformed",
            None,
        ),
    ]
}

/// A journal that goes another way behind `common` records, with the same key.
fn twin(log: &Log, common: usize, size: u64) -> Log {
    let mut twin = log.clone();
    twin.bodies.truncate(common);
    twin.leaves.truncate(common);
    twin.next = cortex_audit::Position {
        log: log.next.log,
        seq: common as u64,
        prev: twin.leaves[common - 1],
    };
    while twin.size() < size {
        let at = twin.size();
        twin.stamp.mono_us += 1;
        let mut heartbeat = heartbeat();
        heartbeat.unacked = 1000 + at;
        twin.add(heartbeat);
    }
    twin
}

fn histories() -> Vec<Case> {
    let log = Log::small();
    let other = twin(&log, 3, 5);
    let long = twin(&log, 3, 9);
    let case = |name: &str, notes: &[SignedNote]| {
        let checkpoints = notes.iter().map(bytes).collect();
        Case::new(name, &log, vec![Bundle { checkpoints, ..Bundle::of(&log, &[]) }])
    };
    let since = |name: &str, sizes: &[u64], note: Vec<u8>| {
        let mut case = Case::new(name, &log, vec![Bundle::of(&log, sizes)]);
        case.since = vec![note];
        case
    };
    let mut server = Bundle::of(&log, &[3]);
    server.records = vec![other.text()];
    vec![
        case("two-checkpoints-of-one-size", &[log.note(5), other.note(5)]).expect(
            4,
            "fork",
            Some(4),
        ),
        case("smaller-checkpoint-of-another-history", &[other.note(4), log.note(5)]).expect(
            4,
            "fork",
            Some(3),
        ),
        case("larger-checkpoint-of-another-history", &[log.note(3), other.note(5)]).expect(
            1,
            "root",
            Some(4),
        ),
        case(
            "two-checkpoints-of-one-size-beyond-the-end",
            &[log.note(5), long.note(9), twin(&long, 7, 9).note(9)],
        )
        .expect(4, "fork", Some(8)),
        case("checkpoint-beyond-the-end", &[log.note(5), long.note(9)]).expect(
            5,
            "truncated",
            Some(5),
        ),
        since("seen-before-and-of-another-history", &[5], bytes(&other.signed(4))).expect(
            4,
            "fork",
            Some(3),
        ),
        since("seen-before-and-of-the-same-size", &[5], bytes(&other.signed(5))).expect(
            4,
            "fork",
            Some(4),
        ),
        since("seen-before-and-above-the-newest-checkpoint", &[3], bytes(&other.signed(5))).expect(
            1,
            "root",
            Some(4),
        ),
        since("seen-before-and-longer", &[5], bytes(&long.signed(9))).expect(
            5,
            "rollback",
            Some(5),
        ),
        since(
            "seen-before-and-not-signed-by-the-journal",
            &[5],
            bytes(
                &log.checkpoint(3)
                    .sign(&LogKey::from_seed(&[66; 32], &log.origin).unwrap())
                    .unwrap(),
            ),
        )
        .expect(3, "note.unsigned", None),
        since("seen-before-and-of-another-journal", &[5], bytes(&Log::new("n2").signed(1))).expect(
            3,
            "note.origin",
            None,
        ),
        Case::new(
            "records-changed-above-the-newest-checkpoint-and-head",
            &log,
            vec![Bundle { head: Some(bytes(&log.signed(5))), ..server }],
        )
        .expect(1, "root", Some(4)),
    ]
}

fn copies() -> Vec<Case> {
    let log = Log::small();
    let other = twin(&log, 3, 5);
    let stranger = Log::new("n2");
    let case = |name: &str, bundles: Vec<Bundle>| Case::new(name, &log, bundles);
    let mut damaged = Bundle::of(&log, &[5]);
    damaged.records = vec![text(&log.bodies[..4]), b"{}\n".to_vec()];
    let mut cut = Bundle::of(&log, &[5]);
    cut.records = vec![text(&log.bodies[..4])];
    vec![
        case("copies-of-two-histories", vec![Bundle::of(&log, &[5]), Bundle::of(&other, &[5])])
            .expect(4, "fork", Some(3)),
        case(
            "copy-changed-above-its-checkpoint",
            vec![Bundle::of(&log, &[5]), Bundle::of(&other, &[3])],
        )
        .expect(1, "differs", Some(3)),
        case(
            "copies-changed-and-the-first-has-no-checkpoint",
            vec![Bundle::of(&other, &[3]), Bundle::of(&log, &[5])],
        )
        .expect(1, "differs", Some(3)),
        case("copies-of-two-journals", vec![Bundle::of(&log, &[5]), Bundle::of(&stranger, &[1])])
            .expect(1, "differs", Some(0)),
        case("copy-that-is-damaged", vec![Bundle::of(&log, &[5]), damaged]).expect(
            1,
            "record.version",
            Some(4),
        ),
        case("copy-that-was-cut", vec![Bundle::of(&log, &[5]), cut]).expect(
            5,
            "truncated",
            Some(4),
        ),
    ]
}

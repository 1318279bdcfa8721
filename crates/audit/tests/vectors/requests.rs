//! Policies and other requests that cannot be answered or name the wrong people; changes of the key.

use crate::disk::{Bundle, Case};
use crate::log::*;
use crate::notes::bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cortex_audit::record::{Base64, KeyRotate};
use cortex_audit::{LogKey, SignedNote, key};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = requests();
    cases.extend(rotations());
    cases
}

fn requests() -> Vec<Case> {
    let log = Log::small();
    let case = |name: &str, policy: Option<String>| {
        let mut case = Case::new(name, &log, vec![Bundle::of(&log, &[5])]);
        case.policy = policy;
        case
    };
    let (own, mirror_key) = (log.key().verifier().to_string(), mirror().verifier().to_string());
    let thief = LogKey::from_seed(&[66; 32], &log.origin).unwrap();
    let stranger = cosigner(50, "m1");
    let witness = format!("witness m {mirror_key}\nquorum m\n");
    let usage = |name: &str, policy: String| {
        let mut case = case(name, Some(policy));
        case.exit = 2;
        case
    };
    let mut bundled =
        case("keys-and-policy-only-inside-the-bundle", None).expect(3, "policy.none", None);
    bundled.bundles[0].extra = vec![
        ("policy", log.policy().into_bytes()),
        ("keys/0.vkey", format!("{own}\n").into_bytes()),
        ("manifest.json", b"{\"verified\":true}\n".to_vec()),
    ];
    let mut none = case("no-checkpoint", Some(log.policy())).expect(3, "note.none", None);
    none.bundles[0].checkpoints.clear();
    let mut head =
        case("only-the-nodes-own-checkpoint", Some(log.policy())).expect(3, "note.none", None);
    head.bundles[0].checkpoints.clear();
    head.bundles[0].head = Some(bytes(&log.signed(5)));
    let mut since = case("checkpoint-seen-before-is-malformed", Some(log.policy()));
    since.since = vec![b"hello\n".to_vec()];
    since.exit = 2;
    let mut stale = case("newest-cosignature-too-old", Some(log.policy())).expect(6, "stale", None);
    stale.max_age = Some((START_S + 66, 60));
    let mut timeless =
        case("age-asked-for-and-nobody-cosigns", Some(format!("log {own}\nquorum none\n")))
            .expect(6, "stale", None);
    timeless.max_age = Some((START_S + 66, 60));
    let weak = "cortex.example/mirror/w+"; // An id that does not matter: the key comes first.
    vec![
        bundled,
        none,
        head,
        since,
        stale,
        timeless,
        case(
            "policy-without-this-journal",
            Some(format!("log {}\n{witness}", Log::new("n2").key().verifier())),
        )
        .expect(3, "log.unknown", None),
        case("policy-without-any-journal", Some(witness.clone())).expect(3, "log.unknown", None),
        case(
            "policy-with-another-key-of-this-journal",
            Some(format!("log {}\n{witness}", thief.verifier())),
        )
        .expect(3, "note.untrusted", None),
        case(
            "policy-with-another-mirror",
            Some(format!("log {own}\nwitness m {}\nquorum m\n", stranger.verifier())),
        )
        .expect(3, "note.quorum", None),
        case(
            "policy-that-wants-two",
            Some(format!(
                "log {own}\nwitness m {mirror_key}\nwitness n {}\ngroup g all m n\nquorum g\n",
                stranger.verifier()
            )),
        )
        .expect(3, "note.quorum", None),
        usage("policy-is-empty", String::new()),
        usage("policy-without-quorum", format!("log {own}\nwitness m {mirror_key}\n")),
        usage("policy-with-two-quorums", format!("{}quorum m\n", log.policy())),
        usage("policy-with-a-quorum-of-nobody", format!("log {own}\nquorum x\n")),
        usage(
            "policy-with-a-threshold-too-high",
            format!("log {own}\nwitness m {mirror_key}\ngroup g 2 m\nquorum g\n"),
        ),
        usage(
            "policy-with-a-threshold-of-zero",
            format!("log {own}\nwitness m {mirror_key}\ngroup g 0 m\nquorum g\n"),
        ),
        usage("policy-with-an-empty-group", format!("log {own}\ngroup g all\nquorum g\n")),
        usage(
            "policy-with-a-key-twice",
            format!("log {own}\nwitness m {mirror_key}\nwitness n {mirror_key}\nquorum m\n"),
        ),
        usage(
            "policy-with-a-name-twice",
            format!(
                "log {own}\nwitness m {mirror_key}\nwitness m {}\nquorum m\n",
                stranger.verifier()
            ),
        ),
        usage(
            "policy-with-a-member-of-two-groups",
            format!("log {own}\nwitness m {mirror_key}\ngroup g any m\ngroup h any m\nquorum g\n"),
        ),
        usage(
            "policy-with-a-member-twice-in-a-group",
            format!("log {own}\nwitness m {mirror_key}\ngroup g 2 m m\nquorum g\n"),
        ),
        usage("policy-with-a-witness-key-as-log", format!("log {mirror_key}\nquorum none\n")),
        usage("policy-with-a-log-key-as-witness", format!("witness m {own}\nquorum m\n")),
        usage(
            "policy-with-a-wrong-key-id",
            format!(
                "log {}\nquorum none\n",
                own.replacen('+', "+f", 1)
                    .replacen("+f", "+", 1)
                    .replace("+4", "+5")
                    .replace(&own[own.find('+').unwrap()..own.find('+').unwrap() + 9], "+00000000")
            ),
        ),
        usage("policy-with-an-unknown-word", format!("{}trust everybody\n", log.policy())),
        usage("policy-with-carriage-returns", log.policy().replace('\n', "\r\n")),
        usage("policy-without-final-newline", log.policy().trim_end().to_owned()),
        usage(
            "policy-with-a-name-called-none",
            format!("log {own}\nwitness none {mirror_key}\nquorum none\n"),
        ),
        usage(
            "policy-with-a-key-of-order-1",
            format!("witness m {weak}{}+{}\nquorum m\n", small_id(), small_key()),
        ),
    ]
}

fn small_key() -> String {
    let mut bytes = vec![4, 1];
    bytes.extend([0; 31]);
    STANDARD.encode(bytes)
}

fn small_id() -> String {
    let mut bytes = vec![4u8, 1];
    bytes.extend([0; 31]);
    let text = [b"cortex.example/mirror/w\n".as_slice(), &bytes].concat();
    use sha2::Digest as _;
    cortex_audit::leaf::hex(&sha2::Sha256::digest(text)[..4])
}

fn rotations() -> Vec<Case> {
    let old = key::public_key(&NODE_SEED);
    let new = [7; 32];
    let rotate = |log: &mut Log, old: &cortex_audit::PublicKey, pop: [u8; 64]| {
        log.add(KeyRotate {
            old: Base64(old.as_bytes().to_vec()),
            new: Base64(key::public_key(&new).as_bytes().to_vec()),
            pop: Base64(pop.to_vec()),
        })
    };
    let start = Log::small();
    let policy = start.policy();
    let good = key::prove_possession(&new, start.next.log, &old);
    let case = |name: &str, log: &Log, notes: Vec<SignedNote>| {
        let checkpoints = notes.iter().map(bytes).collect();
        let mut case = Case::new(name, log, vec![Bundle { checkpoints, ..Bundle::of(log, &[]) }]);
        case.policy = Some(policy.clone());
        case
    };
    let mut rotated = start.clone();
    rotate(&mut rotated, &old, good);
    let signed_old = rotated.note(6);
    rotated.add(heartbeat());
    let by_old = rotated.note(7);
    rotated.seed = new;
    let (only_new, by_new) = (rotated.note(6), rotated.note(7));
    let mut both = rotated.checkpoint(6).sign(&start.key()).unwrap();
    both.add_log_signature(&rotated.key()).unwrap();
    both.cosign(&mirror(), START_S + 6).unwrap();

    let mut false_pop = start.clone();
    let mut bad = good;
    bad[0] ^= 1;
    rotate(&mut false_pop, &old, bad);
    let mut elsewhere = start.clone();
    rotate(&mut elsewhere, &old, key::prove_possession(&new, cortex_audit::Leaf::ZERO, &old));
    let mut wrong_old = start.clone();
    let third = key::public_key(&[8; 32]);
    rotate(&mut wrong_old, &third, key::prove_possession(&new, start.next.log, &third));
    vec![
        case("new-key-without-the-checkpoint-of-both", &rotated, vec![by_new.clone()]).expect(
            3,
            "note.untrusted",
            None,
        ),
        case("change-of-key-signed-by-the-new-key-alone", &rotated, vec![only_new, by_new]).expect(
            3,
            "note.unsigned",
            None,
        ),
        case("change-of-key-signed-by-the-old-key-alone", &rotated, vec![signed_old]).expect(
            3,
            "note.unsigned",
            None,
        ),
        case("old-key-used-after-its-change", &rotated, vec![both, by_old]).expect(
            3,
            "note.unsigned",
            None,
        ),
        case("change-of-key-with-a-false-proof", &false_pop, vec![false_pop.note(6)]).expect(
            7,
            "rotation",
            Some(5),
        ),
        case("change-of-key-with-a-proof-for-another-journal", &elsewhere, vec![elsewhere.note(6)])
            .expect(7, "rotation", Some(5)),
        case("change-of-a-key-that-is-not-in-force", &wrong_old, vec![wrong_old.note(6)]).expect(
            7,
            "rotation",
            Some(5),
        ),
    ]
}

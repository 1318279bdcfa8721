//! Cases that verify.

use crate::disk::{Bundle, Case};
use crate::log::*;
use cortex_audit::record::*;
use cortex_audit::{Position, Stamp, Value, key};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases =
        vec![every_kind(), unicode(), limits(), rotated(true), rotated(false), reboot()];
    let log = Log::small();
    let one = |name: &str, bundle: Bundle| Case::new(name, &log, vec![bundle]);
    cases.push(one("small", Bundle::of(&log, &[5])));
    cases.push(one("small-with-several-checkpoints", Bundle::of(&log, &[1, 2, 4, 5])));
    let mut head = Bundle::of(&log, &[3]);
    head.head = Some(log.signed(5).to_string().into_bytes());
    cases.push(one("tail-above-the-newest-cosignature", head.clone()));
    head.checkpoints.clear();
    let mut none = one("quorum-none", head);
    none.policy = Some(format!(
        "# nobody else\n\tlog  {} https://example\nquorum none\n",
        log.key().verifier()
    ));
    cases.push(none);
    cases.push(quorum(&log));
    cases.push(one("signature-lines-of-strangers", strangers(&log)));
    let mut files = Bundle::of(&log, &[5]);
    files.records = vec![text(&log.bodies[..2]), text(&log.bodies[2..])];
    cases.push(one("records-in-two-files", files));
    let mut since = one("continues-a-checkpoint-seen-before", Bundle::of(&log, &[5]));
    since.since = vec![log.signed(3).to_string().into_bytes()];
    cases.push(since);
    let mut fresh = one("young-enough", Bundle::of(&log, &[5]));
    fresh.max_age = Some((START_S + 65, 60));
    cases.push(fresh);
    let mut opened = Bundle::of(&log, &[5]);
    opened.openings = Some(log.openings_text());
    let mut opened = one("all-openings", opened);
    opened.require_openings = true;
    cases.push(opened);
    let mut some = Bundle::of(&log, &[5]);
    some.openings =
        Some(log.openings_text().split_inclusive(|b| *b == b'\n').next().unwrap().to_vec());
    cases.push(one("some-openings", some));
    cases.push(Case::new(
        "two-copies-of-different-length",
        &log,
        vec![
            Bundle::of(&log, &[5]),
            Bundle { records: vec![text(&log.bodies[..3])], ..Bundle::of(&log, &[3]) },
        ],
    ));
    let mut genesis = Bundle::of(&log, &[1]);
    genesis.records = vec![text(&log.bodies[..1])];
    cases.push(one("genesis-alone", genesis));
    for start in [2, 3, 4] {
        cases.push(one(&format!("pruned-at-{start}"), pruned(&log, start)));
    }
    let mut kept = pruned(&log, 3);
    kept.checkpoints.splice(0..0, [1, 2].map(|size| log.note(size).to_string().into_bytes()));
    cases.push(one("pruned-with-the-checkpoints-from-before", kept));
    cases.push(one("checkpoint-of-nothing-before-the-others", Bundle::of(&log, &[0, 5])));
    for index in [0, 3, 4] {
        let mut proof = Case::new(&format!("proof-of-record-{index}"), &log, Vec::new());
        let record = log.bodies[usize::try_from(index).unwrap()].clone();
        proof.proof = Some((record, log.proof(index, 5).to_string().into_bytes()));
        cases.push(proof);
    }
    cases.push(typed());
    cases.push(unknown(&log));
    cases.push(successor(&log));
    cases
}

/// Two people at one terminal, the second of whom typed nothing.
fn typed() -> Case {
    let mut log = Log::small();
    let (intent, intent_hash) = (2, log.leaf(2));
    for (number, bytes) in [(1, 12), (2, 0)] {
        let attached = log.add(TerminalAttached {
            cmd: "0190b2f0/1".to_owned(),
            workspace: "default".to_owned(),
            intent,
            intent_hash,
            number,
            actor: ada(),
        });
        let digest = Value::map([
            ("bytes", Value::number(bytes)),
            ("sha256", Value::from(digest("rm -rf build"))),
        ]);
        let typed = (bytes > 0).then(|| log.commit("typed", digest));
        let attached_hash = log.leaf(attached);
        let cmd = "0190b2f0/1".to_owned();
        log.add(TerminalTyped { cmd, attached, attached_hash, bytes, typed });
    }
    let mut bundle = Bundle::of(&log, &[log.size()]);
    bundle.openings = Some(log.openings_text());
    let mut case = Case::new("typed-into-a-terminal", &log, vec![bundle]);
    case.require_openings = true;
    case
}

/// What is left of a journal behind `start`.
pub(crate) fn pruned(log: &Log, start: u64) -> Bundle {
    let frontier = log.frontier(start);
    let hashes = frontier.hashes().iter().map(|hash| Value::from(hash.to_base64())).collect();
    let value = Value::map([
        ("size", Value::number(start)),
        ("hashes", Value::List(hashes)),
        ("leaf", Value::from(log.leaf(start - 1).to_string())),
    ]);
    Bundle {
        records: vec![text(&log.bodies[usize::try_from(start).unwrap()..])],
        frontier: Some([value.to_bytes().unwrap(), b"\n".to_vec()].concat()),
        ..Bundle::of(log, &[start, log.size()])
    }
}

fn quorum(log: &Log) -> Case {
    let mut bundle = Bundle::of(log, &[]);
    let keys = [cosigner(11, "a"), cosigner(12, "b"), cosigner(13, "c")];
    let mut note = log.signed(5);
    note.cosign(&keys[0], START_S + 30).unwrap();
    note.cosign(&keys[2], START_S + 10).unwrap();
    bundle.checkpoints = vec![note.to_string().into_bytes()];
    let mut case = Case::new("quorum-of-two-in-three", log, vec![bundle]);
    let mut policy = format!("log {}\n", log.key().verifier());
    for (name, key) in ["a", "b", "c"].iter().zip(&keys) {
        policy += &format!("witness {name} {}\n", key.verifier());
    }
    case.policy = Some(policy + "group two 2 a b c\nquorum two\n");
    case
}

/// Fourteen lines of keys that nobody knows: sixteen in all.
fn strangers(log: &Log) -> Bundle {
    let mut note = log.note(5);
    for seed in 100..114 {
        note.cosign(&cosigner(seed, &format!("stranger{seed}")), START_S).unwrap();
    }
    Bundle { checkpoints: vec![note.to_string().into_bytes()], ..Bundle::of(log, &[]) }
}

fn unknown(log: &Log) -> Case {
    let mut log = log.clone();
    log.value("moon.phase", Value::map([("full", Value::Bool(true))]));
    let Value::Map(mut data) = heartbeat().to_value() else { unreachable!() };
    data.insert("added_later".to_owned(), Value::List(vec![Value::Null]));
    log.value("heartbeat", Value::Map(data));
    Case::new("kinds-and-fields-of-later-agents", &log, vec![Bundle::of(&log, &[7])])
}

fn successor(old: &Log) -> Case {
    let pred = Predecessor {
        log: old.next.log,
        size: 5,
        root: Base64(old.root(5).0.to_vec()),
        reason: "recovery".to_owned(),
        evidence: Some(digest("evidence")),
    };
    let mut log = Log::begin(Genesis { pred: Some(pred), ..genesis("n1", &NODE_SEED) });
    log.add(session());
    Case::new("successor-of-another-journal", &log, vec![Bundle::of(&log, &[2])])
}

fn reboot() -> Case {
    let mut log = Log::small();
    let intent = log.intent("0190b2f1/1");
    log.stamp = Stamp {
        mono_us: 9,
        boot: "3e1b1a4c-1111-4222-8333-444455556666".to_owned(),
        ..log.stamp.clone()
    };
    log.add(Recovery {
        intent: Some(intent),
        intent_hash: Some(log.leaf(intent)),
        found: "reboot".to_owned(),
        orphans: 0,
    });
    let leaf = log.leaf(intent);
    log.add(Outcome::new("0190b2f1/1".to_owned(), intent, leaf, Status::Unknown));
    log.add(Recovery { intent: None, intent_hash: None, found: "refilled".to_owned(), orphans: 0 });
    Case::new("recovery-after-a-reboot", &log, vec![Bundle::of(&log, &[9])])
}

/// A change of the key that the policy knows the old or the new side of.
fn rotated(knows_old: bool) -> Case {
    let mut log = Log::small();
    let policy = log.policy();
    let (old, new) = (key::public_key(&NODE_SEED), [7; 32]);
    let pop = key::prove_possession(&new, log.next.log, &old);
    log.add(KeyRotate {
        old: Base64(old.as_bytes().to_vec()),
        new: Base64(key::public_key(&new).as_bytes().to_vec()),
        pop: Base64(pop.to_vec()),
    });
    let mut both = log.signed(6);
    log.seed = new;
    both.add_log_signature(&log.key()).unwrap();
    both.cosign(&mirror(), START_S + 6).unwrap();
    log.add(heartbeat());
    let last = log.note(7).to_string().into_bytes();
    let mut bundle = Bundle::of(&log, &[]);
    bundle.checkpoints = vec![both.to_string().into_bytes(), last.clone()];
    if !knows_old {
        bundle.checkpoints = vec![last];
    }
    let name =
        if knows_old { "key-changed-old-one-trusted" } else { "key-changed-new-one-trusted" };
    let mut case = Case::new(name, &log, vec![bundle]);
    if knows_old {
        case.policy = Some(policy);
    }
    case
}

fn every_kind() -> Case {
    let mut log = Log::new("n1");
    log.add(session());
    log.add(PolicyLoaded {
        policy: digest("policy"),
        previous: None,
        format: 1,
        rules: 12,
        source: "/etc/cortex/policy.toml".to_owned(),
        trigger: "start".to_owned(),
    });
    let asked = consent(&mut log);
    let answered = answer(&mut log, asked);
    let approval = Approval { seq: answered, leaf: log.leaf(answered) };
    let mut intent = log.intent_data("0190b2f0/1");
    intent.auth = Auth { approval: Some(approval), ..auth("ask") };
    let intent = log.add(intent);
    log.outcome("0190b2f0/1", intent);
    let path = log.commit("path", Value::bytes(b"/tmp/\xff"));
    let content = log.commit(
        "content",
        Value::map([("bytes", Value::number(3)), ("sha256", Value::from(digest("abc")))]),
    );
    let target =
        Target { path, to: None, content: Some(content), bytes: Some(3), mode: Some(0o600) };
    let mut write = log.intent_data("0190b2f2/1");
    write.exec = None;
    write.target = Some(target);
    write.op = "file.write".to_owned();
    // The openings of the process that this intent does not start.
    log.openings.retain(|(seq, opening)| *seq != log.next.seq || !matches!(opening.reveal(), Some((name, _)) if ["argv", "cwd", "env"].contains(&name.as_str())));
    log.add(write);
    let argv = log
        .commit("argv", Value::List(vec![Value::from("rm"), Value::from("-rf"), Value::from("/")]));
    log.add(Refusal {
        cmd: "0190b2f3/1".to_owned(),
        workspace: "default".to_owned(),
        fence: Decimal(7),
        actor: ada(),
        code: "CX-0401".to_owned(),
        auth: auth("deny"),
        op: "process.exec".to_owned(),
        argv: Some(argv),
    });
    log.add(heartbeat());
    log.add(Config { what: "retention".to_owned(), old: None, new: Some(digest("new")) });
    log.add(Access { actor: ada(), what: "export".to_owned(), from: 0, to: 10, openings: true });
    let erased = log.openings.iter().position(|(seq, _)| *seq == intent).unwrap();
    let (_, erased) = log.openings.remove(erased);
    let erased = erased.commitment().as_str().to_owned();
    log.add(Redact { commitments: vec![erased], basis: "gdpr art. 17".to_owned(), by: ada() });
    let note = log.note(10).to_string();
    log.add(Prune { min_index: 10, note });
    log.add(SessionClose { session: session().session, clean: true, cosigned: 10 });
    let old = key::public_key(&NODE_SEED);
    log.add(KeyRotate {
        old: Base64(old.as_bytes().to_vec()),
        new: Base64(key::public_key(&[7; 32]).as_bytes().to_vec()),
        pop: Base64(key::prove_possession(&[7; 32], log.next.log, &old).to_vec()),
    });
    let policy = log.policy();
    let size = log.size();
    let mut both = log.signed(size);
    log.seed = [7; 32];
    both.add_log_signature(&log.key()).unwrap();
    both.cosign(&mirror(), START_S + size).unwrap();
    log.add(Recovery {
        intent: None,
        intent_hash: None,
        found: "anchor_lost".to_owned(),
        orphans: 0,
    });
    log.add(LogClose { reason: "leave".to_owned(), by: Some(ada()) });
    let last = log.size();
    let mut bundle = Bundle::of(&log, &[last]);
    bundle.checkpoints.insert(0, both.to_string().into_bytes());
    bundle.openings = Some(log.openings_text());
    bundle.extra = vec![("manifest.json", b"{\"schema\":\"cortex-audit-bundle/1\"}\n".to_vec())];
    let mut case = Case::new("every-kind", &log, vec![bundle]);
    case.policy = Some(policy);
    case.require_openings = true;
    case
}

/// A question to the owner.
pub(crate) fn consent(log: &mut Log) -> u64 {
    let shown = "agent-7 wants to run: ls -l";
    let text = log.commit("text", Value::from(shown));
    log.add(ConsentAsked {
        ask: "ask-1".to_owned(),
        cmd: "0190b2f0/1".to_owned(),
        workspace: "default".to_owned(),
        actor: ada(),
        rule: Some("ask-for-all".to_owned()),
        policy: digest("policy"),
        shown: digest(shown),
        text,
        fingerprint: digest("plan"),
        scopes: vec!["once".to_owned(), "session".to_owned()],
        expires: Some("2026-11-23T14:00:00.000000Z".to_owned()),
    })
}

pub(crate) fn answer(log: &mut Log, asked: u64) -> u64 {
    let data = answer_data(log, asked);
    log.add(data)
}

pub(crate) fn answer_data(log: &Log, asked: u64) -> ConsentAnswered {
    ConsentAnswered {
        ask: "ask-1".to_owned(),
        asked,
        asked_hash: log.leaf(asked),
        cmd: "0190b2f0/1".to_owned(),
        answer: "allow".to_owned(),
        who: Some(Actor {
            kind: "human".to_owned(),
            id: "ada".to_owned(),
            model: None,
            on_behalf_of: None,
        }),
        channel: Some("tty".to_owned()),
        latency_ms: 4_200,
        shown: digest("agent-7 wants to run: ls -l"),
        fingerprint: digest("plan"),
        scope: Some("once".to_owned()),
        expires: None,
    }
}

fn unicode() -> Case {
    let mut log = Log::new("n1");
    let controls: String = (0..0x20u8).map(char::from).collect();
    let text = format!(
        "{controls}\"\\/\u{7f}\u{80}é e\u{301}\u{2028}\u{2029}\u{feff}\u{fffd}\u{ffff}😀\u{10ffff}<>&'"
    );
    let path = log.commit("path", Value::from(text.as_str()));
    log.value("heartbeat", Value::map([("note", Value::from(text)), ("path", path.to_value())]));
    let mut bundle = Bundle::of(&log, &[2]);
    bundle.openings = Some(log.openings_text());
    Case::new("texts-of-all-kinds-of-characters", &log, vec![bundle])
}

fn limits() -> Case {
    let mut log = Log::new("n1");
    let deep = (0..6).fold(Value::Int((1 << 53) - 1), |inner, _| Value::List(vec![inner]));
    log.value("heartbeat", Value::map([("deep", deep), ("least", Value::Int(1 - (1 << 53)))]));
    let filled = |length: usize| Value::map([("fill", Value::from("x".repeat(length)))]);
    let empty = cortex_audit::Envelope::encode(
        Position { seq: 2, ..log.next },
        "heartbeat",
        &log.stamp,
        filled(0),
    );
    let room = 60 * 1024 - empty.unwrap().len();
    log.value("heartbeat", filled(room));
    assert_eq!(log.bodies[2].len(), 60 * 1024);
    Case::new("at-the-limits", &log, vec![Bundle::of(&log, &[3])])
}

//! Makes journals whose every byte follows from its arguments.

use cortex_audit::record::*;
use cortex_audit::tree::{Node, ProofError, prove_inclusion};
use cortex_audit::{
    Checkpoint, Commitment, CosignerKey, Envelope, Frontier, Hash, Leaf, LogKey, Opening, Origin,
    Position, Record, SignedNote, Stamp, TlogProof, Value, key,
};
use sha2::{Digest, Sha256};

pub(crate) const DOMAIN: &str = "cortex.example";
pub(crate) const NODE_SEED: [u8; 32] = [1; 32];
pub(crate) const MIRROR_SEED: [u8; 32] = [2; 32];
pub(crate) const BOOT: &str = "0d9dcf7e-2f0b-4c5e-8a40-5a3c1e8f7b21";
/// 2026-11-23T13:00:00Z
pub(crate) const START_S: u64 = 1_795_438_800;

pub(crate) fn digest(text: &str) -> String {
    cortex_audit::leaf::hex(&Sha256::digest(text))
}

pub(crate) fn mirror() -> CosignerKey {
    cosigner(2, "m1")
}

pub(crate) fn cosigner(seed: u8, name: &str) -> CosignerKey {
    CosignerKey::from_seed(&[seed; 32], &format!("{DOMAIN}/mirror/{name}")).unwrap()
}

/// A journal in the making.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) bodies: Vec<Vec<u8>>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) openings: Vec<(u64, Opening)>,
    pub(crate) next: Position,
    pub(crate) stamp: Stamp,
    pub(crate) seed: [u8; 32],
    pub(crate) origin: String,
    salts: u64,
}

impl Log {
    pub(crate) fn new(node: &str) -> Self {
        Self::begin(genesis(node, &NODE_SEED))
    }

    pub(crate) fn begin(genesis: Genesis) -> Self {
        let node = genesis.node.clone();
        let mut log = Self::empty();
        log.add(genesis);
        log.origin = Origin::new(DOMAIN, &node, log.leaves[0]).unwrap().to_string();
        log
    }

    pub(crate) fn empty() -> Self {
        let stamp =
            Stamp { unix_us: START_S * 1_000_000, mono_us: 2_000_000, boot: BOOT.to_owned() };
        Self {
            bodies: Vec::new(),
            leaves: Vec::new(),
            openings: Vec::new(),
            next: Position::GENESIS,
            stamp,
            seed: NODE_SEED,
            origin: String::new(),
            salts: 0,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// Appends bytes, whatever they are.
    pub(crate) fn push(&mut self, body: Vec<u8>) -> u64 {
        let leaf = Leaf::of(&body);
        let seq = self.next.seq;
        let log = if seq == 0 { leaf } else { self.next.log };
        self.next = Position { log, seq: seq + 1, prev: leaf };
        self.leaves.push(leaf);
        self.bodies.push(body);
        self.stamp.unix_us += 500_000;
        self.stamp.mono_us += 500_000;
        seq
    }

    pub(crate) fn value(&mut self, kind: &str, data: Value) -> u64 {
        let body = Envelope::encode(self.next, kind, &self.stamp, data).unwrap();
        self.push(body)
    }

    pub(crate) fn add(&mut self, record: impl Into<Record>) -> u64 {
        let record = record.into();
        self.value(record.kind(), record.to_value())
    }

    /// Appends what `change` makes of the text of a heartbeat.
    pub(crate) fn edited(&mut self, change: impl Fn(String) -> String) -> u64 {
        let data = heartbeat().to_value();
        let body = Envelope::encode(self.next, "heartbeat", &self.stamp, data).unwrap();
        self.push(change(String::from_utf8(body).unwrap()).into_bytes())
    }

    /// A commitment in the record that comes next.
    pub(crate) fn commit(&mut self, name: &str, value: Value) -> Commitment {
        self.salts += 1;
        let salt = Sha256::digest(format!("salt {}", self.salts));
        let (commitment, opening) =
            Commitment::new(salt[..16].try_into().unwrap(), name, value).unwrap();
        self.openings.push((self.next.seq, opening));
        commitment
    }

    pub(crate) fn exec(&mut self, argv: &[&str]) -> Exec {
        let words = argv.iter().map(|word| Value::from(*word)).collect();
        Exec {
            exe: format!("/usr/bin/{}", argv[0]),
            exe_sha256: Some(digest(argv[0])),
            argc: argv.len() as u64,
            argv: self.commit("argv", Value::List(words)),
            cwd: self.commit("cwd", Value::from("/home/ada")),
            env: self.commit(
                "env",
                Value::List(vec![Value::List(vec![Value::from("LANG"), Value::from("C.UTF-8")])]),
            ),
            stdin: None,
            uid: 1000,
            sandbox: Sandbox { level: "strict".to_owned(), unenforced: vec!["disk".to_owned()] },
            limits: Limits {
                cpu_ms: Some(60_000),
                memory_bytes: Some(512 << 20),
                processes: Some(64),
                disk_bytes: None,
                output_bytes: Some(8 << 20),
            },
            net: "none".to_owned(),
            timeout_ms: 3_600_000,
        }
    }

    pub(crate) fn intent_data(&mut self, cmd: &str) -> Intent {
        let exec = self.exec(&["ls", "-l"]);
        Intent {
            cmd: cmd.to_owned(),
            workspace: "default".to_owned(),
            fence: Decimal(u64::MAX),
            incarnation: self.next.log.to_string()[..32].to_owned(),
            run: Some("run-7".to_owned()),
            step: None,
            trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
            span: Some("00f067aa0ba902b7".to_owned()),
            actor: ada(),
            auth: auth("allow"),
            op: "process.exec".to_owned(),
            exec: Some(exec),
            target: None,
        }
    }

    pub(crate) fn intent(&mut self, cmd: &str) -> u64 {
        let data = self.intent_data(cmd);
        self.add(data)
    }

    pub(crate) fn leaf(&self, seq: u64) -> Leaf {
        self.leaves[usize::try_from(seq).unwrap()]
    }

    pub(crate) fn outcome(&mut self, cmd: &str, intent: u64) -> u64 {
        let output = Value::map([
            ("bytes", Value::number(12)),
            ("captured", Value::number(12)),
            ("sha256", Value::from(digest("total 0\n"))),
            ("blob", Value::Null),
        ]);
        let stdout = self.commit("stdout", output);
        let outcome = Outcome {
            exit_code: Some(0),
            pid: Some(4242),
            dur_us: 1_500_000,
            stdout: Some(stdout),
            limits: vec![LimitUse {
                name: "memory_bytes".to_owned(),
                limit: 512 << 20,
                used: Some(3 << 20),
                strength: "kernel".to_owned(),
            }],
            survivors: Some(0),
            ..Outcome::new(cmd.to_owned(), intent, self.leaf(intent), Status::Exited)
        };
        self.add(outcome)
    }

    /// Genesis, session, intent, outcome, heartbeat: the shape of the published vector.
    pub(crate) fn small() -> Self {
        let mut log = Self::new("n1");
        log.add(session());
        let intent = log.intent("0190b2f0/1");
        log.outcome("0190b2f0/1", intent);
        log.add(heartbeat());
        log
    }

    pub(crate) fn key(&self) -> LogKey {
        LogKey::from_seed(&self.seed, &self.origin).unwrap()
    }

    pub(crate) fn root(&self, size: u64) -> Hash {
        let mut frontier = Frontier::new();
        self.leaves[..usize::try_from(size).unwrap()].iter().for_each(|leaf| frontier.push(*leaf));
        frontier.root()
    }

    pub(crate) fn frontier(&self, size: u64) -> Frontier {
        let mut frontier = Frontier::new();
        self.leaves[..usize::try_from(size).unwrap()].iter().for_each(|leaf| frontier.push(*leaf));
        frontier
    }

    pub(crate) fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size, root: self.root(size) }
    }

    pub(crate) fn signed(&self, size: u64) -> SignedNote {
        self.checkpoint(size).sign(&self.key()).unwrap()
    }

    /// Signed, and cosigned by the mirror at a time that fits.
    pub(crate) fn note(&self, size: u64) -> SignedNote {
        let mut note = self.signed(size);
        note.cosign(&mirror(), START_S + size).unwrap();
        note
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        text(&self.bodies)
    }

    pub(crate) fn openings_text(&self) -> Vec<u8> {
        let lines =
            self.openings.iter().map(|(seq, opening)| format!("{seq} {}\n", opening.as_str()));
        lines.collect::<String>().into_bytes()
    }

    /// Lists the journal's key and the mirror, whose cosignature is required.
    pub(crate) fn policy(&self) -> String {
        let (key, mirror) = (self.key(), mirror());
        format!("log {}\nwitness m {}\nquorum m\n", key.verifier(), mirror.verifier())
    }

    pub(crate) fn proof(&self, index: u64, size: u64) -> TlogProof {
        let mut node = |node: Node| -> Result<Hash, ProofError> {
            let mut frontier = Frontier::new();
            node.leaves().for_each(|seq| frontier.push(self.leaf(seq)));
            Ok(frontier.root())
        };
        let hashes = prove_inclusion(index, size, &mut node).unwrap();
        TlogProof { index, hashes, note: self.note(size) }
    }
}

pub(crate) fn text(bodies: &[Vec<u8>]) -> Vec<u8> {
    bodies.iter().flat_map(|body| [body.as_slice(), b"\n"].concat()).collect()
}

pub(crate) fn ada() -> Actor {
    Actor {
        kind: "ai".to_owned(),
        id: "agent-7".to_owned(),
        model: Some("example-1".to_owned()),
        on_behalf_of: Some("ada".to_owned()),
    }
}

pub(crate) fn auth(decision: &str) -> Auth {
    Auth {
        decision: decision.to_owned(),
        policy: digest("policy"),
        rule: Some("listing".to_owned()),
        approval: None,
        dispatch: None,
        floor: Some(0),
    }
}

pub(crate) fn genesis(node: &str, seed: &[u8; 32]) -> Genesis {
    Genesis {
        domain: DOMAIN.to_owned(),
        node: node.to_owned(),
        tenant: "default".to_owned(),
        enroll: Some("enr-1".to_owned()),
        key: Base64(key::public_key(seed).as_bytes().to_vec()),
        nonce: digest("nonce"),
        alg: ALG.to_owned(),
        agent: "0.1.0".to_owned(),
        pred: None,
    }
}

pub(crate) fn session() -> SessionOpen {
    SessionOpen {
        agent: "0.1.0".to_owned(),
        exe_sha256: Some(digest("cortex-agent")),
        session: "6f1c1f52-7a3c-4d1c-9a6e-0d2f0a4b7c11".to_owned(),
        nonce: digest("session")[..32].to_owned(),
        cosigned: 0,
        vmgenid: None,
        clean: true,
        policy: digest("policy"),
        config: None,
    }
}

pub(crate) fn heartbeat() -> Heartbeat {
    Heartbeat { open_intents: 0, unacked: 4, skew_ms: Some(-12), free_mb: 10_240, cosigned: 0 }
}

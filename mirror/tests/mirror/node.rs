//! A node's journal for tests: records made by the crate that real nodes use, and the gateway's side of a conversation with mirrors.

use cortex_audit::record::{Base64, Genesis, KeyRotate, Predecessor, Record};
use cortex_audit::{
    Checkpoint, Envelope, Frontier, Leaf, LogKey, Position, SignedNote, Stamp, Value, VerifierKey,
};
use cortex_log::EventLog;
use cortex_model::proto as pb;
use pb::mirror_reply::Body as Reply;
use pb::mirror_request::Body as Ask;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const WORKSPACE: &str = "default";
pub(crate) const DOMAIN: &str = "cortex.example";

/// A journal and its key. A clone has the same key and history, like a copied disk.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) lines: Vec<Vec<u8>>,
    leaves: Vec<Leaf>,
    seed: [u8; 32],
    /// The seed before, and the size of the checkpoint that both sign.
    before: Option<([u8; 32], u64)>,
    clock_ms: u64,
}

impl Node {
    /// A journal with its genesis.
    pub(crate) fn new(name: &str, seed: u8) -> Node {
        Node::following(name, seed, None)
    }

    pub(crate) fn following(name: &str, seed: u8, pred: Option<Predecessor>) -> Node {
        let seed = [seed; 32];
        let genesis = Genesis {
            domain: DOMAIN.into(),
            node: name.into(),
            tenant: WORKSPACE.into(),
            enroll: None,
            key: Base64(cortex_audit::key::public_key(&seed).as_bytes().to_vec()),
            nonce: cortex_audit::leaf::hex(&seed),
            alg: "sha256-rfc6962/ed25519".into(),
            agent: "0.1.0".into(),
            pred,
        };
        let clock_ms = 1_790_000_000_000;
        let mut node = Node {
            name: name.into(),
            lines: Vec::new(),
            leaves: Vec::new(),
            seed,
            before: None,
            clock_ms,
        };
        let record = Record::from(genesis);
        node.write(record.kind(), record.to_value());
        node
    }

    pub(crate) fn write(&mut self, kind: &str, data: Value) -> u64 {
        let seq = self.lines.len() as u64;
        let log = self.leaves.first().copied().unwrap_or(Leaf::ZERO);
        let prev = self.leaves.last().copied().unwrap_or(Leaf::ZERO);
        let stamp = Stamp {
            unix_us: self.clock_ms * 1_000 + seq,
            mono_us: seq,
            boot: "0d9dcf7e-0000-4000-8000-000000000000".into(),
        };
        let line = Envelope::encode(Position { log, seq, prev }, kind, &stamp, data).unwrap();
        self.leaves.push(Leaf::of(&line));
        self.lines.push(line);
        seq
    }

    /// Forgets everything from a record on.
    pub(crate) fn cut(&mut self, from: u64) {
        self.lines.truncate(from as usize);
        self.leaves.truncate(from as usize);
    }

    /// The journal's clock jumps.
    pub(crate) fn set_clock(&mut self, unix_ms: u64) {
        self.clock_ms = unix_ms;
    }

    /// Records that mean nothing in particular.
    pub(crate) fn grow(&mut self, count: u64) {
        for _ in 0..count {
            self.write("note", Value::map([("n", Value::number(self.size()))]));
        }
    }

    /// A record that commits to these values, and their openings.
    pub(crate) fn commit(&mut self, values: &[&str]) -> Vec<String> {
        let sealed = (1_u8..).zip(values).map(|(salt, value)| {
            cortex_audit::Commitment::new([salt; 16], "text", Value::from(*value)).unwrap()
        });
        let (commitments, openings): (Vec<_>, Vec<_>) = sealed.unzip();
        let list = commitments.iter().map(|commitment| commitment.to_value()).collect();
        self.write("note", Value::map([("texts", Value::List(list))]));
        openings.iter().map(|opening| opening.as_str().to_owned()).collect()
    }

    /// An intent, as far as the mirror looks into it.
    pub(crate) fn intent(&mut self, task: &str, attempt: u32) -> u64 {
        let cmd = Value::from(format!("{task}/{attempt}"));
        self.write("intent", Value::map([("cmd", cmd)]))
    }

    pub(crate) fn size(&self) -> u64 {
        self.lines.len() as u64
    }

    pub(crate) fn log(&self) -> String {
        self.leaves[0].to_string()
    }

    pub(crate) fn log32(&self) -> String {
        self.log()[..32].to_owned()
    }

    fn key(&self) -> LogKey {
        let origin = format!("{DOMAIN}/audit/{}/{}", self.name, self.log32());
        LogKey::from_seed(&self.seed, &origin).unwrap()
    }

    pub(crate) fn vkey(&self) -> VerifierKey {
        self.key().verifier().clone()
    }

    pub(crate) fn root(&self, size: u64) -> cortex_audit::Hash {
        let mut frontier = Frontier::new();
        self.leaves.iter().take(size as usize).for_each(|leaf| frontier.push(*leaf));
        frontier.root()
    }

    /// Its checkpoint at a size, signed by the key of that time, or by both.
    pub(crate) fn note(&self, size: u64) -> SignedNote {
        let Some((seed, at)) = self.before.filter(|(_, at)| size <= *at) else {
            return self.note_by(&self.key(), size);
        };
        let mut note = self.note_by(&Node { seed, ..self.clone() }.key(), size);
        if size == at {
            note.add_log_signature(&self.key()).unwrap();
        }
        note
    }

    /// A checkpoint of another's records by this one's key.
    pub(crate) fn note_of(&self, size: u64, records: &Node) -> String {
        records.note_by(&self.key(), size).to_string()
    }

    /// A checkpoint by the newest key alone.
    pub(crate) fn by_newest(&self, size: u64) -> String {
        self.note_by(&self.key(), size).to_string()
    }

    /// Other bytes for the last record.
    pub(crate) fn replace_last(&mut self, line: Vec<u8>) {
        self.lines.pop();
        self.leaves.pop();
        self.leaves.push(Leaf::of(&line));
        self.lines.push(line);
    }

    /// Changes its key.
    pub(crate) fn change_key(&mut self, seed: u8) {
        let (old, new) = (self.seed, [seed; 32]);
        let public = |seed| cortex_audit::key::public_key(seed);
        let pop = cortex_audit::key::prove_possession(&new, self.leaves[0], &public(&old));
        let bytes = |seed| Base64(public(seed).as_bytes().to_vec());
        let rotate = KeyRotate { old: bytes(&old), new: bytes(&new), pop: Base64(pop.to_vec()) };
        let record = Record::from(rotate);
        self.write(record.kind(), record.to_value());
        (self.before, self.seed) = (Some((old, self.size())), new);
    }

    pub(crate) fn note_by(&self, key: &LogKey, size: u64) -> SignedNote {
        let origin = key.verifier().name().to_owned();
        Checkpoint { origin, size, root: self.root(size) }.sign(key).unwrap()
    }

    pub(crate) fn batch(&self, first: u64, end: u64) -> pb::AuditBatch {
        let mut records = Vec::new();
        for line in &self.lines[first as usize..end as usize] {
            records.extend_from_slice(line);
            records.push(b'\n');
        }
        pb::AuditBatch {
            id: 1,
            first_seq: first,
            count: (end - first) as u32,
            encoding: pb::AuditEncoding::Ndjson.into(),
            records: records.into(),
            note: self.note(end).to_string(),
        }
    }

    /// What the node says when the mirror has cosigned more than it has.
    pub(crate) fn present(&self, state: &pb::AuditState) -> pb::AuditEvidence {
        let note = self.note(self.size());
        let text = cortex_audit::key::presence_text(&state.challenge, note.text());
        pb::AuditEvidence {
            id: 2,
            notes: vec![state.cosigned_note.clone(), note.to_string()],
            reason: "it has fewer records than were cosigned".into(),
            challenge: state.challenge.clone(),
            presence: self.key().sign(&text).to_vec(),
        }
    }

    pub(crate) fn hello(&self) -> pb::AuditHello {
        pb::AuditHello {
            vkey: self.vkey().to_string(),
            log: self.log(),
            size: self.size(),
            head_note: self.note(self.size()).to_string(),
            newest_cosigned: String::new(),
            session_nonce: vec![0; 16],
            format: "cortex-audit/1".into(),
        }
    }
}

/// A gateway's side: asks one mirror.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) mirror: String,
    pub(crate) vkey: VerifierKey,
}

impl Gateway {
    pub(crate) async fn ask(&self, node: &str, log32: &str, body: Ask) -> Reply {
        let request = pb::MirrorRequest {
            workspace: WORKSPACE.into(),
            node: node.into(),
            log: log32.into(),
            gateway: "g".into(),
            body: Some(body),
        };
        let subject = format!("cx.m.up.{}", self.mirror);
        let bytes = request.encode_to_vec().into();
        let answer = self.log.request(&subject, bytes, Duration::from_secs(30)).await;
        pb::MirrorReply::decode(answer.expect("the mirror answers")).unwrap().body.unwrap()
    }

    pub(crate) async fn hello(&self, node: &Node) -> Reply {
        self.ask(&node.name, &node.log32(), Ask::Hello(node.hello())).await
    }

    /// What the mirror has of the node, which must be in order.
    pub(crate) async fn state(&self, node: &Node) -> pb::AuditState {
        match self.hello(node).await {
            Reply::State(state) => state,
            other => panic!("no state: {other:?}"),
        }
    }

    pub(crate) async fn send(&self, node: &Node, first: u64, end: u64) -> Reply {
        self.ask(&node.name, &node.log32(), Ask::Batch(node.batch(first, end))).await
    }

    /// Uploads and gets a cosignature that is true and covers the batch.
    pub(crate) async fn acked(&self, node: &Node, first: u64, end: u64) -> SignedNote {
        match self.send(node, first, end).await {
            Reply::Ack(ack) => self.check(node, &ack.cosigned_note, end),
            other => panic!("no acknowledgement of {first}..{end}: {other:?}"),
        }
    }

    pub(crate) fn check(&self, node: &Node, note: &str, at_least: u64) -> SignedNote {
        let note = SignedNote::parse(note.as_bytes()).unwrap();
        note.verify_log(&node.vkey()).expect("signed by the node");
        note.verify_cosignature(&self.vkey).expect("cosigned by the mirror");
        assert!(note.checkpoint().size >= at_least);
        note
    }

    pub(crate) async fn audit(&self, node: &str) -> pb::NodeAudit {
        let key = format!("{WORKSPACE}.{node}");
        let entry = self.log.kv_get(cortex_log::audit::AUDIT_BUCKET, &key).await.unwrap();
        entry.map_or_else(pb::NodeAudit::default, |e| pb::NodeAudit::decode(e.value).unwrap())
    }

    /// Waits until gateways are told so.
    pub(crate) async fn stands(&self, node: &str, standing: pb::AuditStanding) -> pb::NodeAudit {
        let mut changes = self.log.kv_watch(cortex_log::audit::AUDIT_BUCKET).await.unwrap();
        let key = format!("{WORKSPACE}.{node}");
        let reached = async {
            while let Some(change) = futures::StreamExt::next(&mut changes).await {
                if let cortex_log::KvChange::Put { key: changed, entry } = change.unwrap()
                    && changed == key
                {
                    let audit = pb::NodeAudit::decode(entry.value).unwrap();
                    if audit.standing() == standing {
                        return audit;
                    }
                }
            }
            panic!("the bucket is gone")
        };
        match tokio::time::timeout(Duration::from_secs(30), reached).await {
            Ok(audit) => audit,
            Err(_) => panic!("{node} stands as {:?}", self.audit(node).await),
        }
    }

    pub(crate) async fn stored(&self, log32: &str) -> Vec<pb::AuditStored> {
        let key = cortex_log::audit::journal_key(WORKSPACE, log32).unwrap();
        let read = self.log.read(&key, 0).await.unwrap();
        read.into_iter().map(|r| pb::AuditStored::decode(r.commit.body).unwrap()).collect()
    }
}

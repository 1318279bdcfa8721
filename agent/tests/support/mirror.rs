//! A scripted mirror, which takes everything and remembers it.

use super::support::Connection;
use cortex_audit::{CosignerKey, Frontier, Leaf, SignedNote};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::*;

pub(crate) fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A mirror that believes everything and remembers it.
pub(crate) struct Mirror {
    /// How long ago its cosignatures say that they were made, seconds.
    pub(crate) age_s: u64,
    pub(crate) key: CosignerKey,
    /// What it has cosigned.
    pub(crate) notes: Vec<String>,
    pub(crate) records: Vec<String>,
    pub(crate) openings: String,
}

impl Mirror {
    pub(crate) fn new(seed: u8) -> Self {
        let key = CosignerKey::from_seed(&[seed; 32], "example.org/mirror/m1").unwrap();
        Self { age_s: 0, key, notes: Vec::new(), records: Vec::new(), openings: String::new() }
    }

    pub(crate) fn state(&self) -> AuditState {
        AuditState {
            resume_from: self.records.len() as u64,
            standing: AuditStanding::Active.into(),
            max_batches: 4,
            mirror_vkey: self.key.verifier().to_string(),
            ..AuditState::default()
        }
    }

    /// Takes a batch and returns its note, cosigned.
    pub(crate) fn take(&mut self, batch: &AuditBatch) -> String {
        let text = String::from_utf8(batch.records.to_vec()).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), batch.count as usize);
        let first = batch.first_seq as usize;
        assert!(first <= self.records.len(), "a gap before {first}");
        for (seq, line) in (first..).zip(&lines) {
            match self.records.get(seq) {
                Some(known) => assert_eq!(known, line, "record {seq} changed"),
                None => self.records.push(line.clone()),
            }
        }
        let mut note = SignedNote::parse(batch.note.as_bytes()).unwrap();
        assert_eq!(note.checkpoint().size as usize, first + lines.len());
        assert_eq!(note.checkpoint().root, self.root(first + lines.len()));
        note.cosign(&self.key, now_s() - self.age_s).unwrap();
        self.notes.push(note.to_string());
        note.to_string()
    }

    pub(crate) fn root(&self, size: usize) -> cortex_audit::Hash {
        let mut tree = Frontier::new();
        self.records[..size].iter().for_each(|body| tree.push(Leaf::of(body.as_bytes())));
        tree.root()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        let kind = |body: &String| cortex_audit::Envelope::parse(body.as_bytes()).unwrap().kind;
        self.records.iter().map(kind).collect()
    }

    /// Answers everything until a record of this kind is here.
    pub(crate) async fn until(&mut self, connection: &mut Connection, kind: &str) {
        self.until_count(connection, kind, 1).await;
    }

    /// The same for so many of them.
    pub(crate) async fn until_count(
        &mut self,
        connection: &mut Connection,
        kind: &str,
        count: usize,
    ) {
        while self.kinds().iter().filter(|known| *known == kind).count() < count {
            self.answer(connection).await;
        }
    }

    /// Waits for one upload and acknowledges it. Returns the note of a batch.
    pub(crate) async fn answer(&mut self, connection: &mut Connection) -> Option<String> {
        match connection.audit().await {
            Up::AuditHello(_) => {
                connection.send(Down::AuditState(self.state())).await;
                None
            }
            Up::AuditBatch(batch) => {
                let cosigned_note = self.take(&batch);
                let resume_from = self.records.len() as u64;
                let ack =
                    AuditAck { id: batch.id, cosigned_note: cosigned_note.clone(), resume_from };
                connection.send(Down::AuditAck(ack)).await;
                Some(cosigned_note)
            }
            Up::AuditOpenings(openings) => {
                self.openings.push_str(std::str::from_utf8(&openings.openings).unwrap());
                let openings_from = openings.first_seq + u64::from(openings.count);
                let ack = AuditOpeningsAck { id: openings.id, openings_from };
                connection.send(Down::AuditOpeningsAck(ack)).await;
                None
            }
            other => panic!("{other:?}"),
        }
    }
}

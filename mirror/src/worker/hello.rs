//! What an agent says first, and what the mirror knows of its journal.

use super::{Held, WorkError, Worker, answers};
use crate::journal::HeadCheck;
use crate::key::random;
use crate::signer::Last;
use cortex_audit::{FORMAT, Hash, KeyKind, SignedNote, VerifierKey};
use cortex_model::limits::mirror::AUDIT_BATCHES_OPEN_MAX;
use cortex_model::proto as pb;
use pb::AuditRejectCode as Code;
use pb::audit_node_event::Kind;
use pb::mirror_reply::Body as Reply;

impl Worker {
    pub(super) async fn hello(&mut self, log32: &str, hello: &pb::AuditHello) -> Reply {
        match self.try_hello(log32, hello).await {
            Ok(reply) => reply,
            Err(error) => {
                self.held.remove(log32);
                self.unable(0, 0, &error)
            }
        }
    }

    async fn try_hello(&mut self, log32: &str, hello: &pb::AuditHello) -> Result<Reply, WorkError> {
        if hello.format != FORMAT {
            let why = format!("this mirror reads {FORMAT}, not {:?}", hello.format);
            return Ok(answers::reject(0, Code::Invalid, 0, why, Vec::new()));
        }
        let head = match self.read_head(log32, hello) {
            Ok(head) => head,
            Err(why) => return Ok(answers::reject(0, Code::WrongKey, 0, why, Vec::new())),
        };
        if let Some(reply) = self.closed(log32, 0).await? {
            return Ok(reply);
        }
        self.journal(log32, true).await?;
        if let Some(reply) = self.remember(log32, hello).await? {
            return Ok(reply);
        }
        // A crash may have come between storing and signing.
        self.cosign(log32).await?;
        match self.check_head(log32, &head).await? {
            HeadCheck::Fits => self.stands(log32, Vec::new()).await,
            // Said again by a gateway, or true: the node itself must tell.
            HeadCheck::Behind => {
                let challenge = self.challenge(log32);
                self.stands(log32, challenge).await
            }
            HeadCheck::WrongKey => {
                let why = "the head is not signed by the journal's key".to_owned();
                Ok(answers::reject(0, Code::WrongKey, 0, why, Vec::new()))
            }
            HeadCheck::Fork => {
                let size = head.checkpoint().size;
                let why = format!("two histories of {size} records were signed");
                let seq = size.saturating_sub(1);
                self.contradicted(log32, &hello.head_note, Code::Fork, seq, why).await
            }
        }
    }

    /// Compares a head with what is stored, at its own size.
    pub(super) async fn check_head(
        &mut self,
        log32: &str,
        head: &SignedNote,
    ) -> Result<HeadCheck, WorkError> {
        let root = self.root_at(log32, head.checkpoint().size).await?;
        let held = self.held.get(log32);
        Ok(held.map_or(HeadCheck::Fits, |held| held.journal.check_head(head, root)))
    }

    /// The root of the first `size` records, if so many are stored.
    async fn root_at(&self, log32: &str, size: u64) -> Result<Option<Hash>, WorkError> {
        let Some(Held { journal, .. }) = self.held.get(log32) else { return Ok(None) };
        if size >= journal.size() {
            return Ok((size == journal.size()).then(|| journal.root()));
        }
        let before = self.shared.store.frontier(&self.workspace, journal, size).await?;
        Ok(Some(before.root()))
    }

    /// A new challenge; it replaces the one before.
    fn challenge(&mut self, log32: &str) -> Vec<u8> {
        // Without randomness nothing is asked; the node sees by itself that it was set back.
        let bytes = random().map_or(Vec::new(), Vec::from);
        if let Some(held) = self.held.get_mut(log32) {
            held.challenge.clone_from(&bytes);
        }
        bytes
    }

    /// The head must be signed by the key that the hello names, and that by its name be of this node and journal.
    fn read_head(&self, log32: &str, hello: &pb::AuditHello) -> Result<SignedNote, String> {
        let key = VerifierKey::parse(&hello.vkey).map_err(|error| format!("its key: {error}"))?;
        let tail = format!("/audit/{}/{log32}", self.node);
        if key.kind() != KeyKind::Log
            || !key.name().ends_with(&tail)
            || !hello.log.starts_with(log32)
        {
            return Err(format!(
                "{} is no key of journal {log32} of node {}",
                key.name(),
                self.node
            ));
        }
        let head =
            SignedNote::parse(hello.head_note.as_bytes()).map_err(|e| format!("its head: {e}"))?;
        head.verify_log(&key).map_err(|error| format!("its head: {error}"))?;
        if head.checkpoint().size != hello.size {
            return Err(format!(
                "its head is of size {}, it says {}",
                head.checkpoint().size,
                hello.size
            ));
        }
        Ok(head)
    }

    /// A cosignature of this mirror's key that the log has forgotten still binds it.
    async fn remember(
        &mut self,
        log32: &str,
        hello: &pb::AuditHello,
    ) -> Result<Option<Reply>, WorkError> {
        if hello.newest_cosigned.is_empty() {
            return Ok(None);
        }
        let Ok(note) = SignedNote::parse(hello.newest_cosigned.as_bytes()) else { return Ok(None) };
        let Ok(time_s) = note.verify_cosignature(self.shared.signer.verifier()) else {
            // Of another mirror; it binds that one.
            return Ok(None);
        };
        let (size, root) = (note.checkpoint().size, note.checkpoint().root);
        let stored = self.root_at(log32, size).await?;
        let Some(held) = self.held.get_mut(log32) else { return Ok(None) };
        // The keys that the records name, once those are known: what a gateway says of a key is not believed.
        let by_hello =
            || VerifierKey::parse(&hello.vkey).is_ok_and(|key| note.verify_log(&key).is_ok());
        if !held.journal.signed_by_keys(&note).unwrap_or_else(by_hello) {
            return Ok(None);
        }
        let known = held.journal.signed.as_ref();
        let signed = known.filter(|known| known.size == size).map(|known| known.root);
        if [stored, signed].into_iter().flatten().any(|known| known != root) {
            tracing::error!(
                node = self.node,
                log32,
                size,
                "this mirror's key signed two histories: it was copied or its state was lost"
            );
            let why = format!("two histories of {size} records were cosigned");
            let (seq, note) = (size.saturating_sub(1), hello.newest_cosigned.clone());
            return self.contradicted(log32, &note, Code::Fork, seq, why).await.map(Some);
        }
        if known.is_some_and(|known| known.size >= size) {
            return Ok(None);
        }
        tracing::error!(
            node = self.node,
            log32,
            size,
            "the log has lost what was cosigned; the node's copy of the cosignature is taken over"
        );
        let Last { signed, rev } =
            self.shared.signer.adopt(&held.journal, note, time_s, held.signed_rev).await?;
        held.journal.signed = signed;
        held.signed_rev = rev;
        self.dirty = true;
        // What is stored must pass through it.
        let store = self.shared.store.clone();
        let signed = held.journal.signed.clone();
        let journal = store.journal(&self.workspace, &self.node, log32, signed).await?;
        held.journal = journal;
        Ok(None)
    }

    pub(super) async fn contradicted(
        &mut self,
        log32: &str,
        note: &str,
        code: Code,
        seq: u64,
        reason: String,
    ) -> Result<Reply, WorkError> {
        let notes = self.evidence_notes(log32, note);
        tracing::error!(
            node = self.node,
            log32,
            reason,
            "the node gets no work until an operator settles it"
        );
        let found = pb::AuditQuarantined {
            log: self.full(log32),
            code: code.into(),
            reason: reason.clone(),
            seq,
            notes: notes.clone(),
            records: Vec::new(),
            records_first_seq: 0,
        };
        self.note(vec![Kind::Quarantined(found)]).await?;
        Ok(answers::reject(0, code, seq, reason, notes))
    }

    async fn stands(&mut self, log32: &str, challenge: Vec<u8>) -> Result<Reply, WorkError> {
        let (standing, reason) = self.state().await?.standing();
        let mirror_vkey = self.shared.signer.verifier().to_string();
        let held = self.held.get(log32).map(|held| &held.journal);
        let signed = held.and_then(|journal| journal.signed.as_ref());
        let size = held.map_or(0, |journal| journal.size());
        Ok(Reply::State(pb::AuditState {
            resume_from: size,
            cosigned_note: signed.map_or(String::new(), |signed| signed.note.to_string()),
            standing: standing.into(),
            reason,
            max_batches: AUDIT_BATCHES_OPEN_MAX as u32,
            openings_from: held.map_or(0, |journal| journal.openings_from),
            mirror_vkey,
            challenge,
        }))
    }
}

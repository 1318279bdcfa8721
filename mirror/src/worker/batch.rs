//! A batch of records: judged, stored, cosigned, acknowledged.

use super::{Held, WorkError, Worker, answers, now_ms};
use crate::journal::{Records, Step, Verdict, forks};
use crate::signer::{Last, SignError};
use crate::store::StoreError;
use cortex_log::audit::journal_key;
use cortex_model::limits::mirror::AUDIT_INVALID_MAX;
use cortex_model::proto as pb;
use pb::AuditRejectCode as Code;
use pb::audit_node_event::Kind;
use pb::mirror_reply::Body as Reply;

/// How often a batch is judged anew because another mirror was faster.
const TRIES: usize = 8;

impl Worker {
    pub(super) async fn batch(&mut self, log32: &str, batch: &pb::AuditBatch) -> Reply {
        for _ in 0..TRIES {
            match self.try_batch(log32, batch).await {
                Ok(reply) => return reply,
                Err(error) if error.is_conflict() => {
                    self.held.remove(log32);
                }
                Err(error) => {
                    self.held.remove(log32);
                    return self.unable(batch.id, batch.first_seq, &error);
                }
            }
        }
        answers::later(batch.id, batch.first_seq)
    }

    /// The log or the stored records are at fault, not the node: it is to try again later.
    pub(super) fn unable(&self, id: u64, from: u64, error: &WorkError) -> Reply {
        if let WorkError::Store(StoreError::Foreign(why)) = error {
            tracing::error!(node = self.node, why, "a node uploads the journal of another node");
            return answers::reject(id, Code::WrongKey, 0, why.clone(), Vec::new());
        }
        match error.damage() {
            Some(why) => tracing::error!(
                node = self.node,
                why,
                "nothing more is signed for this journal until its stored records are restored"
            ),
            None => {
                tracing::warn!(node = self.node, %error, "an upload was not stored; the node will send it again")
            }
        }
        answers::later(id, from)
    }

    async fn try_batch(&mut self, log32: &str, batch: &pb::AuditBatch) -> Result<Reply, WorkError> {
        if let Some(reply) = self.closed(log32, batch.id).await? {
            return Ok(reply);
        }
        let records = Records {
            first: batch.first_seq,
            count: batch.count,
            bytes: &batch.records,
            note: &batch.note,
        };
        let workspace = self.workspace.clone();
        let store = self.shared.store.clone();
        let held = self.journal(log32, false).await?;
        let older = store.leaves(&workspace, &held.journal, held.journal.wants(&records)).await?;
        match held.journal.examine(&records, &older) {
            Verdict::Gap => Ok(answers::resend(batch.id, held.journal.size())),
            Verdict::Known => {
                held.journal.invalid = 0;
                self.cosign(log32).await?;
                self.acknowledge(log32, batch)
            }
            Verdict::New(step) => {
                self.open(log32, &step).await?;
                self.take(log32, *step).await?;
                self.cosign(log32).await?;
                self.acknowledge(log32, batch)
            }
            Verdict::Invalid { seq, why } => self.invalid(log32, batch.id, seq, why).await,
            Verdict::WrongKey(why) => {
                self.suspect(
                    log32,
                    0,
                    format!("an upload was not signed by the journal's key: {why}"),
                )
                .await?;
                Ok(answers::reject(batch.id, Code::WrongKey, 0, why, Vec::new()))
            }
            Verdict::Foreign(why) => {
                Ok(answers::reject(batch.id, Code::WrongKey, 0, why, Vec::new()))
            }
            Verdict::Differs { seq } => {
                let before = store.frontier(&workspace, &held.journal, records.first).await?;
                if !forks(before, &records) {
                    let why = format!("record {seq} differs and was not signed");
                    return self.invalid(log32, batch.id, seq, why).await;
                }
                let why = format!("two different records {seq} were signed");
                self.forked(log32, batch, seq, why).await
            }
            Verdict::Fork { seq, why } => self.forked(log32, batch, seq, why).await,
        }
    }

    /// Of a journal that is closed or contradicts itself nothing more is taken.
    pub(super) async fn closed(
        &mut self,
        log32: &str,
        id: u64,
    ) -> Result<Option<Reply>, WorkError> {
        let state = self.state().await?;
        let known = state.logs.iter().find(|(log, _)| log.starts_with(log32));
        let Some((_, log)) = known else { return Ok(None) };
        if log.quarantined {
            let found = state.quarantine.clone().unwrap_or_default();
            let reply =
                answers::reject(id, Code::Quarantined, found.seq, found.reason, found.notes);
            return Ok(Some(reply));
        }
        Ok(log.retired.clone().map(|why| {
            let why = format!("the journal is closed: {why}");
            answers::reject(id, Code::Quarantined, 0, why, Vec::new())
        }))
    }

    /// Notes a journal that is seen for the first time, and what it says about the one before.
    async fn open(&mut self, log32: &str, step: &Step) -> Result<(), WorkError> {
        let Some(genesis) = &step.genesis else { return Ok(()) };
        let before = self.state().await?.current.clone();
        let log = step.log().to_string();
        let predecessor = genesis.pred.as_ref().map_or(String::new(), |pred| pred.log.to_string());
        let vkey = step.vkey().to_string();
        let mut kinds = vec![Kind::LogOpened(pb::AuditLogOpened {
            log: log.clone(),
            vkey,
            predecessor: predecessor.clone(),
        })];
        if !before.is_empty() && before != log {
            kinds.extend(self.follows(&before, &log, genesis).await?);
        }
        tracing::info!(node = self.node, log32, predecessor, "a journal begins");
        self.note(kinds).await
    }

    /// A journal that names exactly what is cosigned of the one before closes it. Anything else is for a person to judge.
    async fn follows(
        &mut self,
        before: &str,
        log: &str,
        genesis: &cortex_audit::record::Genesis,
    ) -> Result<Vec<Kind>, WorkError> {
        let suspect = |reason: String| {
            vec![Kind::Suspected(pb::AuditSuspected { log: log.to_owned(), reason, seq: 0 })]
        };
        let quarantined = self.state().await?.quarantine.is_some();
        let log32: String = before.chars().take(32).collect();
        let held = self.journal(&log32, true).await?;
        let (size, root) = match &held.journal.signed {
            Some(signed) => (signed.size, signed.root),
            None => (held.journal.size(), held.journal.root()),
        };
        let Some(pred) = genesis.pred.as_ref().filter(|pred| pred.log.to_string() == before) else {
            return Ok(suspect(format!(
                "a new journal began, and the one before, {log32}, was not closed"
            )));
        };
        let same = pred.size == size && pred.root.0 == root.0;
        if quarantined {
            return Ok(suspect("a new journal began while the node was quarantined".into()));
        }
        if !same {
            let why = format!(
                "a new journal follows {log32} from size {}, but {size} records were cosigned",
                pred.size
            );
            return Ok(suspect(why));
        }
        Ok(vec![Kind::LogRetired(pb::AuditLogRetired {
            log: before.to_owned(),
            size,
            successor: log.to_owned(),
            by: None,
            reason: format!("followed by {log}: {}", pred.reason),
        })])
    }

    /// Stores a batch.
    async fn take(&mut self, log32: &str, step: Step) -> Result<(), WorkError> {
        let Some(Held { journal, .. }) = self.held.get_mut(log32) else { return Ok(()) };
        let rev = self.shared.store.append_batch(&self.workspace, journal, &step).await?;
        metrics::counter!("cortex_audit_records_total").increment(step.count.into());
        journal.apply(step, rev);
        journal.invalid = 0;
        self.dirty = true;
        Ok(())
    }

    /// Cosigns what is stored, if that is more than was cosigned.
    pub(super) async fn cosign(&mut self, log32: &str) -> Result<(), WorkError> {
        let Some(Held { journal, signed_rev, .. }) = self.held.get_mut(log32) else {
            return Ok(());
        };
        let Some(note) = journal.signable().cloned() else { return Ok(()) };
        // What will be signed is what the log gives back, not what is in memory.
        let key = journal_key(&self.workspace, log32)?;
        if self.shared.store.log.last(&key).await?.map_or(0, |last| last.rev) != journal.last_rev()
        {
            return Err(SignError::Conflict.into());
        }
        let Last { signed, rev } =
            self.shared.signer.sign(journal, note, *signed_rev, now_ms() / 1_000).await?;
        journal.signed = signed;
        *signed_rev = rev;
        self.dirty = true;
        Ok(())
    }

    fn acknowledge(&self, log32: &str, batch: &pb::AuditBatch) -> Result<Reply, WorkError> {
        let Some(Held { journal, .. }) = self.held.get(log32) else {
            return Err(SignError::Conflict.into());
        };
        let end = batch.first_seq + u64::from(batch.count);
        match &journal.signed {
            Some(signed) if signed.size >= end => Ok(Reply::Ack(pb::AuditAck {
                id: batch.id,
                cosigned_note: signed.note.to_string(),
                resume_from: journal.size(),
            })),
            // Known records whose batch end has no note of its own yet.
            Some(_) | None => Ok(answers::later(batch.id, batch.first_seq)),
        }
    }

    async fn invalid(
        &mut self,
        log32: &str,
        id: u64,
        seq: u64,
        why: String,
    ) -> Result<Reply, WorkError> {
        let mut in_a_row = 0;
        if let Some(held) = self.held.get_mut(log32) {
            held.journal.invalid += 1;
            in_a_row = held.journal.invalid;
        }
        tracing::warn!(node = self.node, log32, seq, why, in_a_row, "an upload is invalid");
        if in_a_row >= AUDIT_INVALID_MAX {
            self.suspect(log32, seq, format!("{in_a_row} uploads in a row were invalid: {why}"))
                .await?;
        }
        Ok(answers::reject(id, Code::Invalid, seq, why, Vec::new()))
    }

    pub(super) async fn suspect(
        &mut self,
        log32: &str,
        seq: u64,
        reason: String,
    ) -> Result<(), WorkError> {
        let log = self.full(log32);
        self.note(vec![Kind::Suspected(pb::AuditSuspected { log, reason, seq })]).await
    }

    /// The journal's full id, as its records or the node's history tell.
    pub(super) fn full(&self, log32: &str) -> String {
        let known = self.held.get(log32).and_then(|held| held.journal.log());
        let known = known.map(|log| log.to_string()).or_else(|| {
            let logs = self.state.iter().flat_map(|state| state.logs.keys());
            logs.into_iter().find(|log| log.starts_with(log32)).cloned()
        });
        known.unwrap_or_else(|| log32.to_owned())
    }

    /// Keeps both notes and the records of the branch that was refused: evidence that needs no trust in the mirror.
    async fn forked(
        &mut self,
        log32: &str,
        batch: &pb::AuditBatch,
        seq: u64,
        reason: String,
    ) -> Result<Reply, WorkError> {
        let notes = self.evidence_notes(log32, &batch.note);
        let found = pb::AuditQuarantined {
            log: self.full(log32),
            code: Code::Fork.into(),
            reason: reason.clone(),
            seq,
            notes: notes.clone(),
            records: batch.records.to_vec(),
            records_first_seq: batch.first_seq,
        };
        tracing::error!(
            node = self.node,
            log32,
            seq,
            "FORK: the node's key signed two histories; it gets no work until an operator settles it"
        );
        self.note(vec![Kind::Quarantined(found)]).await?;
        Ok(answers::reject(batch.id, Code::Fork, seq, reason, notes))
    }

    /// What the mirror holds of a journal, and what contradicts it.
    pub(super) fn evidence_notes(&self, log32: &str, other: &str) -> Vec<String> {
        let held = self.held.get(log32).map(|held| &held.journal);
        let cosigned =
            held.and_then(|journal| journal.signed.as_ref()).map(|signed| signed.note.to_string());
        let stored = held.and_then(|journal| journal.note.as_ref()).map(ToString::to_string);
        let mut notes: Vec<String> = cosigned.into_iter().chain(stored).collect();
        notes.push(other.to_owned());
        notes
    }
}

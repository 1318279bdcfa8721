//! The smaller answers: openings, evidence, where a record lies, what an operator settled.

use super::{WorkError, Worker};
use crate::journal::HeadCheck;
use cortex_audit::key::presence_text;
use cortex_audit::{Opening, SignedNote, VerifierKey};
use cortex_model::limits::mirror::{
    AUDIT_BATCH_RECORDS_MAX, AUDIT_OPENINGS_BYTES_MAX, AUDIT_STORE_RETRY_MS,
};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use pb::AuditRejectCode;
use pb::audit_node_event::Kind;
use pb::mirror_reply::Body as Reply;
use std::collections::BTreeSet;

/// Send again from there, at once.
pub(super) fn resend(id: u64, from: u64) -> Reply {
    Reply::Resend(pb::AuditResend { id, from, after_ms: 0 })
}

/// Send again from there, after a pause: the log does not take it now.
pub(super) fn later(id: u64, from: u64) -> Reply {
    Reply::Resend(pb::AuditResend { id, from, after_ms: AUDIT_STORE_RETRY_MS })
}

pub(super) fn reject(
    id: u64,
    code: AuditRejectCode,
    seq: u64,
    detail: String,
    evidence_notes: Vec<String>,
) -> Reply {
    Reply::Reject(pb::AuditReject { id, code: code.into(), seq, detail, evidence_notes })
}

pub(super) fn malformed(what: &str) -> Reply {
    error(&Fault::new(Code::Malformed, what))
}

fn error(fault: &Fault) -> Reply {
    Reply::Error(fault.into())
}

fn failed(e: &WorkError) -> Reply {
    error(&Fault::new(Code::LogUnavailable, e.to_string()))
}

impl Worker {
    /// Openings of records that are stored, in order and without a gap.
    pub(super) async fn openings(&mut self, log32: &str, openings: &pb::AuditOpenings) -> Reply {
        match self.try_openings(log32, openings).await {
            Ok(reply) => reply,
            Err(e) => self.unable(openings.id, openings.first_seq, &e),
        }
    }

    async fn try_openings(
        &mut self,
        log32: &str,
        openings: &pb::AuditOpenings,
    ) -> Result<Reply, WorkError> {
        if let Some(reply) = self.closed(log32, openings.id).await? {
            return Ok(reply);
        }
        let (store, workspace) = (self.shared.store.clone(), self.workspace.clone());
        let held = self.journal(log32, false).await?;
        let (from, size) = (held.journal.openings_from, held.journal.size());
        let end = openings.first_seq.saturating_add(u64::from(openings.count));
        if openings.openings.len() > AUDIT_OPENINGS_BYTES_MAX
            || openings.count > AUDIT_BATCH_RECORDS_MAX
        {
            let (id, seq) = (openings.id, openings.first_seq);
            let why = "more openings than one upload may have".to_owned();
            return Ok(reject(id, AuditRejectCode::TooLarge, seq, why, Vec::new()));
        }
        if openings.first_seq > from || end > size {
            return Ok(resend(openings.id, from));
        }
        let (mut wanted, range) = (Commitments::new(), openings.first_seq..end);
        store
            .lines(&workspace, &held.journal, range.clone(), |seq, line| {
                if range.contains(&seq) {
                    wanted.extend(commitments(line).map(|commitment| (seq, commitment)));
                }
            })
            .await?;
        if let Err(why) = fitting(openings, wanted) {
            let (id, seq) = (openings.id, openings.first_seq);
            return Ok(reject(id, AuditRejectCode::Invalid, seq, why, Vec::new()));
        }
        if end > from {
            held.journal.openings_from = store.put_openings(log32, openings).await?;
        }
        let openings_from = held.journal.openings_from;
        Ok(Reply::OpeningsAck(pb::AuditOpeningsAck { id: openings.id, openings_from }))
    }

    /// Notes that the node says contradict each other. Only two that the journal's own key signed prove anything.
    pub(super) async fn evidence(&mut self, log32: &str, evidence: &pb::AuditEvidence) -> Reply {
        match self.try_evidence(log32, evidence).await {
            Ok(()) => Reply::EvidenceAck(pb::AuditEvidenceAck { id: evidence.id }),
            Err(e) => self.unable(evidence.id, 0, &e),
        }
    }

    async fn try_evidence(
        &mut self,
        log32: &str,
        evidence: &pb::AuditEvidence,
    ) -> Result<(), WorkError> {
        let key = self.journal(log32, false).await?.journal.vkey().cloned();
        let proven = key.as_ref().is_some_and(|key| contradict(&evidence.notes, key));
        let reason: String = evidence.reason.chars().take(512).collect();
        if !proven {
            if let Some(note) = key.and_then(|key| self.presence(log32, evidence, &key)) {
                return self.set_back(log32, &note).await;
            }
            return self.suspect(log32, 0, format!("the node reports: {reason}")).await;
        }
        let found = pb::AuditQuarantined {
            log: self.full(log32),
            code: AuditRejectCode::Fork.into(),
            reason: format!("the node shows two histories that its key signed: {reason}"),
            seq: 0,
            notes: evidence.notes.clone(),
            records: Vec::new(),
            records_first_seq: 0,
        };
        self.note(vec![Kind::Quarantined(found)]).await
    }

    /// The checkpoint at which the node says that its journal stands, over the challenge that it was given last.
    fn presence(
        &mut self,
        log32: &str,
        evidence: &pb::AuditEvidence,
        key: &VerifierKey,
    ) -> Option<SignedNote> {
        // Each counts once.
        let challenge = std::mem::take(&mut self.held.get_mut(log32)?.challenge);
        let signature: &[u8; 64] = evidence.presence.as_slice().try_into().ok()?;
        if challenge.is_empty() || challenge != evidence.challenge {
            return None;
        }
        let notes =
            evidence.notes.iter().filter_map(|text| SignedNote::parse(text.as_bytes()).ok());
        notes
            .filter(|note| note.verify_log(key).is_ok())
            .find(|note| key.key().verifies(&presence_text(&challenge, note.text()), signature))
    }

    /// The node itself says that its journal ends where it does.
    async fn set_back(&mut self, log32: &str, note: &SignedNote) -> Result<(), WorkError> {
        let size = note.checkpoint().size;
        let cosigned = self.held.get(log32).map_or(0, |held| held.journal.cosigned());
        let (code, seq, why) = match self.check_head(log32, note).await? {
            HeadCheck::Behind => {
                let why = format!(
                    "the journal has {size} records, but {cosigned} were cosigned: it was rolled back"
                );
                (AuditRejectCode::Rollback, size, why)
            }
            HeadCheck::Fork => {
                let why = format!("two histories of {size} records were signed");
                (AuditRejectCode::Fork, size.saturating_sub(1), why)
            }
            HeadCheck::Fits | HeadCheck::WrongKey => return Ok(()),
        };
        self.contradicted(log32, &note.to_string(), code, seq, why).await.map(drop)
    }

    pub(super) async fn locate(&mut self, log32: &str, seq: u64) -> Reply {
        match self.journal(log32, false).await {
            Ok(held) => {
                let revision = held.journal.batch_of(seq).map_or(0, |batch| batch.rev);
                Reply::Located(pb::MirrorLocated { revision })
            }
            Err(e) => failed(&e),
        }
    }

    pub(super) async fn settle(&mut self, settle: &pb::MirrorSettle) -> Reply {
        match self.try_settle(settle).await {
            Ok(Some(fault)) => error(&fault),
            Ok(None) => Reply::Settled(pb::MirrorSettled { node: Some(self.audit()) }),
            Err(e) => failed(&e),
        }
    }

    async fn try_settle(&mut self, settle: &pb::MirrorSettle) -> Result<Option<Fault>, WorkError> {
        let state = self.state().await?;
        if state.logs.is_empty() {
            return Ok(Some(Fault::new(Code::NoAudit, "this node never uploaded a journal")));
        }
        if settle.retire_log.is_empty() {
            let settled = pb::AuditSettled { by: settle.by.clone(), reason: settle.reason.clone() };
            self.note(vec![Kind::Settled(settled)]).await?;
        } else {
            let named = state.logs.keys().find(|log| log.starts_with(&settle.retire_log)).cloned();
            let Some(log) = named.filter(|_| settle.retire_log.len() >= 32) else {
                let text = format!("this node has no journal {}", settle.retire_log);
                return Ok(Some(Fault::new(Code::NoAudit, text)));
            };
            let log32: String = log.chars().take(32).collect();
            let size = self.journal(&log32, true).await?.journal.cosigned();
            let (by, reason) = (settle.by.clone(), settle.reason.clone());
            let retired = pb::AuditLogRetired { log, size, successor: String::new(), by, reason };
            self.note(vec![Kind::LogRetired(retired)]).await?;
        }
        self.publish().await;
        Ok(None)
    }
}

/// Record and commitment, as the text in `$c`.
type Commitments = BTreeSet<(u64, String)>;

/// The commitments of a record, found in its bytes: canonical JSON spells one in one way only, and never so inside of a string.
fn commitments(line: &[u8]) -> impl Iterator<Item = String> {
    const BEGIN: &str = "{\"$c\":\"";
    let text = String::from_utf8_lossy(line);
    let found: Vec<String> = text
        .match_indices(BEGIN)
        .filter_map(|(at, _)| text.get(at + BEGIN.len()..)?.split('"').next())
        .map(str::to_owned)
        .collect();
    found.into_iter()
}

/// Lines "<seq> <opening>", ascending, each of which opens a commitment of its record that no other line opens. So no more is
/// ever stored than the records themselves call for.
fn fitting(openings: &pb::AuditOpenings, mut wanted: Commitments) -> Result<(), String> {
    if openings.openings.is_empty() {
        return Ok(());
    }
    let text = openings.openings.strip_suffix(b"\n").and_then(|b| std::str::from_utf8(b).ok());
    let text = text.ok_or("openings are not lines of text")?;
    let mut at = openings.first_seq;
    for line in text.split('\n') {
        let split = line.split_once(' ');
        let split = split.and_then(|(seq, opening)| Some((seq.parse::<u64>().ok()?, opening)));
        let Some((seq, opening)) = split.filter(|(seq, _)| *seq >= at) else {
            return Err("openings are not of these records, in their order".into());
        };
        let commitment = Opening::from_stored(opening).commitment().as_str().to_owned();
        if !wanted.remove(&(seq, commitment)) {
            return Err(format!("an opening opens nothing of record {seq}, or opens it again"));
        }
        at = seq;
    }
    Ok(())
}

/// Whether two of these notes, signed by this key, have one size and two roots.
fn contradict(notes: &[String], key: &VerifierKey) -> bool {
    let read = |text: &String| SignedNote::parse(text.as_bytes()).ok();
    let signed: Vec<SignedNote> =
        notes.iter().filter_map(read).filter(|note| note.verify_log(key).is_ok()).collect();
    signed.iter().any(|a| {
        let a = a.checkpoint();
        signed.iter().any(|b| a.size == b.checkpoint().size && a.root != b.checkpoint().root)
    })
}

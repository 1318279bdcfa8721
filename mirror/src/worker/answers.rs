//! The smaller answers: openings, evidence, where a record lies, what an operator settled.

use super::{WorkError, Worker};
use cortex_audit::{SignedNote, VerifierKey};
use cortex_model::limits::mirror::AUDIT_STORE_RETRY_MS;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use pb::AuditRejectCode;
use pb::audit_node_event::Kind;
use pb::mirror_reply::Body as Reply;

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
        let store = self.shared.store.clone();
        let held = self.journal(log32, false).await?;
        let (from, size) = (held.journal.openings_from, held.journal.size());
        let end = openings.first_seq + u64::from(openings.count);
        if openings.first_seq > from || end > size {
            return Ok(resend(openings.id, from));
        }
        if let Some(why) = misplaced(openings) {
            return Ok(reject(
                openings.id,
                AuditRejectCode::Invalid,
                openings.first_seq,
                why,
                Vec::new(),
            ));
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
        let proven = key.is_some_and(|key| contradict(&evidence.notes, &key));
        let reason: String = evidence.reason.chars().take(512).collect();
        if !proven {
            return self.suspect(log32, 0, format!("the node reports: {reason}")).await;
        }
        let found = pb::AuditQuarantined {
            log: self
                .held
                .get(log32)
                .and_then(|h| h.journal.log())
                .map_or(String::new(), |l| l.to_string()),
            code: AuditRejectCode::Fork.into(),
            reason: format!("the node shows two histories that its key signed: {reason}"),
            seq: 0,
            notes: evidence.notes.clone(),
            records: Vec::new(),
            records_first_seq: 0,
        };
        self.note(vec![Kind::Quarantined(found)]).await
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

/// Lines "<seq> <opening>" of the range, ascending.
fn misplaced(openings: &pb::AuditOpenings) -> Option<String> {
    if openings.openings.is_empty() {
        return None;
    }
    let Some(text) =
        openings.openings.strip_suffix(b"\n").and_then(|b| std::str::from_utf8(b).ok())
    else {
        return Some("openings are not lines of text".into());
    };
    let (mut at, end) = (openings.first_seq, openings.first_seq + u64::from(openings.count));
    for line in text.split('\n') {
        let seq = line.split_once(' ').and_then(|(seq, opening)| {
            let plain = !opening.is_empty() && opening.bytes().all(|b| b.is_ascii_graphic());
            seq.parse::<u64>().ok().filter(|_| plain)
        });
        match seq {
            Some(seq) if seq >= at && seq < end => at = seq,
            Some(_) | None => {
                return Some("openings are not of these records, in their order".into());
            }
        }
    }
    None
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

//! The audit's part of a connection, for both ends: uploads with ids, each answered exactly once, and how many may be
//! open. It carries notes and records without looking into them, and nothing here outlives the connection.

use crate::error::ProtocolError;
use cortex_model::limits::mirror::{
    AUDIT_BATCH_BYTES_MAX, AUDIT_BATCH_RECORDS_MAX, AUDIT_BATCHES_OPEN_MAX, AUDIT_CHALLENGE_MAX,
    AUDIT_EVIDENCE_NOTES_MAX, AUDIT_EVIDENCE_OPEN_MAX, AUDIT_NOTE_MAX, AUDIT_OPENINGS_BYTES_MAX,
    AUDIT_OPENINGS_OPEN_MAX, AUDIT_REASON_MAX, AUDIT_VKEY_MAX,
};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AuditAck, AuditBatch, AuditEncoding, AuditEvidence, AuditEvidenceAck, AuditHello,
    AuditOpenings, AuditOpeningsAck, AuditReject, AuditResend, AuditStanding, AuditState,
};
use std::collections::BTreeMap;
use thiserror::Error;

/// What an agent says about its journal.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditUp {
    /// Opens the audit of this connection.
    Hello(AuditHello),
    /// Records.
    Batch(AuditBatch),
    /// The values behind their commitments.
    Openings(AuditOpenings),
    /// Checkpoints that contradict each other.
    Evidence(AuditEvidence),
}

/// What the mirror says, through a gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditDown {
    /// Where the log stands; replaces what was said before.
    State(AuditState),
    /// A batch is stored.
    Ack(AuditAck),
    /// An upload was not taken; send again.
    Resend(AuditResend),
    /// An upload, or the hello, was refused.
    Reject(AuditReject),
    /// Openings are stored.
    OpeningsAck(AuditOpeningsAck),
    /// Evidence is stored.
    EvidenceAck(AuditEvidenceAck),
}

/// Why something of the audit was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuditError {
    /// There is no welcomed peer, or no longer.
    #[error("the tunnel is not up")]
    NotUp,
    /// The hello comes first, once, and uploads follow the answer to it.
    #[error("it is not its turn")]
    NotNow,
    /// As many are unanswered as may be.
    #[error("too many are unanswered on this tunnel")]
    Full,
    /// No upload with this id waits for such an answer.
    #[error("no upload waits for this answer")]
    NotAsked,
    /// A part of it is missing or out of its range.
    #[error("bad {0}")]
    Bad(&'static str),
}

/// How many uploads of each kind may be made now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditRoom {
    /// Batches.
    pub batches: usize,
    /// Openings.
    pub openings: usize,
    /// Evidence.
    pub evidence: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Batch,
    Openings,
    Evidence,
}

impl Kind {
    const fn limit(self) -> usize {
        match self {
            Kind::Batch => AUDIT_BATCHES_OPEN_MAX,
            Kind::Openings => AUDIT_OPENINGS_OPEN_MAX,
            Kind::Evidence => AUDIT_EVIDENCE_OPEN_MAX,
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Kind::Batch => "audit batches not answered",
            Kind::Openings => "audit openings not answered",
            Kind::Evidence => "audit evidence not answered",
        }
    }
}

/// Uploads without an answer, on either side.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    open: BTreeMap<u64, Kind>,
    last_id: u64,
}

impl Uploads {
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.open.values().filter(|open| **open == kind).count()
    }

    /// The agent's side: gives the next upload its id.
    pub(crate) fn begin(&mut self, kind: Kind) -> u64 {
        self.last_id += 1;
        self.open.insert(self.last_id, kind);
        self.last_id
    }

    /// The gateway's side: takes an upload in. Ids only grow, so that none can come twice.
    pub(crate) fn received(&mut self, id: u64, kind: Kind) -> Result<(), ProtocolError> {
        if id <= self.last_id {
            return Err(ProtocolError::BadField { frame: "audit upload", field: "id" });
        }
        if self.count(kind) >= kind.limit() {
            return Err(ProtocolError::TooMany { what: kind.what(), limit: kind.limit() });
        }
        self.last_id = id;
        self.open.insert(id, kind);
        Ok(())
    }

    /// Takes the upload out that this answers. False if there is none such.
    pub(crate) fn answered(&mut self, answer: &AuditDown) -> bool {
        let (id, wanted) = match answer {
            // Not an answer to an upload.
            AuditDown::State(_) | AuditDown::Reject(AuditReject { id: 0, .. }) => return true,
            AuditDown::Ack(ack) => (ack.id, Some(Kind::Batch)),
            AuditDown::OpeningsAck(ack) => (ack.id, Some(Kind::Openings)),
            AuditDown::EvidenceAck(ack) => (ack.id, Some(Kind::Evidence)),
            AuditDown::Resend(resend) => (resend.id, None),
            AuditDown::Reject(reject) => (reject.id, None),
        };
        match self.open.get(&id) {
            Some(kind) if wanted.is_none_or(|wanted| wanted == *kind) => {
                self.open.remove(&id);
                true
            }
            Some(_) | None => false,
        }
    }
}

/// What the agent may still send, beside what it sent.
#[derive(Debug, Default)]
pub(crate) struct AgentSide {
    pub(crate) greeted: bool,
    /// The answer to the hello came.
    pub(crate) known: bool,
    pub(crate) batches: usize,
    pub(crate) uploads: Uploads,
}

impl AgentSide {
    pub(crate) fn room(&self) -> AuditRoom {
        if !self.known {
            return AuditRoom::default();
        }
        let free = |kind: Kind, most: usize| most.saturating_sub(self.uploads.count(kind));
        AuditRoom {
            batches: free(Kind::Batch, self.batches),
            openings: free(Kind::Openings, AUDIT_OPENINGS_OPEN_MAX),
            evidence: free(Kind::Evidence, AUDIT_EVIDENCE_OPEN_MAX),
        }
    }

    pub(crate) fn state(&mut self, state: &AuditState) {
        self.known = true;
        self.batches = (state.max_batches as usize).min(AUDIT_BATCHES_OPEN_MAX);
    }
}

impl AuditUp {
    pub(crate) fn into_body(self) -> Up {
        match self {
            AuditUp::Hello(hello) => Up::AuditHello(hello),
            AuditUp::Batch(batch) => Up::AuditBatch(batch),
            AuditUp::Openings(openings) => Up::AuditOpenings(openings),
            AuditUp::Evidence(evidence) => Up::AuditEvidence(evidence),
        }
    }

    /// The id and kind of an upload; none for the hello.
    pub(crate) fn upload(&self) -> Option<(u64, Kind)> {
        match self {
            AuditUp::Hello(_) => None,
            AuditUp::Batch(batch) => Some((batch.id, Kind::Batch)),
            AuditUp::Openings(openings) => Some((openings.id, Kind::Openings)),
            AuditUp::Evidence(evidence) => Some((evidence.id, Kind::Evidence)),
        }
    }

    /// The frame's name in errors.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            AuditUp::Hello(_) => "audit_hello",
            AuditUp::Batch(_) => "audit_batch",
            AuditUp::Openings(_) => "audit_openings",
            AuditUp::Evidence(_) => "audit_evidence",
        }
    }

    /// What one frame alone can show.
    pub(crate) fn check(&self) -> Result<(), AuditError> {
        match self {
            AuditUp::Hello(hello) => check_hello(hello),
            AuditUp::Batch(batch) => check_batch(batch),
            AuditUp::Openings(openings) => check_openings(openings),
            AuditUp::Evidence(evidence) => check_evidence(evidence),
        }
    }
}

impl AuditDown {
    pub(crate) fn into_body(self) -> Down {
        match self {
            AuditDown::State(state) => Down::AuditState(state),
            AuditDown::Ack(ack) => Down::AuditAck(ack),
            AuditDown::Resend(resend) => Down::AuditResend(resend),
            AuditDown::Reject(reject) => Down::AuditReject(reject),
            AuditDown::OpeningsAck(ack) => Down::AuditOpeningsAck(ack),
            AuditDown::EvidenceAck(ack) => Down::AuditEvidenceAck(ack),
        }
    }

    /// What one frame alone can show. Notes are checked by whoever holds the keys.
    pub(crate) fn check(&self) -> Result<(), AuditError> {
        match self {
            AuditDown::State(state) => {
                match AuditStanding::try_from(state.standing) {
                    Ok(
                        AuditStanding::Active
                        | AuditStanding::Suspect
                        | AuditStanding::Quarantined
                        | AuditStanding::Retired,
                    ) => {}
                    Ok(AuditStanding::Unspecified) | Err(_) => {
                        return Err(AuditError::Bad("standing"));
                    }
                }
                if state.challenge.len() > AUDIT_CHALLENGE_MAX {
                    return Err(AuditError::Bad("challenge"));
                }
                note("cosigned_note", &state.cosigned_note, true)
            }
            AuditDown::Ack(ack) => note("cosigned_note", &ack.cosigned_note, false),
            AuditDown::Reject(reject) => notes("evidence_notes", &reject.evidence_notes),
            AuditDown::Resend(_) | AuditDown::OpeningsAck(_) | AuditDown::EvidenceAck(_) => Ok(()),
        }
    }
}

fn check_hello(hello: &AuditHello) -> Result<(), AuditError> {
    if hello.vkey.is_empty() || hello.vkey.len() > AUDIT_VKEY_MAX {
        return Err(AuditError::Bad("vkey"));
    }
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if hello.log.len() != 64 || !hello.log.bytes().all(hex) {
        return Err(AuditError::Bad("log"));
    }
    if hello.session_nonce.len() != 16 {
        return Err(AuditError::Bad("session_nonce"));
    }
    note("head_note", &hello.head_note, false)?;
    note("newest_cosigned", &hello.newest_cosigned, true)
}

fn check_batch(batch: &AuditBatch) -> Result<(), AuditError> {
    range(batch.first_seq, batch.count)?;
    match AuditEncoding::try_from(batch.encoding) {
        Ok(AuditEncoding::Ndjson) => {}
        Ok(AuditEncoding::Unspecified) | Err(_) => return Err(AuditError::Bad("encoding")),
    }
    if batch.records.is_empty() || batch.records.len() > AUDIT_BATCH_BYTES_MAX {
        return Err(AuditError::Bad("records"));
    }
    note("note", &batch.note, false)
}

fn check_openings(openings: &AuditOpenings) -> Result<(), AuditError> {
    range(openings.first_seq, openings.count)?;
    if openings.openings.len() > AUDIT_OPENINGS_BYTES_MAX {
        return Err(AuditError::Bad("openings"));
    }
    Ok(())
}

fn check_evidence(evidence: &AuditEvidence) -> Result<(), AuditError> {
    if evidence.reason.len() > AUDIT_REASON_MAX {
        return Err(AuditError::Bad("reason"));
    }
    if evidence.challenge.len() > AUDIT_CHALLENGE_MAX {
        return Err(AuditError::Bad("challenge"));
    }
    if !matches!(evidence.presence.len(), 0 | 64) {
        return Err(AuditError::Bad("presence"));
    }
    if evidence.notes.is_empty() {
        return Err(AuditError::Bad("notes"));
    }
    notes("notes", &evidence.notes)
}

fn range(first: u64, count: u32) -> Result<(), AuditError> {
    if count == 0 || count > AUDIT_BATCH_RECORDS_MAX {
        return Err(AuditError::Bad("count"));
    }
    match first.checked_add(count.into()) {
        Some(_) => Ok(()),
        None => Err(AuditError::Bad("first_seq")),
    }
}

fn notes(field: &'static str, all: &[String]) -> Result<(), AuditError> {
    if all.len() > AUDIT_EVIDENCE_NOTES_MAX {
        return Err(AuditError::Bad(field));
    }
    all.iter().try_for_each(|one| note(field, one, false))
}

fn note(field: &'static str, text: &str, may_be_empty: bool) -> Result<(), AuditError> {
    if text.len() > AUDIT_NOTE_MAX || (text.is_empty() && !may_be_empty) {
        return Err(AuditError::Bad(field));
    }
    Ok(())
}

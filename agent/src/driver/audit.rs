//! The journal's way upstream: what is sent when there is room, and what is done with the mirror's answers. Nothing is
//! believed here: the journal judges each note, and only what it has stored counts.

use super::Driver;
use crate::journal::{Cursor, Journal, JournalError};
use cortex_agent_core::upload::{Sent, Upload};
use cortex_audit::{SignedNote, VerifierKey};
use cortex_model::limits::mirror::{AUDIT_REASON_MAX, AUDIT_RETRY_MAX_MS};
use cortex_model::proto::{AuditEvidence, AuditReject, AuditRejectCode, AuditStanding, AuditState};
use cortex_model::{Code, Tick};
use cortex_tunnel::AuditDown;
use tokio::sync::{mpsc, watch};

/// Answers that are being stored.
const KEPT: usize = 64;

/// Something that was stored, or could not be.
#[derive(Debug)]
pub(super) enum Kept {
    /// A note, or how far openings are.
    Answer(Result<(), JournalError>),
    /// The mirror's key.
    Pin(Result<(), JournalError>),
}

/// What the driver holds for it.
pub(super) struct Audit {
    upload: Upload,
    cursor: Cursor,
    stored: watch::Receiver<u64>,
    keep: mpsc::Sender<Kept>,
    kept: mpsc::Receiver<Kept>,
    /// Evidence that the mirror has not answered.
    evidence: Vec<(String, Vec<String>)>,
    /// What the mirror wants signed when the journal is shorter than it should be; of this connection.
    challenge: Vec<u8>,
    /// From which record and opening this connection goes on once the mirror's key is pinned: before that no acknowledgement could be
    /// believed.
    after_pin: Option<(u64, u64)>,
}

impl Audit {
    pub(super) fn new(journal: &Journal) -> Self {
        let (keep, kept) = mpsc::channel(KEPT);
        Self {
            upload: Upload::default(),
            cursor: Cursor::default(),
            stored: journal.follow_stored(),
            keep,
            kept,
            evidence: Vec::new(),
            challenge: Vec::new(),
            after_pin: None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Tick> {
        self.upload.poll_timeout()
    }

    /// Resolves when there may be more to send, or an answer was stored. May be dropped while it waits.
    pub(super) async fn wait(&mut self) -> Option<Kept> {
        tokio::select! {
            kept = self.kept.recv() => kept,
            changed = self.stored.changed() => match changed {
                Ok(()) => None,
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Driver {
    /// A connection is up.
    pub(super) fn audit_open(&mut self, server_ms: u64) {
        self.audit.upload.begin();
        self.audit.challenge.clear();
        self.audit.after_pin = None;
        let own = i64::try_from(crate::clock::unix_now().0).unwrap_or(i64::MAX);
        let server = i64::try_from(server_ms).unwrap_or(i64::MAX);
        self.started.journal.set_skew_ms(own.saturating_sub(server));
        match self.started.journal.audit_hello() {
            Ok(hello) => {
                if let Err(error) = self.end.audit_hello(hello) {
                    tracing::error!(%error, "the audit could not be opened");
                }
            }
            Err(error) => tracing::warn!(%error, "the audit is not opened"),
        }
    }

    /// Sends as much as there is room for.
    pub(super) fn audit_send(&mut self, now: Tick) {
        self.audit_evidence();
        let journal = self.started.journal.clone();
        self.audit.upload.handle_timeout(now);
        let stored = *self.audit.stored.borrow_and_update();
        self.audit.upload.stored(stored, now);
        while self.end.audit_room().batches > 0
            && let Some(from) = self.audit.upload.records(now)
        {
            let batch = match journal.batch(from, &mut self.audit.cursor) {
                Ok(batch) => batch,
                Err(error) => return self.audit_stop(&error),
            };
            let end = from + u64::from(batch.count);
            match self.end.audit_batch(batch) {
                Ok(id) => self.audit.upload.sent(id, Sent::Records(end)),
                Err(_) => return,
            }
        }
        let cosigned = journal.cosigned();
        while self.end.audit_room().openings > 0
            && let Some(from) = self.audit.upload.openings(cosigned, now)
        {
            let openings = match journal.openings(from, cosigned) {
                Ok(openings) => openings,
                Err(error) => return self.audit_stop(&error),
            };
            let end = from + u64::from(openings.count);
            match self.end.audit_openings(openings) {
                Ok(id) => self.audit.upload.sent(id, Sent::Openings(end)),
                Err(_) => return,
            }
        }
    }

    fn audit_stop(&mut self, error: &JournalError) {
        tracing::warn!(%error, "nothing more of the journal is sent on this connection");
        self.audit.upload.stop();
    }

    pub(super) fn audit_heard(&mut self, news: AuditDown) {
        match news {
            AuditDown::State(state) => {
                if self.audit_state(&state) {
                    self.audit_begin();
                }
            }
            AuditDown::Ack(ack) => {
                let end = match self.audit.upload.answered(ack.id) {
                    Some(Sent::Records(end)) => end,
                    Some(Sent::Openings(_) | Sent::Evidence) | None => return,
                };
                match self.started.journal.believe(&ack.cosigned_note) {
                    Ok(note) if note.checkpoint().size >= end => self.keep_note(note),
                    Ok(note) => {
                        let size = note.checkpoint().size;
                        tracing::error!(size, end, "an acknowledgement covers less than was sent");
                    }
                    Err(error) => tracing::error!(%error, "an acknowledgement is not one"),
                }
            }
            AuditDown::Resend(resend) => {
                let after = resend.after_ms.min(AUDIT_RETRY_MAX_MS);
                let now = self.ticks.now();
                self.audit.upload.resend(resend.id, resend.from, after.into(), now);
            }
            AuditDown::Reject(reject) => self.audit_rejected(&reject),
            AuditDown::OpeningsAck(ack) => {
                self.audit.upload.answered(ack.id);
                let (journal, keep) = (self.started.journal.clone(), self.audit.keep.clone());
                let below = ack.openings_from.min(journal.cosigned());
                tokio::spawn(async move {
                    let kept = journal.keep_openings_stored(below).await;
                    drop(keep.send(Kept::Answer(kept)).await);
                });
            }
            AuditDown::EvidenceAck(ack) => {
                self.audit.upload.answered(ack.id);
            }
        }
    }

    /// The session is written down now that nothing speaks against this journal. Work or a sign of life does the same before.
    fn audit_begin(&self) {
        let journal = self.started.journal.clone();
        if journal.contradicted() {
            return;
        }
        tokio::spawn(async move {
            if let Err(error) = journal.begin().await {
                tracing::error!(%error, "the session could not be recorded");
            }
        });
    }

    /// False if the journal is not what the mirror has seen of it, or that cannot be told.
    fn audit_state(&mut self, state: &AuditState) -> bool {
        let journal = self.started.journal.clone();
        let stop = |code, what: &str| {
            let why = format!("{what}: {}", state.reason);
            Some(JournalError::Refused { code, why })
        };
        journal.set_upstream_stop(match state.standing() {
            AuditStanding::Quarantined => {
                stop(Code::JournalForked, "the mirror has quarantined this node")
            }
            AuditStanding::Retired => stop(Code::JournalForked, "the mirror has retired this log"),
            AuditStanding::Unspecified | AuditStanding::Active | AuditStanding::Suspect => None,
        });
        self.audit.challenge.clone_from(&state.challenge);
        let pinned = match journal.mirror() {
            Ok(pinned) => pinned,
            Err(error) => {
                self.audit_stop(&error);
                return false;
            }
        };
        let offered = VerifierKey::parse(&state.mirror_vkey).ok();
        let note = state.cosigned_note.clone();
        let from = (state.resume_from, state.openings_from);
        let (None, Some(key)) = (&pinned, offered) else {
            self.audit.upload.state(from.0, from.1);
            return pinned.is_none() || self.audit_newest(&note);
        };
        self.audit.after_pin = Some(from);
        // The first mirror that this log meets is its mirror, unless the configuration has named one before.
        tracing::info!(mirror = key.name(), "pinning the mirror's key");
        let keep = self.audit.keep.clone();
        tokio::spawn(async move {
            let mut result = journal.pin_mirror(&key).await;
            if result.is_ok()
                && !note.is_empty()
                && let Ok(note) = journal.believe(&note)
            {
                result = journal.keep_cosigned(&note).await;
            }
            drop(keep.send(Kept::Pin(result)).await);
        });
        true
    }

    /// The newest cosigned checkpoint that the mirror knows must be one of this log.
    fn audit_newest(&mut self, note: &str) -> bool {
        if note.is_empty() {
            return true;
        }
        match self.started.journal.believe(note) {
            Ok(note) => {
                if note.checkpoint().size > self.started.journal.cosigned() {
                    self.keep_note(note);
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "the mirror's newest checkpoint is not believed");
                self.audit.upload.stop();
                false
            }
        }
    }

    fn keep_note(&mut self, note: SignedNote) {
        let (journal, keep) = (self.started.journal.clone(), self.audit.keep.clone());
        tokio::spawn(async move {
            drop(keep.send(Kept::Answer(journal.keep_cosigned(&note).await)).await);
        });
    }

    pub(super) fn audit_kept(&mut self, kept: Option<Kept>) {
        match kept {
            Some(Kept::Pin(Ok(()))) => {
                if let Some((records, openings)) = self.audit.after_pin.take() {
                    self.audit.upload.state(records, openings);
                }
            }
            Some(Kept::Pin(Err(error)) | Kept::Answer(Err(error))) => {
                tracing::warn!(%error, "an answer of the mirror could not be stored");
            }
            Some(Kept::Answer(Ok(()))) | None => {}
        }
    }

    fn audit_rejected(&mut self, reject: &AuditReject) {
        self.audit.upload.answered(reject.id);
        let AuditReject { seq, detail, .. } = reject;
        tracing::error!(code = ?reject.code(), seq, detail, "the mirror refuses the journal");
        let proven = self.started.journal.weigh(&reject.evidence_notes);
        let serious = match reject.code() {
            AuditRejectCode::Fork
            | AuditRejectCode::Rollback
            | AuditRejectCode::WrongKey
            | AuditRejectCode::Quarantined => true,
            AuditRejectCode::Unspecified | AuditRejectCode::Invalid | AuditRejectCode::TooLarge => {
                false
            }
        };
        self.audit.upload.stop();
        if serious && !proven {
            // Without proof it holds for as long as the mirror says so.
            let why = format!("the mirror refuses this journal: {detail}");
            let stop = JournalError::Refused { code: Code::JournalForked, why };
            self.started.journal.set_upstream_stop(Some(stop));
        }
    }

    /// Keeps what shows a contradiction, for good, and sends it upstream.
    fn audit_evidence(&mut self) {
        for (code, why, notes) in self.started.journal.contradictions() {
            let journal = self.started.journal.clone();
            let dir = self.config.data_dir.join("evidence");
            self.audit.evidence.push((why.clone(), notes.clone()));
            tokio::spawn(async move {
                let text = why.clone();
                let write = move || crate::journal::keep_evidence(&dir, code, &text, &notes);
                match tokio::task::spawn_blocking(write).await {
                    Ok(Ok(path)) => tracing::error!(path = %path.display(), "evidence was kept"),
                    Ok(Err(error)) => tracing::error!(%error, "evidence could not be kept"),
                    Err(error) => tracing::error!(%error, "evidence could not be kept"),
                }
                if let Err(error) = journal.quarantine(code, &why).await {
                    tracing::error!(%error, "the quarantine could not be recorded");
                }
            });
        }
        if self.end.audit_room().evidence > 0
            && let Some((mut reason, notes)) = self.audit.evidence.pop()
        {
            while reason.len() > AUDIT_REASON_MAX {
                reason.pop();
            }
            let mut evidence = AuditEvidence {
                notes: notes.clone(),
                reason: reason.clone(),
                ..Default::default()
            };
            // That it stands there now only the node can say; the mirror cannot tell it from an old hello.
            if !self.audit.challenge.is_empty()
                && let Ok((note, presence)) = self.started.journal.presence(&self.audit.challenge)
            {
                let note = note.to_string();
                if !evidence.notes.contains(&note) {
                    evidence.notes.push(note);
                }
                evidence.challenge.clone_from(&self.audit.challenge);
                evidence.presence = presence.to_vec();
            }
            match self.end.audit_evidence(evidence) {
                Ok(id) => self.audit.upload.sent(id, Sent::Evidence),
                Err(_) => self.audit.evidence.push((reason, notes)),
            }
        }
    }
}

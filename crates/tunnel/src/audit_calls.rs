//! What both drivers say of the audit, and what both ends do with its frames.

use crate::agent_actions::AgentAction;
use crate::agent_end::{AgentEnd, State as AgentState};
use crate::audit::{AuditDown, AuditError, AuditRoom, AuditUp, Kind};
use crate::error::ProtocolError;
use crate::frame::{boxed, up};
use crate::gateway_actions::GatewayAction;
use crate::gateway_end::GatewayEnd;
use cortex_model::limits::mirror::AUDIT_NOTE_MAX;
use cortex_model::proto::{AuditBatch, AuditEvidence, AuditHello, AuditOpenings};

impl AgentEnd {
    /// Opens the audit of this connection. Once, after `Welcomed`.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn audit_hello(&mut self, hello: AuditHello) -> Result<(), AuditError> {
        if !matches!(self.state, AgentState::Up { .. }) {
            return Err(AuditError::NotUp);
        }
        if self.audit.greeted {
            return Err(AuditError::NotNow);
        }
        let hello = AuditUp::Hello(hello);
        hello.check()?;
        self.audit.greeted = true;
        self.uploads.push_back(up(hello.into_body()));
        Ok(())
    }

    /// How many uploads may be made now. None before `AuditDown::State` came.
    #[must_use]
    pub fn audit_room(&self) -> AuditRoom {
        self.audit.room()
    }

    /// Sends records; the id is set here and returned. Exactly one answer comes, unless the connection ends before.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn audit_batch(&mut self, batch: AuditBatch) -> Result<u64, AuditError> {
        self.upload(AuditUp::Batch(batch), |room| room.batches)
    }

    /// Sends the values behind commitments, as `audit_batch`.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn audit_openings(&mut self, openings: AuditOpenings) -> Result<u64, AuditError> {
        self.upload(AuditUp::Openings(openings), |room| room.openings)
    }

    /// Sends checkpoints that contradict each other, as `audit_batch`.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn audit_evidence(&mut self, evidence: AuditEvidence) -> Result<u64, AuditError> {
        self.upload(AuditUp::Evidence(evidence), |room| room.evidence)
    }

    fn upload(
        &mut self,
        mut what: AuditUp,
        room: impl Fn(AuditRoom) -> usize,
    ) -> Result<u64, AuditError> {
        if !matches!(self.state, AgentState::Up { .. }) {
            return Err(AuditError::NotUp);
        }
        if !self.audit.known {
            return Err(AuditError::NotNow);
        }
        if room(self.audit.room()) == 0 {
            return Err(AuditError::Full);
        }
        what.check()?;
        let id = match &mut what {
            AuditUp::Hello(_) => return Err(AuditError::NotNow),
            AuditUp::Batch(batch) => {
                batch.id = self.audit.uploads.begin(Kind::Batch);
                batch.id
            }
            AuditUp::Openings(openings) => {
                openings.id = self.audit.uploads.begin(Kind::Openings);
                openings.id
            }
            AuditUp::Evidence(evidence) => {
                evidence.id = self.audit.uploads.begin(Kind::Evidence);
                evidence.id
            }
        };
        self.uploads.push_back(up(what.into_body()));
        Ok(id)
    }

    pub(crate) fn audit_heard(&mut self, news: AuditDown) -> Result<(), ProtocolError> {
        if !self.audit.greeted {
            return Err(ProtocolError::OutOfOrder { frame: "audit", when: "before its hello" });
        }
        news.check().map_err(|error| bad("audit", error))?;
        if !self.audit.uploads.answered(&news) {
            self.ignored += 1;
            return Ok(());
        }
        if let AuditDown::State(state) = &news {
            self.audit.state(state);
        }
        self.actions.push_back(AgentAction::Audit(Box::new(news)));
        Ok(())
    }
}

impl GatewayEnd {
    /// Tells the agent what the mirror says: a state at any time after the hello, or the one answer to an upload.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn audit(&mut self, news: AuditDown) -> Result<(), AuditError> {
        if !self.is_up() {
            return Err(AuditError::NotUp);
        }
        if !self.audit_greeted {
            return Err(AuditError::NotNow);
        }
        news.check()?;
        if !self.uploads.answered(&news) {
            return Err(AuditError::NotAsked);
        }
        if let AuditDown::State(state) = news {
            // Only the newest counts; one that waits is replaced.
            self.audit_state = Some(state);
        } else {
            self.answers.push_back(boxed(news.into_body()));
        }
        Ok(())
    }

    /// The newest cosigned checkpoint of the node's journal: every offer and go carries it from now on. The caller sees
    /// to it that it only grows. Longer than a note may be: ignored.
    pub fn set_audit_floor(&mut self, note: &str) {
        if note.len() <= AUDIT_NOTE_MAX {
            note.clone_into(&mut self.audit_floor);
        }
    }

    pub(crate) fn audit_heard(&mut self, said: AuditUp) -> Result<(), ProtocolError> {
        let frame = said.name();
        said.check().map_err(|error| bad(frame, error))?;
        match said.upload() {
            None if self.audit_greeted => {
                return Err(ProtocolError::OutOfOrder { frame, when: "after audit_hello" });
            }
            None => self.audit_greeted = true,
            Some(_) if !self.audit_greeted => {
                return Err(ProtocolError::OutOfOrder { frame, when: "before audit_hello" });
            }
            Some((id, kind)) => self.uploads.received(id, kind)?,
        }
        self.actions.push_back(GatewayAction::Audit(Box::new(said)));
        Ok(())
    }
}

fn bad(frame: &'static str, error: AuditError) -> ProtocolError {
    let field = match error {
        AuditError::Bad(field) => field,
        AuditError::NotUp | AuditError::NotNow | AuditError::Full | AuditError::NotAsked => "turn",
    };
    ProtocolError::BadField { frame, field }
}

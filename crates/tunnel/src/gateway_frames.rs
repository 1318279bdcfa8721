//! What the gateway's end does with each frame of an agent.

use crate::audit::AuditUp;
use crate::error::ProtocolError;
use crate::frame::{check_chunk, check_consent, check_outcome, key, up_name};
use crate::gateway_actions::{CloseReason, GatewayAction};
use crate::gateway_end::{GatewayEnd, State};
use crate::handshake::{check_hello, negotiate};
use cortex_model::limits::OUTCOMES_IN_FLIGHT_MAX;
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AgentFrame, Busy, CancelAnswer, Claim, ConsentReport, Error, Hello, NoGo, OutcomeReport,
    OutputReport, QueryAnswer, Refuse, TerminalAnswer,
};
use cortex_model::{AttemptKey, Tick};

impl GatewayEnd {
    /// A frame came from the agent. After the end of the connection it is ignored.
    ///
    /// # Errors
    /// The agent broke the protocol; `Close` is the next action. The error is for the log.
    pub fn handle_frame(&mut self, frame: AgentFrame, now: Tick) -> Result<(), ProtocolError> {
        let result = match &mut self.state {
            State::Closed => {
                self.ignored += 1;
                return Ok(());
            }
            State::AwaitHello { deadline } => {
                let deadline = *deadline;
                self.first_frame(frame, deadline)
            }
            State::Deciding { .. } => Err(unexpected(frame, "before welcome")),
            State::Up { heartbeat, .. } => {
                heartbeat.heard(now);
                if self.overflows() {
                    self.close(CloseReason::Overflow, None);
                    return Ok(());
                }
                self.next_frame(frame)
            }
        };
        if let Err(error) = &result {
            self.protocol_error(error);
        }
        result
    }

    fn first_frame(&mut self, frame: AgentFrame, deadline: Tick) -> Result<(), ProtocolError> {
        let Some(Up::Hello(hello)) = frame.body else {
            return Err(unexpected(frame, "before hello"));
        };
        // The version comes first: of the rest another version may have other ideas.
        match negotiate(self.cfg.versions, (hello.min_version, hello.max_version)) {
            Ok(version) => self.hello(hello, deadline, version),
            Err(fault) => {
                let retry_after_ms = self.cfg.fatal_retry_ms;
                let refuse = Refuse { error: Some(Error::from(&fault)), retry_after_ms };
                self.close(CloseReason::NoCommonVersion, Some(refuse));
                Ok(())
            }
        }
    }

    fn hello(&mut self, hello: Hello, deadline: Tick, version: u32) -> Result<(), ProtocolError> {
        check_hello(&hello)?;
        self.session.clone_from(&hello.session);
        self.state = State::Deciding { deadline, version };
        self.actions.push_back(GatewayAction::Hello(Box::new(hello)));
        Ok(())
    }

    fn next_frame(&mut self, frame: AgentFrame) -> Result<(), ProtocolError> {
        match frame.body.ok_or(ProtocolError::EmptyFrame)? {
            Up::Hello(_) => Err(ProtocolError::OutOfOrder { frame: "hello", when: "after hello" }),
            Up::Heartbeat(beat) => {
                self.actions.push_back(GatewayAction::Heartbeat(beat));
                Ok(())
            }
            Up::Claim(claim) => self.claim(claim),
            Up::Busy(busy) => {
                self.busy(busy);
                Ok(())
            }
            Up::Outcome(report) => self.outcome(report),
            Up::QueryAnswer(answer) => {
                self.query_answer(answer);
                Ok(())
            }
            Up::CancelAnswer(answer) => {
                self.cancel_answer(answer);
                Ok(())
            }
            Up::TerminalAnswer(answer) => {
                self.terminal_answer(answer);
                Ok(())
            }
            Up::Leaving(leaving) => {
                self.leaving = true;
                self.actions.push_back(GatewayAction::Leaving(leaving.reason));
                Ok(())
            }
            Up::TokenShown(shown) => {
                self.actions.push_back(GatewayAction::TokenShown(shown.token));
                Ok(())
            }
            Up::AuditHello(hello) => self.audit_heard(AuditUp::Hello(hello)),
            Up::AuditBatch(batch) => self.audit_heard(AuditUp::Batch(batch)),
            Up::AuditOpenings(openings) => self.audit_heard(AuditUp::Openings(openings)),
            Up::AuditEvidence(evidence) => self.audit_heard(AuditUp::Evidence(evidence)),
            Up::Consent(report) => self.consent(report),
            Up::Output(report) => self.output(report),
        }
    }

    /// A claim counts only for an offer that is open on this connection: an agent can never claim
    /// what it was not offered, and the answer to a late claim is known here.
    fn claim(&mut self, claim: Claim) -> Result<(), ProtocolError> {
        let key = key("claim", &claim.workspace, &claim.task_id, claim.attempt)?;
        let Claim { offer_id, fence, slots_free, .. } = claim;
        let open = self.offers.unclaimed(offer_id);
        if open.is_some_and(|open| open.key == key && open.fence == fence) {
            self.offers.claim(offer_id);
            self.actions.push_back(GatewayAction::Claim { offer_id, key, fence, slots_free });
        } else {
            self.ignored += 1;
            let attempt = key.attempt;
            self.push(Down::NoGo(NoGo { offer_id, task_id: claim.task_id, attempt, error: None }));
        }
        Ok(())
    }

    fn busy(&mut self, busy: Busy) {
        let open = self.offers.unclaimed(busy.offer_id).is_some();
        match self.offers.remove_if(open, busy.offer_id) {
            Some(key) => self.actions.push_back(GatewayAction::Busy { key, busy }),
            None => self.ignored += 1,
        }
    }

    fn outcome(&mut self, report: OutcomeReport) -> Result<(), ProtocolError> {
        let key = check_outcome(&report)?;
        self.check_workspace("outcome", &key)?;
        if self.outcomes_in_flight >= OUTCOMES_IN_FLIGHT_MAX {
            let (what, limit) = ("outcomes not acknowledged", OUTCOMES_IN_FLIGHT_MAX);
            return Err(ProtocolError::TooMany { what, limit });
        }
        self.outcomes_in_flight += 1;
        self.actions.push_back(GatewayAction::Outcome { key, report: Box::new(report) });
        Ok(())
    }

    fn consent(&mut self, report: ConsentReport) -> Result<(), ProtocolError> {
        let key = check_consent(&report)?;
        self.check_workspace("consent", &key)?;
        self.actions.push_back(GatewayAction::Consent { key, report: Box::new(report) });
        Ok(())
    }

    fn output(&mut self, report: OutputReport) -> Result<(), ProtocolError> {
        let key = key("output", &report.workspace, &report.task_id, report.attempt)?;
        self.check_workspace("output", &key)?;
        let missing = ProtocolError::BadField { frame: "output", field: "chunk" };
        let chunk = report.chunk.ok_or(missing)?;
        check_chunk(&chunk)?;
        self.window.received(chunk.data.len() as u64)?;
        self.actions.push_back(GatewayAction::Output { key, chunk });
        Ok(())
    }

    /// Reports are taken for tasks of the agent's own workspace only, whatever they name.
    fn check_workspace(&self, frame: &'static str, key: &AttemptKey) -> Result<(), ProtocolError> {
        if key.task.workspace.as_str() == self.workspace {
            return Ok(());
        }
        Err(ProtocolError::BadField { frame, field: "workspace" })
    }

    fn query_answer(&mut self, answer: QueryAnswer) {
        match self.queries.remove(&answer.query_id) {
            Some(key) => self.actions.push_back(GatewayAction::QueryAnswer { key, answer }),
            None => self.ignored += 1,
        }
    }

    fn terminal_answer(&mut self, answer: TerminalAnswer) {
        match self.terminals.remove(&answer.query_id) {
            Some(_) => self.actions.push_back(GatewayAction::TerminalAnswer(answer)),
            None => self.ignored += 1,
        }
    }

    fn cancel_answer(&mut self, answer: CancelAnswer) {
        match self.cancels.remove(&answer.query_id) {
            Some(key) => self.actions.push_back(GatewayAction::CancelAnswer { key, answer }),
            None => self.ignored += 1,
        }
    }
}

fn unexpected(frame: AgentFrame, when: &'static str) -> ProtocolError {
    frame.body.map_or(ProtocolError::EmptyFrame, |body| {
        let frame = up_name(&body);
        ProtocolError::OutOfOrder { frame, when }
    })
}

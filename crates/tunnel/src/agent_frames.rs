//! What the agent's end does with each frame of the gateway.

use crate::agent_actions::{AgentAction, DisconnectReason};
use crate::agent_end::{AgentEnd, State, token_deadline};
use crate::audit::AuditDown;
use crate::error::ProtocolError;
use crate::frame::{down_name, key, names};
use cortex_model::limits::{DRAIN_MAX_MS, OPEN_OFFERS_MAX, OPEN_QUERIES_MAX, RECONNECT_FATAL_MS};
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    BusyReason, Cancel, ConsentAck, Drain, GatewayFrame, Go, NoGo, Offer, OutcomeAck, OutputAck,
    Query, Refuse, RenewNow, TerminalInput, TokenAccepted,
};
use cortex_model::{AttemptKey, Tick};

impl AgentEnd {
    /// A frame came from the gateway. Without a connection it is ignored.
    ///
    /// # Errors
    /// The gateway broke the protocol; `Disconnect` is the next action. The error is for the log.
    pub fn handle_frame(&mut self, frame: GatewayFrame, now: Tick) -> Result<(), ProtocolError> {
        let result = match &mut self.state {
            State::Waiting { .. } | State::Connecting { .. } | State::Closing => {
                self.ignored += 1;
                return Ok(());
            }
            State::Greeting { .. } => self.first_frame(frame, now),
            State::Up { heartbeat, .. } => {
                heartbeat.heard(now);
                if self.overflows() {
                    self.close(DisconnectReason::Overflow, now);
                    return Ok(());
                }
                self.next_frame(frame, now)
            }
        };
        if let Err(error) = &result {
            self.close(DisconnectReason::Protocol(error.clone()), now);
        }
        result
    }

    fn first_frame(&mut self, frame: GatewayFrame, now: Tick) -> Result<(), ProtocolError> {
        match frame.body.ok_or(ProtocolError::EmptyFrame)? {
            Down::Welcome(welcome) => self.welcomed(welcome, now),
            Down::Refuse(refuse) => {
                self.refused(refuse, now);
                Ok(())
            }
            body @ (Down::Heartbeat(_)
            | Down::Offer(_)
            | Down::Go(_)
            | Down::NoGo(_)
            | Down::OutcomeAck(_)
            | Down::Query(_)
            | Down::Cancel(_)
            | Down::Drain(_)
            | Down::OutputAck(_)
            | Down::Credit(_)
            | Down::TokenAccepted(_)
            | Down::RenewNow(_)
            | Down::Narrowing(_)
            | Down::TerminalInput(_)
            | Down::AuditState(_)
            | Down::AuditAck(_)
            | Down::AuditResend(_)
            | Down::AuditReject(_)
            | Down::AuditOpeningsAck(_)
            | Down::AuditEvidenceAck(_)
            | Down::ConsentAck(_)) => {
                let frame = down_name(&body);
                Err(ProtocolError::OutOfOrder { frame, when: "before welcome" })
            }
        }
    }

    fn next_frame(&mut self, frame: GatewayFrame, now: Tick) -> Result<(), ProtocolError> {
        match frame.body.ok_or(ProtocolError::EmptyFrame)? {
            Down::Welcome(_) => {
                Err(ProtocolError::OutOfOrder { frame: "welcome", when: "after welcome" })
            }
            Down::Heartbeat(_) => Ok(()),
            Down::Offer(offer) => self.offered(offer),
            Down::Go(go) => {
                self.go(go);
                Ok(())
            }
            Down::NoGo(no_go) => {
                self.no_go(no_go);
                Ok(())
            }
            Down::OutcomeAck(ack) => self.outcome_acked(&ack),
            Down::OutputAck(ack) => self.output_acked(&ack),
            Down::Credit(credit) => {
                self.delivery.credit(credit.output_bytes);
                Ok(())
            }
            Down::Query(query) => self.query(query),
            Down::Cancel(cancel) => self.cancel(cancel),
            Down::TerminalInput(input) => self.terminal(input),
            Down::Drain(drain) => {
                self.drain(drain, now);
                Ok(())
            }
            Down::Refuse(refuse) => {
                self.refused(refuse, now);
                Ok(())
            }
            Down::TokenAccepted(TokenAccepted { expires_at_ms, now_ms }) => {
                if let State::Up { token, .. } = &mut self.state {
                    *token = token_deadline(expires_at_ms, now_ms, now);
                }
                self.actions.push_back(AgentAction::TokenAccepted { expires_at_ms, now_ms });
                Ok(())
            }
            Down::RenewNow(RenewNow { within_ms }) => {
                self.actions.push_back(AgentAction::RenewNow { within_ms });
                Ok(())
            }
            Down::Narrowing(narrowing) => {
                self.actions.push_back(AgentAction::Narrow(narrowing));
                Ok(())
            }
            Down::AuditState(state) => self.audit_heard(AuditDown::State(state)),
            Down::AuditAck(ack) => self.audit_heard(AuditDown::Ack(ack)),
            Down::AuditResend(resend) => self.audit_heard(AuditDown::Resend(resend)),
            Down::AuditReject(reject) => self.audit_heard(AuditDown::Reject(reject)),
            Down::AuditOpeningsAck(ack) => self.audit_heard(AuditDown::OpeningsAck(ack)),
            Down::AuditEvidenceAck(ack) => self.audit_heard(AuditDown::EvidenceAck(ack)),
            Down::ConsentAck(ack) => self.consent_acked(&ack),
        }
    }

    fn refused(&mut self, refuse: Refuse, now: Tick) {
        let error = refuse.error.unwrap_or_default();
        let fatal = !error.retryable;
        let asked = u64::from(refuse.retry_after_ms);
        self.actions.push_back(AgentAction::Refused { error, fatal });
        self.close(DisconnectReason::Refused, now);
        let floor = if asked == 0 && fatal { RECONNECT_FATAL_MS } else { asked };
        self.backoff.set_floor_once(floor);
    }

    fn offered(&mut self, offer: Offer) -> Result<(), ProtocolError> {
        let key = key("offer", &offer.workspace, &offer.task_id, offer.attempt)?;
        if offer.spec.is_none() {
            return Err(ProtocolError::BadField { frame: "offer", field: "spec" });
        }
        if self.leaving.is_some() {
            self.refuse_offer(&offer, BusyReason::Leaving, None);
            return Ok(());
        }
        if self.offers.len() >= OPEN_OFFERS_MAX {
            self.refuse_offer(&offer, BusyReason::NoSlot, None);
            return Ok(());
        }
        if !self.offers.insert(offer.offer_id, key, offer.fence) {
            return Err(ProtocolError::BadField { frame: "offer", field: "offer_id" });
        }
        self.actions.push_back(AgentAction::Offer(Box::new(offer)));
        Ok(())
    }

    /// Only a claim that is pending on this connection can be answered; anything else is late.
    fn go(&mut self, go: Go) {
        let ours = go.session == self.cfg.session
            && self
                .offers
                .claimed(go.offer_id)
                .is_some_and(|claim| names(&claim.key, &go.workspace, &go.task_id, go.attempt));
        match self.offers.remove_if(ours, go.offer_id) {
            Some(key) => self.actions.push_back(AgentAction::Go { key, go }),
            None => self.ignored += 1,
        }
    }

    fn no_go(&mut self, no_go: NoGo) {
        let offer_id = no_go.offer_id;
        let ours = self.offers.claimed(offer_id).is_some_and(|claim| {
            claim.key.attempt == no_go.attempt && claim.key.task.task.as_str() == no_go.task_id
        });
        match self.offers.remove_if(ours, offer_id) {
            Some(key) => {
                self.actions.push_back(AgentAction::NoGo { key, offer_id, answer: Some(no_go) });
            }
            None => self.ignored += 1,
        }
    }

    fn outcome_acked(&mut self, ack: &OutcomeAck) -> Result<(), ProtocolError> {
        let key = key("outcome_ack", &ack.workspace, &ack.task_id, ack.attempt)?;
        if !self.delivery.outcome_acked(&key, &mut self.actions) {
            self.ignored += 1;
        }
        Ok(())
    }

    fn consent_acked(&mut self, ack: &ConsentAck) -> Result<(), ProtocolError> {
        let key = key("consent_ack", &ack.workspace, &ack.task_id, ack.attempt)?;
        if !self.consents.acked(&key, ack) {
            self.ignored += 1;
        }
        Ok(())
    }

    fn output_acked(&mut self, ack: &OutputAck) -> Result<(), ProtocolError> {
        let key = key("output_ack", &ack.workspace, &ack.task_id, ack.attempt)?;
        if !self.delivery.output_acked(&key, ack, &mut self.actions) {
            self.ignored += 1;
        }
        Ok(())
    }

    fn query(&mut self, query: Query) -> Result<(), ProtocolError> {
        let key = key("query", &query.workspace, &query.task_id, query.attempt)?;
        ask(&mut self.queries, query.query_id, key, "queries")?;
        self.actions.push_back(AgentAction::Query(query));
        Ok(())
    }

    fn cancel(&mut self, cancel: Cancel) -> Result<(), ProtocolError> {
        let key = key("cancel", &cancel.workspace, &cancel.task_id, cancel.attempt)?;
        ask(&mut self.cancels, cancel.query_id, key, "cancels")?;
        self.actions.push_back(AgentAction::Cancel(cancel));
        Ok(())
    }

    fn terminal(&mut self, mut input: TerminalInput) -> Result<(), ProtocolError> {
        key("terminal_input", &input.workspace, &input.task_id, input.attempt)?;
        if self.terminals.len() >= OPEN_QUERIES_MAX {
            return Err(ProtocolError::TooMany {
                what: "terminal inputs",
                limit: OPEN_QUERIES_MAX,
            });
        }
        self.typed += 1;
        self.terminals.insert(self.typed, input.query_id);
        input.query_id = self.typed;
        self.actions.push_back(AgentAction::Terminal(Box::new(input)));
        Ok(())
    }

    fn drain(&mut self, asked: Drain, now: Tick) {
        let grace_ms = u64::from(asked.grace_ms).min(DRAIN_MAX_MS);
        if let State::Up { drain, .. } = &mut self.state {
            *drain = Some(now + grace_ms);
            self.actions.push_back(AgentAction::Drain { grace_ms });
        }
    }
}

fn ask(
    asked: &mut std::collections::BTreeMap<u64, AttemptKey>,
    id: u64,
    key: AttemptKey,
    what: &'static str,
) -> Result<(), ProtocolError> {
    if asked.len() >= OPEN_QUERIES_MAX && !asked.contains_key(&id) {
        return Err(ProtocolError::TooMany { what, limit: OPEN_QUERIES_MAX });
    }
    asked.insert(id, key);
    Ok(())
}

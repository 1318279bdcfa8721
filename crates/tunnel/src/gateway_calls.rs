//! What the gateway's driver says of its own accord: decisions, offers, acknowledgements.

use crate::frame::key;
use crate::gateway_actions::{AckMode, CloseReason, OfferError};
use crate::gateway_end::{GatewayEnd, State};
use crate::heartbeat::Heartbeat;
use cortex_model::limits::{DRAIN_MAX_MS, FRAME_QUEUE_MAX, OPEN_OFFERS_MAX, OPEN_QUERIES_MAX};
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    Cancel, ConsentAck, ConsentAnswer, ConsentReport, Drain, Error, Go, Narrowing, NoGo, Offer,
    OutcomeAck, Query, Refuse, RenewNow, TerminalInput, TokenAccepted, Welcome,
};
use cortex_model::{AttemptKey, Tick, UnixMillis};
use std::collections::BTreeMap;
use std::sync::Arc;

impl GatewayEnd {
    /// The agent of `Hello` is one of ours. False if there is no hello to answer (any more).
    pub fn accept(&mut self, workspace: &str, now: Tick, wall: UnixMillis) -> bool {
        let State::Deciding { version, .. } = self.state else { return false };
        self.wall = wall;
        self.workspace = workspace.into();
        let cfg = Arc::clone(&self.cfg);
        let heartbeat = Heartbeat::new(cfg.heartbeat_ms, cfg.dead_after_ms, now);
        self.state = State::Up { heartbeat, drain: None };
        self.push(Down::Welcome(Welcome {
            version,
            gateway: cfg.gateway.clone(),
            heartbeat_ms: cfg.heartbeat_ms,
            dead_after_ms: cfg.dead_after_ms,
            output_credit: self.window.size(),
            min_backoff_ms: cfg.min_backoff_ms,
            workspace: workspace.into(),
            now_ms: wall.0,
            token_expires_at_ms: self.token_end.0,
        }));
        true
    }

    /// The end of the token that was shown with the call; the welcome tells it. An open tunnel ends with it, unless a newer one
    /// is accepted before.
    pub fn set_token_end(&mut self, expires: UnixMillis, now: Tick, wall: UnixMillis) {
        self.token_end = expires;
        self.token_deadline = Some(now + expires.since(wall));
    }

    /// The newer token was taken. It never shortens what was granted before.
    pub fn token_accepted(&mut self, expires: UnixMillis, now: Tick, wall: UnixMillis) {
        self.set_token_end(expires.max(self.token_end), now, wall);
        let (expires_at_ms, now_ms) = (self.token_end.0, wall.0);
        self.push(Down::TokenAccepted(TokenAccepted { expires_at_ms, now_ms }));
    }

    /// The CA changed: the node should renew its certificate within this time.
    pub fn renew_now(&mut self, within_ms: u32) {
        self.push(Down::RenewNow(RenewNow { within_ms }));
    }

    /// What a server takes away from what the node's owner allows; the newest counts.
    pub fn narrow(&mut self, narrowing: Narrowing) {
        self.push(Down::Narrowing(narrowing));
    }

    /// Ends the connection for cause, at any time. An `error` that is not retryable makes the agent
    /// tell its owner. `retry_after_ms` 0 leaves the pause to the agent.
    pub fn refuse(&mut self, error: Error, retry_after_ms: u32) {
        self.close(CloseReason::Refused, Some(Refuse { error: Some(error), retry_after_ms }));
    }

    /// Proposes a task. The id must not be in use on this connection.
    ///
    /// # Errors
    /// Nothing was sent; the task can be offered elsewhere.
    pub fn offer(&mut self, mut offer: Offer) -> Result<(), OfferError> {
        let State::Up { drain, .. } = &self.state else { return Err(OfferError::NotUp) };
        if drain.is_some() || self.leaving {
            return Err(OfferError::Draining);
        }
        if self.offers.len() >= OPEN_OFFERS_MAX {
            return Err(OfferError::Full);
        }
        let key = key("offer", &offer.workspace, &offer.task_id, offer.attempt)
            .map_err(|_| OfferError::BadKey)?;
        if !self.offers.insert(offer.offer_id, key, offer.fence) {
            return Err(OfferError::Duplicate);
        }
        offer.audit_floor.clone_from(&self.audit_floor);
        self.push(Down::Offer(offer));
        Ok(())
    }

    /// Nobody waits for the answer to an offer any more: a claim of it that comes late is answered
    /// `NoGo` here. False if the offer is not open or was claimed.
    pub fn withdraw(&mut self, offer_id: u64) -> bool {
        let open = self.offers.unclaimed(offer_id).is_some();
        self.offers.remove_if(open, offer_id).is_some()
    }

    /// `Started` is in the log at revision `fence`: answers a claim. False if none is pending.
    pub fn go(&mut self, offer_id: u64, fence: u64) -> bool {
        let Some(key) = self.take_claim(offer_id) else { return false };
        let session = self.session.clone();
        self.push(Down::Go(Go {
            offer_id,
            workspace: key.task.workspace.as_str().into(),
            task_id: key.task.task.as_str().into(),
            attempt: key.attempt,
            fence,
            session,
            audit_floor: self.audit_floor.clone(),
        }));
        true
    }

    /// The claim came to nothing. False if none is pending.
    pub fn no_go(&mut self, offer_id: u64, error: Option<Error>) -> bool {
        let Some(key) = self.take_claim(offer_id) else { return false };
        let task_id = key.task.task.as_str().into();
        self.push(Down::NoGo(NoGo { offer_id, task_id, attempt: key.attempt, error }));
        true
    }

    fn take_claim(&mut self, offer_id: u64) -> Option<AttemptKey> {
        let claimed = self.offers.claimed(offer_id).is_some();
        self.offers.remove_if(claimed && self.is_up(), offer_id)
    }

    /// The outcome is durable, was before, or will never be wanted. An outcome that came on an older
    /// connection may be acknowledged here too.
    pub fn ack_outcome(&mut self, key: &AttemptKey) {
        self.outcomes_in_flight = self.outcomes_in_flight.saturating_sub(1);
        self.push(Down::OutcomeAck(OutcomeAck {
            workspace: key.task.workspace.as_str().into(),
            task_id: key.task.task.as_str().into(),
            attempt: key.attempt,
        }));
    }

    /// The report is durable, or nobody will ever want it.
    pub fn ack_consent(&mut self, report: &ConsentReport) {
        self.push(Down::ConsentAck(ConsentAck {
            workspace: report.workspace.clone(),
            task_id: report.task_id.clone(),
            attempt: report.attempt,
            question: report.question,
            answered: report.answer != i32::from(ConsentAnswer::Unspecified),
        }));
    }

    /// An outcome came again before it was acknowledged: the second replaces the first, and one acknowledgement answers both.
    pub fn outcome_replaced(&mut self) {
        self.outcomes_in_flight = self.outcomes_in_flight.saturating_sub(1);
    }

    /// Everything of an attempt's output below `offset` is durable. Of acknowledgements that wait
    /// for the transport only the last offset of each attempt is sent.
    pub fn ack_output(&mut self, key: &AttemptKey, offset: u64, mode: AckMode) {
        if !self.is_up() {
            return;
        }
        if let Some((waiting, wanted)) = self.acks.get_mut(key) {
            *waiting = offset;
            if mode != AckMode::Durable {
                *wanted = mode;
            }
            return;
        }
        if self.waiting() >= FRAME_QUEUE_MAX {
            self.close(CloseReason::Overflow, None);
            return;
        }
        self.ack_order.push_back(key.clone());
        self.acks.insert(key.clone(), (offset, mode));
    }

    /// The handling of `bytes` of output has ended: durable or dropped. Room for as many opens again.
    pub fn output_settled(&mut self, bytes: u64) {
        self.window.settle(bytes);
    }

    /// Asks what the node knows of an attempt.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn query(&mut self, query: Query) -> Result<(), OfferError> {
        let key = key("query", &query.workspace, &query.task_id, query.attempt)
            .map_err(|_| OfferError::BadKey)?;
        self.ask(query.query_id, key, |this| &mut this.queries)?;
        self.push(Down::Query(query));
        Ok(())
    }

    /// Asks the node to stop an attempt.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn cancel(&mut self, cancel: Cancel) -> Result<(), OfferError> {
        let key = key("cancel", &cancel.workspace, &cancel.task_id, cancel.attempt)
            .map_err(|_| OfferError::BadKey)?;
        self.ask(cancel.query_id, key, |this| &mut this.cancels)?;
        self.push(Down::Cancel(cancel));
        Ok(())
    }

    /// Something for the terminal of an attempt.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn terminal(&mut self, input: TerminalInput) -> Result<(), OfferError> {
        let key = key("terminal_input", &input.workspace, &input.task_id, input.attempt)
            .map_err(|_| OfferError::BadKey)?;
        self.ask(input.query_id, key, |this| &mut this.terminals)?;
        self.push(Down::TerminalInput(input));
        Ok(())
    }

    fn ask(
        &mut self,
        id: u64,
        key: AttemptKey,
        table: impl Fn(&mut Self) -> &mut BTreeMap<u64, AttemptKey>,
    ) -> Result<(), OfferError> {
        if !self.is_up() {
            return Err(OfferError::NotUp);
        }
        let open = table(self);
        if open.contains_key(&id) {
            return Err(OfferError::Duplicate);
        }
        if open.len() >= OPEN_QUERIES_MAX {
            return Err(OfferError::Full);
        }
        open.insert(id, key);
        Ok(())
    }

    /// The gateway goes away: the agent is told to go elsewhere, and the connection ends when it has
    /// gone, after `grace_ms` at the latest.
    pub fn drain(&mut self, grace_ms: u32, now: Tick) {
        if let State::Up { drain: drain @ None, .. } = &mut self.state {
            *drain = Some(now + u64::from(grace_ms).min(DRAIN_MAX_MS));
            self.push(Down::Drain(Drain { grace_ms }));
        }
    }
}

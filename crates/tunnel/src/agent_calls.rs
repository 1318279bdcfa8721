//! What the agent's driver says of its own accord: answers, output, outcomes.

use crate::agent_actions::ClaimResult;
use crate::agent_end::{AgentEnd, State};
use crate::delivery::BadChunk;
use crate::error::ProtocolError;
use crate::frame::{self, check_consent, check_outcome};
use cortex_model::limits::UNDELIVERED_ATTEMPTS_MAX;
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::{
    AttemptPhase, Busy, BusyReason, Cancel, CancelAnswer, Claim, ConsentReport, Error, Leaving,
    Offer, OutcomeReport, OutputChunk, Query, QueryAnswer, TerminalAnswer, TokenShown,
};
use cortex_model::{AttemptKey, Code, Fault};
use std::collections::BTreeMap;

impl AgentEnd {
    /// The attempt to connect that fails now should not be repeated before this many milliseconds, at most ten minutes. To be
    /// called before `disconnected`; holds once.
    pub fn hold_off(&mut self, ms: u64) {
        self.backoff.set_floor_once(ms);
    }

    /// Takes an offer: the node holds a slot for it. `slots_free` is what is left.
    pub fn claim(&mut self, offer: &Offer, slots_free: u32) -> ClaimResult {
        if !self.is_open(offer) {
            return ClaimResult::Gone;
        }
        if self.delivery.len() + self.offers.claims() >= UNDELIVERED_ATTEMPTS_MAX {
            let fault = Fault::new(Code::AgentUnable, "too much output waits to be delivered");
            self.busy(offer, BusyReason::Unable, slots_free, Some(Error::from(&fault)));
            return ClaimResult::Full;
        }
        self.offers.claim(offer.offer_id);
        self.told_free = slots_free;
        self.send(Up::Claim(Claim {
            offer_id: offer.offer_id,
            workspace: offer.workspace.clone(),
            task_id: offer.task_id.clone(),
            attempt: offer.attempt,
            fence: offer.fence,
            slots_free,
        }));
        ClaimResult::Claimed
    }

    /// Does not take an offer. False if the offer is not open on this connection.
    pub fn busy(
        &mut self,
        offer: &Offer,
        reason: BusyReason,
        slots_free: u32,
        error: Option<Error>,
    ) -> bool {
        if !self.is_open(offer) {
            return false;
        }
        self.offers.remove(offer.offer_id);
        self.told_free = slots_free;
        self.refuse_offer(offer, reason, error);
        true
    }

    fn is_open(&self, offer: &Offer) -> bool {
        self.offers.unclaimed(offer.offer_id).is_some_and(|open| {
            open.fence == offer.fence
                && frame::names(&open.key, &offer.workspace, &offer.task_id, offer.attempt)
        })
    }

    pub(crate) fn refuse_offer(&mut self, offer: &Offer, reason: BusyReason, error: Option<Error>) {
        let slots_free = self.told_free;
        self.send(Up::Busy(Busy {
            offer_id: offer.offer_id,
            task_id: offer.task_id.clone(),
            reason: reason.into(),
            slots_free,
            error,
        }));
    }

    /// Says what the node knows of an attempt now. A claim that waits for its answer turns *unknown*
    /// into *claiming*. False if this connection did not ask, or got its answer.
    pub fn answer_query(&mut self, query: &Query, phase: AttemptPhase) -> bool {
        let Some(key) = take_asked(&mut self.queries, query.query_id, |key| {
            frame::names(key, &query.workspace, &query.task_id, query.attempt)
        }) else {
            return false;
        };
        let claiming = phase == AttemptPhase::Unknown && self.offers.is_claiming(&key);
        let phase = if claiming { AttemptPhase::Claiming } else { phase };
        self.send(Up::QueryAnswer(QueryAnswer {
            query_id: query.query_id,
            phase: phase.into(),
            journal: Some(self.journal.clone()),
            incarnation: self.cfg.incarnation.clone(),
        }));
        true
    }

    /// Says what a cancel met. False if this connection did not ask, or got its answer.
    pub fn answer_cancel(&mut self, cancel: &Cancel, phase: AttemptPhase) -> bool {
        let asked = take_asked(&mut self.cancels, cancel.query_id, |key| {
            frame::names(key, &cancel.workspace, &cancel.task_id, cancel.attempt)
        });
        if asked.is_some() {
            let phase = phase.into();
            self.send(Up::CancelAnswer(CancelAnswer { query_id: cancel.query_id, phase }));
        }
        asked.is_some()
    }

    /// Says what became of what was typed. False if this connection did not bring it, or got its answer.
    pub fn answer_terminal(&mut self, mut answer: TerminalAnswer) -> bool {
        let Some(query_id) = self.terminals.remove(&answer.query_id) else { return false };
        answer.query_id = query_id;
        self.send(Up::TerminalAnswer(answer));
        true
    }

    /// The agent goes away: from now on every offer is answered busy, on later connections too.
    pub fn leaving(&mut self, reason: &str) {
        self.leaving = Some(reason.into());
        if let State::Up { .. } = self.state {
            self.send(Up::Leaving(Leaving { reason: reason.into() }));
        }
    }

    /// Shows a newer token before the one that was shown last runs out. Without a connection nothing happens: the next
    /// one begins with a token of its own.
    pub fn show_token(&mut self, token: String) {
        if let State::Up { .. } = self.state {
            self.send(Up::TokenShown(TokenShown { token }));
        }
    }

    /// How an attempt stands with the owner of this node. Sent now, and again after every reconnect until it is acknowledged;
    /// what is said later of the same attempt replaces it.
    ///
    /// # Errors
    /// A report that no gateway would take is not kept.
    pub fn consent(&mut self, report: ConsentReport) -> Result<(), ProtocolError> {
        let key = check_consent(&report)?;
        self.consents.say(key, report);
        Ok(())
    }

    /// An attempt has ended, and all its output was announced. Sent after that output, and again
    /// after every reconnect until it is acknowledged. Only the first outcome of an attempt counts.
    ///
    /// # Errors
    /// A report that no gateway would take is not kept.
    pub fn outcome(&mut self, report: OutcomeReport) -> Result<(), ProtocolError> {
        let key = check_outcome(&report)?;
        self.delivery.outcome(key, report);
        Ok(())
    }

    /// The spool of an attempt has grown to `end` bytes, both streams together.
    pub fn output_available(&mut self, key: &AttemptKey, end: u64) {
        self.delivery.output_available(key, end);
    }

    /// The answer to `ReadSpool`. One that came too late is dropped.
    ///
    /// # Errors
    /// The chunk is empty, longer than asked for, or names no stream.
    pub fn output_data(&mut self, key: &AttemptKey, chunk: OutputChunk) -> Result<(), BadChunk> {
        self.delivery.output_data(key, chunk)
    }

    /// The spool cannot be read any more: its outcome is sent without waiting for the rest.
    pub fn output_lost(&mut self, key: &AttemptKey) {
        self.delivery.output_lost(key);
    }
}

fn take_asked(
    asked: &mut BTreeMap<u64, AttemptKey>,
    id: u64,
    same: impl Fn(&AttemptKey) -> bool,
) -> Option<AttemptKey> {
    if !asked.get(&id).is_some_and(same) {
        return None;
    }
    asked.remove(&id)
}

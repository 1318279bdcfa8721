//! Answers to offers, questions and appends. Losing any of them costs time only: everything asked has a time-out.

use crate::decide::{self, Answered};
use crate::scheduler::{AppendResult, OfferAnswer, Phase, Refusal, Scheduler};
use crate::state::{Cooling, NodeIx, TaskIx};
use cortex_model::event::RefusedOffer;
use cortex_model::limits::{
    APPEND_RETRY_MS, CLAIM_TIMEOUT_MS, QUERY_EVERY_MS, REFUSALS_KEPT, REOFFER_AFTER_MS,
    REOFFER_MAX_MS,
};
use cortex_model::{Incarnation, TaskKey, TaskState, UnixMillis};

impl Scheduler {
    /// What became of an offer. An answer to an offer that is no longer open is ignored.
    pub fn offer_answered(&mut self, id: u64, answer: OfferAnswer, now: UnixMillis) {
        let Some(ix) = self.offers.get(&id).copied() else { return };
        match answer {
            OfferAnswer::Claimed { slots_free } => self.claimed(ix, slots_free, now),
            OfferAnswer::Busy { reason, slots_free, why } => {
                self.busy(ix, reason, slots_free, why, now);
            }
            OfferAnswer::Gone => self.not_taken(ix, "was not connected", now),
            OfferAnswer::Timeout => self.not_taken(ix, "did not answer in time", now),
        }
    }

    fn claimed(&mut self, ix: TaskIx, slots_free: u32, now: UnixMillis) {
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        let Some(offer) = &mut entry.live.offer else { return };
        offer.claimed = true;
        offer.expires = now + CLAIM_TIMEOUT_MS;
        let node_ix = offer.node;
        if let Some(node) = self.nodes.get_mut(node_ix) {
            node.refusals = 0;
            node.reported_free(slots_free);
        }
        self.reindex(node_ix);
        self.refresh(ix);
    }

    fn busy(&mut self, ix: TaskIx, reason: Refusal, free: u32, why: String, now: UnixMillis) {
        let Some(node_ix) = self.drop_offer(ix) else { return };
        let words = match reason {
            Refusal::NoSlot => "had no free slot",
            Refusal::KnownAttempt => "saw this attempt before",
            Refusal::Leaving => "is going away",
            Refusal::Unable => "takes no work at present",
        };
        let why = if why.is_empty() { words.to_owned() } else { format!("{words}: {why}") };
        self.refused(ix, node_ix, &why, now);
        if reason == Refusal::KnownAttempt {
            // The log knows more than this fold has seen so far.
            self.hold(ix, now);
        } else {
            self.cool(node_ix, reason == Refusal::NoSlot, why, now);
        }
        if let Some(node) = self.nodes.get_mut(node_ix) {
            node.reported_free(free);
        }
        self.reindex(node_ix);
        self.refresh(ix);
    }

    /// The offer came to nothing and nobody said why.
    pub(crate) fn not_taken(&mut self, ix: TaskIx, why: &str, now: UnixMillis) {
        let Some(node_ix) = self.drop_offer(ix) else { return };
        self.refused(ix, node_ix, why, now);
        self.cool(node_ix, false, why.to_owned(), now);
        self.reindex(node_ix);
        self.forget_node_if_idle(node_ix);
        self.refresh(ix);
    }

    fn refused(&mut self, ix: TaskIx, node: NodeIx, why: &str, now: UnixMillis) {
        let Some(node) = self.nodes.get(node).map(|n| n.id.clone()) else { return };
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        let refused = &mut entry.live.refused;
        if refused.len() == REFUSALS_KEPT {
            refused.remove(0);
        }
        refused.push(RefusedOffer { node, why: why.to_owned(), at: now });
    }

    fn cool(&mut self, ix: NodeIx, full: bool, why: String, now: UnixMillis) {
        let Some(node) = self.nodes.get_mut(ix) else { return };
        node.refusals += 1;
        let until = now + pause(node.refusals);
        node.cooling = Some(Cooling { until, full, why });
        self.node_timers.insert((until, ix));
    }

    fn hold(&mut self, ix: TaskIx, now: UnixMillis) {
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        entry.live.holds += 1;
        entry.live.hold_until = Some(now + pause(entry.live.holds));
    }

    /// What a node knows of an attempt. Only its word that the attempt never began, from the journal that would hold it,
    /// changes anything.
    pub fn query_answered(
        &mut self,
        id: u64,
        phase: Phase,
        incarnation: &Incarnation,
        journal_size: u64,
        now: UnixMillis,
    ) {
        let Some(ix) = self.queries.remove(&id) else { return };
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        if entry.live.query != Some(id) {
            return;
        }
        entry.live.query = None;
        match phase {
            Phase::Known | Phase::Done => {
                entry.live.query_at = None;
                entry.live.unaccounted = None;
            }
            Phase::Claiming => entry.live.query_at = Some(now + QUERY_EVERY_MS),
            Phase::Unknown => self.node_does_not_know(ix, incarnation, journal_size, now),
        }
        self.refresh(ix);
    }

    fn node_does_not_know(&mut self, ix: TaskIx, life: &Incarnation, size: u64, now: UnixMillis) {
        let Some(entry) = self.tasks.get(ix).filter(|e| e.live.append_until.is_none()) else {
            return;
        };
        let node = entry.view.node().and_then(|n| self.ws.get(entry.ws)?.nodes.get(n));
        let Some(node) = node.and_then(|n| self.nodes.get(*n)) else { return };
        let answer = Answered {
            unknown: true,
            incarnation: life.clone(),
            journal_size: size,
            journal_seen: node.journal_seen,
        };
        if let Some(event) = decide::not_started(&entry.view, &answer, now) {
            self.append(ix, event, now);
            return;
        }
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        entry.live.query_at = Some(now + QUERY_EVERY_MS);
        entry.live.unaccounted.get_or_insert(now);
    }

    /// What a node answered when it was asked to end an attempt: if it does not know it, it is asked properly.
    pub fn cancel_answered(&mut self, task: &TaskKey, phase: Phase, now: UnixMillis) {
        let Some(ix) = self.by_key.get(task).copied() else { return };
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        match (phase, entry.view.state) {
            (Phase::Unknown, TaskState::Running) => drop(entry.live.query_at.get_or_insert(now)),
            (Phase::Unknown | Phase::Done, TaskState::Indeterminate) => entry.live.stopped = true,
            _ => return,
        }
        self.refresh(ix);
    }

    /// What became of a proposed append. The log itself shows what happened; this only says when to stop waiting.
    pub fn appended(&mut self, task: &TaskKey, result: AppendResult, now: UnixMillis) {
        let Some(ix) = self.by_key.get(task).copied() else { return };
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        match result {
            AppendResult::Ok => {}
            AppendResult::Conflict | AppendResult::Unknown => {
                if let Some(until) = &mut entry.live.append_until {
                    *until = now + APPEND_RETRY_MS;
                }
                self.refresh(ix);
            }
        }
    }
}

/// The pause after so many refusals in a row, milliseconds.
fn pause(refusals: u32) -> u64 {
    (REOFFER_AFTER_MS << refusals.saturating_sub(1).min(16)).min(REOFFER_MAX_MS)
}

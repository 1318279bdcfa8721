//! The books of slots, claims and running attempts. It answers offers, Go, queries and cancels, and
//! knows when run timeouts strike; it starts and ends nothing itself.
//!
//! An attempt begins only with a Go for a claim that is pending on the same connection, once, and
//! never if the journal knows it.

use cortex_model::proto::{AttemptPhase, BusyReason};
use cortex_model::{AttemptKey, Code, Fault, Tick};
use std::collections::{BTreeMap, BTreeSet};

/// What the journal says about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No entry.
    Unknown,
    /// Its intent, or its refusal, is durable.
    Known,
    /// Its outcome was acknowledged.
    Done,
}

/// The answer to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferAnswer {
    /// Take it; a slot is held.
    Claim,
    /// Do not take it.
    Busy(BusyReason, Option<Fault>),
}

/// The answer to a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelAnswer {
    /// What to tell the gateway.
    pub phase: AttemptPhase,
    /// End the running attempt now. False also when that was said before.
    pub stop: bool,
}

#[derive(Debug, Default)]
struct Run {
    /// Set when the intent is durable.
    deadline: Option<Tick>,
    stopping: bool,
    /// Waits for the owner, without a slot.
    asking: bool,
    /// Goes on when the agent has been started again.
    suspended: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    slots: u32,
    claims: BTreeMap<u64, AttemptKey>,
    /// The same, by attempt.
    claimed: BTreeSet<AttemptKey>,
    running: BTreeMap<AttemptKey, Run>,
    leaving: bool,
    unable: Option<Fault>,
}

impl Worker {
    /// A worker with so many slots, all free.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self {
            slots,
            claims: BTreeMap::new(),
            claimed: BTreeSet::new(),
            running: BTreeMap::new(),
            leaving: false,
            unable: None,
        }
    }

    /// Slots in all.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// As many attempts run at the same time from now on. What runs already beyond that ends by itself.
    pub fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
    }

    /// Slots that neither a claim nor a running attempt holds. One that waits for the owner holds none.
    #[must_use]
    pub fn slots_free(&self) -> u32 {
        let used = self.claims.len() + self.running.values().filter(|run| !run.asking).count();
        self.slots.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Attempts under way.
    pub fn running(&self) -> impl Iterator<Item = &AttemptKey> {
        self.running.keys()
    }

    /// Attempts that the agent has something to do for before it can leave.
    pub fn active(&self) -> impl Iterator<Item = &AttemptKey> {
        self.running.iter().filter(|(_, run)| !run.suspended).map(|(key, _)| key)
    }

    /// No more offers are taken, for good.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether work can be taken at all; the fault is told with every refusal.
    pub fn set_unable(&mut self, fault: Option<Fault>) {
        self.unable = fault;
    }

    /// Answers an offer. With `Claim` the slot is held until `go`, `no_go` or `release`.
    pub fn offer(&mut self, key: &AttemptKey, offer_id: u64, journal: Phase) -> OfferAnswer {
        if self.leaving {
            return OfferAnswer::Busy(BusyReason::Leaving, None);
        }
        if let Some(fault) = &self.unable {
            return OfferAnswer::Busy(BusyReason::Unable, Some(fault.clone()));
        }
        let here = self.running.contains_key(key) || self.claimed.contains(key);
        if here || journal != Phase::Unknown {
            return OfferAnswer::Busy(BusyReason::KnownAttempt, None);
        }
        if self.slots_free() == 0 {
            return OfferAnswer::Busy(BusyReason::NoSlot, None);
        }
        if self.claims.contains_key(&offer_id) {
            let fault = Fault::new(Code::ProtocolViolation, "the offer's number is in use");
            return OfferAnswer::Busy(BusyReason::Unable, Some(fault));
        }
        self.claims.insert(offer_id, key.clone());
        self.claimed.insert(key.clone());
        OfferAnswer::Claim
    }

    /// A Go came. True: the claim is used up and the attempt runs from now on. False: there is no such claim, and
    /// nothing may start.
    #[must_use]
    pub fn go(&mut self, key: &AttemptKey, offer_id: u64) -> bool {
        if self.claims.get(&offer_id) != Some(key) || self.running.contains_key(key) {
            return false;
        }
        self.no_go(offer_id);
        self.running.insert(key.clone(), Run::default());
        true
    }

    /// A claim came to nothing.
    pub fn no_go(&mut self, offer_id: u64) {
        if let Some(key) = self.claims.remove(&offer_id) {
            self.claimed.remove(&key);
        }
    }

    /// The intent of a running attempt is durable: its timeout counts from `now`.
    pub fn intended(&mut self, key: &AttemptKey, timeout_ms: u64, now: Tick) {
        if let Some(run) = self.running.get_mut(key) {
            run.deadline = Some(now + timeout_ms);
        }
    }

    /// A running attempt waits for the owner: it gives its slot back.
    pub fn asking(&mut self, key: &AttemptKey) {
        if let Some(run) = self.running.get_mut(key) {
            run.asking = true;
        }
    }

    /// An attempt that waited for the owner when the agent ended waits on.
    pub fn resumed(&mut self, key: &AttemptKey) {
        self.running.insert(key.clone(), Run { asking: true, ..Run::default() });
    }

    /// It waits on when the agent has been started again; until then it is known, and nothing happens to it.
    pub fn suspended(&mut self, key: &AttemptKey) {
        if let Some(run) = self.running.get_mut(key) {
            (run.asking, run.suspended) = (true, true);
        }
    }

    /// The owner has agreed: the attempt takes a slot again. False: there is none at present.
    #[must_use]
    pub fn agreed(&mut self, key: &AttemptKey) -> bool {
        let free = self.slots_free() > 0;
        match self.running.get_mut(key) {
            Some(run) if run.asking && free => {
                run.asking = false;
                true
            }
            Some(run) => !run.asking,
            None => false,
        }
    }

    /// A running attempt is over; its slot is free.
    pub fn ended(&mut self, key: &AttemptKey) {
        self.running.remove(key);
    }

    /// What to say about an attempt.
    #[must_use]
    pub fn phase(&self, key: &AttemptKey, journal: Phase) -> AttemptPhase {
        if self.running.contains_key(key) {
            // Its intent may be on its way to the disk: from here on it may start.
            return AttemptPhase::Known;
        }
        match journal {
            Phase::Known => AttemptPhase::Known,
            Phase::Done => AttemptPhase::Done,
            Phase::Unknown if self.claimed.contains(key) => AttemptPhase::Claiming,
            Phase::Unknown => AttemptPhase::Unknown,
        }
    }

    /// Somebody wants the attempt ended.
    pub fn cancel(&mut self, key: &AttemptKey, journal: Phase) -> CancelAnswer {
        let phase = self.phase(key, journal);
        CancelAnswer { phase, stop: self.stop(key) }
    }

    /// Marks a running attempt as being ended. True the first time.
    pub fn stop(&mut self, key: &AttemptKey) -> bool {
        match self.running.get_mut(key) {
            Some(run) => !std::mem::replace(&mut run.stopping, true),
            None => false,
        }
    }

    /// The next run timeout.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        self.running.values().filter(|run| !run.stopping).filter_map(|run| run.deadline).min()
    }

    /// Attempts whose run timeout has struck; each is named once.
    pub fn expired(&mut self, now: Tick) -> Vec<AttemptKey> {
        let due = |run: &Run| !run.stopping && run.deadline.is_some_and(|deadline| now >= deadline);
        let mut keys = Vec::new();
        for (key, run) in &mut self.running {
            if due(run) {
                run.stopping = true;
                keys.push(key.clone());
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_model::{TaskId, TaskKey, Workspace};

    fn key(task: &str) -> AttemptKey {
        let task = TaskId::parse(task).unwrap();
        AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 1 }
    }

    fn claim(worker: &mut Worker, task: &str, id: u64) -> OfferAnswer {
        worker.offer(&key(task), id, Phase::Unknown)
    }

    #[test]
    fn slots_are_held_from_the_claim_to_the_end() {
        let mut worker = Worker::new(2);
        assert_eq!(claim(&mut worker, "a", 1), OfferAnswer::Claim);
        assert_eq!(claim(&mut worker, "b", 2), OfferAnswer::Claim);
        assert_eq!(claim(&mut worker, "c", 3), OfferAnswer::Busy(BusyReason::NoSlot, None));
        worker.no_go(2);
        assert!(worker.go(&key("a"), 1));
        assert_eq!(worker.slots_free(), 1);
        worker.ended(&key("a"));
        assert_eq!(worker.slots_free(), 2);
    }

    #[test]
    fn fewer_slots_end_nothing_and_take_nothing_new() {
        let mut worker = Worker::new(2);
        assert_eq!(claim(&mut worker, "a", 1), OfferAnswer::Claim);
        assert_eq!(claim(&mut worker, "b", 2), OfferAnswer::Claim);
        assert!(worker.go(&key("a"), 1) && worker.go(&key("b"), 2));
        worker.set_slots(1);
        assert_eq!((worker.slots(), worker.slots_free(), worker.running().count()), (1, 0, 2));
        worker.ended(&key("a"));
        assert_eq!(claim(&mut worker, "c", 3), OfferAnswer::Busy(BusyReason::NoSlot, None));
        worker.set_slots(2);
        assert_eq!(claim(&mut worker, "c", 3), OfferAnswer::Claim);
    }

    #[test]
    fn who_waits_for_the_owner_holds_no_slot_and_takes_one_again() {
        let mut worker = Worker::new(1);
        claim(&mut worker, "a", 1);
        assert!(worker.go(&key("a"), 1));
        worker.asking(&key("a"));
        assert_eq!((worker.slots_free(), worker.running().count()), (1, 1));
        assert_eq!(worker.phase(&key("a"), Phase::Unknown), AttemptPhase::Known);
        assert_eq!(claim(&mut worker, "b", 2), OfferAnswer::Claim);
        assert!(!worker.agreed(&key("a")));
        worker.no_go(2);
        assert!(worker.agreed(&key("a")));
        assert_eq!(worker.slots_free(), 0);
        assert!(!worker.agreed(&key("c")));
    }

    #[test]
    fn who_waits_for_the_owner_waits_on_across_the_end_of_the_agent() {
        let mut worker = Worker::new(1);
        worker.resumed(&key("a"));
        assert_eq!((worker.slots_free(), worker.active().count()), (1, 1));
        assert_eq!(worker.phase(&key("a"), Phase::Unknown), AttemptPhase::Known);
        let known = OfferAnswer::Busy(BusyReason::KnownAttempt, None);
        assert_eq!(claim(&mut worker, "a", 1), known);
        worker.suspended(&key("a"));
        assert_eq!((worker.running().count(), worker.active().count()), (1, 0));
        // Nobody may think that it never started: its owner may still agree.
        assert_eq!(worker.phase(&key("a"), Phase::Unknown), AttemptPhase::Known);
    }

    #[test]
    fn an_attempt_seen_before_is_never_taken_again() {
        let mut worker = Worker::new(9);
        let known = OfferAnswer::Busy(BusyReason::KnownAttempt, None);
        assert_eq!(worker.offer(&key("a"), 1, Phase::Known), known);
        assert_eq!(worker.offer(&key("a"), 1, Phase::Done), known);
        assert_eq!(claim(&mut worker, "b", 2), OfferAnswer::Claim);
        assert_eq!(claim(&mut worker, "b", 3), known);
        assert!(worker.go(&key("b"), 2));
        assert_eq!(claim(&mut worker, "b", 4), known);
    }

    #[test]
    fn a_go_without_its_claim_starts_nothing() {
        let mut worker = Worker::new(9);
        assert!(!worker.go(&key("a"), 1));
        claim(&mut worker, "a", 1);
        assert!(!worker.go(&key("b"), 1));
        assert!(worker.go(&key("a"), 1));
        assert!(!worker.go(&key("a"), 1));
        claim(&mut worker, "c", 2);
        worker.no_go(2);
        assert!(!worker.go(&key("c"), 2));
    }

    #[test]
    fn who_leaves_or_is_unable_says_so() {
        let mut worker = Worker::new(9);
        let fault = Fault::new(Code::NodeDiskLow, "full");
        worker.set_unable(Some(fault.clone()));
        let unable = OfferAnswer::Busy(BusyReason::Unable, Some(fault));
        assert_eq!(claim(&mut worker, "a", 1), unable);
        worker.set_unable(None);
        worker.leave();
        assert_eq!(claim(&mut worker, "a", 1), OfferAnswer::Busy(BusyReason::Leaving, None));
    }

    #[test]
    fn phases_follow_claims_runs_and_the_journal() {
        let mut worker = Worker::new(9);
        assert_eq!(worker.phase(&key("a"), Phase::Unknown), AttemptPhase::Unknown);
        claim(&mut worker, "a", 1);
        assert_eq!(worker.phase(&key("a"), Phase::Unknown), AttemptPhase::Claiming);
        assert!(worker.go(&key("a"), 1));
        assert_eq!(worker.phase(&key("a"), Phase::Unknown), AttemptPhase::Known);
        worker.ended(&key("a"));
        assert_eq!(worker.phase(&key("a"), Phase::Known), AttemptPhase::Known);
        assert_eq!(worker.phase(&key("a"), Phase::Done), AttemptPhase::Done);
    }

    #[test]
    fn a_run_is_stopped_once_by_timeout_or_cancel() {
        let mut worker = Worker::new(9);
        for (task, id) in [("a", 1), ("b", 2)] {
            claim(&mut worker, task, id);
            assert!(worker.go(&key(task), id));
        }
        assert_eq!(worker.poll_timeout(), None);
        worker.intended(&key("a"), 100, Tick(5));
        worker.intended(&key("b"), 50, Tick(5));
        assert_eq!(worker.poll_timeout(), Some(Tick(55)));
        let cancelled = worker.cancel(&key("b"), Phase::Known);
        assert_eq!(cancelled, CancelAnswer { phase: AttemptPhase::Known, stop: true });
        assert!(!worker.cancel(&key("b"), Phase::Known).stop);
        assert_eq!(worker.expired(Tick(104)), []);
        assert_eq!(worker.expired(Tick(105)), [key("a")]);
        assert_eq!(worker.expired(Tick(105)), []);
        assert_eq!(worker.poll_timeout(), None);
        assert!(!worker.cancel(&key("c"), Phase::Unknown).stop);
    }
}

//! Offers, Go, queries and cancels: the worker's books are asked, the machine gets the answer.

use super::Driver;
use crate::attempt::Job;
use crate::consent::Open;
use crate::exec::Stop;
use crate::facts::Scene;
use crate::start::key;
use cortex_agent_core::{OfferAnswer, Phase, Policy};
use cortex_model::proto::{BusyReason, Cancel, Error, Go, Offer, Query};
use cortex_model::{Actor, AttemptKey, Code, Fault, TaskSpec, wire};
use cortex_tunnel::ClaimResult;
use std::sync::Arc;
use tokio::sync::oneshot;

/// An offer that was understood.
pub(super) struct Parsed {
    spec: TaskSpec,
    actor: Option<Actor>,
    timeout_ms: u64,
    output_limit: u64,
    deadline_ms: Option<u64>,
}

impl Parsed {
    /// Takes the task out of the offer; nothing else needs it.
    fn read(offer: &mut Offer) -> Result<Self, Fault> {
        let missing = || Fault::new(Code::Malformed, "the offer has no task");
        let spec = wire::task::spec(offer.spec.take().ok_or_else(missing)?)?;
        let actor = match offer.actor.take() {
            Some(actor) => Some(wire::task::actor(Some(actor))?),
            None => None,
        };
        let or = |given: u64, own: u64| if given == 0 { own } else { given };
        let timeout_ms = or(offer.run_timeout_ms, spec.run_timeout());
        let output_limit = or(offer.output_limit_bytes, spec.output_limit());
        let deadline_ms = Some(offer.deadline_at_ms).filter(|at| *at > 0);
        Ok(Self { spec, actor, timeout_ms, output_limit, deadline_ms })
    }
}

impl Driver {
    pub(super) fn offered(&mut self, offer: &mut Offer) {
        let (reason, fault) = match self.consider(offer) {
            Ok(parsed) => return self.claim(offer, parsed),
            Err(refusal) => refusal,
        };
        let error = fault.as_ref().map(Error::from);
        self.end.busy(offer, reason, self.worker.slots_free(), error);
    }

    /// Holds a slot for the offer, or says why not.
    fn consider(&mut self, offer: &mut Offer) -> Result<Parsed, (BusyReason, Option<Fault>)> {
        let unable = |fault: Fault| (BusyReason::Unable, Some(fault));
        let fault = self.unable();
        self.worker.set_unable(fault);
        let key = key(&offer.workspace, &offer.task_id, offer.attempt).map_err(unable)?;
        let journal = &self.started.journal;
        journal.require_floor(&offer.audit_floor).map_err(|err| unable(err.to_fault()))?;
        let parsed = Parsed::read(offer).map_err(unable)?;
        let phase = self.started.journal.phase(&key).map_err(|err| unable(err.to_fault()))?;
        match self.worker.offer(&key, offer.offer_id, phase) {
            OfferAnswer::Claim => Ok(parsed),
            OfferAnswer::Busy(reason, fault) => Err((reason, fault)),
        }
    }

    fn claim(&mut self, offer: &Offer, parsed: Parsed) {
        match self.end.claim(offer, self.worker.slots_free()) {
            ClaimResult::Claimed => drop(self.claims.insert(offer.offer_id, parsed)),
            ClaimResult::Gone | ClaimResult::Full => self.worker.no_go(offer.offer_id),
        }
    }

    /// Why no work can be taken at all, if so.
    pub(super) fn unable(&mut self) -> Option<Fault> {
        if let Some(blocked) = self.started.journal.blocked() {
            return Some(blocked.to_fault());
        }
        if let Some(paused) = self.paused() {
            return Some(paused);
        }
        match self.policy() {
            Ok(policy) => {
                if let Some(unmet) = policy.unmet(&self.machine) {
                    return Some(unmet);
                }
            }
            Err(fault) => return Some(fault),
        }
        if self.started.spools.is_full() {
            return Some(Fault::new(Code::NodeDiskLow, "the node's quota for output is used up"));
        }
        let free = free_bytes(&self.config.data_dir)?;
        let least = self.config.min_free;
        let message = || format!("the node has {free} bytes of disk left, it needs {least}");
        (free < least).then(|| Fault::new(Code::NodeDiskLow, message()))
    }

    /// The policy that counts now. It has its say about how many tasks run at the same time.
    pub(super) fn policy(&mut self) -> Result<Arc<Policy>, Fault> {
        let policy = self.policy.current()?;
        self.note_policy(&policy);
        self.worker.set_slots(policy.slots(self.config.slots, &self.machine));
        Ok(policy)
    }

    pub(super) fn go(&mut self, attempt: &AttemptKey, go: &Go) {
        let parsed = self.claims.remove(&go.offer_id);
        let claimed = self.worker.go(attempt, go.offer_id);
        let Some(parsed) = parsed.filter(|_| claimed) else {
            tracing::warn!(%attempt, "a Go without a claim is ignored");
            return;
        };
        self.begin(attempt, parsed, (go.fence, &go.audit_floor), None);
    }

    /// Attempts that waited for the owner when the last agent ended wait on. Call it before the first hello, when the owner can
    /// be heard.
    pub(super) fn reopen(&mut self, waiting: Vec<(Offer, Open)>) {
        for (mut offer, open) in waiting {
            let key = open.asked.key.clone();
            match Parsed::read(&mut offer) {
                Ok(parsed) => {
                    self.worker.resumed(&key);
                    self.begin(&key, parsed, (offer.fence, &offer.audit_floor), Some(open));
                }
                // It never started: the node says so, and it is offered again.
                Err(error) => {
                    tracing::warn!(%error, attempt = %key, "what waited for the owner cannot be read any more");
                    self.consent.forget(&key);
                }
            }
        }
    }

    fn begin(
        &mut self,
        attempt: &AttemptKey,
        parsed: Parsed,
        (fence, floor): (u64, &str),
        open: Option<Open>,
    ) {
        let Parsed { spec, actor, timeout_ms, output_limit, deadline_ms } = parsed;
        // A policy that broke since the claim allows nothing.
        let policy = self.policy().unwrap_or_else(|_| Arc::new(Policy::nothing()));
        let scene = self.scene(&policy, attempt);
        let (sender, stop) = oneshot::channel();
        self.stops.insert(attempt.clone(), sender);
        let job = Job {
            key: attempt.clone(),
            fence,
            actor,
            floor: crate::journal::read_floor(floor),
            floor_text: floor.to_owned(),
            action: spec.action,
            timeout_ms,
            output_limit,
            policy,
            scene,
            consent: Arc::clone(&self.consent),
            slotless: open.is_some(),
            note: open.as_ref().map(|open| open.note.clone()).unwrap_or_default(),
            open,
            deadline_ms,
            journal: self.started.journal.clone(),
            spool: self.own(attempt, output_limit),
            mark: self.started.mark.clone(),
            guard: self.started.guard.as_ref().map(Arc::clone),
            sandbox: self.started.sandbox.as_ref().map(Arc::clone),
            approval: None,
            stop,
            events: self.events.clone(),
            locks: Arc::clone(&self.locks),
            own: spec.locks,
            lock_timeout_ms: spec.lock_timeout_ms,
            held: None,
            holding: Vec::new(),
        };
        self.worked = true;
        tokio::spawn(job.run());
    }

    /// What an attempt is decided on and started with, beside the task.
    fn scene(&self, policy: &Policy, attempt: &AttemptKey) -> Scene {
        let tmp = self.config.data_dir.join("tmp");
        // Policies of version 0 know one directory for all.
        let tmpdir = match policy.version() {
            0 => tmp,
            _ => tmp.join(format!("{}.{}", attempt.task.task, attempt.attempt)),
        };
        Scene { tmpdir, mark: self.started.mark.clone(), machine: self.machine.clone() }
    }

    pub(super) fn query(&mut self, query: &Query) {
        let Some((key, journal)) = self.known(&query.workspace, &query.task_id, query.attempt)
        else {
            return;
        };
        // The answer carries the head: it must not be older than what it says.
        let head = self.head();
        self.end.update(self.worker.slots(), self.worker.slots_free(), head);
        let phase = self.worker.phase(&key, journal);
        self.end.answer_query(query, phase);
    }

    pub(super) fn cancel(&mut self, cancel: &Cancel) {
        let Some((key, journal)) = self.known(&cancel.workspace, &cancel.task_id, cancel.attempt)
        else {
            return;
        };
        let answer = self.worker.cancel(&key, journal);
        if answer.stop {
            self.stop(&key, Stop::Cancelled);
        }
        self.end.answer_cancel(cancel, answer.phase);
    }

    /// What the journal says. Without an answer of the journal nothing is answered: silence is safe.
    fn known(&self, workspace: &str, task: &str, attempt: u32) -> Option<(AttemptKey, Phase)> {
        let key = key(workspace, task, attempt).ok()?;
        match self.started.journal.phase(&key) {
            Ok(phase) => Some((key, phase)),
            Err(error) => {
                tracing::error!(%error, attempt = %key, "the journal does not answer");
                None
            }
        }
    }
}

fn free_bytes(dir: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

//! A simulated agent: a journal that survives, and claims, runs and a connection that do not.

use cortex_model::ids::SessionId;
use cortex_model::{Ending, Incarnation, NodeId, Outcome, TaskKey};
use cortex_scheduler_core::Phase;
use std::collections::BTreeMap;

pub(crate) type Attempt = (TaskKey, u32);

pub(crate) struct Agent {
    pub(crate) node: NodeId,
    pub(crate) caps: &'static str,
    pub(crate) slots: usize,
    pub(crate) alive: bool,
    pub(crate) gone_for_good: bool,
    pub(crate) frozen_until: u64,
    pub(crate) lives: u32,
    pub(crate) sessions: u32,
    pub(crate) generation: u64,
    /// Gateway and its epoch.
    pub(crate) connected: Option<(usize, u32)>,
    pub(crate) connected_at: u64,
    /// Intent (none) or outcome, per attempt: survives everything but the loss of the disk.
    pub(crate) journal: BTreeMap<Attempt, Option<Outcome>>,
    pub(crate) journal_size: u64,
    pub(crate) undelivered: BTreeMap<Attempt, Outcome>,
    /// Claims of this connection, by offer.
    pub(crate) claims: BTreeMap<u64, Attempt>,
    /// Ends at.
    pub(crate) running: BTreeMap<Attempt, u64>,
}

impl Agent {
    pub(crate) fn session(&self) -> SessionId {
        SessionId::parse(&format!("{}-s{}", self.node, self.sessions)).unwrap()
    }

    pub(crate) fn life(&self) -> Incarnation {
        Incarnation::parse(&format!("{}-l{}", self.node, self.lives)).unwrap()
    }

    pub(crate) fn free(&self) -> usize {
        self.slots.saturating_sub(self.claims.len() + self.running.len())
    }

    pub(crate) fn phase(&self, a: &Attempt) -> Phase {
        match self.journal.get(a) {
            Some(Some(_)) if !self.undelivered.contains_key(a) => Phase::Done,
            Some(_) => Phase::Known,
            None if self.claims.values().any(|c| c == a) => Phase::Claiming,
            None => Phase::Unknown,
        }
    }

    pub(crate) fn end(&mut self, a: &Attempt, ending: Ending) {
        self.running.remove(a);
        self.journal_size += 1;
        let outcome = Outcome {
            journal_seq: self.journal_size,
            started_at_ms: 1,
            ended_at_ms: 2,
            ..Outcome::without_run(ending)
        };
        self.journal.insert(a.clone(), Some(outcome.clone()));
        self.undelivered.insert(a.clone(), outcome);
    }

    /// The process dies, and its children with it.
    pub(crate) fn crash(&mut self) {
        self.alive = false;
        self.connected = None;
        self.claims.clear();
        self.running.clear();
    }

    /// The process starts again: intents without outcome were interrupted. The disk may be gone.
    pub(crate) fn restart(&mut self, disk_lost: bool) {
        self.alive = true;
        self.sessions += 1;
        self.generation = 0;
        if disk_lost {
            self.lives += 1;
            self.journal.clear();
            self.undelivered.clear();
            self.journal_size = 0;
        }
        let open: Vec<Attempt> =
            self.journal.iter().filter(|(_, o)| o.is_none()).map(|(a, _)| a.clone()).collect();
        for a in open {
            self.end(&a, Ending::Interrupted { found: "an intent without outcome".into() });
        }
    }

    /// The connection is gone, and the claims made through it.
    pub(crate) fn disconnect(&mut self) {
        self.connected = None;
        self.claims.clear();
    }
}

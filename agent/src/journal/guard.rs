//! The guard of an intent: proof that it is durable. Only the journal makes one, and the executor starts nothing
//! without it. It holds the plan that was journalled, so nothing else can be started with it.

use super::draft::OutcomeDraft;
use super::writer::Op;
use cortex_agent_core::ExecPlan;
use cortex_audit::Leaf;
use cortex_model::{AttemptKey, Ending, Outcome};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// See the module. Dropped without an outcome, it records the outcome `unknown`; should even that fail, the attempt
/// counts as interrupted when the journal is opened next.
#[must_use = "an intent without outcome counts as unknown"]
pub struct IntentGuard {
    pub(crate) key: AttemptKey,
    pub(crate) fence: u64,
    pub(crate) seq: u64,
    pub(crate) leaf: Leaf,
    pub(crate) plan: Arc<ExecPlan>,
    /// `None` once the outcome was handed over.
    pub(crate) requests: Option<Sender<Op>>,
}

impl IntentGuard {
    /// The attempt.
    #[must_use]
    pub fn key(&self) -> &AttemptKey {
        &self.key
    }

    /// Number of the record.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What may be started.
    #[must_use]
    pub fn plan(&self) -> &Arc<ExecPlan> {
        &self.plan
    }

    pub(crate) fn into_outcome(mut self, outcome: Outcome) -> OutcomeDraft {
        self.requests = None;
        self.draft(outcome, false)
    }

    fn draft(&self, outcome: Outcome, unknown: bool) -> OutcomeDraft {
        let (key, fence, intent) = (self.key.clone(), self.fence, (self.seq, self.leaf));
        OutcomeDraft { key, fence, intent, outcome, found: None, unknown }
    }
}

impl Drop for IntentGuard {
    fn drop(&mut self) {
        if let Some(requests) = self.requests.take() {
            let found = "the agent lost track of it; how far it got is not known".to_owned();
            let outcome = Outcome::without_run(Ending::Interrupted { found });
            // A closed journal finds the open intent when it is opened next.
            drop(requests.send(Op::Dropped(Box::new(self.draft(outcome, true)))));
        }
    }
}

impl fmt::Debug for IntentGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntentGuard({} at {})", self.key, self.seq)
    }
}

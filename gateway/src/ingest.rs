//! Brings what nodes report into the log. A report is acknowledged only when it is durable there, or when the
//! log shows that it will never be wanted.

use crate::status::log_fault;
use crate::tasks::Tasks;
use cortex_log::{Expect, LogError};
use cortex_model::{AttemptKey, Commit, Fault, NodeId, Outcome};
use cortex_scheduler_core::TaskView;
use cortex_scheduler_core::decide::{self, OutcomeDecision};
use std::sync::Arc;

/// How often an outcome is decided anew because somebody else was faster.
const TRIES: usize = 16;

/// Stores an outcome.
///
/// # Errors
/// When the log does not take it; the node keeps it and says it again.
pub(crate) async fn outcome(
    tasks: &Tasks,
    node: &NodeId,
    attempt: &AttemptKey,
    outcome: &Outcome,
) -> Result<(), Fault> {
    let mut view = tasks.projection.get(&attempt.task).filter(|v| knows(v, attempt));
    for _ in 0..TRIES {
        let Some(v) = view else {
            view = tasks.load(&attempt.task).await?.map(Arc::new);
            if view.is_none() {
                tracing::error!(%attempt, %node, "outcome of a task that the log does not have");
                return Ok(());
            }
            continue;
        };
        let events = match decide::outcome(&v, node, attempt.attempt, outcome, crate::clock::now())
        {
            OutcomeDecision::AlreadyKnown => return Ok(()),
            OutcomeDecision::Behind => {
                view = None;
                continue;
            }
            OutcomeDecision::Append(events) | OutcomeDecision::Late(events) => events,
        };
        let commit = Commit { n: v.n + 1, events };
        match tasks.append(&attempt.task, Expect::At(v.revision), &commit).await {
            Ok(_) => {
                metrics::counter!("cortex_outcomes_total").increment(1);
                return Ok(());
            }
            Err(LogError::Conflict) => view = None,
            Err(e) => return Err(log_fault(&e)),
        }
    }
    Err(log_fault(&LogError::Conflict))
}

/// Whether the read model has seen this attempt start. It may lag; then the log is asked.
fn knows(v: &TaskView, attempt: &AttemptKey) -> bool {
    v.attempt >= attempt.attempt
}

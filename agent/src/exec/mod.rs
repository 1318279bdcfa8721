//! Starting what was decided. [`launch`] is the only way: it takes the journal's guard, which holds the plan
//! that was made durable, and gives it back with how it ended.

mod echo;
mod shell;

use crate::clock::unix_now;
use crate::guard::Guard;
use crate::journal::IntentGuard;
use crate::spool::Spool;
use cortex_agent_core::plan::Operation;
use cortex_model::{Ending, Outcome};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// Why a running attempt is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Somebody asked for it.
    Cancelled,
    /// The run timeout struck.
    Timeout,
}

/// What an executor is given beside the plan.
#[derive(Debug)]
pub struct Surroundings {
    /// Where output goes.
    pub spool: Arc<Spool>,
    /// Mark of this agent process, as in the plan's environment.
    pub mark: String,
    /// Ends what was started should the agent die.
    pub guard: Option<Arc<Guard>>,
    /// Resolves when the attempt is to be ended.
    pub stop: oneshot::Receiver<Stop>,
}

/// Runs what the guard's plan says, to its end. `announce` is told up to where output can be read.
pub async fn launch(
    guard: IntentGuard,
    surroundings: Surroundings,
    announce: impl AsyncFn(u64),
) -> (IntentGuard, Outcome) {
    let started_at_ms = unix_now().0;
    let start = Instant::now();
    let spool = Arc::clone(&surroundings.spool);
    let plan = Arc::clone(guard.plan());
    let ending = match plan.operation() {
        Operation::Echo(payload) => echo::run(payload, &spool),
        Operation::Process(process) => {
            let timeout_ms = plan.timeout_ms();
            shell::run(guard.key(), process, timeout_ms, surroundings, &announce).await
        }
    };
    let duration = start.elapsed();
    let never_ran = matches!(ending, Ending::SpawnFailed(_));
    let done = spool.finish();
    if done.inline.is_empty() && done.summary.total() > 0 {
        announce(spool.end()).await;
        let syncing = Arc::clone(&spool);
        let synced = tokio::task::spawn_blocking(move || syncing.sync()).await;
        if let Ok(Err(error)) = synced {
            tracing::error!(%error, attempt = %guard.key(), "output is not safe on the disk");
        }
    }
    let outcome = Outcome {
        ending,
        output: if never_ran { Default::default() } else { done.summary },
        inline_output: done.inline,
        started_at_ms: if never_ran { 0 } else { started_at_ms },
        ended_at_ms: unix_now().0,
        journal_seq: 0,
        duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
    };
    (guard, outcome)
}

#[cfg(test)]
mod tests;

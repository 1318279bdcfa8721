//! Starting what was decided. [`launch`] is the only way: it takes the journal's guard, which holds the plan
//! that was made durable, and gives it back with how it ended.

mod echo;
mod shell;

use crate::attempt::Event;
use crate::clock::unix_now;
use crate::guard::Guard;
use crate::journal::IntentGuard;
use crate::spool::Spool;
use cortex_agent_core::plan::Operation;
use cortex_model::{AttemptKey, Ending, Outcome};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Why a running attempt is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody asked for it.
    Cancelled,
    /// The run timeout struck.
    Timeout,
    /// The agent itself is shutting down.
    Shutdown,
}

impl Stop {
    /// How an attempt ends that was stopped for this.
    fn ending(self, timeout_ms: u64, survivors: u32) -> Ending {
        match self {
            Self::Cancelled => Ending::Cancelled { never_started: false, survivors },
            Self::Timeout => Ending::Timeout { after_ms: timeout_ms },
            Self::Shutdown => {
                let found = "the agent was stopped while it ran; its processes were ended";
                Ending::Interrupted { found: found.to_owned() }
            }
        }
    }
}

/// What an executor is given beside the plan.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Where output goes.
    pub(crate) spool: Arc<Spool>,
    /// Mark of this agent process, as in the plan's environment.
    pub(crate) mark: String,
    /// Ends what was started should the agent die.
    pub(crate) guard: Option<Arc<Guard>>,
    /// Resolves when the attempt is to be ended.
    pub(crate) stop: oneshot::Receiver<Stop>,
    /// Is told up to where output can be read.
    pub(crate) events: mpsc::Sender<Event>,
}

/// Says up to where output can be read.
#[derive(Debug)]
struct Announce {
    key: AttemptKey,
    events: mpsc::Sender<Event>,
}

impl Announce {
    fn new(key: &AttemptKey, events: &mpsc::Sender<Event>) -> Self {
        Self { key: key.clone(), events: events.clone() }
    }

    async fn grown(&self, end: u64) {
        // Whoever listened may be gone; the spool keeps the output.
        drop(self.events.send(Event::Output { key: self.key.clone(), end }).await);
    }
}

/// Runs what the guard's plan says, to its end.
pub(crate) async fn launch(
    guard: IntentGuard,
    mut surroundings: Surroundings,
) -> (IntentGuard, Outcome) {
    let started_at_ms = unix_now().0;
    let start = Instant::now();
    let spool = Arc::clone(&surroundings.spool);
    let announce = Announce::new(guard.key(), &surroundings.events);
    let plan = Arc::clone(guard.plan());
    let timeout_ms = plan.timeout_ms();
    let ending = match (surroundings.stop.try_recv(), plan.operation()) {
        (Ok(stop), _) => stop.ending(timeout_ms, 0),
        (Err(_), Operation::Echo(payload)) => echo::run(payload, &spool),
        (Err(_), Operation::Process(process)) => {
            shell::run(guard.key(), process, timeout_ms, surroundings).await
        }
    };
    let duration = start.elapsed();
    let never_ran = matches!(ending, Ending::SpawnFailed(_));
    let done = spool.finish();
    if done.inline.is_empty() && done.summary.total() > 0 {
        announce.grown(spool.end()).await;
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

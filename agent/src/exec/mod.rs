//! Starting what was decided. [`launch`] is the only way: it takes the journal's guard, which holds the plan
//! that was made durable, and gives it back with how it ended.

mod echo;
mod process;
mod shell;
mod terminal;

pub(crate) use process::level;
pub(crate) use terminal::{Typing, nobody};

use crate::attempt::Event;
use crate::clock::unix_now;
use crate::guard::Guard;
use crate::journal::IntentGuard;
use crate::sandbox::{Remains, Sandbox};
use crate::spool::Spool;
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{Level, Operation};
use cortex_model::{AttemptKey, Confinement, Ending, Fault, LimitUse, Outcome};
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    /// Starts what a plan wants confined, and everything else where it can.
    pub(crate) sandbox: Option<Arc<Sandbox>>,
    /// Resolves when the attempt is to be ended.
    pub(crate) stop: oneshot::Receiver<Stop>,
    /// What comes for a terminal, where the plan has one.
    pub(crate) typing: Option<Typing>,
    /// Is told up to where output can be read.
    pub(crate) events: mpsc::Sender<Event>,
}

/// What came of a process.
struct Done {
    ending: Ending,
    remains: Remains,
}

impl Done {
    /// Nothing ran.
    fn never(fault: Fault) -> Self {
        Self { ending: Ending::SpawnFailed(fault.into()), remains: Remains::default() }
    }
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
    let sandbox = surroundings.sandbox.clone();
    let mut ran = None;
    let ending = match (surroundings.stop.try_recv(), plan.operation()) {
        (Ok(stop), _) => stop.ending(timeout_ms, 0),
        (Err(_), Operation::Echo(payload)) => echo::run(payload, &spool),
        (Err(_), Operation::Process(process)) => {
            let done = shell::run(&guard, process, timeout_ms, surroundings).await;
            ran = Some((process, done.remains));
            done.ending
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
    let mut repositories = None;
    let confinement = match ran {
        Some((process, mut remains)) if !never_ran => {
            repositories = remains.repositories.take();
            let used = Measured { duration, timeout_ms, output: done.summary.total() };
            Some(confinement(process, sandbox.as_deref(), &remains, &ending, &used))
        }
        Some(_) | None => None,
    };
    let outcome = Outcome {
        ending,
        output: if never_ran { Default::default() } else { done.summary },
        inline_output: done.inline,
        started_at_ms: if never_ran { 0 } else { started_at_ms },
        ended_at_ms: unix_now().0,
        journal_seq: 0,
        duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        confinement,
        locks: Vec::new(),
        repositories,
    };
    (guard, outcome)
}

/// What the agent itself has measured.
struct Measured {
    duration: Duration,
    timeout_ms: u64,
    output: u64,
}

/// What held a process and what it used.
fn confinement(
    process: &ProcessPlan,
    sandbox: Option<&Sandbox>,
    remains: &Remains,
    ending: &Ending,
    measured: &Measured,
) -> Confinement {
    let level = level(sandbox, process).unwrap_or(Level::None);
    let not_enforced =
        sandbox.map(|sandbox| sandbox.armed().gaps_of(level, process)).unwrap_or_default();
    let mut limits = vec![
        limit("wall", measured.timeout_ms, ms(measured.duration), "hard"),
        limit("output", process.limits.output, measured.output, "hard"),
    ];
    if let Some(sandbox) = sandbox {
        limits.extend(sandbox.limits(process, remains.used, measured.duration));
    }
    let killed_by = match ending {
        Ending::Timeout { .. } => "wall",
        Ending::Exited { .. }
        | Ending::Signaled { .. }
        | Ending::SpawnFailed(_)
        | Ending::Cancelled { .. }
        | Ending::Denied { .. }
        | Ending::Interrupted { .. }
        | Ending::Expired { .. } => remains.killed_by,
    };
    Confinement {
        level: level.word().to_owned(),
        not_enforced,
        network: process.net.word().to_owned(),
        limits,
        killed_by: killed_by.to_owned(),
    }
}

/// A limit and what was used of it.
pub(crate) fn limit(name: &str, limit: u64, used: u64, strength: &str) -> LimitUse {
    LimitUse { name: name.to_owned(), limit, used, strength: strength.to_owned() }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

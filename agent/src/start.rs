//! Starting up: the data directory, the journal, and putting in order what a former process left. No work is
//! taken before all of it is done.

use crate::clock::unix_now;
use crate::config::{self, Config};
use crate::guard::Guard;
use crate::journal::{Identity, Journal, OpenIntent};
use crate::processes::{Belongs, Ended, end_all};
use crate::sandbox::Sandbox;
use crate::spool::{Spool, SpoolDir};
use cortex_agent_core::Phase;
use cortex_agent_core::recovery::Found;
use cortex_model::{AttemptKey, Code, Fault, Outcome, TaskId, TaskKey, Workspace};
use cortex_tunnel::Restored;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

/// How long processes of a former agent may take to disappear.
const PATIENCE: Duration = Duration::from_secs(10);

/// An agent that is ready to take work.
pub(crate) struct Started {
    pub(crate) journal: Journal,
    /// It could not be opened: the agent only says so.
    pub(crate) closed: bool,
    pub(crate) spools: Arc<SpoolDir>,
    /// Spools of attempts that still owe something.
    pub(crate) owned: BTreeMap<AttemptKey, Arc<Spool>>,
    /// What former processes owe upstream.
    pub(crate) restored: Vec<Restored>,
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) sandbox: Option<Arc<Sandbox>>,
    /// UUID of this process's session.
    pub(crate) session: String,
    /// Marks every process of this agent: `<incarnation>.<session>`.
    pub(crate) mark: String,
}

/// Puts everything in order.
pub(crate) async fn start(config: &Config) -> Result<Started, Fault> {
    config.check()?;
    config::prepare(&config.data_dir)?;
    let who = Identity {
        domain: config.domain.clone(),
        node: config.node_id(),
        workspace: config.workspace.to_string(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let opened = crate::journal_start::open(config, &who).await?;
    let (journal, open) = (opened.journal, opened.open);
    if !config.node.is_empty() && config.node != journal.node() {
        let message =
            format!("the journal belongs to node {}, not {}", journal.node(), config.node);
        return Err(Fault::new(Code::DataDirCorrupt, message)
            .with_hint("use another data directory for another node"));
    }
    let session = uuid::Uuid::new_v4().to_string();
    let mark = format!("{}.{session}", journal.incarnation());
    let orphans = end_orphans(&journal).await;
    let unusable = |err: std::io::Error| {
        Fault::new(Code::AgentUnable, format!("the spool cannot be used: {err}"))
    };
    let spools =
        SpoolDir::open(&config.data_dir.join("spool"), config.spool_quota, config.min_free / 2)
            .map_err(unusable)?;
    let mut owned: BTreeMap<_, _> = spools.recover().map_err(unusable)?.into_iter().collect();
    for intent in open {
        recover(&journal, intent, &orphans, &owned).await?;
    }
    let restored = match opened.closed {
        // What is owed is not known; spools stay as they are until it is.
        true => Vec::new(),
        false => restore(&journal, &mut owned).await?,
    };
    let sandbox = match config.launcher.as_slice() {
        [] => None,
        program => Some(Arc::new(confine(program).await?)),
    };
    let guard = match config.guard.as_slice() {
        [] => None,
        program => {
            let started = Guard::start(program, &mark).map_err(|err| {
                Fault::new(Code::AgentUnable, format!("the guard cannot be started: {err}"))
            })?;
            Some(Arc::new(started))
        }
    };
    let closed = opened.closed;
    Ok(Started { journal, closed, spools, owned, restored, guard, sandbox, session, mark })
}

/// Starts the launcher and says what it can enforce.
async fn confine(program: &[OsString]) -> Result<Sandbox, Fault> {
    let sandbox = Sandbox::start(program).await.map_err(|err| {
        Fault::new(Code::AgentUnable, format!("the launcher cannot be started: {err}"))
    })?;
    let armed = sandbox.armed();
    let (level, landlock) = (armed.level.word(), armed.landlock_abi);
    if armed.why.is_empty() {
        tracing::info!(level, landlock, "the sandbox is armed");
    } else {
        tracing::warn!(level, landlock, why = armed.why, "the sandbox is weaker than it could be");
    }
    Ok(sandbox)
}

/// Ends what former processes of this journal left running.
async fn end_orphans(journal: &Journal) -> Ended {
    let prefix = format!("{}.", journal.incarnation());
    let ended =
        tokio::task::spawn_blocking(move || end_all(Belongs::Agent(&prefix), PATIENCE)).await;
    let ended = ended.unwrap_or_default();
    if !ended.seen.is_empty() {
        let (found, left) = (ended.seen.len(), ended.survivors.len());
        tracing::warn!(
            found,
            left,
            "processes of a former agent were still running and were ended"
        );
    }
    ended
}

/// Records that an attempt was interrupted.
async fn recover(
    journal: &Journal,
    intent: OpenIntent,
    orphans: &Ended,
    owned: &BTreeMap<AttemptKey, Arc<Spool>>,
) -> Result<(), Fault> {
    let (seen, survivors) = orphans.of(&intent.key);
    let found = Found { rebooted: intent.rebooted, orphans: seen, survivors };
    tracing::warn!(attempt = %intent.key, found = found.word(), "an attempt was interrupted");
    let mut outcome = Outcome::without_run(found.ending());
    outcome.ended_at_ms = unix_now().0;
    if let Some(spool) = owned.get(&intent.key) {
        let synced = spool.sync();
        synced.map_err(|err| Fault::new(Code::AgentUnable, format!("the spool: {err}")))?;
        outcome.output = spool.summary();
    }
    let recovered = journal.recover(intent, &found, outcome).await;
    recovered.map(drop).map_err(|err| err.to_fault())
}

/// What is owed upstream. Spools that nobody can want any more are removed.
async fn restore(
    journal: &Journal,
    owned: &mut BTreeMap<AttemptKey, Arc<Spool>>,
) -> Result<Vec<Restored>, Fault> {
    let mut restored = Vec::new();
    for owed in journal.owed().await.map_err(|err| err.to_fault())? {
        let report = owed.report;
        let key = key(&report.workspace, &report.task_id, report.attempt)?;
        let end = owned.get(&key).map_or(0, |spool| spool.end());
        restored.push(Restored { key, acked: 0, end, outcome: Some(report), outcome_acked: false });
    }
    let mut unwanted = Vec::new();
    for (key, spool) in &*owned {
        if restored.iter().any(|known| known.key == *key) {
            continue;
        }
        match journal.phase(key).map_err(|err| err.to_fault())? {
            Phase::Done if spool.end() > 0 => restored.push(Restored {
                key: key.clone(),
                acked: 0,
                end: spool.end(),
                outcome: None,
                outcome_acked: true,
            }),
            Phase::Done | Phase::Known | Phase::Unknown => unwanted.push(key.clone()),
        }
    }
    for key in unwanted {
        if let Some(spool) = owned.remove(&key) {
            tracing::warn!(attempt = %key, "a spool without an attempt is removed");
            spool.remove();
        }
    }
    Ok(restored)
}

/// The key that a frame names.
pub(crate) fn key(workspace: &str, task: &str, attempt: u32) -> Result<AttemptKey, Fault> {
    let task = TaskKey { workspace: Workspace::parse(workspace)?, task: TaskId::parse(task)? };
    Ok(AttemptKey { task, attempt })
}

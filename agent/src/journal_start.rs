//! The journal when the agent starts: one agent per data directory, a first look by a child process, and what is done
//! when the journal cannot be opened. Then the agent stays connected, takes no work and says why; as soon as the journal
//! can be opened, it begins anew.

use crate::config::Config;
use crate::journal::{Identity, Journal, OpenError, OpenIntent, Settings};
use cortex_model::Fault;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// How often a journal that cannot be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long a look by the child may take before nothing is concluded from it.
const LOOK: Duration = Duration::from_secs(120);

/// The journal, open or not.
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    pub(crate) open: Vec<OpenIntent>,
    pub(crate) closed: bool,
}

/// What an agent wants of its journal.
fn settings(config: &Config) -> Settings {
    Settings {
        reserve: config.min_free,
        max_unacked: Some(config.max_unacked),
        max_unacked_secs: Some(config.max_unacked_secs),
        ..Settings::default()
    }
}

fn journal_dir(config: &Config) -> PathBuf {
    config.data_dir.join("journal")
}

/// Opens the journal.
///
/// # Errors
/// Another agent works in this data directory, or the journal cannot be opened and nothing tells which one it is.
pub(crate) async fn open(config: &Config, who: &Identity) -> Result<Opened, Fault> {
    let dir = journal_dir(config);
    let opened = match look(config).await {
        Some(err) => Err(err),
        None => Journal::open(&dir, who, settings(config)),
    };
    let err = match opened {
        Ok((journal, open)) => return Ok(Opened { journal, open, closed: false }),
        Err(err) => err,
    };
    let fault = err.to_fault();
    match Journal::closed(&dir, &who.node, &err) {
        Some(journal) => {
            tracing::error!(%fault, hint = fault.hint, "the journal cannot be opened: no work is taken");
            Ok(Opened { journal, open: Vec::new(), closed: true })
        }
        None => Err(fault),
    }
}

/// Resolves when a journal that could not be opened can be.
pub(crate) async fn mended(config: &Config) {
    let who = Identity {
        domain: config.domain.clone(),
        node: config.node_id(),
        workspace: config.workspace.to_string(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
    };
    loop {
        tokio::time::sleep(RETRY).await;
        if look(config).await.is_some() {
            continue;
        }
        let (dir, who, settings) = (journal_dir(config), who.clone(), settings(config));
        let open = move || Journal::open(&dir, &who, settings).map(drop);
        let probe = tokio::task::spawn_blocking(open);
        if matches!(probe.await, Ok(Ok(()))) {
            return;
        }
    }
}

/// A child process opens the journal first: should the store end whoever reads it, the agent is not who dies.
async fn look(config: &Config) -> Option<OpenError> {
    let (program, inside) = config.guard.split_first()?;
    let inside = inside.split_last().map_or(&[][..], |(_, inside)| inside);
    let mut command = tokio::process::Command::new(program);
    command
        .args(inside)
        .args(["journal", "doctor", "--open", "--data-dir"])
        .arg(&config.data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let status = tokio::time::timeout(LOOK, command.status()).await.ok()?.ok()?;
    // An error that it could put into words is found again here, with all its words.
    let signal = std::os::unix::process::ExitStatusExt::signal(&status)?;
    let why = format!("reading log.redb ended the reader (signal {signal})");
    Some(OpenError::Corrupt { path: journal_dir(config), why })
}

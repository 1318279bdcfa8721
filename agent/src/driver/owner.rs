//! What the owner says on the machine itself, without any server.

use super::Driver;
use crate::exec::Stop;
use crate::journal::Journal;
use crate::local::{self, Answer, Ask, Question, error};
use cortex_agent_core::policy::Channel;
use cortex_model::limits::LOCAL_HISTORY_MAX;
use cortex_model::{Code, Fault};
use std::path::Path;
use tokio::sync::oneshot;

/// Says in the data directory that no work is to be taken.
const PAUSED: &str = "paused";

/// Somebody who waits until everything has ended.
#[derive(Debug)]
pub(super) struct Stopping {
    stopped: Vec<String>,
    reply: oneshot::Sender<Answer>,
}

/// Whether the owner wants no work to be taken.
pub(super) fn is_paused(data_dir: &Path) -> bool {
    data_dir.join(PAUSED).exists()
}

impl Driver {
    /// From now on the owner is heard, where a socket can be made.
    pub(super) fn listen(&mut self) {
        let consent = std::sync::Arc::clone(&self.consent);
        match local::listen(&self.config.data_dir, &self.started.mark, consent) {
            Ok(asked) => {
                self.asked = Some(asked);
                self.consent.open(Channel::Socket);
            }
            Err(error) => {
                tracing::warn!(%error, "the owner's socket cannot be made: pause, stop-all and consent do not work");
            }
        }
    }

    /// Why the owner wants no work to be taken, if so.
    pub(super) fn paused(&self) -> Option<Fault> {
        let fault = || {
            Fault::new(Code::AgentUnable, "the node's owner has paused it")
                .with_hint("on the node: cortex-agent resume")
        };
        self.paused.then(fault)
    }

    pub(super) fn asked(&mut self, question: Question) {
        let Question { ask, reply } = question;
        let done = match ask {
            Ask::Pause => self.pause(true),
            Ask::Resume => self.pause(false),
            Ask::StopAll => return self.stop_all(reply),
            Ask::Status => Ok(()),
            Ask::History { count } => {
                let journal = self.started.journal.clone();
                tokio::spawn(async move { reply.send(history(&journal, count).await).ok() });
                return;
            }
        };
        let answer = match done {
            Ok(()) => self.status(Vec::new()),
            Err(err) => error(Code::AgentUnable, &format!("it cannot be noted: {err}")),
        };
        // Whoever asked may be gone.
        reply.send(answer).ok();
    }

    fn status(&self, stopped: Vec<String>) -> Answer {
        let running = self.worker.running().map(ToString::to_string).collect();
        Answer::Status { paused: self.paused, running, stopped }
    }

    fn pause(&mut self, paused: bool) -> std::io::Result<()> {
        let file = self.config.data_dir.join(PAUSED);
        if paused {
            std::fs::write(&file, "")?;
        } else if file.exists() {
            std::fs::remove_file(&file)?;
        }
        tracing::info!(paused, "the owner's word");
        self.paused = paused;
        Ok(())
    }

    fn stop_all(&mut self, reply: oneshot::Sender<Answer>) {
        // Even if it cannot be noted for the next start: what runs is ended now.
        if let Err(error) = self.pause(true) {
            tracing::error!(%error, "the pause holds only until the agent ends");
            self.paused = true;
        }
        let running = self.end_all(Stop::Cancelled);
        let stopped = running.iter().map(ToString::to_string).collect();
        self.stopping.push(Stopping { stopped, reply });
        self.tell_stopped();
    }

    /// Answers those who wait until nothing runs any more, when nothing does.
    pub(super) fn tell_stopped(&mut self) {
        if self.worker.running().next().is_some() {
            return;
        }
        for Stopping { stopped, reply } in std::mem::take(&mut self.stopping) {
            reply.send(self.status(stopped)).ok();
        }
    }
}

async fn history(journal: &Journal, count: usize) -> Answer {
    let count = count.min(LOCAL_HISTORY_MAX);
    let from = journal.size().saturating_sub(count as u64);
    match journal.records(from, count).await {
        Ok(records) => {
            let text = |body: Vec<u8>| String::from_utf8_lossy(&body).into_owned();
            Answer::History { entries: records.into_iter().map(text).collect() }
        }
        Err(err) => error(Code::AgentUnable, &err.to_string()),
    }
}

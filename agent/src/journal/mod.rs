//! The node's journal: the one record of attempts. An *intent* is durable before anything starts, an
//! *outcome* follows it; both are entries of a hash chain (`cortex-audit`) in one redb file. The outbox,
//! outcomes that nobody acknowledged yet, is stored in the same transactions.
//!
//! It only inserts entries; none is ever changed or removed. When a write fails nothing is tried again: the
//! journal is blocked and the agent takes no work until it is started anew.
//!
//! One thread writes; whoever waits at the moment shares one transaction and one sync.

mod draft;
mod entries;
mod error;
mod open;
mod salt;
mod tables;
mod writer;

pub use draft::{IntentDraft, RefusalDraft};
pub use error::{JournalError, OpenError};
pub use open::{Identity, OpenIntent, Owed};

use cortex_agent_core::{ExecPlan, Phase};
use cortex_audit::{Head, Leaf};
use cortex_model::proto::{JournalHead, OutcomeReport};
use cortex_model::{AttemptKey, Outcome};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use writer::{Op, Request};

/// Proof that an intent is durable. Only the journal makes one, and the executor starts nothing without it.
/// It holds the plan that was journalled, so nothing else can be started with it. An intent whose guard is
/// dropped without an outcome counts as interrupted when the journal is opened next.
#[derive(Debug)]
#[must_use = "an intent without outcome counts as interrupted"]
pub struct IntentGuard {
    key: AttemptKey,
    fence: u64,
    seq: u64,
    leaf: Leaf,
    plan: Arc<ExecPlan>,
}

impl IntentGuard {
    /// The attempt.
    #[must_use]
    pub fn key(&self) -> &AttemptKey {
        &self.key
    }

    /// Number of the entry.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What may be started.
    #[must_use]
    pub fn plan(&self) -> &Arc<ExecPlan> {
        &self.plan
    }
}

/// An outcome or refusal is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Number of the entry.
    pub seq: u64,
    /// Hash of the entry.
    pub leaf: Leaf,
    /// What is to be reported until it is acknowledged.
    pub report: OutcomeReport,
}

/// What is known without asking the writer.
#[derive(Debug)]
struct Shared {
    head: Mutex<Head>,
    blocked: Mutex<Option<JournalError>>,
}

/// The open journal. Cheap to clone; when the last clone is gone, the file is closed.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` only while it is closed.
    requests: Option<std::sync::mpsc::Sender<Request>>,
    writer: Option<std::thread::JoinHandle<()>>,
    shared: Arc<Shared>,
    database: Arc<redb::Database>,
    incarnation: String,
    node: String,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.requests.take());
        // What was asked is still written; a panic of the writer was reported where it happened.
        self.writer.take().map(std::thread::JoinHandle::join);
    }
}

impl Journal {
    /// Opens the journal in `dir`, or begins a new one there, and verifies it. Intents without outcome are
    /// returned; each must be answered with `recover` before any work is taken.
    ///
    /// # Errors
    /// See [`OpenError`]. The file is left as it was found.
    pub fn open(dir: &Path, who: &Identity) -> Result<(Self, Vec<OpenIntent>), OpenError> {
        let opened = open::open(dir, who)?;
        let incarnation = opened.head.incarnation();
        let shared = Arc::new(Shared { head: Mutex::new(opened.head), blocked: Mutex::new(None) });
        let database = Arc::new(opened.database);
        let (requests, writer) = writer::start(
            Arc::clone(&database),
            Arc::clone(&shared),
            opened.head,
            incarnation.clone(),
        )
        .map_err(OpenError::Io)?;
        let journal = Inner {
            requests: Some(requests),
            writer: Some(writer),
            shared,
            database,
            incarnation,
            node: opened.node,
        };
        Ok((Self(Arc::new(journal)), opened.open_intents))
    }

    /// The life of this journal.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.0.incarnation
    }

    /// The node that the journal belongs to, as its first entry says.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// The newest durable entry.
    #[must_use]
    pub fn head(&self) -> JournalHead {
        let head = *self.0.shared.head.lock().unwrap_or_else(PoisonError::into_inner);
        JournalHead { size: head.size, leaf: head.leaf.to_string() }
    }

    /// Number of durable entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.shared.head.lock().unwrap_or_else(PoisonError::into_inner).size
    }

    /// Why the journal takes nothing any more, if so.
    #[must_use]
    pub fn blocked(&self) -> Option<JournalError> {
        self.0.shared.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is durable about an attempt.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn phase(&self, key: &AttemptKey) -> Result<Phase, JournalError> {
        tables::phase(&self.0.database, key).map_err(JournalError::from)
    }

    /// Outcomes that were not acknowledged, oldest first, and ended attempts whose outcome was.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn owed(&self) -> Result<Vec<Owed>, JournalError> {
        tables::owed(&self.0.database).map_err(JournalError::from)
    }

    /// Stored bodies from entry `from` on, at most `count`: for verification and export.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn entries(&self, from: u64, count: usize) -> Result<Vec<Vec<u8>>, JournalError> {
        tables::entries(&self.0.database, from, count).map_err(JournalError::from)
    }

    /// Writes that an agent process works with this journal from now on.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn session_open(&self, session: &str, policy: &str) -> Result<(), JournalError> {
        let (session, policy) = (session.to_owned(), policy.to_owned());
        self.ask(|reply| Op::Session { open: true, session, policy, clean: false, reply }).await
    }

    /// Writes that the process ends in order; `clean` says that nothing was running.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn session_close(&self, session: &str, clean: bool) -> Result<(), JournalError> {
        let session = session.to_owned();
        let policy = String::new();
        self.ask(|reply| Op::Session { open: false, session, policy, clean, reply }).await
    }

    /// Writes what is about to be started. When this returns a guard, it is durable.
    ///
    /// # Errors
    /// `Known`: the attempt has an entry already and must not start. Otherwise the journal is blocked.
    pub async fn intent(&self, draft: IntentDraft) -> Result<IntentGuard, JournalError> {
        self.ask(|reply| Op::Intent { draft: Box::new(draft), reply }).await
    }

    /// Writes how an attempt ended, with its report for the outbox.
    ///
    /// # Errors
    /// The journal is blocked: the attempt will count as interrupted.
    pub async fn outcome(
        &self,
        guard: IntentGuard,
        outcome: Outcome,
    ) -> Result<Receipt, JournalError> {
        let IntentGuard { key, fence, seq, leaf, plan: _ } = guard;
        let draft = draft::OutcomeDraft { key, fence, intent: (seq, leaf), outcome, found: None };
        self.ask(|reply| Op::Outcome { draft: Box::new(draft), reply }).await
    }

    /// Writes that an attempt is not started, with its report for the outbox.
    ///
    /// # Errors
    /// `Known`: the attempt has an entry already. Otherwise the journal is blocked.
    pub async fn refuse(&self, draft: RefusalDraft) -> Result<Receipt, JournalError> {
        self.ask(|reply| Op::Refusal { draft: Box::new(draft), reply }).await
    }

    /// Answers an intent that was found open: writes what was found and the outcome *interrupted*.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn recover(
        &self,
        open: OpenIntent,
        found: &cortex_agent_core::recovery::Found,
        outcome: Outcome,
    ) -> Result<Receipt, JournalError> {
        let draft = draft::OutcomeDraft {
            key: open.key,
            fence: open.fence,
            intent: (open.seq, open.leaf),
            outcome,
            found: Some(found.clone()),
        };
        self.ask(|reply| Op::Outcome { draft: Box::new(draft), reply }).await
    }

    /// The outcome of an attempt is durable upstream: it leaves the outbox. Its entries stay.
    ///
    /// # Errors
    /// The journal is blocked; the outcome will be reported again.
    pub async fn acked(&self, key: &AttemptKey) -> Result<(), JournalError> {
        let key = key.clone();
        self.ask(|reply| Op::Acked { key, reply }).await
    }

    async fn ask<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, JournalError>>) -> Op,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let gone = || JournalError::Blocked { why: "its thread has ended".to_owned(), full: false };
        let requests = self.0.requests.as_ref().ok_or_else(gone)?;
        requests.send(op(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests;

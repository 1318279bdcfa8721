//! The node's journal: the one record of attempts. An *intent* is durable before anything starts, an *outcome*
//! follows it; both are records of a hash chain (`cortex-audit`) under a signed Merkle tree. The outbox, outcomes that
//! nobody acknowledged yet, becomes durable with them.
//!
//! It only inserts records; none is ever changed or removed. When a write fails nothing is tried again: the journal is
//! blocked and the agent takes no work until it is started anew. docs/journal-format.md has the files.
//!
//! Two threads: one composes groups of all that waits and makes them durable in the ahead files, one sync for each;
//! the other takes them over into the store, at leisure.

mod ahead;
mod backend;
mod consent;
mod draft;
mod error;
mod evidence;
mod files;
mod gate;
mod group;
mod guard;
mod inspect;
mod key;
mod open;
mod recover;
mod salt;
mod shared;
mod show;
mod store;
mod storing;
mod tables;
mod terminal;
mod upstream;
mod verify;
mod walk;
mod writer;

pub use consent::{Answer, AnswerDraft, AskDraft, Asked, Given};
pub use draft::{IntentDraft, RefusalDraft};
pub use error::{JournalError, OpenError};
pub use evidence::keep_evidence;
pub use files::Identity;
pub use guard::IntentGuard;
pub use open::{OpenIntent, Owed};
pub use recover::{Recovered, recover};
pub use show::{Shown, show};
pub use terminal::{Attached, Terminal};
pub use upstream::{Cursor, read_floor};
pub use verify::{Believed, Keys, Report, keys, verify};

pub use inspect::{owner, written as is_written};

use crate::clock::Stamps;
use cortex_agent_core::Phase;
use cortex_audit::record::{Recovery, SessionClose, SessionOpen};
use cortex_audit::{Leaf, Opening, Record};
use cortex_model::proto::{JournalHead, OutcomeReport};
use cortex_model::{AttemptKey, Outcome};
use gate::Gate;
use group::Books;
use shared::{Patience, Shared};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use writer::{Op, Writer};

/// The longest time without a record.
const HEARTBEAT: Duration = Duration::from_secs(15 * 60);

/// An outcome or refusal is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Number of the record.
    pub seq: u64,
    /// Leaf of the record.
    pub leaf: Leaf,
    /// What is to be reported until it is acknowledged.
    pub report: OutcomeReport,
}

/// What the owner wants of a journal.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Free space below which no intent is taken, bytes.
    pub reserve: u64,
    /// Records that may wait for the mirror; beyond, no intent is taken. `None`: any number.
    pub max_unacked: Option<u64>,
    /// For how long the mirror's newest cosignature counts, seconds; beyond, no intent is taken. `None`: for ever.
    pub max_unacked_secs: Option<u64>,
    /// The longest time without a record.
    pub heartbeat: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reserve: 0, max_unacked: None, max_unacked_secs: None, heartbeat: HEARTBEAT }
    }
}

/// The open journal. Cheap to clone; when the last clone is gone, the files are closed.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: std::sync::mpsc::Sender<Op>,
    /// The writer, then the store's thread, which ends with it.
    threads: Vec<std::thread::JoinHandle<()>>,
    shared: Arc<Shared>,
    incarnation: String,
    node: String,
    nonce: [u8; 16],
    /// The former session was closed in order.
    closed: bool,
    /// Let go last.
    _lock: Option<std::fs::File>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What was asked is still written; a panic of a thread was reported where it happened.
        drop(self.requests.send(Op::Close));
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        // redb tidies up when it is closed, and may panic over a file that was damaged under it. All that is durable stays.
        let close = AssertUnwindSafe(|| self.shared.set_database(None));
        if std::panic::catch_unwind(close).is_err() {
            tracing::error!("the journal's store could not be closed; the next start checks it");
        }
    }
}

impl Journal {
    /// Opens the journal in `dir`, or begins a new one there, and verifies it. Intents without outcome are
    /// returned; each must be answered with `recover` before any work is taken.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        dir: &Path,
        who: &Identity,
        settings: Settings,
    ) -> Result<(Self, Vec<OpenIntent>), OpenError> {
        Self::start(open::open(dir, who)?, Some(dir), settings)
    }

    /// A journal that could not be opened, for an agent that stays connected and says why: it takes nothing, and answers
    /// no question. `None`: its files do not even tell which journal it was.
    #[must_use]
    pub fn closed(dir: &Path, node: &str, err: &OpenError) -> Option<Self> {
        let log = inspect::log_of(dir)?;
        let fault = err.to_fault();
        let blocked = JournalError::Blocked { code: fault.code, why: fault.message };
        let shared = Shared::closed(log, blocked);
        let incarnation = shared.head().incarnation();
        Some(Self(Arc::new(Inner {
            requests: std::sync::mpsc::channel().0,
            threads: Vec::new(),
            shared: Arc::new(shared),
            incarnation,
            node: node.to_owned(),
            nonce: [0; 16],
            closed: false,
            _lock: None,
        })))
    }

    /// Reads the journal in `dir` as opening it would, and changes nothing but what the store itself has to put in order
    /// after a crash. For a process that may be ended by what it reads.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn probe(dir: &Path) -> Result<(), OpenError> {
        open::look(dir)
    }

    fn start(
        opened: open::Opened,
        dir: Option<&Path>,
        settings: Settings,
    ) -> Result<(Self, Vec<OpenIntent>), OpenError> {
        let failed = |err| OpenError::from_io(dir.unwrap_or(Path::new("")), err);
        let incarnation = opened.head.incarnation();
        let predecessor = opened.genesis.pred.as_ref().map(|pred| pred.log.to_string());
        let shared = Shared::new(
            Some(opened.key),
            predecessor.map(|log| log.chars().take(32).collect()),
            opened.head,
            Some(opened.database),
            opened.spare,
        );
        let shared = Arc::new(shared);
        let patience =
            Patience { records: settings.max_unacked, seconds: settings.max_unacked_secs };
        shared.set_upstream(opened.cosigned, patience);
        let (store, storing) = storing::start(
            opened.files.store,
            Arc::clone(&shared),
            opened.edge.clone(),
            opened.head.leaf,
        )
        .map_err(failed)?;
        let gate = Gate::new(Arc::clone(&shared), dir, settings.reserve);
        let mut salts = salt::Salts::open().map_err(failed)?;
        let nonce = salts.salt().map_err(failed)?;
        let books = Books {
            shared: Arc::clone(&shared),
            incarnation: incarnation.clone(),
            head: opened.head,
            edge: opened.edge,
            open: open::names(&opened.open_intents),
            stamps: Stamps::new(),
            salts,
            group: 0,
        };
        let (requests, receiver) = std::sync::mpsc::channel();
        let writer = Writer {
            books,
            announced: Vec::new(),
            owed_clear: !opened.spare,
            ahead: opened.ahead,
            gate: gate.map_err(failed)?,
            store,
            requests: requests.clone(),
            heartbeat: settings.heartbeat,
        };
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let thread = thread.spawn(move || writer.run(&receiver)).map_err(failed)?;
        let journal = Self(Arc::new(Inner {
            requests,
            threads: vec![thread, storing],
            shared,
            incarnation,
            node: opened.genesis.node,
            nonce,
            closed: opened.closed,
            _lock: opened.files.lock,
        }));
        // So that what waits for a mirror counts from the start.
        journal.remember_mirror().map_err(|err| failed(std::io::Error::other(err)))?;
        if let Some(lost) = opened.refilled {
            journal.note_refilled(lost);
        }
        Ok((journal, opened.open_intents))
    }

    /// The store had lost what it had taken over, and has it again: said in the log.
    fn note_refilled(&self, lost: u64) {
        tracing::warn!(lost, "the journal's store had lost its newest records; they are back");
        let record =
            Recovery { intent: None, intent_hash: None, found: "refilled".to_owned(), orphans: 0 };
        let (record, reply) = (Box::new(record.into()), oneshot::channel().0);
        // Should it fail, the journal is blocked, and says so itself.
        drop(self.0.requests.send(Op::Record { record, openings: Vec::new(), reply }));
    }

    /// The life of this journal.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.0.incarnation
    }

    /// The node that the journal belongs to, as its first record says.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// The newest durable record.
    #[must_use]
    pub fn head(&self) -> JournalHead {
        let head = self.0.shared.head();
        JournalHead { size: head.size, leaf: head.leaf.to_string() }
    }

    /// Number of durable records.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.shared.head().size
    }

    /// Why no work can be taken at present, if so.
    #[must_use]
    pub fn blocked(&self) -> Option<JournalError> {
        self.0.shared.hindrance()
    }

    /// What is durable about an attempt.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn phase(&self, key: &AttemptKey) -> Result<Phase, JournalError> {
        self.0.shared.phase(&key.to_string())
    }

    /// Outcomes that were not acknowledged, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn owed(&self) -> Result<Vec<Owed>, JournalError> {
        self.flush().await?;
        self.0.shared.read(tables::owed)
    }

    /// Stored bodies from record `from` on, at most `count`: for verification and export.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn records(&self, from: u64, count: usize) -> Result<Vec<Vec<u8>>, JournalError> {
        self.flush().await?;
        self.0.shared.read(|read| tables::records(read, from, count))
    }

    /// Waits until the store has all that is durable.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn flush(&self) -> Result<(), JournalError> {
        self.ask(Op::Flush).await
    }

    /// Writes that an agent process works with this journal from now on: before the next record, or when [`Self::begin`] is
    /// called. An agent asks before it writes: what it would write into a journal that was set back would be a second history.
    ///
    /// # Errors
    /// The journal is blocked.
    pub fn session_open(&self, session: &str, policy: &str) -> Result<(), JournalError> {
        self.announce(SessionOpen {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            exe_sha256: None,
            session: session.to_owned(),
            nonce: cortex_audit::leaf::hex(&self.0.nonce),
            cosigned: self.0.shared.upstream().cosigned,
            vmgenid: None,
            clean: self.0.closed,
            policy: policy.to_owned(),
            config: None,
        })
    }

    /// A record that is written before the next one, and not before.
    ///
    /// # Errors
    /// The journal is blocked.
    pub fn announce(&self, record: impl Into<Record>) -> Result<(), JournalError> {
        let gone = |_| self.0.shared.blocked().unwrap_or_else(JournalError::gone);
        self.0.requests.send(Op::Announce(Box::new(record.into()))).map_err(gone)
    }

    /// Writes what was announced.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn begin(&self) -> Result<(), JournalError> {
        self.ask(Op::Begin).await
    }

    /// Writes that the process ends in order; `clean` says that nothing was running.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn session_close(&self, session: &str, clean: bool) -> Result<(), JournalError> {
        let cosigned = self.0.shared.upstream().cosigned;
        let record = SessionClose { session: session.to_owned(), clean, cosigned };
        self.record(record, Vec::new()).await.map(drop)
    }

    /// Writes a record that starts nothing and ends nothing: a policy that was loaded, a question to the owner, an
    /// answer. Intents, outcomes and refusals have functions of their own. Returns its number and leaf when it is durable.
    ///
    /// # Errors
    /// The journal is blocked, or the record is one of those or too large.
    pub async fn record(
        &self,
        record: impl Into<Record>,
        openings: Vec<Opening>,
    ) -> Result<(u64, Leaf), JournalError> {
        let record = Box::new(record.into());
        if let Record::Genesis(_) | Record::Intent(_) | Record::Outcome(_) | Record::Refusal(_) =
            &*record
        {
            let why = format!("{} has a function of its own", record.kind());
            return Err(JournalError::Record(why));
        }
        self.ask(|reply| Op::Record { record, openings, reply }).await
    }

    /// Writes what is about to be started. When this returns a guard, it is durable.
    ///
    /// # Errors
    /// `Known`: the attempt has a record already and must not start. `Full` and `Refused`: not now; that is recorded, and
    /// the attempt stays unknown. Otherwise the journal is blocked.
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
        let draft = Box::new(guard.into_outcome(outcome));
        self.ask(|reply| Op::Outcome { draft, reply }).await
    }

    /// Writes that an attempt is not started, with its report for the outbox.
    ///
    /// # Errors
    /// `Known`: the attempt has a record already. Otherwise the journal is blocked.
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
            unknown: false,
        };
        self.ask(|reply| Op::Outcome { draft: Box::new(draft), reply }).await
    }

    /// The outcome of an attempt is durable upstream: it leaves the outbox. Its records stay. Should this be lost, the
    /// outcome is reported again.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn acked(&self, key: &AttemptKey) -> Result<(), JournalError> {
        let key = key.clone();
        self.ask(|reply| Op::Heard { key, reply }).await
    }

    async fn ask<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, JournalError>>) -> Op,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let gone = || self.0.shared.blocked().unwrap_or_else(JournalError::gone);
        self.0.requests.send(op(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests;

//! Who typed into a terminal: durable before anything that they type gets there, and how much it was when it is over. What was
//! typed stands nowhere; its digest is an opening.

use super::draft::{self, Sealer};
use super::error::JournalError;
use super::group::WriteError;
use super::guard::IntentGuard;
use super::{Journal, salt};
use cortex_audit::record::{TerminalAttached, TerminalTyped};
use cortex_audit::{Leaf, Value};
use cortex_model::{Actor, AttemptKey};

/// What runs in a terminal, as the journal knows it.
#[derive(Clone, Debug)]
pub struct Terminal {
    key: AttemptKey,
    seq: u64,
    leaf: Leaf,
}

/// An attachment that stands in the journal.
#[derive(Clone, Copy, Debug)]
pub struct Attached {
    seq: u64,
    leaf: Leaf,
}

impl Terminal {
    /// The terminal of what a guard lets run.
    #[must_use]
    pub fn of(guard: &IntentGuard) -> Self {
        Self { key: guard.key.clone(), seq: guard.seq, leaf: guard.leaf }
    }
}

impl Journal {
    /// Somebody takes the keyboard of a terminal, as the how manyeth (from 1).
    ///
    /// # Errors
    /// The journal is blocked: nothing they type may get there.
    pub async fn terminal_attached(
        &self,
        terminal: &Terminal,
        number: u64,
        actor: Option<&Actor>,
    ) -> Result<Attached, JournalError> {
        let record = TerminalAttached {
            cmd: draft::cmd(&terminal.key),
            workspace: terminal.key.task.workspace.to_string(),
            intent: terminal.seq,
            intent_hash: terminal.leaf,
            number,
            actor: draft::actor(actor),
        };
        let (seq, leaf) = self.record(record, Vec::new()).await?;
        Ok(Attached { seq, leaf })
    }

    /// An attachment is over: so many bytes were typed in it, with this digest.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn terminal_typed(
        &self,
        terminal: &Terminal,
        attached: Attached,
        bytes: u64,
        sha256: &[u8],
    ) -> Result<(), JournalError> {
        let salts = salt::Salts::open();
        let mut salts = salts.map_err(|err| JournalError::Record(err.to_string()))?;
        let mut openings = Vec::new();
        let mut sealer = Sealer { salts: &mut salts, openings: &mut openings };
        let digest = Value::map([
            ("bytes", Value::number(bytes)),
            ("sha256", Value::from(cortex_audit::leaf::hex(sha256))),
        ]);
        let typed = (bytes > 0).then(|| sealer.seal("typed", digest)).transpose();
        let typed = typed.map_err(|err| match err {
            WriteError::Refused(err) => err,
            WriteError::Record(why) => JournalError::Record(why),
        })?;
        let record = TerminalTyped {
            cmd: draft::cmd(&terminal.key),
            attached: attached.seq,
            attached_hash: attached.leaf,
            bytes,
            typed,
        };
        self.record(record, openings).await.map(drop)
    }
}

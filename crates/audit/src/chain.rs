//! The chain check: fed with stored bodies in order, it accepts exactly a journal whose every entry is
//! canonical, names its journal and number, carries the leaf of the one before, and whose outcomes
//! each answer one open intent. It holds the open intents, so a journal can be taken up where it ended.

use crate::entry::{Envelope, FormatError, Position, kind};
use crate::leaf::Leaf;
use std::collections::BTreeMap;
use thiserror::Error;

/// The end of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The journal's id: leaf of its first entry.
    pub log: Leaf,
    /// Number of entries.
    pub size: u64,
    /// Leaf of the newest entry.
    pub leaf: Leaf,
}

impl Head {
    /// The place that the next entry takes.
    #[must_use]
    pub fn next(&self) -> Position {
        Position { log: self.log, seq: self.size, prev: self.leaf }
    }

    /// The life of the journal: the first 32 hex digits of its id.
    #[must_use]
    pub fn incarnation(&self) -> String {
        let mut text = self.log.to_string();
        text.truncate(32);
        text
    }
}

/// The first thing that is wrong with a journal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("entry {seq}: {why}")]
pub struct ChainError {
    /// The entry at which it shows.
    pub seq: u64,
    /// What is wrong with it.
    pub why: ChainFault,
}

/// What can be wrong with an entry at its place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainFault {
    /// No entry of this format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Carries another number than its place.
    #[error("carries number {0}")]
    Seq(u64),
    /// Belongs to another journal.
    #[error("belongs to journal {0}")]
    Log(Leaf),
    /// Does not follow the entry before it.
    #[error("does not follow the entry before it")]
    Prev,
    /// A first entry that is no genesis, or a genesis further on.
    #[error("kind {0:?} is not allowed here")]
    Kind(String),
    /// An outcome or recovery that answers no open intent.
    #[error("answers no open intent")]
    NoIntent,
}

/// Walks a journal from its beginning, or from a head that was verified before.
#[derive(Clone, Debug, Default)]
pub struct ChainChecker {
    head: Option<Head>,
    open: BTreeMap<u64, Leaf>,
}

impl ChainChecker {
    /// Starts before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts behind `head`, with the intents that were open there.
    #[must_use]
    pub fn resume(head: Head, open: BTreeMap<u64, Leaf>) -> Self {
        Self { head: Some(head), open }
    }

    /// Where the walk stands; `None` before the first entry.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Intents without outcome so far, by number.
    #[must_use]
    pub fn open(&self) -> &BTreeMap<u64, Leaf> {
        &self.open
    }

    /// Takes the next stored body.
    ///
    /// # Errors
    /// The body is not the next entry of this journal. The checker then stays where it was.
    pub fn push(&mut self, body: &[u8]) -> Result<Envelope, ChainError> {
        let expected = self.head.map_or(Position::GENESIS, |head| head.next());
        let fail = |why| ChainError { seq: expected.seq, why };
        let entry = Envelope::parse(body).map_err(|err| fail(err.into()))?;
        if entry.position.seq != expected.seq {
            return Err(fail(ChainFault::Seq(entry.position.seq)));
        }
        if entry.position.log != expected.log {
            return Err(fail(ChainFault::Log(entry.position.log)));
        }
        if entry.position.prev != expected.prev {
            return Err(fail(ChainFault::Prev));
        }
        if (entry.kind == kind::GENESIS) != (expected.seq == 0) {
            return Err(fail(ChainFault::Kind(entry.kind)));
        }
        let leaf = Leaf::of(body);
        self.pair(&entry, leaf).map_err(fail)?;
        let log = if expected.seq == 0 { leaf } else { expected.log };
        self.head = Some(Head { log, size: expected.seq + 1, leaf });
        Ok(entry)
    }

    /// Keeps the books of intents and what answers them.
    fn pair(&mut self, entry: &Envelope, leaf: Leaf) -> Result<(), ChainFault> {
        match entry.kind.as_str() {
            kind::INTENT => {
                self.open.insert(entry.position.seq, leaf);
            }
            kind::OUTCOME | kind::RECOVERY => {
                // A recovery may be about something else than an intent.
                let about = entry.data.get("intent");
                if entry.kind == kind::RECOVERY && about == Some(&crate::Value::Null) {
                    return Ok(());
                }
                let seq = about.and_then(|value| value.as_u64());
                let hash = entry.data.get("intent_hash").and_then(|value| value.as_text());
                let hash = hash.and_then(Leaf::parse);
                let Some(seq) =
                    seq.filter(|seq| hash.is_some() && self.open.get(seq) == hash.as_ref())
                else {
                    return Err(ChainFault::NoIntent);
                };
                if entry.kind == kind::OUTCOME {
                    self.open.remove(&seq);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

//! Composing a group: requests become records with their places, openings and reports, and a signed head at the end.
//! Nothing here touches the disk. A request that cannot be written leaves no trace in the group.

use super::Receipt;
use super::ahead::{Item, OVERHEAD};
use super::draft::{IntentDraft, OutcomeDraft, RefusalDraft, Sealer};
use super::error::JournalError;
use super::salt::Salts;
use super::shared::{Recent, Shared};
use super::tables::{STATE_ACKED, STATE_ENDED, STATE_OPEN};
use crate::clock::Stamps;
use cortex_agent_core::Phase;
use cortex_audit::{
    Checkpoint, Envelope, Frontier, Head, Leaf, LogKey, Opening, Record, SignedNote,
};
use cortex_model::proto::{self, OutcomeReport};
use cortex_model::{AttemptKey, Code, Outcome};
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most bytes of openings of one record: they must fit into one upload.
pub(crate) const OPENINGS_MAX: usize = 512 * 1024;

/// Why one request could not be written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// It is not taken; others are.
    Refused(JournalError),
    /// The record cannot be written.
    Record(String),
}

/// What the writer knows of the log. It is ahead of the disk while a group is composed; when that cannot be written,
/// the journal is blocked and the books are not used again.
pub(crate) struct Books {
    pub(crate) shared: Arc<Shared>,
    pub(crate) incarnation: String,
    pub(crate) head: Head,
    pub(crate) edge: Frontier,
    /// Intents without outcome.
    pub(crate) open: BTreeMap<u64, String>,
    pub(crate) stamps: Stamps,
    pub(crate) salts: Salts,
    /// Number of the group that is composed.
    pub(crate) group: u64,
}

/// A group that is composed.
pub(crate) struct Group<'b> {
    books: &'b mut Books,
    /// Size of the log before it.
    pub(crate) first: u64,
    pub(crate) items: Vec<Item>,
    leaves: Vec<Leaf>,
    bytes: usize,
}

impl<'b> Group<'b> {
    pub(crate) fn new(books: &'b mut Books) -> Self {
        let first = books.head.size;
        Self { books, first, items: Vec::new(), leaves: Vec::new(), bytes: 0 }
    }

    /// Bytes of its payload so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn head(&self) -> Head {
        self.books.head
    }

    pub(crate) fn open_intents(&self) -> usize {
        self.books.open.len()
    }

    pub(crate) fn push(&mut self, item: Item) {
        self.bytes += OVERHEAD
            + match &item {
                Item::Record(bytes) | Item::Report(bytes) => bytes.len(),
                Item::Opening(text)
                | Item::Heard(text)
                | Item::Head(text)
                | Item::Cosigned(text) => text.len(),
                Item::OpeningsStored(_) => 8,
                Item::Fact(name, value) => name.len() + 1 + value.len(),
            };
        self.items.push(item);
    }

    /// Adds the next record.
    pub(crate) fn append(
        &mut self,
        record: &Record,
        openings: Vec<Opening>,
    ) -> Result<(u64, Leaf), WriteError> {
        let bytes: usize = openings.iter().map(|opening| opening.as_str().len()).sum();
        if bytes > OPENINGS_MAX {
            let code = Code::TooLarge;
            let why =
                format!("its values take {bytes} bytes in the journal, at most {OPENINGS_MAX} may");
            return Err(WriteError::Refused(JournalError::Refused { code, why }));
        }
        let place = self.books.head.next();
        let stamp = self.books.stamps.now();
        let body = Envelope::encode(place, record.kind(), &stamp, record.to_value())
            .map_err(|err| WriteError::Record(err.to_string()))?;
        let leaf = Leaf::of(&body);
        self.push(Item::Record(body));
        for opening in openings {
            self.push(Item::Opening(opening.as_str().to_owned()));
        }
        let head = &mut self.books.head;
        *head = Head { log: head.log, size: place.seq + 1, leaf };
        self.books.edge.push(leaf);
        self.leaves.push(leaf);
        Ok((place.seq, leaf))
    }

    pub(crate) fn intent(&mut self, draft: &IntentDraft) -> Result<(u64, Leaf), WriteError> {
        let name = draft.key.to_string();
        self.require_unknown(&name)?;
        let mut openings = Vec::new();
        let mut sealer = Sealer { salts: &mut self.books.salts, openings: &mut openings };
        let record = draft.record(&self.books.incarnation, &mut sealer)?;
        let (seq, leaf) = self.append(&record, openings)?;
        self.books.open.insert(seq, name.clone());
        self.remember(name, STATE_OPEN);
        Ok((seq, leaf))
    }

    pub(crate) fn outcome(&mut self, draft: OutcomeDraft) -> Result<Receipt, WriteError> {
        let name = draft.key.to_string();
        let intent = draft.intent.0;
        if self.books.open.get(&intent) != Some(&name) {
            return Err(WriteError::Record(format!("record {intent} is no open intent of {name}")));
        }
        let mut openings = Vec::new();
        let mut sealer = Sealer { salts: &mut self.books.salts, openings: &mut openings };
        let record = draft.record(&mut sealer)?;
        if let Some(found) = &draft.found {
            self.append(&draft.recovery(found), Vec::new())?;
        }
        let (seq, leaf) = self.append(&record, openings)?;
        self.books.open.remove(&intent);
        self.remember(name, STATE_ENDED);
        Ok(self.report(&draft.key, draft.fence, draft.outcome, (seq, leaf)))
    }

    pub(crate) fn refusal(&mut self, draft: RefusalDraft) -> Result<Receipt, WriteError> {
        let name = draft.key.to_string();
        self.require_unknown(&name)?;
        let mut openings = Vec::new();
        let mut sealer = Sealer { salts: &mut self.books.salts, openings: &mut openings };
        let record = draft.record(&mut sealer)?;
        let (seq, leaf) = self.append(&record, openings)?;
        self.remember(name, STATE_ENDED);
        Ok(self.report(&draft.key, draft.fence, draft.outcome, (seq, leaf)))
    }

    /// Records that the journal itself does not take an intent. The attempt stays unknown: it never started, and may
    /// start elsewhere.
    pub(crate) fn refuse_intent(&mut self, draft: &IntentDraft, err: &JournalError) {
        if let JournalError::Record(_) | JournalError::Blocked { .. } = err {
            return;
        }
        let code = err.to_fault().code;
        if let Err(err) = self.append(&draft.refused(code.as_str()), Vec::new()) {
            tracing::warn!(?err, "a refusal could not be recorded");
        }
    }

    /// The outcome of an attempt was acknowledged.
    pub(crate) fn heard(&mut self, key: &AttemptKey) {
        let name = key.to_string();
        if let Ok(Phase::Known) = self.books.shared.phase(&name)
            && !self.books.open.values().any(|open| *open == name)
        {
            self.remember(name.clone(), STATE_ACKED);
            self.push(Item::Heard(name));
        }
    }

    /// Ends a group that has records: hashes once more what will be written, and signs it.
    pub(crate) fn seal(&mut self) -> Result<(), JournalError> {
        if self.leaves.is_empty() {
            return Ok(());
        }
        let records = self.items.iter().filter_map(Item::record).map(|body| Leaf::of(body));
        if !records.eq(self.leaves.iter().copied()) {
            return Err(JournalError::damaged("memory: a record is not what was hashed"));
        }
        let note = sign(self.books.shared.key()?, &self.books.edge)?;
        self.push(Item::Head(note.to_string()));
        Ok(())
    }

    fn require_unknown(&self, name: &str) -> Result<(), WriteError> {
        match self.books.shared.phase(name) {
            Ok(Phase::Unknown) => Ok(()),
            Ok(Phase::Known | Phase::Done) => Err(WriteError::Refused(JournalError::Known)),
            Err(err) => Err(WriteError::Refused(err)),
        }
    }

    fn remember(&mut self, name: String, state: u8) {
        let group = self.books.group;
        self.books.shared.remember(name, Recent { state, group });
    }

    /// Puts the report into the outbox.
    fn report(
        &mut self,
        key: &AttemptKey,
        fence: u64,
        mut outcome: Outcome,
        (seq, leaf): (u64, Leaf),
    ) -> Receipt {
        outcome.journal_seq = seq;
        let report = OutcomeReport {
            workspace: key.task.workspace.to_string(),
            task_id: key.task.task.to_string(),
            attempt: key.attempt,
            fence,
            outcome: Some(proto::Outcome::from(&outcome)),
        };
        self.push(Item::Report(report.encode_to_vec()));
        Receipt { seq, leaf, report }
    }
}

/// The signed checkpoint of a tree.
pub(crate) fn sign(key: &LogKey, edge: &Frontier) -> Result<SignedNote, JournalError> {
    let origin = key.verifier().name().to_owned();
    let checkpoint = Checkpoint { origin, size: edge.size(), root: edge.root() };
    checkpoint.sign(key).map_err(|err| JournalError::damaged(err.to_string()))
}

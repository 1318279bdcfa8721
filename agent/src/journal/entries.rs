//! Writing entries into an open transaction, with the indexes and the outbox that go with them.

use super::Receipt;
use super::draft::{IntentDraft, OutcomeDraft, RefusalDraft, Sealer};
use super::salt::Salts;
use super::tables::{
    ATTEMPTS, OPEN, OPENINGS, OUTBOX, RECORDS, STATE_ACKED, STATE_ENDED, STATE_OPEN,
};
use super::writer::WriteError;
use crate::clock::Stamps;
use cortex_audit::entry::{Envelope, kind};
use cortex_audit::record::{SessionClose, SessionOpen};
use cortex_audit::{Commitment, Head, Leaf, Opening, Value};
use cortex_model::proto::{self, OutcomeReport};
use cortex_model::{AttemptKey, Outcome};
use prost::Message as _;
use redb::{ReadableTable, Table, WriteTransaction};

/// The tables of one transaction and the place that the next entry takes.
pub(crate) struct Entries<'t> {
    records: Table<'t, u64, &'static [u8]>,
    attempts: Table<'t, &'static str, (u8, u64, u64, u64)>,
    open: Table<'t, u64, &'static str>,
    outbox: Table<'t, u64, &'static [u8]>,
    openings: Table<'t, &'static str, &'static str>,
    pub(crate) head: Head,
    stamps: &'t Stamps,
    salts: &'t mut Salts,
}

impl<'t> Entries<'t> {
    pub(crate) fn open(
        write: &'t WriteTransaction,
        head: Head,
        stamps: &'t Stamps,
        salts: &'t mut Salts,
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            records: write.open_table(RECORDS)?,
            attempts: write.open_table(ATTEMPTS)?,
            open: write.open_table(OPEN)?,
            outbox: write.open_table(OUTBOX)?,
            openings: write.open_table(OPENINGS)?,
            head,
            stamps,
            salts,
        })
    }

    /// Inserts the next entry. Nothing is inserted when the data cannot be written.
    fn append(&mut self, kind: &str, data: Value) -> Result<(u64, Leaf), WriteError> {
        let place = self.head.next();
        let body = Envelope::encode(place, kind, &self.stamps.now(), data)
            .map_err(|err| WriteError::Entry(err.to_string()))?;
        let leaf = Leaf::of(&body);
        self.records.insert(place.seq, body.as_slice())?;
        self.head = Head { log: self.head.log, size: place.seq + 1, leaf };
        Ok((place.seq, leaf))
    }

    fn store(&mut self, openings: &[(Commitment, Opening)]) -> Result<(), WriteError> {
        for (commitment, opening) in openings {
            self.openings.insert(commitment.as_str(), opening.as_str())?;
        }
        Ok(())
    }

    pub(crate) fn session(
        &mut self,
        open: bool,
        session: String,
        policy: String,
        clean: bool,
    ) -> Result<(), WriteError> {
        if !open {
            let data = SessionClose { session, clean, cosigned: 0 }.to_value();
            self.append(kind::SESSION_CLOSE, data)?;
            return Ok(());
        }
        let nonce = self.salts.salt().map_err(|err| WriteError::Storage(redb::Error::Io(err)))?;
        let data = SessionOpen {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            exe_sha256: None,
            session,
            nonce: cortex_audit::leaf::hex(&nonce),
            cosigned: 0,
            vmgenid: None,
            // A session opens clean when the one before was closed in order, or is the first.
            clean: self.closed_in_order()?,
            policy,
            config: None,
        };
        self.append(kind::SESSION_OPEN, data.to_value())?;
        Ok(())
    }

    fn closed_in_order(&self) -> Result<bool, WriteError> {
        let last = self.records.last()?.and_then(|(_, body)| Envelope::parse(body.value()).ok());
        Ok(last
            .is_some_and(|entry| entry.kind == kind::SESSION_CLOSE || entry.kind == kind::GENESIS))
    }

    pub(crate) fn intent(
        &mut self,
        draft: &IntentDraft,
        incarnation: &str,
    ) -> Result<(u64, Leaf), WriteError> {
        let name = draft.key.to_string();
        self.require_unknown(&name)?;
        let mut openings = Vec::new();
        let mut sealer = Sealer { salts: &mut *self.salts, openings: &mut openings };
        let data = draft.data(incarnation, &mut sealer)?;
        let (seq, leaf) = self.append(kind::INTENT, data)?;
        self.attempts.insert(name.as_str(), (STATE_OPEN, draft.fence, seq, 0))?;
        self.open.insert(seq, name.as_str())?;
        self.store(&openings)?;
        Ok((seq, leaf))
    }

    pub(crate) fn outcome(&mut self, draft: OutcomeDraft) -> Result<Receipt, WriteError> {
        let mut openings = Vec::new();
        let mut sealer = Sealer { salts: &mut *self.salts, openings: &mut openings };
        let data = draft.data(&mut sealer)?;
        let name = draft.key.to_string();
        let intent = draft.intent.0;
        if self.open.get(intent)?.is_none_or(|open| open.value() != name) {
            return Err(WriteError::Entry(format!("entry {intent} is no open intent of {name}")));
        }
        if let Some(found) = &draft.found {
            self.append(kind::RECOVERY, draft.recovery(found))?;
        }
        let (seq, leaf) = self.append(kind::OUTCOME, data)?;
        self.open.remove(intent)?;
        self.attempts.insert(name.as_str(), (STATE_ENDED, draft.fence, intent, seq))?;
        self.store(&openings)?;
        self.post(&draft.key, draft.fence, draft.outcome, (seq, leaf))
    }

    pub(crate) fn refusal(&mut self, draft: RefusalDraft) -> Result<Receipt, WriteError> {
        let name = draft.key.to_string();
        self.require_unknown(&name)?;
        let mut openings = Vec::new();
        let mut sealer = Sealer { salts: &mut *self.salts, openings: &mut openings };
        let data = draft.data(&mut sealer)?;
        let (seq, leaf) = self.append(kind::REFUSAL, data)?;
        self.attempts.insert(name.as_str(), (STATE_ENDED, draft.fence, seq, seq))?;
        self.store(&openings)?;
        self.post(&draft.key, draft.fence, draft.outcome, (seq, leaf))
    }

    pub(crate) fn acked(&mut self, key: &AttemptKey) -> Result<(), WriteError> {
        let name = key.to_string();
        let row = self.attempts.get(name.as_str())?.map(|row| row.value());
        if let Some((STATE_ENDED, fence, intent, outcome)) = row {
            self.outbox.remove(outcome)?;
            self.attempts.insert(name.as_str(), (STATE_ACKED, fence, intent, outcome))?;
        }
        Ok(())
    }

    fn require_unknown(&self, name: &str) -> Result<(), WriteError> {
        match self.attempts.get(name)? {
            Some(_) => Err(WriteError::Known),
            None => Ok(()),
        }
    }

    /// Puts the report into the outbox.
    fn post(
        &mut self,
        key: &AttemptKey,
        fence: u64,
        mut outcome: Outcome,
        (seq, leaf): (u64, Leaf),
    ) -> Result<Receipt, WriteError> {
        outcome.journal_seq = seq;
        let report = OutcomeReport {
            workspace: key.task.workspace.to_string(),
            task_id: key.task.task.to_string(),
            attempt: key.attempt,
            fence,
            outcome: Some(proto::Outcome::from(&outcome)),
        };
        self.outbox.insert(seq, report.encode_to_vec().as_slice())?;
        Ok(Receipt { seq, leaf, report })
    }
}

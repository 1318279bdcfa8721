//! The journal towards the mirror: what is sent, and what its answers are worth. An acknowledgement is a checkpoint of
//! this log with the pinned mirror's cosignature that covers what was sent; it counts once it is stored. Everything else
//! that claims to be one is ignored and reported.

use super::ahead::Item;
use super::error::JournalError;
use super::gate::{Contradiction, Held, hold, holds};
use super::group::sign;
use super::open::{QUARANTINE, QUARANTINE_CODE};
use super::shared::Shared;
use super::writer::Op;
use super::{Journal, tables};
use cortex_audit::key::presence_text;
use cortex_audit::{Envelope, Frontier, Leaf, SignedNote, VerifierKey};
use cortex_model::Code;
use cortex_model::limits::mirror::{
    AUDIT_BATCH_BYTES_MAX, AUDIT_BATCH_RECORDS_MAX, AUDIT_OPENINGS_BYTES_MAX,
};
use cortex_model::proto::{AuditBatch, AuditEncoding, AuditHello, AuditOpenings};
use tokio::sync::watch;

/// The fact that holds the mirror's key.
pub(crate) const MIRROR: &str = "mirror";

/// The tree's right edge where the last batch ended, so that the next one need not look for it.
#[derive(Debug, Default)]
pub struct Cursor(Frontier);

impl Journal {
    /// What opens the audit of a connection.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn audit_hello(&self) -> Result<AuditHello, JournalError> {
        let shared = &self.0.shared;
        let size = shared.progress().size;
        let note = self.note_at(size)?;
        let newest = shared.read(tables::newest_cosigned)?.unwrap_or_default();
        Ok(AuditHello {
            vkey: shared.key()?.verifier().to_string(),
            log: shared.head().log.to_string(),
            size,
            head_note: note.to_string(),
            newest_cosigned: newest,
            session_nonce: self.0.nonce.to_vec(),
            format: cortex_audit::FORMAT.to_owned(),
        })
    }

    /// The signed checkpoint of the first `size` records.
    fn note_at(&self, size: u64) -> Result<SignedNote, JournalError> {
        let edge = self.0.shared.read(|read| tables::edge(read, size))?;
        sign(self.0.shared.key()?, &edge)
    }

    /// Records that can be sent, now and whenever there are more.
    #[must_use]
    pub fn follow_stored(&self) -> watch::Receiver<u64> {
        self.0.shared.follow_stored()
    }

    /// Size of the newest checkpoint with the mirror's cosignature; 0 if none.
    #[must_use]
    pub fn cosigned(&self) -> u64 {
        self.0.shared.upstream().cosigned
    }

    /// How far this machine's clock is ahead of the server's.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.0.shared.upstream().skew_ms = Some(skew_ms);
    }

    /// The next batch from record `from` on; its id is not set. What is read back is checked before it is signed.
    ///
    /// # Errors
    /// The store cannot be read, or holds something else than was written: then the journal is blocked.
    pub fn batch(&self, from: u64, cursor: &mut Cursor) -> Result<AuditBatch, JournalError> {
        let shared = &self.0.shared;
        let (stored, last) = {
            let progress = shared.progress();
            (progress.size, progress.leaf)
        };
        if cursor.0.size() != from {
            cursor.0 = shared.read(|read| tables::edge(read, from))?;
        }
        let mut edge = cursor.0.clone();
        let read = shared.read(|read| read_batch(read, from, stored, last, &mut edge))?;
        let (count, bytes) = read
            .inspect_err(|why| {
                shared.block(&JournalError::damaged(why.clone()));
            })
            .map_err(JournalError::damaged)?;
        let note = sign(shared.key()?, &edge)?;
        shared.remember_root(note.checkpoint());
        cursor.0 = edge;
        let (encoding, records) = (AuditEncoding::Ndjson.into(), bytes.into());
        Ok(AuditBatch { id: 0, first_seq: from, count, encoding, records, note: note.to_string() })
    }

    /// The openings of records from `from` to at most `below`; the id is not set.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn openings(&self, from: u64, below: u64) -> Result<AuditOpenings, JournalError> {
        let below = below.min(from + u64::from(AUDIT_BATCH_RECORDS_MAX));
        let all = self.0.shared.read(|read| tables::openings(read, from..below))?;
        let (mut text, mut end) = (Vec::new(), below);
        for of_one in all.chunk_by(|one, two| one.0 == two.0) {
            let lines = of_one.iter().map(|(seq, text)| format!("{seq} {text}\n"));
            let lines: String = lines.collect();
            if text.len() + lines.len() > AUDIT_OPENINGS_BYTES_MAX {
                end = of_one[0].0;
                break;
            }
            text.extend_from_slice(lines.as_bytes());
        }
        // One record's openings always fit: the journal takes no larger ones.
        let count = u32::try_from(end.max(from + 1) - from).unwrap_or(u32::MAX);
        Ok(AuditOpenings { id: 0, first_seq: from, count, openings: text.into() })
    }

    /// The mirror's key as it is pinned.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn mirror(&self) -> Result<Option<VerifierKey>, JournalError> {
        if let Some(key) = &self.0.shared.upstream().mirror {
            return Ok(Some(key.clone()));
        }
        let name = format!("fact.{MIRROR}");
        let text = self.0.shared.read(|read| tables::meta(read, &name))?;
        let key = text.and_then(|text| VerifierKey::parse(&text).ok());
        self.0.shared.upstream().mirror.clone_from(&key);
        Ok(key)
    }

    /// Finds out whose cosignatures count, and when the newest was made.
    pub(crate) fn remember_mirror(&self) -> Result<(), JournalError> {
        let Some(mirror) = self.mirror()? else { return Ok(()) };
        let newest = self.0.shared.read(tables::newest_cosigned)?;
        let note = newest.and_then(|text| SignedNote::parse(text.as_bytes()).ok());
        if let Some(at) = note.and_then(|note| note.verify_cosignature(&mirror).ok()) {
            self.0.shared.upstream().advance(0, at);
        }
        Ok(())
    }

    /// Whether this journal names one before it.
    #[must_use]
    pub fn follows_another(&self) -> bool {
        self.0.shared.has_predecessor()
    }

    /// Pins the mirror's key, for the life of the log. A key that is pinned stays.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn pin_mirror(&self, key: &VerifierKey) -> Result<(), JournalError> {
        if self.mirror()?.is_some() {
            return Ok(());
        }
        self.facts(vec![Item::Fact(MIRROR.to_owned(), key.to_string())]).await?;
        self.0.shared.upstream().mirror = Some(key.clone());
        Ok(())
    }

    /// Judges a checkpoint that came from the mirror's side: it must be of this log, carry the pinned mirror's
    /// cosignature and be held here. Returns its size. A contradiction stops the journal.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn believe(&self, note: &str) -> Result<SignedNote, JournalError> {
        let refused = |why: String| JournalError::Refused { code: Code::JournalAck, why };
        let note = SignedNote::parse(note.as_bytes()).map_err(|err| refused(err.to_string()))?;
        let shared = &self.0.shared;
        let verifier = shared.key()?.verifier();
        if note.checkpoint().origin != verifier.name() {
            return Err(refused(format!("it is of {}", note.checkpoint().origin)));
        }
        let Some(mirror) = self.mirror()? else {
            return Err(refused("no mirror is pinned".to_owned()));
        };
        note.verify_cosignature(&mirror).map_err(|err| refused(format!("cosignature: {err}")))?;
        match holds(shared, verifier, &note, shared.head())? {
            Held::Yes => Ok(note),
            Held::OtherLog => Err(refused("it is of another journal".to_owned())),
            Held::No(contradiction) => {
                shared.contradict(&contradiction);
                let (code, why) = (contradiction.code, contradiction.why);
                Err(JournalError::Refused { code, why })
            }
        }
    }

    /// Judges notes that are said to contradict this journal; a true contradiction stops it. True if one is.
    #[must_use]
    pub fn weigh(&self, notes: &[String]) -> bool {
        let shared = &self.0.shared;
        let Ok(key) = shared.key() else { return false };
        notes.iter().filter_map(|note| SignedNote::parse(note.as_bytes()).ok()).any(|note| {
            match holds(shared, key.verifier(), &note, shared.head()) {
                Ok(Held::No(contradiction)) => {
                    shared.contradict(&contradiction);
                    true
                }
                Ok(Held::Yes | Held::OtherLog) | Err(_) => false,
            }
        })
    }

    /// Stores a checkpoint that [`Journal::believe`] returned. It counts when this returns.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn keep_cosigned(&self, note: &SignedNote) -> Result<(), JournalError> {
        self.facts(vec![Item::Cosigned(note.to_string())]).await?;
        let mut upstream = self.0.shared.upstream();
        let at = upstream.mirror.as_ref().and_then(|mirror| note.verify_cosignature(mirror).ok());
        upstream.advance(note.checkpoint().size, at.unwrap_or(0));
        Ok(())
    }

    /// Compares the checkpoint that comes with an offer with the journal. Empty: there is none yet. The intent does it
    /// again with the one that comes with Go.
    ///
    /// # Errors
    /// It is none, or the journal does not hold it: the offer is not taken.
    pub fn require_floor(&self, text: &str) -> Result<(), JournalError> {
        match read_floor(text)? {
            Some(note) => hold(&self.0.shared, &note, self.0.shared.head()),
            None => Ok(()),
        }
    }

    /// The mirror has the openings of all records below `below`.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn keep_openings_stored(&self, below: u64) -> Result<(), JournalError> {
        self.facts(vec![Item::OpeningsStored(below)]).await
    }

    /// While the mirror takes nothing of this node, no work is taken either.
    pub fn set_upstream_stop(&self, stop: Option<JournalError>) {
        self.0.shared.upstream().stop = stop;
    }

    /// Whether this log is not what its key signed once. Nothing is written that need not be: it would be another history.
    #[must_use]
    pub fn contradicted(&self) -> bool {
        self.0.shared.contradicted()
    }

    /// Contradictions that were found since the last call: notes with what they show.
    #[must_use]
    pub fn contradictions(&self) -> Vec<(Code, String, Vec<String>)> {
        let found = self.0.shared.contradictions();
        if found.is_empty() {
            return Vec::new();
        }
        let own = self.note_at(self.0.shared.progress().size).map(|note| note.to_string()).ok();
        let notes = |one: &Contradiction| std::iter::once(one.note.clone()).chain(own.clone());
        found.iter().map(|one| (one.code, one.why.clone(), notes(one).collect())).collect()
    }

    /// Says, over a challenge of the mirror, where the journal stands now: the checkpoint and the signature.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn presence(&self, challenge: &[u8]) -> Result<(SignedNote, [u8; 64]), JournalError> {
        let note = self.note_at(self.0.shared.progress().size)?;
        let signature = self.0.shared.key()?.sign(&presence_text(challenge, note.text()));
        Ok((note, signature))
    }

    /// The journal stays closed after this process, until it is recovered.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn quarantine(&self, code: Code, why: &str) -> Result<(), JournalError> {
        let fact = |name: &str, value: &str| Item::Fact(name.to_owned(), value.to_owned());
        self.facts(vec![fact(QUARANTINE, why), fact(QUARANTINE_CODE, code.as_str())]).await
    }

    async fn facts(&self, items: Vec<Item>) -> Result<(), JournalError> {
        self.ask(|reply| Op::Facts { items, reply }).await
    }
}

/// Reads the checkpoint that comes with a dispatch. Empty: there is none yet.
///
/// # Errors
/// It is none: nothing of this dispatch may start.
pub fn read_floor(text: &str) -> Result<Option<SignedNote>, JournalError> {
    if text.is_empty() {
        return Ok(None);
    }
    SignedNote::parse(text.as_bytes()).map(Some).map_err(|err| JournalError::Refused {
        code: Code::JournalFloor,
        why: format!("what came with the dispatch is no checkpoint: {err}"),
    })
}

/// Reads records for a batch and moves the edge along. The inner error says that the store does not hold what was
/// written: signing that would be signing another history.
fn read_batch(
    read: &redb::ReadTransaction,
    from: u64,
    stored: u64,
    last: Leaf,
    edge: &mut Frontier,
) -> Result<Result<(u32, Vec<u8>), String>, redb::Error> {
    let table = read.open_table(tables::RECORDS)?;
    let mut before = None;
    if let Some(seq) = from.checked_sub(1) {
        before = table.get(seq)?.map(|body| Leaf::of(body.value()));
    }
    let (mut count, mut bytes) = (0, Vec::new());
    for row in redb::ReadableTable::range(&table, from..)? {
        let (seq, body) = row?;
        let (seq, body) = (seq.value(), body.value());
        let prev = Envelope::parse(body).map(|record| record.position.prev);
        if prev.as_ref().ok() != Some(&before.unwrap_or(Leaf::ZERO)) {
            return Ok(Err(format!("record {} is not what was written", seq.saturating_sub(1))));
        }
        let full = bytes.len() + body.len() + 1 > AUDIT_BATCH_BYTES_MAX;
        if seq >= stored || full || count == AUDIT_BATCH_RECORDS_MAX {
            // Read only to vouch for the one before.
            break;
        }
        let leaf = Leaf::of(body);
        bytes.extend_from_slice(body);
        bytes.push(b'\n');
        edge.push(leaf);
        (before, count) = (Some(leaf), count + 1);
    }
    if edge.size() == stored && before != Some(last) {
        return Ok(Err(format!("record {} is not what was written", stored.saturating_sub(1))));
    }
    Ok(Ok((count, bytes)))
}

impl Shared {
    /// Why the mirror takes nothing of this node.
    pub(crate) fn upstream_stop(&self) -> Option<JournalError> {
        self.upstream().stop.clone()
    }
}

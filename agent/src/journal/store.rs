//! The store: a redb file that holds the whole log. It is a fold over the groups of the ahead files, so it may lag
//! behind them, and taking some over again changes nothing. Records are inserted, never changed and never removed.

use super::ahead::Item;
use super::backend::Backend;
use super::tables::{
    ATTEMPTS, COSIGNED, EDGE_EVERY, EDGES, META, NOTES, OPEN, OPENINGS, OUTBOX, RECORDS,
    STATE_ACKED, STATE_ENDED, STATE_OPEN,
};
use cortex_audit::entry::kind;
use cortex_audit::{Envelope, Frontier, Leaf, SignedNote};
use redb::{Builder, ConcurrencyMode, Database, ReadableTable, Table, WriteTransaction};

/// Memory for pages of the file. Small, so that an idle agent is small.
const CACHE: usize = 1024 * 1024;

/// How the file is opened: one process writes, others may read beside it.
pub(crate) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// Opens the file for writing.
pub(crate) fn open(backend: &Backend) -> Result<Database, redb::Error> {
    Ok(builder().create_with_backend(backend.clone())?)
}

/// Takes groups over in one transaction, which is on the disk when this returns. `edge` is the tree's right edge at
/// the store's size and moves along.
pub(crate) fn take<'i>(
    database: &Database,
    edge: &mut Frontier,
    groups: impl IntoIterator<Item = (u64, &'i [Item])>,
) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    // Without it, opening after a crash would read the whole file.
    write.set_quick_repair(true);
    {
        let mut fold = Fold::open(&write, edge)?;
        for (first, items) in groups {
            fold.group(first, items)?;
        }
    }
    write.commit()?;
    Ok(())
}

/// Makes all tables of a new store.
pub(crate) fn create(database: &Database, format: &str) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_quick_repair(true);
    drop(Fold::open(&write, &mut Frontier::new())?);
    write.open_table(META)?.insert("format", format)?;
    write.commit()?;
    Ok(())
}

struct Fold<'t> {
    records: Table<'t, u64, &'static [u8]>,
    attempts: Table<'t, &'static str, (u8, u64, u64, u64)>,
    open: Table<'t, u64, &'static str>,
    outbox: Table<'t, u64, &'static [u8]>,
    openings: Table<'t, (u64, u32), &'static str>,
    edges: Table<'t, u64, &'static [u8]>,
    notes: Table<'t, u64, &'static str>,
    cosigned: Table<'t, u64, &'static str>,
    meta: Table<'t, &'static str, &'static str>,
    edge: &'t mut Frontier,
}

impl<'t> Fold<'t> {
    fn open(write: &'t WriteTransaction, edge: &'t mut Frontier) -> Result<Self, redb::Error> {
        Ok(Self {
            records: write.open_table(RECORDS)?,
            attempts: write.open_table(ATTEMPTS)?,
            open: write.open_table(OPEN)?,
            outbox: write.open_table(OUTBOX)?,
            openings: write.open_table(OPENINGS)?,
            edges: write.open_table(EDGES)?,
            notes: write.open_table(NOTES)?,
            cosigned: write.open_table(COSIGNED)?,
            meta: write.open_table(META)?,
            edge,
        })
    }

    fn group(&mut self, first: u64, items: &[Item]) -> Result<(), redb::Error> {
        let (mut next, mut opening) = (first, 0);
        for item in items {
            match item {
                Item::Record(body) => {
                    self.record(next, body)?;
                    (next, opening) = (next + 1, 0);
                }
                Item::Opening(text) => {
                    self.openings.insert((next.saturating_sub(1), opening), text.as_str())?;
                    opening += 1;
                }
                Item::Report(bytes) => {
                    self.outbox.insert(next.saturating_sub(1), bytes.as_slice())?;
                }
                Item::Heard(name) => self.heard(name)?,
                Item::Head(note) => {
                    self.meta.insert("head", note.as_str())?;
                    if next / EDGE_EVERY > first / EDGE_EVERY {
                        self.notes.insert(next, note.as_str())?;
                    }
                }
                Item::Cosigned(note) => {
                    if let Ok(signed) = SignedNote::parse(note.as_bytes()) {
                        self.cosigned.insert(signed.checkpoint().size, note.as_str())?;
                    }
                }
                Item::OpeningsStored(below) => {
                    self.meta.insert("openings_stored", below.to_string().as_str())?;
                }
                Item::Fact(name, value) => {
                    self.meta.insert(format!("fact.{name}").as_str(), value.as_str())?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, seq: u64, body: &[u8]) -> Result<(), redb::Error> {
        if seq < self.edge.size() {
            return Ok(());
        }
        if seq > self.edge.size() {
            let size = self.edge.size();
            return Err(redb::Error::Corrupted(format!("record {seq} comes after {size} records")));
        }
        let envelope = Envelope::parse(body)
            .map_err(|err| redb::Error::Corrupted(format!("record {seq}: {err}")))?;
        self.records.insert(seq, body)?;
        self.index(seq, &envelope)?;
        self.edge.push(Leaf::of(body));
        if self.edge.size().is_multiple_of(EDGE_EVERY) {
            let hashes: Vec<u8> = self.edge.hashes().iter().flat_map(|hash| hash.0).collect();
            self.edges.insert(self.edge.size(), hashes.as_slice())?;
        }
        Ok(())
    }

    fn index(&mut self, seq: u64, envelope: &Envelope) -> Result<(), redb::Error> {
        let data = |name: &str| envelope.data.get(name);
        match envelope.kind.as_str() {
            kind::INTENT | kind::REFUSAL => {
                let Some((name, fence)) = attempt_of(envelope) else { return Ok(()) };
                if self.attempts.get(name.as_str())?.is_some() {
                    // A refusal of something that is known: the first record counts.
                    return Ok(());
                }
                if envelope.kind == kind::INTENT {
                    self.attempts.insert(name.as_str(), (STATE_OPEN, fence, seq, 0))?;
                    self.open.insert(seq, name.as_str())?;
                } else {
                    self.attempts.insert(name.as_str(), (STATE_ENDED, fence, seq, seq))?;
                }
            }
            kind::OUTCOME => {
                let intent = data("intent").and_then(cortex_audit::Value::as_u64);
                let Some(intent) = intent else { return Ok(()) };
                let name = self.open.remove(intent)?.map(|name| name.value().to_owned());
                let Some(name) = name else { return Ok(()) };
                let row = self.attempts.get(name.as_str())?.map(|row| row.value());
                let fence = row.map_or(0, |row| row.1);
                self.attempts.insert(name.as_str(), (STATE_ENDED, fence, intent, seq))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn heard(&mut self, name: &str) -> Result<(), redb::Error> {
        let row = self.attempts.get(name)?.map(|row| row.value());
        if let Some((STATE_ENDED, fence, intent, outcome)) = row {
            self.outbox.remove(outcome)?;
            self.attempts.insert(name, (STATE_ACKED, fence, intent, outcome))?;
        }
        Ok(())
    }
}

/// `<workspace>/<task>/<attempt>` and fence of an intent or refusal.
pub(crate) fn attempt_of(envelope: &Envelope) -> Option<(String, u64)> {
    let text = |name: &str| envelope.data.get(name)?.as_text();
    let fence = text("fence")?.parse().ok()?;
    Some((format!("{}/{}", text("ws")?, text("cmd")?), fence))
}

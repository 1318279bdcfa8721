//! The tables of the store, and reading them. Records are the truth; the other tables are indexes, openings and what
//! is owed upstream, written in the same transactions.

use super::open::Owed;
use cortex_agent_core::Phase;
use cortex_audit::{Frontier, Hash};
use cortex_model::proto::OutcomeReport;
use prost::Message as _;
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};

/// Number of the record -> its stored bytes. Only ever inserted into.
pub(crate) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// `<workspace>/<task>/<attempt>` -> (state, fence, number of the intent, number of the outcome).
pub(crate) const ATTEMPTS: TableDefinition<'_, &str, (u8, u64, u64, u64)> =
    TableDefinition::new("attempts");
/// Number of an intent without outcome -> attempt.
pub(crate) const OPEN: TableDefinition<'_, u64, &str> = TableDefinition::new("open");
/// Number of an outcome or refusal that was not acknowledged -> encoded report.
pub(crate) const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");
/// Record and place in it -> what opens a commitment of the record.
pub(crate) const OPENINGS: TableDefinition<'_, (u64, u32), &str> = TableDefinition::new("openings");
/// Size -> hashes of the tree's right edge at that size; one every [`EDGE_EVERY`] records.
pub(crate) const EDGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("edges");
/// Size -> note of the journal's own key.
pub(crate) const NOTES: TableDefinition<'_, u64, &str> = TableDefinition::new("notes");
/// Size -> note with the mirror's cosignature.
pub(crate) const COSIGNED: TableDefinition<'_, u64, &str> = TableDefinition::new("cosigned");
/// `format`, `head` (note of the newest record), `openings_stored`, and facts as `fact.<name>`.
pub(crate) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// States in [`ATTEMPTS`].
pub(crate) const STATE_OPEN: u8 = 1;
/// The outcome is durable.
pub(crate) const STATE_ENDED: u8 = 2;
/// The outcome was acknowledged.
pub(crate) const STATE_ACKED: u8 = 3;

/// A right edge is kept each so many records: to know the root in between, at most so many leaves are hashed.
pub(crate) const EDGE_EVERY: u64 = 4096;

pub(crate) fn phase_of(state: u8) -> Phase {
    if state == STATE_ACKED { Phase::Done } else { Phase::Known }
}

/// State, fence, intent and outcome of an attempt.
pub(crate) fn attempt(
    read: &ReadTransaction,
    name: &str,
) -> Result<Option<(u8, u64, u64, u64)>, redb::Error> {
    Ok(read.open_table(ATTEMPTS)?.get(name)?.map(|row| row.value()))
}

pub(crate) fn owed(read: &ReadTransaction) -> Result<Vec<Owed>, redb::Error> {
    let mut owed = Vec::new();
    for row in read.open_table(OUTBOX)?.iter()? {
        let (seq, bytes) = row?;
        let report = OutcomeReport::decode(bytes.value())
            .map_err(|err| redb::Error::Corrupted(format!("outbox {}: {err}", seq.value())))?;
        owed.push(Owed { seq: seq.value(), report });
    }
    Ok(owed)
}

/// Number of records.
pub(crate) fn size(read: &ReadTransaction) -> Result<u64, redb::Error> {
    Ok(read.open_table(RECORDS)?.last()?.map_or(0, |(seq, _)| seq.value() + 1))
}

pub(crate) fn records(
    read: &ReadTransaction,
    from: u64,
    count: usize,
) -> Result<Vec<Vec<u8>>, redb::Error> {
    let records = read.open_table(RECORDS)?;
    let mut bodies = Vec::new();
    for row in ReadableTable::range(&records, from..)?.take(count) {
        bodies.push(row?.1.value().to_vec());
    }
    Ok(bodies)
}

/// The openings of some records, with the record's number.
pub(crate) fn openings(
    read: &ReadTransaction,
    records: std::ops::Range<u64>,
) -> Result<Vec<(u64, String)>, redb::Error> {
    let table = read.open_table(OPENINGS)?;
    let mut found = Vec::new();
    for row in ReadableTable::range(&table, (records.start, 0)..(records.end, 0))? {
        let (key, text) = row?;
        found.push((key.value().0, text.value().to_owned()));
    }
    Ok(found)
}

/// The newest note with a cosignature.
pub(crate) fn newest_cosigned(read: &ReadTransaction) -> Result<Option<String>, redb::Error> {
    Ok(read.open_table(COSIGNED)?.last()?.map(|(_, note)| note.value().to_owned()))
}

/// The tree's right edge at a size: from the newest one that is kept, and the leaves since.
pub(crate) fn edge(read: &ReadTransaction, size: u64) -> Result<Frontier, redb::Error> {
    let corrupt = |why: String| redb::Error::Corrupted(why);
    let edges = read.open_table(EDGES)?;
    let mut edge = Frontier::new();
    if let Some(row) = ReadableTable::range(&edges, ..=size)?.next_back() {
        let (at, hashes) = row?;
        edge = frontier(at.value(), hashes.value())
            .ok_or_else(|| corrupt(format!("the right edge at {} is damaged", at.value())))?;
    }
    let records = read.open_table(RECORDS)?;
    for row in ReadableTable::range(&records, edge.size()..size)? {
        edge.push(cortex_audit::Leaf::of(row?.1.value()));
    }
    if edge.size() == size { Ok(edge) } else { Err(corrupt(format!("no {size} records"))) }
}

fn frontier(size: u64, bytes: &[u8]) -> Option<Frontier> {
    let hashes = bytes.chunks(32).map(|hash| hash.try_into().ok().map(Hash));
    Frontier::from_parts(size, hashes.collect::<Option<_>>()?)
}

/// A value of [`META`]; `None` also when the table does not exist.
pub(crate) fn meta(read: &ReadTransaction, name: &str) -> Result<Option<String>, redb::Error> {
    match read.open_table(META) {
        Ok(table) => Ok(table.get(name)?.map(|value| value.value().to_owned())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

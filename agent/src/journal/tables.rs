//! The tables of the journal's file, and reading them. The entries are the truth; the other tables are
//! indexes and the outbox, written in the same transactions.

use super::open::Owed;
use cortex_agent_core::Phase;
use cortex_model::AttemptKey;
use cortex_model::proto::OutcomeReport;
use prost::Message as _;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

/// Number of the entry -> its stored bytes. Only ever inserted into.
pub(crate) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// `<workspace>/<task>/<attempt>` -> (state, fence, number of the intent, number of the outcome).
pub(crate) const ATTEMPTS: TableDefinition<'_, &str, (u8, u64, u64, u64)> =
    TableDefinition::new("attempts");
/// Number of an intent without outcome -> attempt.
pub(crate) const OPEN: TableDefinition<'_, u64, &str> = TableDefinition::new("open");
/// Number of an outcome or refusal that was not acknowledged -> encoded report.
pub(crate) const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");
/// Commitment -> what opens it.
pub(crate) const OPENINGS: TableDefinition<'_, &str, &str> = TableDefinition::new("openings");
/// `format`, `node`.
pub(crate) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// States in [`ATTEMPTS`].
pub(crate) const STATE_OPEN: u8 = 1;
/// The outcome is durable.
pub(crate) const STATE_ENDED: u8 = 2;
/// The outcome was acknowledged.
pub(crate) const STATE_ACKED: u8 = 3;

pub(crate) fn phase(database: &Database, key: &AttemptKey) -> Result<Phase, redb::Error> {
    let read = database.begin_read()?;
    let attempts = read.open_table(ATTEMPTS)?;
    let state = attempts.get(key.to_string().as_str())?.map(|row| row.value().0);
    Ok(match state {
        None => Phase::Unknown,
        Some(STATE_ACKED) => Phase::Done,
        Some(_) => Phase::Known,
    })
}

pub(crate) fn owed(database: &Database) -> Result<Vec<Owed>, redb::Error> {
    let read = database.begin_read()?;
    let mut owed = Vec::new();
    for row in read.open_table(OUTBOX)?.iter()? {
        let (seq, bytes) = row?;
        let report = OutcomeReport::decode(bytes.value())
            .map_err(|err| redb::Error::Corrupted(format!("outbox {}: {err}", seq.value())))?;
        owed.push(Owed { seq: seq.value(), report });
    }
    Ok(owed)
}

pub(crate) fn entries(
    database: &Database,
    from: u64,
    count: usize,
) -> Result<Vec<Vec<u8>>, redb::Error> {
    let read = database.begin_read()?;
    let records = read.open_table(RECORDS)?;
    let mut bodies = Vec::new();
    for row in ReadableTable::range(&records, from..)?.take(count) {
        bodies.push(row?.1.value().to_vec());
    }
    Ok(bodies)
}

/// A value of [`META`]; `None` also when the table does not exist.
pub(crate) fn meta(database: &Database, name: &str) -> Result<Option<String>, redb::Error> {
    let read = database.begin_read()?;
    match read.open_table(META) {
        Ok(table) => Ok(table.get(name)?.map(|value| value.value().to_owned())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

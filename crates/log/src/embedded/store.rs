//! The redb file of the embedded log: its tables, how it is opened, and everything that only
//! reads. It never writes after opening; that is `writer`.

use super::Options;
use super::record::{decode, decode_value};
use super::ring::Ring;
use super::unindexed::Unindexed;
use crate::error::{LogError, Result};
use crate::key::{Key, Space};
use crate::limits::TAIL_PAGE;
use crate::local::{Buckets, Pages};
use crate::types::{KvEntry, Recorded, Rev};
use async_trait::async_trait;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// `format`, `rev` (last used revision), `bytes` (kept, for the quota), `indexed` (every commit up to this one is in [`INDEX`]).
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// (letter of the space, revision) to the encoded commit.
pub(super) const COMMITS: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("commits");
/// (subject, revision): which commits an aggregate has, together with what [`Unindexed`] remembers.
pub(super) const INDEX: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("index");
/// (bucket, key) to the encoded value.
pub(super) const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("values");

/// Version of the file; `docs/log-format.md` describes it.
pub(super) const FORMAT: u64 = 2;
/// The version before: the index was complete after every transaction.
const COMPLETE_INDEX: u64 = 1;
/// Most bytes of commits read from disk at once for a tail.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Store {
    pub(super) db: Database,
    pub(super) rings: [Mutex<Ring>; 3],
    pub(super) bytes: AtomicU64,
    /// Never locked while a transaction is committed.
    unindexed: Mutex<Unindexed>,
    /// Set once, when the file could not be written: from then on nothing is accepted.
    pub(super) failure: OnceLock<LogError>,
}

/// What opening found.
pub(super) struct Opened {
    pub(super) store: Arc<Store>,
    pub(super) rev: Rev,
    pub(super) heads: [Rev; 3],
}

pub(super) fn space_byte(space: Space) -> u8 {
    space.letter().as_bytes()[0]
}

/// Opens or creates the file.
pub(super) fn open(path: &Path, options: &Options) -> Result<Opened> {
    // redb checks its structures by asserting in places: damage must be an answer, not a panic.
    catch_unwind(AssertUnwindSafe(|| open_inner(path, options)))
        .unwrap_or_else(|_| Err(LogError::Corrupt(format!("{} cannot be read", path.display()))))
}

fn open_inner(path: &Path, options: &Options) -> Result<Opened> {
    let create = || {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(options.cache_bytes);
        builder.create(path)
    };
    let db = create().map_err(|e| open_error(path, e.into()))?;
    let Found { rev, bytes, indexed, heads } = prepare(&db, path)?;
    let mut unindexed = Unindexed::new(options.index_behind, indexed);
    read_unindexed(&db, indexed, &mut unindexed)?;
    let store = Store {
        db,
        unindexed: Mutex::new(unindexed),
        rings: heads.map(|head| Mutex::new(Ring::new(head))),
        bytes: AtomicU64::new(bytes),
        failure: OnceLock::new(),
    };
    Ok(Opened { store: Arc::new(store), rev, heads })
}

/// What `meta` and `commits` say.
struct Found {
    rev: Rev,
    bytes: u64,
    indexed: Rev,
    heads: [Rev; 3],
}

fn prepare(db: &Database, path: &Path) -> Result<Found> {
    let fail = |e: redb::Error| open_error(path, e);
    let write = db.begin_write().map_err(|e| fail(e.into()))?;
    let found = (|| -> std::result::Result<_, redb::Error> {
        let mut meta = write.open_table(META)?;
        let commits = write.open_table(COMMITS)?;
        write.open_table(INDEX)?;
        write.open_table(VALUES)?;
        let number = |meta: &Table<'_, _, u64>, name| {
            Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |v| v.value()))
        };
        let (mut format, rev) = (number(&meta, "format")?, number(&meta, "rev")?);
        let is_new = meta.get("format")?.is_none() && commits.first()?.is_none();
        if is_new || format == COMPLETE_INDEX {
            meta.insert("format", FORMAT)?;
            meta.insert("indexed", rev)?;
            format = FORMAT;
        }
        let mut heads = [0; 3];
        for space in Space::ALL {
            let letter = space_byte(space);
            let last = commits.range((letter, 0)..=(letter, u64::MAX))?.next_back().transpose()?;
            heads[space.index()] = last.map_or(0, |(k, _)| k.value().1);
        }
        let (bytes, indexed) = (number(&meta, "bytes")?, number(&meta, "indexed")?);
        Ok((format, Found { rev, bytes, indexed, heads }))
    })();
    let (format, found) = found.map_err(fail)?;
    if format != FORMAT {
        let age = if format > FORMAT { "a newer version of cortex" } else { "an unknown program" };
        return Err(LogError::Refused(format!(
            "{} has format {format}, written by {age}; this version reads formats up to {FORMAT}",
            path.display()
        )));
    }
    write.commit().map_err(|e| fail(e.into()))?;
    Ok(found)
}

/// The commits that may not be in the index. One of them that is damaged could belong to anybody, and fences would rest on a
/// history without it: then nothing is opened.
fn read_unindexed(db: &Database, indexed: Rev, unindexed: &mut Unindexed) -> Result<()> {
    let read = db.begin_read().map_err(read_error)?;
    let commits = read.open_table(COMMITS).map_err(read_error)?;
    let index = read.open_table(INDEX).map_err(read_error)?;
    for space in Space::ALL {
        let letter = space_byte(space);
        let since = (letter, indexed.saturating_add(1))..=(letter, u64::MAX);
        for entry in commits.range(since).map_err(read_error)? {
            let (place, stored) = entry.map_err(read_error)?;
            let rev = place.value().1;
            let subject = decode(space, rev, stored.value())?.key.subject();
            if index.get((subject.as_str(), rev)).map_err(read_error)?.is_none() {
                unindexed.insert(&subject, rev);
            }
        }
    }
    Ok(())
}

fn open_error(path: &Path, e: redb::Error) -> LogError {
    let place = path.display();
    if matches!(e, redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) {
        return LogError::Locked(place.to_string());
    }
    if let redb::Error::Io(io) = &e
        && io.kind() != std::io::ErrorKind::InvalidData
    {
        let full = is_full(io);
        return if full { LogError::DiskFull } else { LogError::Backend(format!("{place}: {io}")) };
    }
    LogError::Corrupt(format!("{place} is not a sound log file: {e}"))
}

/// Whether there was no space for what was to be written.
pub(super) fn is_full(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// An error of a file that is open already.
pub(super) fn read_error(e: impl Into<redb::Error>) -> LogError {
    let e = e.into();
    if matches!(e, redb::Error::Corrupted(_)) {
        LogError::Corrupt(e.to_string())
    } else {
        LogError::Backend(e.to_string())
    }
}

impl Store {
    pub(super) fn check(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |e| Err(e.clone()))
    }

    pub(super) fn why_ended(&self) -> LogError {
        self.failure.get().cloned().unwrap_or(LogError::Closed)
    }

    pub(super) fn ring(&self, space: Space) -> MutexGuard<'_, Ring> {
        self.rings[space.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Unindexed`].
    pub(super) fn unindexed(&self) -> MutexGuard<'_, Unindexed> {
        self.unindexed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment of the file, and which of an aggregate's commits its index may lack then. An entry leaves memory only after it is
    /// on disk, and is in memory before its commit is: so the two together know every commit of that moment, and maybe some that
    /// are not there yet or no more.
    fn moment(&self, subject: &str) -> Result<(ReadTransaction, Vec<Rev>)> {
        let unindexed = self.unindexed();
        let read = self.db.begin_read().map_err(read_error)?;
        Ok((read, unindexed.of(subject).to_vec()))
    }

    /// Commits of an aggregate from `from` on, at most `max`.
    pub(super) fn read(&self, key: &Key, from: Rev, max: usize) -> Result<Vec<Recorded>> {
        let subject = key.subject();
        let (read, unindexed) = self.moment(&subject)?;
        let index = read.open_table(INDEX).map_err(read_error)?;
        let commits = read.open_table(COMMITS).map_err(read_error)?;
        let mut revs = BTreeSet::new();
        let of_key = (subject.as_str(), from)..=(subject.as_str(), u64::MAX);
        for entry in index.range(of_key).map_err(read_error)?.take(max) {
            revs.insert(entry.map_err(read_error)?.0.value().1);
        }
        for rev in unindexed.into_iter().filter(|rev| *rev >= from) {
            if commits.get((space_byte(key.space()), rev)).map_err(read_error)?.is_some() {
                revs.insert(rev);
            }
        }
        revs.into_iter().take(max).map(|rev| commit_at(&commits, key.space(), rev)).collect()
    }

    pub(super) fn last(&self, key: &Key) -> Result<Option<Recorded>> {
        let subject = key.subject();
        let (read, unindexed) = self.moment(&subject)?;
        let commits = read.open_table(COMMITS).map_err(read_error)?;
        // What the index lacks is newer than what it has of the same aggregate.
        for rev in unindexed.into_iter().rev() {
            if let Some(stored) = commits.get((space_byte(key.space()), rev)).map_err(read_error)? {
                return decode(key.space(), rev, stored.value()).map(Some);
            }
        }
        let index = read.open_table(INDEX).map_err(read_error)?;
        let of_key = (subject.as_str(), 0)..=(subject.as_str(), u64::MAX);
        let last = index.range(of_key).map_err(read_error)?.next_back();
        let Some(entry) = last.transpose().map_err(read_error)? else { return Ok(None) };
        commit_at(&commits, key.space(), entry.0.value().1).map(Some)
    }

    fn page_from_disk(&self, space: Space, after: Rev) -> Result<Vec<Recorded>> {
        let letter = space_byte(space);
        let read = self.db.begin_read().map_err(read_error)?;
        let commits = read.open_table(COMMITS).map_err(read_error)?;
        let (mut out, mut bytes) = (Vec::new(), 0);
        let rest = (letter, after.saturating_add(1))..=(letter, u64::MAX);
        for entry in commits.range(rest).map_err(read_error)?.take(TAIL_PAGE) {
            let (place, stored) = entry.map_err(read_error)?;
            bytes += stored.value().len();
            out.push(decode(space, place.value().1, stored.value())?);
            if bytes > PAGE_BYTES {
                break;
            }
        }
        Ok(out)
    }
}

fn commit_at(
    commits: &impl ReadableTable<(u8, u64), &'static [u8]>,
    space: Space,
    rev: Rev,
) -> Result<Recorded> {
    match commits.get((space_byte(space), rev)).map_err(read_error)? {
        Some(stored) => decode(space, rev, stored.value()),
        None => Err(LogError::Corrupt(format!("commit {rev} is listed but not there"))),
    }
}

#[async_trait]
impl Pages for Store {
    async fn page(self: Arc<Self>, space: Space, _shard: u32, after: Rev) -> Result<Vec<Recorded>> {
        if let Some(recent) = self.ring(space).after(after, TAIL_PAGE) {
            return Ok(recent);
        }
        super::blocking(move || self.page_from_disk(space, after)).await
    }

    fn ended(&self) -> LogError {
        self.why_ended()
    }
}

impl Buckets for Store {
    fn get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>> {
        let read = self.db.begin_read().map_err(read_error)?;
        let values = read.open_table(VALUES).map_err(read_error)?;
        let stored = values.get((bucket, key)).map_err(read_error)?;
        stored.map(|v| decode_value(bucket, key, v.value())).transpose()
    }

    fn entries(&self, bucket: &str) -> Result<BTreeMap<String, KvEntry>> {
        let read = self.db.begin_read().map_err(read_error)?;
        let values = read.open_table(VALUES).map_err(read_error)?;
        let mut out = BTreeMap::new();
        for entry in values.range((bucket, "")..).map_err(read_error)? {
            let (name, stored) = entry.map_err(read_error)?;
            let (of, key) = name.value();
            if of != bucket {
                break;
            }
            out.insert(key.to_owned(), decode_value(bucket, key, stored.value())?);
        }
        Ok(out)
    }

    fn ended(&self) -> LogError {
        self.why_ended()
    }
}

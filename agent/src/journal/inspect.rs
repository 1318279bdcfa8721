//! Reading a journal without changing it, also beside the agent that writes it: the store as it is, and behind it the
//! groups that so far only the ahead files hold.

use super::ahead::{self, Item};
use super::backend::Backend;
use super::error::OpenError;
use super::files::{self, Found, NAMES};
use super::tables;
use super::{key, store};
use cortex_audit::entry::kind;
use cortex_audit::{Envelope, Leaf, SignedNote};
use redb::{
    ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _,
};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a file that changes under the reader is read again.
const ATTEMPTS: u32 = 50;

/// A journal as it was at one moment.
pub(crate) struct Reader {
    read: ReadTransaction,
    _database: Opened,
    _copy: Option<Copy>,
    /// Records in the store.
    stored: u64,
    /// The records behind them.
    tail: Vec<Vec<u8>>,
    tail_openings: Vec<(u64, String)>,
    /// The newest signed head.
    pub(crate) head: String,
}

enum Opened {
    Beside(ReadOnlyDatabase),
    Copied(redb::Database),
}

/// A copy of a store that has to be repaired before it can be read; the original stays as it is.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // In the system's directory for temporary files: should it stay, it is cleaned up there.
        drop(fs::remove_file(&self.0));
    }
}

/// A record with what opens its commitments.
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) body: Vec<u8>,
}

impl Reader {
    /// Reads the journal in `dir`.
    ///
    /// # Errors
    /// There is none, it cannot be read, or the files contradict each other.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        match files::find(dir).map_err(|err| OpenError::from_io(dir, err))? {
            Found::Whole => {}
            Found::Nothing => {
                let err = std::io::Error::new(std::io::ErrorKind::NotFound, "no journal is there");
                return Err(OpenError::Io { path: dir.to_owned(), err });
            }
            Found::Old(path) => {
                return Err(OpenError::Old { path, found: "cortex-audit/0".to_owned() });
            }
            Found::Partial(missing) => {
                let why = format!("missing: {}", missing.join(", "));
                return Err(OpenError::RolledBack { path: dir.to_owned(), why });
            }
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Self::once(dir) {
                // The writer may have been in the middle of a frame, or have changed files.
                Err(OpenError::Corrupt { .. } | OpenError::RolledBack { .. })
                    if attempt < ATTEMPTS && written(dir) =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                result => return result,
            }
        }
    }

    fn once(dir: &Path) -> Result<Self, OpenError> {
        let failed = |err: redb::Error| OpenError::from_redb(dir, err);
        let corrupt = |why: String| OpenError::Corrupt { path: dir.to_owned(), why };
        let (database, copy) = open_store(dir)?;
        let read = match &database {
            Opened::Beside(database) => database.begin_read(),
            Opened::Copied(database) => database.begin_read(),
        };
        let read = read.map_err(|err| failed(err.into()))?;
        let stored = tables::size(&read).map_err(failed)?;
        let mut head = tables::meta(&read, "head").map_err(failed)?.unwrap_or_default();
        let open = |name: &str| {
            let path = dir.join(name);
            Backend::open_read_only(&path).map_err(|err| OpenError::from_io(&path, err))
        };
        let ahead = ahead::read(&[open(NAMES[1])?, open(NAMES[2])?]);
        let ahead = ahead.map_err(|err| OpenError::from_io(dir, err))?.map_err(corrupt)?;
        let (mut tail, mut tail_openings, mut next) = (Vec::new(), Vec::new(), 0);
        for (_, header, groups) in &ahead.parts {
            next = header.base;
            if header.base > stored + tail.len() as u64 {
                let why =
                    format!("the store has {stored} records, the ahead files begin at {next}");
                return Err(OpenError::RolledBack { path: dir.to_owned(), why });
            }
            for item in groups.iter().flat_map(|group| &group.items) {
                match item {
                    Item::Record(body) => {
                        next += 1;
                        if next > stored {
                            tail.push(body.clone());
                        }
                    }
                    Item::Opening(text) if next > stored => {
                        tail_openings.push((next - 1, text.clone()));
                    }
                    Item::Head(note) if next > stored => head.clone_from(note),
                    Item::Opening(_)
                    | Item::Report(_)
                    | Item::Heard(_)
                    | Item::Head(_)
                    | Item::Cosigned(_)
                    | Item::OpeningsStored(_)
                    | Item::Fact(..) => {}
                }
            }
        }
        if next < stored {
            let why = format!("the ahead files end at {next}, the store has {stored} records");
            return Err(OpenError::RolledBack { path: dir.to_owned(), why });
        }
        Ok(Self { read, _database: database, _copy: copy, stored, tail, tail_openings, head })
    }

    /// Number of records.
    pub(crate) fn size(&self) -> u64 {
        self.stored + self.tail.len() as u64
    }

    /// Hands out the records from `from` on, in order, until `each` says stop.
    pub(crate) fn each(
        &self,
        from: u64,
        mut each: impl FnMut(Stored) -> bool,
    ) -> Result<(), redb::Error> {
        let table = self.read.open_table(tables::RECORDS)?;
        for row in redb::ReadableTable::range(&table, from..)? {
            let (seq, body) = row?;
            if !each(Stored { seq: seq.value(), body: body.value().to_vec() }) {
                return Ok(());
            }
        }
        for (seq, body) in (self.stored..).zip(&self.tail).filter(|(seq, _)| *seq >= from) {
            if !each(Stored { seq, body: body.clone() }) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Some bodies.
    pub(crate) fn bodies(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, redb::Error> {
        let mut bodies = Vec::new();
        self.each(range.start, |stored| {
            let wanted = stored.seq < range.end;
            if wanted {
                bodies.push(stored.body);
            }
            wanted
        })?;
        Ok(bodies)
    }

    /// What opens the commitments of some records, as lines of a bundle without their ends.
    pub(crate) fn opening_lines(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, redb::Error> {
        let stored = tables::openings(&self.read, range.clone())?.into_iter();
        let tail = self.tail_openings.iter().filter(|(seq, _)| range.contains(seq)).cloned();
        Ok(stored.chain(tail).map(|(seq, text)| format!("{seq} {text}").into_bytes()).collect())
    }

    /// Intents without outcome.
    pub(crate) fn open_intents(&self) -> Result<u64, redb::Error> {
        let mut open = self.read.open_table(tables::OPEN)?.len()?;
        for record in self.tail.iter().filter_map(|body| Envelope::parse(body).ok()) {
            match record.kind.as_str() {
                kind::INTENT => open += 1,
                kind::OUTCOME => open = open.saturating_sub(1),
                _ => {}
            }
        }
        Ok(open)
    }

    /// What opens the commitments of a record.
    pub(crate) fn openings(&self, seq: u64) -> Result<Vec<String>, redb::Error> {
        let stored = tables::openings(&self.read, seq..seq + 1)?.into_iter();
        let tail = self.tail_openings.iter().filter(|(of, _)| *of == seq).cloned();
        Ok(stored.chain(tail).map(|(_, text)| text).collect())
    }

    /// All cosigned checkpoints, smallest first, as they are stored.
    pub(crate) fn cosigned(&self) -> Result<Vec<String>, redb::Error> {
        let table = self.read.open_table(tables::COSIGNED)?;
        table.iter()?.map(|row| Ok(row?.1.value().to_owned())).collect()
    }

    /// A fact about the log.
    pub(crate) fn fact(&self, name: &str) -> Result<Option<String>, redb::Error> {
        tables::meta(&self.read, &format!("fact.{name}"))
    }
}

/// Whether a process has the journal in `dir` open for writing.
#[must_use]
pub fn written(dir: &Path) -> bool {
    matches!(files::lock(dir), Ok(None))
}

fn open_store(dir: &Path) -> Result<(Opened, Option<Copy>), OpenError> {
    let path = dir.join(NAMES[0]);
    let failed = |err: redb::Error| OpenError::from_redb(&path, err);
    match store::builder().open_read_only(&path) {
        Ok(database) => Ok((Opened::Beside(database), None)),
        Err(redb::DatabaseError::RepairAborted) => {
            let name = format!("cortex-journal-{}.redb", uuid::Uuid::new_v4());
            let copy = Copy(std::env::temp_dir().join(name));
            fs::copy(&path, &copy.0).map_err(|err| OpenError::from_io(&path, err))?;
            let backend = Backend::open(&copy.0).map_err(|err| OpenError::from_io(&path, err))?;
            let database = store::open(&backend).map_err(failed)?;
            Ok((Opened::Copied(database), Some(copy)))
        }
        Err(err) => Err(failed(err.into())),
    }
}

/// Which journal a directory held, as far as any of its files still says: log, and the newest size with its root.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) log: Option<Leaf>,
    pub(crate) size: u64,
    pub(crate) root: Option<cortex_audit::Hash>,
}

/// Which journal the files in `dir` belong to, as the key and the ahead files tell without opening the store.
pub(crate) fn log_of(dir: &Path) -> Option<Leaf> {
    let key = key::StoredKey::read(dir).ok().map(|key| key.log);
    key.or_else(|| {
        NAMES[1..].iter().find_map(|name| {
            let bytes = Backend::open_read_only(&dir.join(name)).ok()?.read_all().ok()?;
            match ahead::content(&bytes) {
                Ok(ahead::Content::Used { header, .. }) => Some(header.place.log),
                Ok(ahead::Content::Free { .. }) | Err(_) => None,
            }
        })
    })
}

/// Domain and node of the journal in `dir`, from its key or, in the version before, its first record.
#[must_use]
pub fn owner(dir: &Path) -> Option<(String, String)> {
    if let Ok(stored) = key::StoredKey::read(dir) {
        let mut parts = stored.key.verifier().name().split('/');
        let (domain, _, node) = (parts.next()?, parts.next()?, parts.next()?);
        return Some((domain.to_owned(), node.to_owned()));
    }
    let Ok(Found::Old(path)) = files::find(dir) else { return None };
    let database = store::open(&Backend::open(&path).ok()?).ok()?;
    let first = tables::records(&database.begin_read().ok()?, 0, 1).ok()?;
    let first: serde_json::Value = serde_json::from_slice(first.first()?).ok()?;
    let node = first["data"]["node"].as_str()?.to_owned();
    Some((crate::config::DOMAIN_DEFAULT.to_owned(), node))
}

/// The signed head and the cosigned checkpoints, if the journal can be read.
fn stored_notes(dir: &Path) -> Vec<String> {
    let Ok(reader) = Reader::open(dir) else { return Vec::new() };
    let cosigned = reader.cosigned().unwrap_or_default();
    std::iter::once(reader.head.clone()).chain(cosigned).collect()
}

/// Looks for traces of a journal that cannot be opened any more.
pub(crate) fn trace(dir: &Path) -> Trace {
    let mut found = Trace::default();
    let stored = key::StoredKey::read(dir).ok();
    found.log = stored.as_ref().map(|key| key.log);
    let mut notes = Vec::new();
    // A store that panics takes nothing away from what the other files tell.
    notes.extend(std::panic::catch_unwind(|| stored_notes(dir)).unwrap_or_default());
    for name in &NAMES[1..] {
        let Ok(file) = Backend::open_read_only(&dir.join(name)) else { continue };
        let Ok(bytes) = file.read_all() else { continue };
        let Ok(ahead::Content::Used { header, groups, .. }) = ahead::content(&bytes) else {
            continue;
        };
        found.log = found.log.or(Some(header.place.log));
        let items = groups.into_iter().flat_map(|group| group.items);
        let head = |item| if let Item::Head(note) = item { Some(note) } else { None };
        notes.extend(items.filter_map(head));
    }
    let notes = notes.iter().filter_map(|note| SignedNote::parse(note.as_bytes()).ok());
    for note in notes {
        let own = stored.as_ref().is_none_or(|key| note.verify_log(key.key.verifier()).is_ok());
        if own && note.checkpoint().size > found.size {
            (found.size, found.root) = (note.checkpoint().size, Some(note.checkpoint().root));
        }
    }
    found
}

/// The same for a journal of the version before, whose records have the same leaves.
pub(crate) fn trace_old(path: &Path) -> Result<Trace, redb::Error> {
    let backend = Backend::open(path)?;
    let database = store::open(&backend)?;
    let read = database.begin_read()?;
    let table = read.open_table(tables::RECORDS)?;
    let (mut edge, mut log) = (cortex_audit::Frontier::new(), None);
    for row in table.iter()? {
        let leaf = Leaf::of(row?.1.value());
        log = log.or(Some(leaf));
        edge.push(leaf);
    }
    Ok(Trace { log, size: edge.size(), root: Some(edge.root()) })
}

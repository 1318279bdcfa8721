//! Opening a journal: what must agree before it is used. The store and the ahead files are compared, what the store
//! lacks is taken over, the chain is walked from the newest cosigned checkpoint on, and the signed head must be that of
//! the records that are there. What a crash leaves is put in order; anything else is refused, in words.

use super::ahead::{self, Ahead, Group, Item};
use super::error::OpenError;
use super::files::{self, Files, Found, Identity};
use super::key::StoredKey;
use super::tables::{self, ATTEMPTS, OPEN, RECORDS};
use super::{store, walk};
use crate::clock::Stamps;
use cortex_audit::record::Genesis;
use cortex_audit::{Envelope, Frontier, Head, Leaf, LogKey, SignedNote};
use cortex_model::Code;
use cortex_model::proto::OutcomeReport;
use cortex_model::{AttemptKey, TaskId, TaskKey, Workspace};
use redb::{Database, ReadableDatabase as _, ReadableTable as _};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the lock of an agent that was killed may outlive it: a process that it was just starting holds a copy
/// until it has become the program.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// So many of the newest records are read before the agent itself opens the store.
const LOOK: u64 = 50_000;

/// The fact that keeps a journal closed until somebody looks.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The fact that says with which code.
pub(crate) const QUARANTINE_CODE: &str = "quarantine.code";

/// An intent that was found without outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIntent {
    /// The attempt.
    pub key: AttemptKey,
    /// Revision of `Started`.
    pub fence: u64,
    /// Number of the record.
    pub seq: u64,
    /// Leaf of the record.
    pub leaf: Leaf,
    /// It was written before the machine's last start.
    pub rebooted: bool,
}

/// An outcome that was not acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// Number of the record.
    pub seq: u64,
    /// What to report.
    pub report: OutcomeReport,
}

/// A journal that is in order.
pub(crate) struct Opened {
    pub(crate) files: Files,
    pub(crate) database: Database,
    pub(crate) ahead: Ahead,
    /// The unused ahead file is clear.
    pub(crate) spare: bool,
    pub(crate) key: LogKey,
    pub(crate) head: Head,
    pub(crate) edge: Frontier,
    pub(crate) genesis: Genesis,
    pub(crate) open_intents: Vec<OpenIntent>,
    /// The store had lost records that it had taken over; so many came back from the ahead files.
    pub(crate) refilled: Option<u64>,
    /// The newest record is a `session.close`, or the genesis.
    pub(crate) closed: bool,
    /// Size of the newest cosigned checkpoint; 0 if none.
    pub(crate) cosigned: u64,
}

pub(crate) fn open(dir: &Path, who: &Identity) -> Result<Opened, OpenError> {
    match files::find(dir).map_err(|err| OpenError::from_io(dir, err))? {
        Found::Nothing => files::create(dir, who)?,
        Found::Whole => {}
        Found::Old(path) => {
            return Err(OpenError::Old { path, found: "cortex-audit/0".to_owned() });
        }
        Found::Partial(missing) => {
            let why = format!("missing: {}", missing.join(", "));
            return Err(OpenError::RolledBack { path: dir.to_owned(), why });
        }
    }
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match open_files(dir) {
            Err(OpenError::Locked(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// Reads the end of the store of a journal that has all its files.
pub(crate) fn look(dir: &Path) -> Result<(), OpenError> {
    if !matches!(files::find(dir), Ok(Found::Whole)) {
        return Ok(());
    }
    let files = Files::open(dir)?;
    let failed = |err: redb::Error| OpenError::from_redb(dir, err);
    let database = store::open(&files.store).map_err(failed)?;
    let read = || -> Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let start = tables::size(&transaction)?.saturating_sub(LOOK);
        walk::walk(&transaction, start)
    };
    read()
        .map_err(failed)?
        .map(drop)
        .map_err(|why| OpenError::Corrupt { path: dir.to_owned(), why })
}

fn open_files(dir: &Path) -> Result<Opened, OpenError> {
    let corrupt = |why: String| OpenError::Corrupt { path: dir.to_owned(), why };
    let key = StoredKey::read(dir).map_err(corrupt)?;
    let files = Files::open(dir)?;
    // redb may panic on a file that was damaged outside of it; that is a damaged journal, not a defect.
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| check(files, key, dir)));
    opened.unwrap_or_else(|_| Err(corrupt("the store cannot make sense of log.redb".to_owned())))
}

/// Puts files in order after a crash, or says what is wrong with them. `path` is for messages.
pub(crate) fn check(files: Files, key: StoredKey, path: &Path) -> Result<Opened, OpenError> {
    let failed = |err: redb::Error| OpenError::from_redb(path, err);
    let corrupt = |why: String| OpenError::Corrupt { path: path.to_owned(), why };
    let database = store::open(&files.store).map_err(failed)?;
    require_format(&database, path)?;
    let read = ahead::read(&files.ahead).map_err(|err| OpenError::from_io(path, err))?;
    let read = read.map_err(corrupt)?;
    let refilled = fill(&database, &read, key.log, path)?;
    let begin = || -> Result<_, redb::Error> { Ok(database.begin_read()?) };
    let transaction = begin().map_err(failed)?;
    let size = tables::size(&transaction).map_err(failed)?;
    let quarantine = tables::meta(&transaction, &format!("fact.{QUARANTINE}")).map_err(failed)?;
    if let Some(why) = quarantine {
        let code =
            tables::meta(&transaction, &format!("fact.{QUARANTINE_CODE}")).map_err(failed)?;
        let set_back = code.as_deref() == Some(Code::JournalRolledBack.as_str());
        return Err(OpenError::Quarantined { path: path.to_owned(), why, set_back });
    }
    let cosigned = cosigned(&transaction, &key.key).map_err(failed)?.map_err(corrupt)?;
    let checker =
        walk::walk(&transaction, cosigned.as_ref().map_or(0, |note| note.checkpoint().size))
            .map_err(failed)?
            .map_err(corrupt)?;
    let head = checker.head().ok_or_else(|| corrupt("it has no records".to_owned()))?;
    let edge = tables::edge(&transaction, size).map_err(failed)?;
    let note = tables::meta(&transaction, "head").map_err(failed)?.unwrap_or_default();
    require_head(&note, &key.key, &edge).map_err(corrupt)?;
    if let Some(note) = &cosigned {
        let held = tables::edge(&transaction, note.checkpoint().size).map_err(failed)?;
        if held.root() != note.checkpoint().root {
            return Err(corrupt(
                "its records are not those of its newest cosigned checkpoint".to_owned(),
            ));
        }
    }
    let (genesis, closed) = ends(&transaction, &key, size).map_err(failed)?.map_err(corrupt)?;
    let open_intents = open_intents(&transaction, &checker).map_err(failed)?.map_err(corrupt)?;
    drop(transaction);
    let spare = read.parts.len() == 1;
    let ahead = Ahead::resume(files.ahead.clone(), &read);
    let ahead = ahead.map_err(|err| OpenError::from_io(path, err))?;
    let cosigned = cosigned.map_or(0, |note| note.checkpoint().size);
    let key = key.key;
    Ok(Opened {
        files,
        database,
        ahead,
        spare,
        key,
        head,
        edge,
        genesis,
        open_intents,
        refilled,
        closed,
        cosigned,
    })
}

fn require_format(database: &Database, path: &Path) -> Result<(), OpenError> {
    let read = || -> Result<_, redb::Error> { tables::meta(&database.begin_read()?, "format") };
    match read().map_err(|err| OpenError::from_redb(path, err))? {
        Some(found) if found == cortex_audit::FORMAT => Ok(()),
        Some(found) => {
            Err(OpenError::Newer { path: path.to_owned(), found, supported: cortex_audit::FORMAT })
        }
        None => Err(OpenError::Corrupt {
            path: path.to_owned(),
            why: "log.redb has no format: it is not the store that this journal had".to_owned(),
        }),
    }
}

/// Compares the store with the ahead files and takes over what it lacks. Says how many records the store once had
/// and lost, if any.
fn fill(
    database: &Database,
    read: &ahead::Read,
    log: Leaf,
    path: &Path,
) -> Result<Option<u64>, OpenError> {
    let failed = |err: redb::Error| OpenError::from_redb(path, err);
    let corrupt = |why: String| OpenError::Corrupt { path: path.to_owned(), why };
    let rolled_back = |why: String| OpenError::RolledBack { path: path.to_owned(), why };
    let transaction = || -> Result<_, redb::Error> { Ok(database.begin_read()?) };
    let transaction = transaction().map_err(failed)?;
    let size = tables::size(&transaction).map_err(failed)?;
    let Some((_, oldest, _)) = read.parts.first() else { return Ok(None) };
    if oldest.place.log != log {
        return Err(corrupt("the ahead files belong to another journal".to_owned()));
    }
    let ends = follow(read).map_err(corrupt)?;
    if size < oldest.base {
        let (base, why) = (oldest.base, "the store lost records that nothing else holds");
        return Err(rolled_back(format!("{why}: it has {size}, the ahead files begin at {base}")));
    }
    if ends < size {
        let why = "the ahead files are older than the store, or were lost";
        return Err(rolled_back(format!("{why}: they end at {ends}, it has {size}")));
    }
    let groups = || read.parts.iter().flat_map(|(_, _, groups)| groups);
    compare(&transaction, read, size).map_err(failed)?.map_err(corrupt)?;
    let headers = read.parts.iter().map(|(_, header, _)| header.stored);
    let claimed = headers.chain(groups().map(|group| group.stored)).max().unwrap_or(0);
    let mut edge = tables::edge(&transaction, size).map_err(failed)?;
    drop(transaction);
    let lacking: Vec<_> = groups().filter(|group| group.first >= size).collect();
    if !lacking.is_empty() {
        let items = lacking.iter().map(|group| (group.first, group.items.as_slice()));
        store::take(database, &mut edge, items).map_err(failed)?;
    }
    Ok(claimed.checked_sub(size).filter(|lost| *lost > 0))
}

/// Number of records of a group.
fn records(group: &Group) -> u64 {
    group.items.iter().filter(|item| matches!(item, Item::Record(_))).count() as u64
}

/// Checks that the groups follow one another; returns the size of the log behind the last.
fn follow(read: &ahead::Read) -> Result<u64, String> {
    let mut next = None;
    for (_, header, groups) in &read.parts {
        if next.is_some_and(|next| next != header.base) {
            return Err("the ahead files do not follow one another".to_owned());
        }
        let mut at = header.base;
        for group in groups {
            if group.first != at {
                return Err(format!(
                    "ahead files: a group begins at {} in place of {at}",
                    group.first
                ));
            }
            at += records(group);
        }
        next = Some(at);
    }
    Ok(next.unwrap_or(0))
}

/// Records that stand in both places must be the same.
fn compare(
    transaction: &redb::ReadTransaction,
    read: &ahead::Read,
    size: u64,
) -> Result<Result<(), String>, redb::Error> {
    let table = transaction.open_table(RECORDS)?;
    for (_, header, groups) in &read.parts {
        if let Some(before) = header.base.checked_sub(1).filter(|before| *before < size) {
            let same = table.get(before)?.map(|body| Leaf::of(body.value()));
            if same != Some(header.leaf) {
                return Ok(Err(format!("record {before} is not the one the ahead files follow")));
            }
        }
        for group in groups {
            let bodies = group.items.iter().filter_map(Item::record);
            for (seq, body) in (group.first..).zip(bodies).filter(|(seq, _)| *seq < size) {
                if table.get(seq)?.is_none_or(|stored| stored.value() != body.as_slice()) {
                    return Ok(Err(format!("record {seq} differs between store and ahead files")));
                }
            }
            if group.first < size && group.first + records(group) > size {
                return Ok(Err(format!("the store ends inside a group, at record {size}")));
            }
        }
    }
    Ok(Ok(()))
}

/// The newest note with a cosignature; it must be signed by this journal's key.
fn cosigned(
    read: &redb::ReadTransaction,
    key: &LogKey,
) -> Result<Result<Option<SignedNote>, String>, redb::Error> {
    let Some(text) = tables::newest_cosigned(read)? else { return Ok(Ok(None)) };
    let note = SignedNote::parse(text.as_bytes()).and_then(|note| {
        note.verify_log(key.verifier())?;
        Ok(note)
    });
    Ok(note.map(Some).map_err(|err| format!("its newest cosigned checkpoint: {err}")))
}

/// The signed head must be that of the records.
fn require_head(note: &str, key: &LogKey, edge: &Frontier) -> Result<(), String> {
    let note = SignedNote::parse(note.as_bytes()).map_err(|err| format!("its head: {err}"))?;
    note.verify_log(key.verifier()).map_err(|err| format!("its head: {err}"))?;
    let (size, root) = (note.checkpoint().size, note.checkpoint().root);
    if (size, root) != (edge.size(), edge.root()) {
        let has = edge.size();
        return Err(format!(
            "its signed head is of {size} records, and it has {has} with their own root"
        ));
    }
    Ok(())
}

/// The first record, which must name the key, and whether the newest one closes a session.
fn ends(
    read: &redb::ReadTransaction,
    key: &StoredKey,
    size: u64,
) -> Result<Result<(Genesis, bool), String>, redb::Error> {
    use cortex_audit::entry::kind;
    let table = read.open_table(RECORDS)?;
    let first = table.get(0)?.map(|body| body.value().to_vec()).unwrap_or_default();
    if Leaf::of(&first) != key.log {
        return Ok(Err("its first record is not the one that its key belongs to".to_owned()));
    }
    let genesis = Envelope::parse(&first).ok().and_then(|first| Genesis::read(&first.data).ok());
    let Some(genesis) = genesis else {
        return Ok(Err("its first record is no genesis".to_owned()));
    };
    if genesis.key.0 != key.key.verifier().key().as_bytes() {
        return Ok(Err("its first record names another key".to_owned()));
    }
    let last = table.get(size.saturating_sub(1))?;
    let last = last.and_then(|body| Envelope::parse(body.value()).ok());
    let closed =
        last.is_some_and(|last| matches!(last.kind.as_str(), kind::GENESIS | kind::SESSION_CLOSE));
    Ok(Ok((genesis, closed)))
}

/// The intents without outcome, as the index says, which must agree with the chain.
fn open_intents(
    read: &redb::ReadTransaction,
    checker: &cortex_audit::ChainChecker,
) -> Result<Result<Vec<OpenIntent>, String>, redb::Error> {
    let (open, attempts) = (read.open_table(OPEN)?, read.open_table(ATTEMPTS)?);
    let records = read.open_table(RECORDS)?;
    let boot = Stamps::new().boot().to_owned();
    let mut found = Vec::new();
    for row in open.iter()? {
        let (seq, name) = row?;
        let (seq, name) = (seq.value(), name.value().to_owned());
        let Some(leaf) = checker.open().get(&seq).copied() else {
            return Ok(Err(format!("record {seq}: the index calls it open, the chain does not")));
        };
        let fence = attempts.get(name.as_str())?.map(|row| row.value().1);
        let record = records.get(seq)?.and_then(|body| Envelope::parse(body.value()).ok());
        let (Some(key), Some(fence), Some(record)) = (parse_key(&name), fence, record) else {
            return Ok(Err(format!("record {seq}: the index names no attempt for it")));
        };
        found.push(OpenIntent { key, fence, seq, leaf, rebooted: record.boot != boot });
    }
    if found.len() != checker.open().len() {
        return Ok(Err("an intent without outcome is missing in the index".to_owned()));
    }
    Ok(Ok(found))
}

/// Names of open intents by number, for the writer.
pub(crate) fn names(open: &[OpenIntent]) -> BTreeMap<u64, String> {
    open.iter().map(|intent| (intent.seq, intent.key.to_string())).collect()
}

/// Reads `<workspace>/<task>/<attempt>`.
pub(crate) fn parse_key(name: &str) -> Option<AttemptKey> {
    let mut parts = name.split('/');
    let workspace = Workspace::parse(parts.next()?).ok()?;
    let task = TaskId::parse(parts.next()?).ok()?;
    let attempt = parts.next()?.parse().ok()?;
    Some(AttemptKey { task: TaskKey { workspace, task }, attempt })
}

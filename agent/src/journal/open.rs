//! Opening a journal: the lock, the format, the first entry, and the chain check over what is stored.

use super::error::OpenError;
use super::salt::Salts;
use super::tables::{self, ATTEMPTS, META, OPEN, OPENINGS, OUTBOX, RECORDS};
use crate::clock::Stamps;
use cortex_audit::entry::{Envelope, Position, kind};
use cortex_audit::record::{Base64, Genesis};
use cortex_audit::{ChainChecker, FORMAT, Head, Leaf};
use cortex_model::proto::OutcomeReport;
use cortex_model::{AttemptKey, TaskId, TaskKey, Workspace};
use redb::{Builder, ConcurrencyMode, Database, ReadableDatabase, ReadableTable};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the file in the journal's directory.
pub(crate) const FILE: &str = "journal.redb";

/// Name of the file with the seed of the key that signs the journal's checkpoints.
const KEY_FILE: &str = "audit.key";

/// First part of the journal's origin while the deployment has no name of its own.
const DOMAIN: &str = "cortex.local";

/// Memory for pages of the file. Small, so that an idle agent is small.
const CACHE: usize = 1024 * 1024;

/// At least so many of the newest entries are verified at open; of a smaller journal all are.
const VERIFY: u64 = 50_000;

/// Whose journal it is. Only used when a new one begins.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's id.
    pub node: String,
    /// The workspace that owns the node.
    pub workspace: String,
    /// Version of the agent.
    pub agent: String,
}

/// How long the lock of an agent that was killed may outlive it: a process that it was just starting holds a copy
/// until it has become the program.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// An intent that was found without outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIntent {
    /// The attempt.
    pub key: AttemptKey,
    /// Revision of `Started`.
    pub fence: u64,
    /// Number of the entry.
    pub seq: u64,
    /// Hash of the entry.
    pub leaf: Leaf,
    /// It was written before the machine's last start.
    pub rebooted: bool,
}

/// An outcome that was not acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// Number of the entry.
    pub seq: u64,
    /// What to report.
    pub report: OutcomeReport,
}

pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) head: Head,
    pub(crate) node: String,
    pub(crate) open_intents: Vec<OpenIntent>,
}

pub(crate) fn open(dir: &Path, who: &Identity) -> Result<Opened, OpenError> {
    let path = dir.join(FILE);
    // redb may panic on a file that was damaged outside of it; that is a damaged journal, not a defect.
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match open_file(&path, who) {
                Err(OpenError::Locked(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }));
    opened.unwrap_or_else(|_| {
        Err(OpenError::Corrupt { path, why: "the store cannot make sense of it".to_owned() })
    })
}

fn open_file(path: &PathBuf, who: &Identity) -> Result<Opened, OpenError> {
    let database = Builder::new()
        .set_cache_size(CACHE)
        .set_concurrency_mode(ConcurrencyMode::SingleWriter)
        .create(path)
        .map_err(|err| OpenError::from_redb(path, err.into()))?;
    let failed = |err| OpenError::from_redb(path, err);
    match tables::meta(&database, "format").map_err(failed)? {
        None => begin(&database, path.parent().unwrap_or(path), who).map_err(failed)?,
        Some(found) if found == FORMAT => {}
        Some(found) => {
            return Err(OpenError::Newer { path: path.clone(), found, supported: FORMAT });
        }
    }
    let corrupt = |why: String| OpenError::Corrupt { path: path.clone(), why };
    let checker = verify(&database).map_err(failed)?.map_err(corrupt)?;
    let head = checker.head().ok_or_else(|| corrupt("it has no entries".to_owned()))?;
    let open_intents = open_intents(&database, &checker).map_err(failed)?.map_err(corrupt)?;
    let node = tables::meta(&database, "node").map_err(failed)?.unwrap_or_default();
    Ok(Opened { database, head, node, open_intents })
}

/// Writes the first entry, whose hash is the journal's id.
fn begin(database: &Database, dir: &Path, who: &Identity) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_quick_repair(true);
    {
        // A file without `format` that has entries is a journal whose index was damaged.
        let mut records = write.open_table(RECORDS)?;
        if records.first()?.is_some() {
            return Err(redb::Error::Corrupted("entries without a format".to_owned()));
        }
        let mut salts = Salts::open()?;
        let (nonce, seed) = (salts.nonce()?, salts.nonce()?);
        write_key(dir, &seed)?;
        let genesis = Genesis {
            domain: DOMAIN.to_owned(),
            node: who.node.clone(),
            tenant: who.workspace.clone(),
            enroll: None,
            key: Base64(cortex_audit::key::public_key(&seed).as_bytes().to_vec()),
            nonce: cortex_audit::leaf::hex(&nonce),
            alg: cortex_audit::record::ALG.to_owned(),
            agent: who.agent.clone(),
            pred: None,
        };
        let stamp = Stamps::new().now();
        let body = Envelope::encode(Position::GENESIS, kind::GENESIS, &stamp, genesis.to_value())
            .map_err(|err| redb::Error::Corrupted(err.to_string()))?;
        records.insert(0, body.as_slice())?;
        let mut meta = write.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("node", who.node.as_str())?;
        write.open_table(ATTEMPTS)?;
        write.open_table(OPEN)?;
        write.open_table(OUTBOX)?;
        write.open_table(OPENINGS)?;
    }
    write.commit()?;
    Ok(())
}

/// Keeps the key of the journal's checkpoints, for the agent's user alone.
fn write_key(dir: &Path, seed: &[u8; 32]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(dir.join(KEY_FILE))?;
    file.write_all(seed)?;
    file.sync_all()
}

/// Walks the newest entries, or all of a small journal. The inner error says what is wrong.
fn verify(database: &Database) -> Result<Result<ChainChecker, String>, redb::Error> {
    let read = database.begin_read()?;
    let records = read.open_table(RECORDS)?;
    let Some(size) = records.last()?.map(|(seq, _)| seq.value() + 1) else {
        return Ok(Err("it has no entries".to_owned()));
    };
    let start = size.saturating_sub(VERIFY);
    let mut checker = ChainChecker::new();
    if start > 0 {
        let leaf_of = |seq: u64| -> Result<Option<Leaf>, redb::Error> {
            Ok(records.get(seq)?.map(|body| Leaf::of(body.value())))
        };
        let (Some(log), Some(leaf)) = (leaf_of(0)?, leaf_of(start - 1)?) else {
            return Ok(Err(format!("entry {} is missing", start - 1)));
        };
        // Intents from before the walk that were answered within it, or never.
        let mut open = BTreeMap::new();
        for row in ReadableTable::range(&records, start..)? {
            let intent = Envelope::parse(row?.1.value()).ok();
            let intent = intent.and_then(|entry| entry.data.get("intent")?.as_u64());
            if let Some(seq) = intent.filter(|seq| *seq < start)
                && let Some(leaf) = leaf_of(seq)?
            {
                open.insert(seq, leaf);
            }
        }
        for row in ReadableTable::range(&read.open_table(OPEN)?, ..start)? {
            let seq = row?.0.value();
            if let Some(leaf) = leaf_of(seq)? {
                open.insert(seq, leaf);
            }
        }
        checker = ChainChecker::resume(Head { log, size: start, leaf }, open);
    }
    for row in ReadableTable::range(&records, start..)? {
        let (seq, body) = row?;
        let pushed = checker.push(body.value()).map_err(|err| err.to_string());
        if let Err(why) = pushed {
            return Ok(Err(why));
        }
        if checker.head().is_some_and(|head| head.size != seq.value() + 1) {
            return Ok(Err(format!("entry {} is missing", seq.value())));
        }
    }
    Ok(Ok(checker))
}

/// The intents without outcome, as the index says, which must agree with the chain.
fn open_intents(
    database: &Database,
    checker: &ChainChecker,
) -> Result<Result<Vec<OpenIntent>, String>, redb::Error> {
    let read = database.begin_read()?;
    let (open, attempts) = (read.open_table(OPEN)?, read.open_table(ATTEMPTS)?);
    let records = read.open_table(RECORDS)?;
    let boot = Stamps::new().boot().to_owned();
    let mut found = Vec::new();
    for row in open.iter()? {
        let (seq, name) = row?;
        let (seq, name) = (seq.value(), name.value().to_owned());
        let Some(leaf) = checker.open().get(&seq).copied() else {
            return Ok(Err(format!("entry {seq}: the index calls it open, the chain does not")));
        };
        let fence = attempts.get(name.as_str())?.map(|row| row.value().1);
        let entry = records.get(seq)?.and_then(|body| Envelope::parse(body.value()).ok());
        let (Some(key), Some(fence), Some(entry)) = (parse_key(&name), fence, entry) else {
            return Ok(Err(format!("entry {seq}: the index names no attempt for it")));
        };
        found.push(OpenIntent { key, fence, seq, leaf, rebooted: entry.boot != boot });
    }
    if found.len() != checker.open().len() {
        return Ok(Err("an intent without outcome is missing in the index".to_owned()));
    }
    Ok(Ok(found))
}

/// Reads `<workspace>/<task>/<attempt>`.
fn parse_key(name: &str) -> Option<AttemptKey> {
    let mut parts = name.split('/');
    let workspace = Workspace::parse(parts.next()?).ok()?;
    let task = TaskId::parse(parts.next()?).ok()?;
    let attempt = parts.next()?.parse().ok()?;
    Some(AttemptKey { task: TaskKey { workspace, task }, attempt })
}

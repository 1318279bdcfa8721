//! The journal's directory: which files it has, beginning a new one, and telling a new directory from a damaged one.
//!
//! A journal is made whole under another name and then renamed, so a directory either holds a journal or does not.

use super::ahead::{Ahead, Item, LENGTH};
use super::backend::Backend;
use super::error::OpenError;
use super::group::sign;
use super::key::{self, StoredKey};
use super::salt::Salts;
use super::store;
use crate::clock::Stamps;
use cortex_audit::entry::Position;
use cortex_audit::record::{Base64, Genesis, Predecessor};
use cortex_audit::{Envelope, Frontier, Leaf, LogKey, Origin, Record};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The store and the two ahead files.
pub(crate) const NAMES: &[&str] = &["log.redb", "ahead.a", "ahead.b"];

/// What earlier versions called their store.
const OLD: &str = "journal.redb";

/// Whose journal it is. Only used when a new one begins.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The deployment, first part of every checkpoint's origin.
    pub domain: String,
    /// The node's id.
    pub node: String,
    /// The workspace that owns the node.
    pub workspace: String,
    /// Version of the agent.
    pub agent: String,
}

/// The open files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) store: Backend,
    pub(crate) ahead: [Backend; 2],
    /// Held for as long as the journal is open.
    pub(crate) lock: Option<File>,
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) enum Found {
    /// No journal.
    Nothing,
    /// A journal with all its files.
    Whole,
    /// Files of a journal, but not all.
    Partial(Vec<&'static str>),
    /// A journal of a version whose format was not frozen.
    Old(PathBuf),
}

/// Looks at a directory.
pub(crate) fn find(dir: &Path) -> io::Result<Found> {
    if dir.join(OLD).try_exists()? {
        return Ok(Found::Old(dir.join(OLD)));
    }
    let (mut there, mut missing) = (false, Vec::new());
    for name in NAMES.iter().chain([&key::FILE]) {
        if dir.join(name).try_exists()? {
            there = true;
        } else {
            missing.push(*name);
        }
    }
    Ok(match (there, missing.is_empty()) {
        (false, _) => Found::Nothing,
        (true, true) => Found::Whole,
        (true, false) => Found::Partial(missing),
    })
}

impl Files {
    /// Opens the files of a journal, for one process alone.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let lock = lock(dir).map_err(|err| OpenError::from_io(dir, err))?;
        let lock = lock.ok_or_else(|| OpenError::Locked(dir.to_owned()))?;
        Self::unlocked(dir, Some(lock))
    }

    fn unlocked(dir: &Path, lock: Option<File>) -> Result<Self, OpenError> {
        let open = |name: &str| {
            let path = dir.join(name);
            Backend::open(&path).map_err(|err| OpenError::from_io(&path, err))
        };
        let ahead = [open(NAMES[1])?, open(NAMES[2])?];
        Ok(Self { store: open(NAMES[0])?, ahead, lock })
    }
}

/// Ending of a directory with a new journal that is complete and only has to be put in its place.
const READY: &str = ".new";

/// Takes the lock of a journal: on its key, which every journal has and nothing else locks. `None`: somebody holds it.
pub(crate) fn lock(dir: &Path) -> io::Result<Option<File>> {
    let file = File::open(dir.join(key::FILE))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(err)) => Err(err),
    }
}

/// Begins a journal in `dir`, which must be empty or missing.
pub(crate) fn create(dir: &Path, who: &Identity) -> Result<(), OpenError> {
    let failed = |err: io::Error| OpenError::from_io(dir, err);
    if !beside(dir, READY).try_exists().map_err(failed)? {
        prepare(dir, who, None)?;
    }
    finish(dir).map_err(failed)
}

/// Makes a whole new journal beside the place where it will be.
pub(crate) fn prepare(
    dir: &Path,
    who: &Identity,
    pred: Option<Predecessor>,
) -> Result<(), OpenError> {
    let failed = |err: io::Error| OpenError::from_io(dir, err);
    let (part, ready) = (beside(dir, ".part"), beside(dir, READY));
    remove(&part).map_err(failed)?;
    build(&part, who, pred)?;
    let moved = remove(&ready).and_then(|()| fs::rename(&part, &ready));
    moved.and_then(|()| sync_dir(dir.parent())).map_err(failed)
}

/// Puts a new journal in its place, if one is ready and nothing is there.
pub(crate) fn finish(dir: &Path) -> io::Result<()> {
    let ready = beside(dir, READY);
    if ready.try_exists()? && matches!(find(dir)?, Found::Nothing) {
        fs::rename(&ready, dir)?;
        sync_dir(dir.parent())?;
    }
    Ok(())
}

/// Makes a whole journal in a directory that does not exist.
pub(crate) fn build(
    dir: &Path,
    who: &Identity,
    pred: Option<Predecessor>,
) -> Result<(), OpenError> {
    let failed = |err: io::Error| OpenError::from_io(dir, err);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    for name in NAMES {
        File::create_new(dir.join(name)).map_err(failed)?;
    }
    let files = Files::unlocked(dir, None)?;
    begin(&files, who, pred, dir, LENGTH).map_err(|err| OpenError::from_redb(dir, err))?;
    sync_dir(Some(dir)).map_err(failed)
}

/// Writes the first record, whose leaf is the journal's id, into empty files, and its key beside them.
pub(crate) fn begin(
    files: &Files,
    who: &Identity,
    pred: Option<Predecessor>,
    dir: &Path,
    length: usize,
) -> Result<(), redb::Error> {
    let mut salts = Salts::open()?;
    let seed = salts.nonce()?;
    let genesis: Record = Genesis {
        domain: who.domain.clone(),
        node: who.node.clone(),
        tenant: who.workspace.clone(),
        enroll: None,
        key: Base64(cortex_audit::key::public_key(&seed).as_bytes().to_vec()),
        nonce: cortex_audit::leaf::hex(&salts.nonce()?),
        alg: cortex_audit::record::ALG.to_owned(),
        agent: who.agent.clone(),
        pred,
    }
    .into();
    let invalid = |why: String| redb::Error::Io(io::Error::new(io::ErrorKind::InvalidInput, why));
    let stamp = Stamps::new().now();
    let body = Envelope::encode(Position::GENESIS, genesis.kind(), &stamp, genesis.to_value())
        .map_err(|err| invalid(err.to_string()))?;
    let log = Leaf::of(&body);
    let origin = Origin::new(&who.domain, &who.node, log)
        .ok_or_else(|| invalid(format!("{}/{} cannot be an origin", who.domain, who.node)))?;
    StoredKey::create(dir, &seed, origin.as_str(), log)?;
    let key = LogKey::from_seed(&seed, origin.as_str()).map_err(|err| invalid(err.to_string()))?;
    let mut edge = Frontier::new();
    let mut tree = Frontier::new();
    tree.push(log);
    let note = sign(&key, &tree).map_err(|err| invalid(err.to_string()))?;
    let items = [Item::Record(body), Item::Head(note.to_string())];
    let mut payload = Vec::new();
    items.iter().for_each(|item| item.encode(&mut payload));
    let mut ahead = Ahead::create(files.ahead.clone(), log, length)?;
    ahead.append(0, 0, &payload)?;
    let database = store::open(&files.store)?;
    store::create(&database, cortex_audit::FORMAT)?;
    store::take(&database, &mut edge, [(0, items.as_slice())])?;
    Ok(())
}

/// A path beside a directory: the same name with an ending.
pub(crate) fn beside(dir: &Path, ending: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    dir.with_file_name(name)
}

/// Removes what an interrupted beginning left.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(dir: Option<&Path>) -> io::Result<()> {
    match dir {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

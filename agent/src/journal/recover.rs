//! Beginning anew after a journal was lost, damaged, rolled back or forked. The old files are kept whole and read-only
//! with a list of their digests; the new journal names the old one, as far as it can still be told. Nothing of the old
//! journal is ever edited.

use super::error::OpenError;
use super::evidence::{fresh, list, seal};
use super::files::{self, Found, Identity, find};
use super::inspect::{Trace, trace, trace_old};
use super::open::LOCK_PATIENCE;
use cortex_audit::Leaf;
use cortex_audit::record::{Base64, Predecessor};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What was done.
#[derive(Debug)]
pub struct Recovered {
    /// Where the old journal is now.
    pub evidence: PathBuf,
    /// The old journal's id, if any file still told it.
    pub old: Option<Leaf>,
    /// Records of the old journal that are proven by its own signature.
    pub size: u64,
    /// SHA-256 of the list of digests.
    pub digest: String,
}

/// Keeps others from the journal. One that has lost its key cannot be opened by anybody.
fn hold(dir: &Path) -> Result<Option<File>, OpenError> {
    let until = Instant::now() + 3 * LOCK_PATIENCE;
    loop {
        match files::lock(dir) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(OpenError::from_io(dir, err)),
            // An agent that waits for it looks now and then whether it can be opened.
            Ok(None) if Instant::now() < until => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Ok(None) => return Err(OpenError::Locked(dir.to_owned())),
        }
    }
}

/// Sets the journal in `dir` aside, below `evidence`, and begins a new one that names it. `reason` is one of
/// `reinstall`, `rekey`, `recovery`, `fork` and `corrupt`.
///
/// # Errors
/// There is no journal, another process uses it, or files cannot be written. Repeating it is safe.
pub fn recover(
    dir: &Path,
    evidence: &Path,
    who: &Identity,
    reason: &str,
) -> Result<Recovered, OpenError> {
    let failed = |err: io::Error| OpenError::from_io(dir, err);
    files::finish(dir).map_err(failed)?;
    let found = find(dir).map_err(failed)?;
    let mut _held = None;
    let trace = match &found {
        Found::Nothing => {
            let err = io::Error::new(io::ErrorKind::NotFound, "there is no journal to recover");
            return Err(OpenError::Io { path: dir.to_owned(), err });
        }
        Found::Old(path) => trace_old(path).map_err(|err| OpenError::from_redb(path, err))?,
        Found::Whole | Found::Partial(_) => {
            _held = hold(dir)?;
            trace(dir)
        }
    };
    let Trace { log, size, root } = trace;
    let text = list(dir).map_err(failed)?;
    let digest = cortex_audit::leaf::hex(&Sha256::digest(text.as_bytes()));
    let pred = Predecessor {
        log: log.unwrap_or(Leaf::ZERO),
        size,
        root: Base64(root.unwrap_or_else(cortex_audit::Hash::empty).0.to_vec()),
        reason: reason.to_owned(),
        evidence: Some(digest.clone()),
    };
    files::prepare(dir, who, Some(pred))?;
    let place = fresh(evidence, "journal").map_err(failed)?;
    // From here on a crash leaves the new journal ready beside the old one's place; opening or repeating finishes it.
    fs::rename(dir, place.join("journal")).map_err(failed)?;
    files::finish(dir).map_err(failed)?;
    seal(&place.join("journal")).map_err(failed)?;
    files::sync_dir(Some(&place)).map_err(failed)?;
    let evidence = place.join("journal");
    Ok(Recovered { evidence, old: log, size, digest })
}

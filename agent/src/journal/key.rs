//! The key that signs this journal's checkpoints, and nothing else. It is made when the journal begins and lies
//! beside it, readable by its owner alone. The file also names the journal, so that a node whose store is lost still
//! knows which journal it lost.
//!
//! The file is text: a version line, then `origin`, `log` and `seed` (base64), each on a line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cortex_audit::{Leaf, LogKey};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Name of the file in the journal's directory.
pub(crate) const FILE: &str = "audit.key";

const VERSION: &str = "cortex-audit-key/1";

/// What the file says.
pub(crate) struct StoredKey {
    pub(crate) key: LogKey,
    pub(crate) log: Leaf,
}

impl StoredKey {
    /// Writes the key of a new journal. The file must not exist.
    pub(crate) fn create(dir: &Path, seed: &[u8; 32], origin: &str, log: Leaf) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(dir.join(FILE))?;
        let seed = STANDARD.encode(seed);
        file.write_all(format!("{VERSION}\norigin {origin}\nlog {log}\nseed {seed}\n").as_bytes())?;
        file.sync_all()
    }

    /// Reads the key. Others must not be able to read it.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub(crate) fn read(dir: &Path) -> Result<Self, String> {
        let path = dir.join(FILE);
        let bad = |why: &str| format!("{FILE}: {why}");
        let file = File::open(&path).map_err(|err| bad(&err.to_string()))?;
        let meta = file.metadata().map_err(|err| bad(&err.to_string()))?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(bad("it is open to others; run: chmod 600 on it"));
        }
        let text = io::read_to_string(file).map_err(|err| bad(&err.to_string()))?;
        let mut lines = text.lines();
        if lines.next() != Some(VERSION) {
            return Err(bad("it is not a key of version 1"));
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let parsed = (|| {
            let (origin, log, seed) = (field("origin")?, field("log")?, field("seed")?);
            let seed: [u8; 32] = STANDARD.decode(seed).ok()?.try_into().ok()?;
            Some((LogKey::from_seed(&seed, origin).ok()?, Leaf::parse(log)?))
        })();
        let (key, log) = parsed.ok_or_else(|| bad("it is damaged"))?;
        Ok(Self { key, log })
    }
}

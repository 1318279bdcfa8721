//! The owner's policy file: reading it when it changed, and refusing one that others could write.

use cortex_agent_core::{Policy, PolicyError};
use cortex_model::{Code, Fault};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Largest policy file that is read, bytes.
const MAX: u64 = 1024 * 1024;

/// What a new installation begins with: programs that only look.
pub const STARTER: &str = r#"# What tasks may run on this machine. Only its owner decides: no server can change or widen this.
# A program that is not listed is not started. Changes count from the next task on.
version = 0

[shell]
# Absolute paths. Each may be run with any arguments, as the user that runs the agent, without a sandbox:
# list nothing that you would not let the people who submit tasks run themselves.
allow = [
    "/usr/bin/cat", "/usr/bin/date", "/usr/bin/df", "/usr/bin/du", "/usr/bin/echo", "/usr/bin/false",
    "/usr/bin/head", "/usr/bin/hostname", "/usr/bin/id", "/usr/bin/ls", "/usr/bin/nproc",
    "/usr/bin/printf", "/usr/bin/pwd", "/usr/bin/seq", "/usr/bin/sha256sum", "/usr/bin/sleep",
    "/usr/bin/stat", "/usr/bin/tail", "/usr/bin/true", "/usr/bin/uname", "/usr/bin/uptime",
    "/usr/bin/wc", "/usr/bin/whoami",
]

[echo]
# Gives a task's own text back; touches nothing.
allow = true
"#;

/// Why there is no usable policy.
#[derive(Debug, Error)]
pub enum PolicyFileError {
    /// Not there, or not readable.
    #[error("the policy file {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else could change it.
    #[error("the policy file {0} can be written by others")]
    Writable(PathBuf),
    /// Belongs to somebody else.
    #[error("the policy file {0} belongs to another user")]
    Owner(PathBuf),
    /// Its content is not understood.
    #[error("the policy file {path} is refused: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PolicyError,
    },
}

impl PolicyFileError {
    /// The error as the gateway and the owner are told it.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let hint = match self {
            Self::Read { .. } => "write a policy file there; the agent looks again by itself",
            Self::Writable(_) => "run: chmod go-w FILE",
            Self::Owner(_) => "run: chown to the user that runs the agent, or to root",
            Self::Content { .. } => "correct the file; the agent looks again by itself",
        };
        Fault::new(Code::AgentUnable, self.to_string()).with_hint(hint)
    }
}

/// The policy as it stands in the file.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    seen: Option<Stamp>,
    current: Result<Arc<Policy>, Fault>,
}

/// What changes when a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    mode: u32,
    uid: u32,
    changed: (i64, i64),
}

impl PolicyFile {
    /// Reads the file; a broken one is an answer too.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let unread = Err(Fault::new(Code::AgentUnable, "no policy was read"));
        let mut file = Self { path: path.to_owned(), seen: None, current: unread };
        file.reread();
        file
    }

    /// The policy that counts now. Reads the file again when it changed.
    ///
    /// # Errors
    /// Why no work can be taken.
    pub fn current(&mut self) -> Result<Arc<Policy>, Fault> {
        let now = std::fs::metadata(&self.path).ok().as_ref().map(Stamp::of);
        if now != self.seen || self.seen.is_none() {
            self.reread();
        }
        self.current.clone()
    }

    fn reread(&mut self) {
        self.seen = std::fs::metadata(&self.path).ok().as_ref().map(Stamp::of);
        let before = self.current.as_ref().map(|policy| policy.digest().to_owned()).ok();
        let read = load(&self.path);
        match &read {
            Ok(policy) if before.as_deref() != Some(policy.digest()) => {
                tracing::info!(programs = policy.programs().len(), "policy read");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no work is taken"),
        }
        self.current = read.map(Arc::new).map_err(|err| err.to_fault());
    }
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.size(),
            mode: meta.mode(),
            uid: meta.uid(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Reads a policy file once.
///
/// # Errors
/// See [`PolicyFileError`].
pub fn load(path: &Path) -> Result<Policy, PolicyFileError> {
    let read = |source| PolicyFileError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(read)?;
    let meta = file.metadata().map_err(read)?;
    if meta.mode() & 0o022 != 0 {
        return Err(PolicyFileError::Writable(path.to_owned()));
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(PolicyFileError::Owner(path.to_owned()));
    }
    if meta.size() > MAX {
        return Err(read(std::io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::io::read_to_string(file).map_err(read)?;
    let digest = cortex_audit::leaf::hex(&Sha256::digest(text.as_bytes()));
    let content = |source| PolicyFileError::Content { path: path.to_owned(), source };
    let policy = Policy::parse(&text, digest).map_err(content)?;
    let programs: BTreeSet<PathBuf> =
        policy.programs().iter().map(|program| crate::facts::resolve_dir(program)).collect();
    Ok(policy.with_programs(programs))
}

/// Writes [`STARTER`] where there is no policy yet. True if it wrote one.
///
/// # Errors
/// The file cannot be written.
pub fn write_starter(path: &Path) -> std::io::Result<bool> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(STARTER.as_bytes()).map(|()| true),
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_starter_policy_is_valid_and_never_overwrites_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        assert!(write_starter(&path).unwrap());
        assert!(load(&path).unwrap().programs().len() > 10);
        assert!(!write_starter(&path).unwrap());
    }

    #[test]
    fn a_file_that_others_can_write_or_that_is_missing_or_broken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        let mut file = PolicyFile::open(&path);
        assert!(file.current().unwrap_err().message.contains("cannot be read"));
        std::fs::write(&path, "version = 0").unwrap();
        for mode in [0o660, 0o606] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(load(&path), Err(PolicyFileError::Writable(_))));
            assert!(file.current().unwrap_err().message.contains("written by others"));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.current().is_ok());
        std::fs::write(&path, "version = 0\nunknown = 1").unwrap();
        assert!(file.current().unwrap_err().message.contains("unknown"));
    }
}

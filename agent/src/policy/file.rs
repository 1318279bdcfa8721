//! The owner's policy file: reading it when it changed, and refusing one that others could write.

use super::narrowing::Held;
use cortex_agent_core::policy::{Draft, Place};
use cortex_agent_core::{Policy, PolicyError};
use cortex_model::limits::POLICY_FILE_MAX;
use cortex_model::{Code, Fault};
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

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
    /// Lies in a directory in which others could put another file in its place.
    #[error("the policy file lies in {0}, in which others can write")]
    Directory(PathBuf),
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
            Self::Directory(_) => "move the policy, or run: chmod go-w DIRECTORY",
            Self::Owner(_) => "run: chown to the user that runs the agent, or to root",
            Self::Content { .. } => "correct the file; the agent looks again by itself",
        };
        Fault::new(Code::PolicyUnusable, self.to_string()).with_hint(hint)
    }
}

/// The policy as it stands in the file.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    data_dir: PathBuf,
    seen: Option<Stamp>,
    current: Result<Arc<Policy>, Fault>,
    /// What a server takes away from it.
    held: Result<Held, Fault>,
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
    pub fn open(path: &Path, data_dir: &Path) -> Self {
        let unread = Err(Fault::new(Code::PolicyUnusable, "no policy was read"));
        let mut file = Self {
            path: path.to_owned(),
            data_dir: data_dir.to_owned(),
            seen: None,
            current: unread,
            held: Held::load(data_dir),
        };
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

    /// What a server takes away, as it is held to.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held.clone().unwrap_or_default()
    }

    /// Holds to something else from now on.
    pub fn hold(&mut self, held: Held) {
        self.held = Ok(held);
        self.reread();
    }

    fn reread(&mut self) {
        self.seen = std::fs::metadata(&self.path).ok().as_ref().map(Stamp::of);
        let before = self.current.as_ref().map(|policy| policy.digest().to_owned()).ok();
        let read = load(&self.path, &place(&self.path, &self.data_dir));
        match &read {
            Ok(policy) if before.as_deref() != Some(policy.digest()) => {
                let (name, rules) = (policy.name(), policy.rule_count());
                tracing::info!(name, rules, digest = policy.digest(), "policy read");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no work is taken"),
        }
        let read = read.map_err(|err| err.to_fault());
        self.current = match (read, &self.held) {
            (Ok(policy), Ok(held)) => Ok(Arc::new(held.narrow(policy))),
            (Err(fault), _) => Err(fault),
            (Ok(_), Err(fault)) => Err(fault.clone()),
        };
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

/// What `~`, `$NAME` and the named sets mean on this machine, for this user.
#[must_use]
pub fn place(path: &Path, data_dir: &Path) -> Place {
    let variable =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|value| value.is_absolute());
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Place {
        home: variable("HOME").unwrap_or_else(|| PathBuf::from("/")),
        runtime: variable("XDG_RUNTIME_DIR"),
        workspace: variable("CORTEX_WORKSPACE"),
        state: vec![absolute(data_dir), absolute(path)],
        ..Place::default()
    }
}

/// Reads a policy file once.
///
/// # Errors
/// See [`PolicyFileError`].
pub fn load(path: &Path, place: &Place) -> Result<Policy, PolicyFileError> {
    compile(path, &read(path)?, place)
}

/// The text of a policy file that only its owner can change.
///
/// # Errors
/// See [`PolicyFileError`].
pub(super) fn read(path: &Path) -> Result<String, PolicyFileError> {
    let failed = |source| PolicyFileError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.mode() & 0o022 != 0 {
        return Err(PolicyFileError::Writable(path.to_owned()));
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(PolicyFileError::Owner(path.to_owned()));
    }
    let dir = std::fs::canonicalize(path).ok().and_then(|path| path.parent().map(Path::to_owned));
    if let Some(dir) = dir {
        let meta = std::fs::metadata(&dir).map_err(failed)?;
        // With the sticky bit others can write there, but not replace the file.
        if meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0 {
            return Err(PolicyFileError::Directory(dir));
        }
    }
    if meta.size() > POLICY_FILE_MAX {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    std::io::read_to_string(file).map_err(failed)
}

/// The policy that a text means here.
///
/// # Errors
/// See [`PolicyFileError::Content`].
pub(super) fn compile(path: &Path, text: &str, place: &Place) -> Result<Policy, PolicyFileError> {
    let digest = cortex_audit::leaf::hex(&Sha256::digest(text.as_bytes()));
    let content = |source| PolicyFileError::Content { path: path.to_owned(), source };
    let draft = Draft::parse(text, digest).map_err(content)?;
    let mut place = place.clone();
    for path in draft.named(&place) {
        let followed = crate::facts::follow(&path);
        place.resolved.insert(path, followed);
    }
    draft.compile(&place).map_err(content)
}

/// Writes a first policy where there is none yet. True if it wrote one.
///
/// # Errors
/// The file cannot be written.
pub fn write_first(path: &Path, text: &str) -> std::io::Result<bool> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::super::profiles::{Profile, STARTER};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn here(dir: &Path) -> Place {
        place(&dir.join("policy.toml"), &dir.join("data"))
    }

    #[test]
    fn every_first_policy_is_valid_and_never_overwrites_another() {
        let dir = tempfile::tempdir().unwrap();
        let roots = [dir.path().join("work").to_string_lossy().into_owned()];
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let texts =
            [Profile::Laptop, Profile::Ci, Profile::Readonly].map(|profile| profile.text(&roots));
        for (at, text) in texts.iter().map(String::as_str).chain([STARTER]).enumerate() {
            let path = dir.path().join(format!("{at}.toml"));
            assert!(write_first(&path, text).unwrap());
            let policy =
                load(&path, &here(dir.path())).unwrap_or_else(|err| panic!("{err}:\n{text}"));
            assert!(policy.allows_shell());
            assert!(!write_first(&path, "other").unwrap());
        }
    }

    #[test]
    fn a_file_that_others_can_write_or_that_is_missing_or_broken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        let mut file = PolicyFile::open(&path, &dir.path().join("data"));
        assert!(file.current().unwrap_err().message.contains("cannot be read"));
        std::fs::write(&path, "version = 0").unwrap();
        for mode in [0o660, 0o606] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(PolicyFileError::Writable(_))));
            assert!(file.current().unwrap_err().message.contains("written by others"));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.current().is_ok());
        std::fs::write(&path, "version = 0\nunknown = 1").unwrap();
        let fault = file.current().unwrap_err();
        assert!(fault.code == Code::PolicyUnusable && fault.message.contains("line 2"), "{fault}");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(read(&path), Err(PolicyFileError::Directory(_))));
    }

    #[test]
    fn a_policy_inside_of_a_root_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, Profile::Readonly.text(&[dir.path().to_string_lossy().into_owned()]))
            .unwrap();
        let refused = load(&path, &here(dir.path())).unwrap_err().to_string();
        assert!(refused.contains("contains the agent's own directory or this policy"), "{refused}");
    }
}

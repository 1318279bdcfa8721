//! What the owner set: where the data is, which gateway, how many slots. A TOML file, every key optional,
//! unknown keys refused; the command line wins over it.

use cortex_audit::{KeyKind, VerifierKey};
use cortex_model::limits::{
    LABEL_MAX, LABELS_MAX, SLOTS_DEFAULT, SLOTS_MAX, STOP_GRACE_DEFAULT_SECS, STOP_GRACE_MAX_SECS,
};
use cortex_model::{Code, Fault, NodeId, Workspace};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Version of the data directory that this agent reads and writes.
pub const DATA_VERSION: u32 = 1;

/// Journal records that may wait for the mirror.
pub const MAX_UNACKED_DEFAULT: u64 = 10_000;
/// For how long a mirror's newest cosignature counts, seconds, if nothing else is said: a day.
pub const MAX_UNACKED_DEFAULT_SECS: u64 = 24 * 60 * 60;

/// The deployment of an agent that was told none.
pub const DOMAIN_DEFAULT: &str = "cortex.local";

/// Free space below which no work is taken, bytes.
pub const MIN_FREE_DEFAULT: u64 = 64 * 1024 * 1024;

/// Bytes of output that may wait on the disk.
pub const SPOOL_QUOTA_DEFAULT: u64 = 20 * 1024 * 1024 * 1024;

/// Where the agent of the whole machine has its data.
pub const SYSTEM_DATA_DIR: &str = "/var/lib/cortex-agent";

/// Where a user's agent has its data when nobody says.
///
/// # Errors
/// `CX-0803` when the environment names no home directory.
pub fn default_data_dir() -> Result<PathBuf, Fault> {
    Ok(xdg("XDG_DATA_HOME", ".local/share")?.join("cortex-agent"))
}

/// A base directory: what the variable says if that is absolute, or its place in the home directory.
///
/// # Errors
/// `CX-0803` when the environment names no home directory.
pub(crate) fn xdg(variable: &str, in_home: &str) -> Result<PathBuf, Fault> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(in_home))).ok_or_else(
        || {
            Fault::new(Code::Usage, "HOME is not set, so there is no default data directory")
                .with_hint("pass --data-dir DIR")
        },
    )
}

/// Everything an agent is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Journal, spool, policy and temporary files of tasks.
    pub data_dir: PathBuf,
    /// The gateway, `https://HOST:PORT`; empty: the one that was joined.
    pub server: String,
    /// The node's id; only used when the journal begins. Empty: derived from the host's name.
    pub node: String,
    /// The workspace that owns the node; only used when the journal begins.
    pub workspace: Workspace,
    /// The deployment, first part of the origin of the journal's checkpoints; only used when the journal begins.
    pub domain: String,
    /// Tasks that may run at the same time.
    pub slots: u32,
    /// The owner's words about the node.
    pub labels: BTreeMap<String, String>,
    /// The policy file.
    pub policy: PathBuf,
    /// Free space on the disk below which no work is taken, bytes.
    pub min_free: u64,
    /// Bytes of output that may wait on the disk.
    pub spool_quota: u64,
    /// How long what runs may go on after the agent was asked to stop, seconds; then it is interrupted.
    pub stop_grace_secs: u64,
    /// Journal records that may wait for the mirror before no more work is taken; counts once there is a mirror.
    pub max_unacked: u64,
    /// For how long the mirror's newest cosignature counts, seconds, before no more work is taken; counts once there is one.
    pub max_unacked_secs: u64,
    /// The mirror's key, got by another way than the gateway. `None`: the first mirror that the journal meets is its mirror.
    pub mirror: Option<VerifierKey>,
    /// The mirror that the server named when the machine joined or renewed its certificate: for a journal that has none yet.
    pub named_mirror: Option<VerifierKey>,
    /// What tells the owner's desktop that a task asks; `None`: `notify-send` of the system.
    pub notify: Option<PathBuf>,
    /// This program with the arguments that lead to [`crate::guard::main`]; empty: no guard process.
    pub guard: Vec<OsString>,
    /// The same for [`crate::sandbox::main`]; empty: nothing can be confined.
    pub launcher: Vec<OsString>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    server: Option<String>,
    node: Option<String>,
    workspace: Option<String>,
    slots: Option<u32>,
    labels: BTreeMap<String, String>,
    policy: Option<PathBuf>,
    min_free_bytes: Option<u64>,
    spool_quota_bytes: Option<u64>,
    stop_grace_secs: Option<u64>,
    max_unacked_records: Option<u64>,
    max_unacked_secs: Option<u64>,
    mirror: Option<String>,
    notify: Option<PathBuf>,
}

impl Config {
    /// Defaults below a data directory, with a server.
    #[must_use]
    pub fn new(data_dir: &Path, server: &str) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            server: server.to_owned(),
            node: String::new(),
            workspace: Workspace::default_workspace(),
            domain: DOMAIN_DEFAULT.to_owned(),
            slots: SLOTS_DEFAULT,
            labels: BTreeMap::new(),
            policy: data_dir.join("policy.toml"),
            min_free: MIN_FREE_DEFAULT,
            spool_quota: SPOOL_QUOTA_DEFAULT,
            stop_grace_secs: STOP_GRACE_DEFAULT_SECS,
            max_unacked: MAX_UNACKED_DEFAULT,
            max_unacked_secs: MAX_UNACKED_DEFAULT_SECS,
            mirror: None,
            named_mirror: None,
            notify: None,
            guard: Vec::new(),
            launcher: Vec::new(),
        }
    }

    /// Takes over what a configuration file says.
    ///
    /// # Errors
    /// The file cannot be read or says something that cannot be.
    pub fn read(&mut self, path: &Path) -> Result<(), Fault> {
        let bad = |why: String| {
            Fault::new(Code::Usage, format!("{}: {why}", path.display()))
                .with_hint("correct the configuration file")
        };
        let text = std::fs::read_to_string(path).map_err(|err| bad(err.to_string()))?;
        let file: File = toml::from_str(&text).map_err(|err| bad(err.message().to_owned()))?;
        let keep = |slot: &mut PathBuf, value: Option<PathBuf>| {
            if let Some(value) = value {
                *slot = value;
            }
        };
        keep(&mut self.policy, file.policy);
        if let Some(server) = file.server {
            self.server = server;
        }
        if let Some(node) = file.node {
            NodeId::parse(&node).map_err(|fault| bad(fault.message))?;
            self.node = node;
        }
        if let Some(workspace) = file.workspace {
            self.workspace = Workspace::parse(&workspace).map_err(|fault| bad(fault.message))?;
        }
        self.slots = file.slots.unwrap_or(self.slots);
        self.min_free = file.min_free_bytes.unwrap_or(self.min_free);
        self.spool_quota = file.spool_quota_bytes.unwrap_or(self.spool_quota);
        self.stop_grace_secs = file.stop_grace_secs.unwrap_or(self.stop_grace_secs);
        self.max_unacked = file.max_unacked_records.unwrap_or(self.max_unacked);
        self.max_unacked_secs = file.max_unacked_secs.unwrap_or(self.max_unacked_secs);
        if let Some(text) = file.mirror {
            let key = VerifierKey::parse(text.trim());
            let key = key.ok().filter(|key| key.kind() == KeyKind::Cosigner);
            let none = || bad("mirror is no key of a mirror, as in its mirror.vkey".to_owned());
            self.mirror = Some(key.ok_or_else(none)?);
        }
        if file.notify.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(bad("notify is the absolute path of a program".to_owned()));
        }
        self.notify = file.notify.or_else(|| self.notify.take());
        self.labels.extend(file.labels);
        self.check().map_err(|fault| bad(fault.message))
    }

    /// Checks what the file and the command line made together.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn check(&self) -> Result<(), Fault> {
        let bad = |why: String| Err(Fault::new(Code::Usage, why));
        if !(1..=SLOTS_MAX).contains(&self.slots) {
            return bad(format!("slots must be 1 to {SLOTS_MAX}, not {}", self.slots));
        }
        if self.stop_grace_secs > STOP_GRACE_MAX_SECS {
            let most = STOP_GRACE_MAX_SECS;
            return bad(format!("stop_grace_secs is at most {most}, not {}", self.stop_grace_secs));
        }
        if self.labels.len() > LABELS_MAX {
            return bad(format!("at most {LABELS_MAX} labels, not {}", self.labels.len()));
        }
        let odd = |key: &str, value: &str| {
            key.is_empty() || key.len() > LABEL_MAX || value.len() > LABEL_MAX
        };
        match self.labels.iter().find(|(key, value)| odd(key, value)) {
            Some((key, _)) => bad(format!("label {key:?} is empty or too long")),
            None => Ok(()),
        }
    }

    /// The node's id for a new journal.
    #[must_use]
    pub fn node_id(&self) -> String {
        if !self.node.is_empty() {
            return self.node.clone();
        }
        let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        let id: String = host.chars().map(plain).take(40).collect();
        let id = id.trim_matches('-').to_owned();
        if id.is_empty() { "node".to_owned() } else { id }
    }
}

/// Makes the data directory, or checks that this agent may use what is there.
///
/// # Errors
/// It was written by a newer version, is no data directory, or cannot be made.
pub fn prepare(data_dir: &Path) -> Result<(), Fault> {
    let at = data_dir.display();
    let failed = |err: std::io::Error| {
        let full = err.kind() == std::io::ErrorKind::StorageFull;
        let code = if full { Code::DiskFull } else { Code::AgentUnable };
        Fault::new(code, format!("the data directory {at} cannot be used: {err}"))
    };
    for dir in ["journal", "spool", "tmp"] {
        let path = data_dir.join(dir);
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&path).map_err(failed)?;
    }
    let version = data_dir.join("agent-version");
    match std::fs::read_to_string(&version) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(DATA_VERSION) => Ok(()),
            Ok(newer) if newer > DATA_VERSION => Err(Fault::new(
                Code::DataDirNewer,
                format!("{at} has version {newer}, this agent reads version {DATA_VERSION}"),
            )),
            Ok(_) | Err(_) => Err(Fault::new(
                Code::DataDirCorrupt,
                format!("{} does not hold a version", version.display()),
            )),
        },
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            std::fs::write(&version, format!("{DATA_VERSION}\n")).map_err(failed)
        }
        Err(err) => Err(failed(err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_over_and_what_cannot_be_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mut config = Config::new(dir.path(), "http://x");
            config.read(&path).map(|()| config)
        };
        let config = read("slots = 9\nnode = \"n-1\"\n[labels]\nrack = \"b\"").unwrap();
        assert_eq!((config.slots, config.node.as_str()), (9, "n-1"));
        assert_eq!(config.labels["rack"], "b");
        for text in [
            "slots = 0",
            "slot = 1",
            "node = \"N 1\"",
            "slots = 99999",
            "stop_grace_secs = 86401",
            "x",
        ] {
            assert_eq!(read(text).unwrap_err().code, Code::Usage, "{text}");
        }
    }

    #[test]
    fn a_data_directory_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).unwrap();
        prepare(dir.path()).unwrap();
        let version = dir.path().join("agent-version");
        std::fs::write(&version, "2\n").unwrap();
        assert_eq!(prepare(dir.path()).unwrap_err().code, Code::DataDirNewer);
        std::fs::write(&version, "hello").unwrap();
        assert_eq!(prepare(dir.path()).unwrap_err().code, Code::DataDirCorrupt);
    }
}

//! What a process may reach and use: files, network, limits, and how strongly the machine must hold it to that.
//! Values only; the launcher enforces them.

use std::path::PathBuf;

/// How much of the confinement the kernel enforces. Ordered from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing: the process has the agent's own rights.
    None,
    /// Landlock and system call filters, without namespaces.
    Landlock,
    /// Namespaces, Landlock where the kernel has it, system call filters, no capabilities.
    Full,
}

impl Level {
    /// The word for it, in results, journals and `doctor`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Landlock => "landlock",
            Self::Full => "full",
        }
    }
}

/// Whether and how strongly a process must be confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confine {
    /// Not at all, because the policy is of the version that had no sandbox and says so to its owner.
    Never,
    /// As strongly as the machine can, and never below this level. [`Level::None`] only where the owner's file has
    /// `sandbox.allow_none` and the owner agreed to this very task.
    AtLeast(Level),
}

/// The part of the file system that a process sees. All paths are absolute and canonical; a list without entries
/// means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsView {
    /// Working directories: readable, and writable unless `read_only`.
    pub roots: Vec<PathBuf>,
    /// Readable besides.
    pub read: Vec<PathBuf>,
    /// Readable and writable besides, also when `read_only`.
    pub write: Vec<PathBuf>,
    /// Read-only although below a writable directory. What is missing must not come into being.
    pub protect: Vec<PathBuf>,
    /// Hidden; beats everything else.
    pub deny: Vec<PathBuf>,
    /// The roots are read-only for this process.
    pub read_only: bool,
}

/// A name that may be reached, with its port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Lower-case name, or `*.name` for every name below it, or an IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Which network a process has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NetMode {
    /// None at all, not even to itself on another process's loopback.
    None,
    /// Its own loopback, with these ports of the machine's loopback passed through.
    Loopback {
        /// Ports, sorted.
        ports: Vec<u16>,
    },
    /// Only these names, through the agent's proxy.
    Domains {
        /// Sorted.
        allow: Vec<HostPort>,
    },
    /// The machine's own network.
    Full,
}

impl NetMode {
    /// The word for it, in results and journals.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Loopback { .. } => "loopback",
            Self::Domains { .. } => "domains",
            Self::Full => "full",
        }
    }
}

/// What happens where the machine cannot hold a limit exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforce {
    /// It is held as well as can be, and the result says how well.
    BestEffort,
    /// The process is not started.
    Hard,
}

/// What a process, with all its descendants, may use. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Percent of one processor: 150 is one and a half.
    pub cpu_percent: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Milliseconds, counted from the journalled intent.
    pub wall_ms: u64,
    /// Bytes of output kept.
    pub output: u64,
    /// Largest file that may be written, bytes.
    pub file_size: Option<u64>,
    /// What happens where that is not possible.
    pub enforce: Enforce,
}

/// The directory for temporary files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TmpDir {
    /// Made before the start with mode 0700, removed with all its content after the end.
    Own(PathBuf),
    /// Exists already and stays.
    Shared(PathBuf),
}

impl TmpDir {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::Own(path) | Self::Shared(path) => path,
        }
    }
}

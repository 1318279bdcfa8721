//! What is going to be started, complete to the last variable. A plan cannot be changed, and only
//! [`crate::policy::decide`] makes one: the executor accepts nothing else.

mod confine;
mod work;

use crate::policy::Secret;
pub use confine::{Confine, Enforce, FsView, HostPort, Level, Limits, NetMode, TmpDir};
use cortex_model::task::Terminal;
use std::path::PathBuf;
pub use work::{BrowserWork, FileWork, Work};

/// Something that the owner's policy allows, ready to be journalled and started.
#[derive(Debug)]
pub struct ExecPlan {
    operation: Operation,
    timeout_ms: u64,
    output_limit: u64,
}

/// What a plan does.
#[derive(Debug)]
pub enum Operation {
    /// Gives its payload back; no process.
    Echo(Vec<u8>),
    /// Runs a program.
    Process(Box<ProcessPlan>),
}

/// A program with everything it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessPlan {
    /// The file that is executed: absolute, found by the agent, never by the task.
    pub program: PathBuf,
    /// Files whose identity the decision rests on, the program first, then every program of a script. They are looked
    /// at again right before the start; another file in the place of one means that nothing starts.
    pub files: Vec<(PathBuf, FileId)>,
    /// Arguments, the program's name first. For a script: a shell, `-c` and the script as the policy wrote it down
    /// anew, never the text that was received.
    pub argv: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: PathBuf,
    /// The whole environment; nothing else enters it.
    pub env: Vec<(String, Vec<u8>)>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// A terminal in place of its three streams.
    pub terminal: Option<Terminal>,
    /// Which files it sees.
    pub view: FsView,
    /// Which network it has.
    pub net: NetMode,
    /// What it may use.
    pub limits: Limits,
    /// How strongly it must be held to that.
    pub confine: Confine,
    /// `TMPDIR`.
    pub tmp: TmpDir,
    /// Values among the variables that must not be in any output.
    pub secrets: Vec<Secret>,
    /// What the agent's own code does inside in place of running the program.
    pub work: Option<Box<Work>>,
}

/// Which file a path meant when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Number of the device.
    pub dev: u64,
    /// Number of the inode.
    pub ino: u64,
}

impl ExecPlan {
    pub(crate) fn new(operation: Operation, timeout_ms: u64, output_limit: u64) -> Self {
        Self { operation, timeout_ms, output_limit }
    }

    /// What it does.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Longest run in milliseconds, counted from the journalled intent.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Most bytes of output kept.
    #[must_use]
    pub fn output_limit(&self) -> u64 {
        self.output_limit
    }
}

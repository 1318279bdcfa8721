//! What the agent found out about a request on this machine: answers to the questions of [`super::Needs`]. A question
//! without an answer is never answered by guessing; it denies.

use super::rules::SecretRef;
use crate::plan::{FileId, Level};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its directory resolved, its name kept: programs such as busybox do what the name says.
    pub path: PathBuf,
    /// The same with all links followed.
    pub target: PathBuf,
    /// Which file that is.
    pub id: FileId,
    /// It runs with the rights of its owner or group, whoever starts it.
    pub setuid: bool,
}

impl Program {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFact {
    /// All links followed as far as the path exists; what does not exist is appended as it was written.
    pub canonical: PathBuf,
    /// What is there.
    pub kind: PathKind,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Nothing.
    Missing,
    /// A file with content.
    File,
    /// A directory.
    Dir,
    /// A device, pipe or socket.
    Other,
}

/// What this machine can enforce at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The strongest level there is.
    pub level: Level,
    /// Abilities by name with their version, 0 where they have none; see `sandbox.require`.
    pub features: BTreeMap<String, u32>,
    /// Limits that are held exactly, by their key in `limits.task`.
    pub exact_limits: Vec<&'static str>,
    /// Processors.
    pub cpus: u32,
}

impl Default for Machine {
    fn default() -> Self {
        Self { level: Level::None, features: BTreeMap::new(), exact_limits: Vec::new(), cpus: 1 }
    }
}

/// A secret value. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Programs by the name they were asked for.
    pub programs: BTreeMap<String, Result<Program, String>>,
    /// The working directory, all links followed. `None`: the task names none and the policy has no root.
    pub cwd: Option<Result<PathBuf, String>>,
    /// Paths as they were asked for: absolute, not normalised.
    pub paths: BTreeMap<PathBuf, PathFact>,
    /// What glob patterns match, by directory and pattern, sorted. `Err`: too many, or not readable.
    pub globs: BTreeMap<(PathBuf, String), Result<Vec<String>, String>>,
    /// What exists of the hidden places that are found by name, below the roots. `Err`: the roots are too large to look.
    pub hidden: Result<Vec<PathBuf>, String>,
    /// The same of the protected places, and those at the top of each root that do not exist.
    pub protected: Result<Vec<PathBuf>, String>,
    /// Secret values.
    pub secrets: BTreeMap<SecretRef, Result<Secret, String>>,
    /// Variables of the agent's own environment that the policy passes.
    pub env: Vec<(String, Vec<u8>)>,
    /// `HOME` of the process.
    pub home: String,
    /// `TMPDIR` of the process.
    pub tmpdir: String,
    /// `USER` of the process.
    pub user: String,
    /// The agent's own program, which does what is to be done with files.
    pub program: PathBuf,
    /// The journal's incarnation, which marks the agent's processes.
    pub agent: String,
    /// Numbers of the locks that the task holds, in its own order.
    pub fences: Vec<u64>,
    /// What can be enforced.
    pub machine: Machine,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            programs: BTreeMap::new(),
            cwd: None,
            paths: BTreeMap::new(),
            globs: BTreeMap::new(),
            hidden: Ok(Vec::new()),
            protected: Ok(Vec::new()),
            secrets: BTreeMap::new(),
            env: Vec::new(),
            home: String::new(),
            tmpdir: String::new(),
            user: String::new(),
            program: PathBuf::new(),
            agent: String::new(),
            fences: Vec::new(),
            machine: Machine::default(),
        }
    }
}

impl Facts {
    /// What a path means, if it was looked at.
    #[must_use]
    pub fn path(&self, path: &Path) -> Option<&PathFact> {
        self.paths.get(path)
    }
}

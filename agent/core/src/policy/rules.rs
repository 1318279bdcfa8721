//! The policy as it is used: places resolved, units read, rules checked. Made by [`super::compile`] only.

use super::decision::{Class, Effect};
use super::file::{ArgsWord, Channel, DefaultEffect, OpaqueShell, Remember, Strict};
use super::narrow::Narrowing;
use super::paths::Pattern;
use crate::plan::{Enforce, NetMode};
use cortex_model::OriginPattern;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A checked policy of version 1.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) name: String,
    pub(super) default: DefaultEffect,
    pub(super) strict: Strict,
    pub(super) opaque: OpaqueShell,
    /// Whether programs may have a terminal whose rules do not say.
    pub(super) terminal: Effect,
    /// Directories of programs, resolved, in order.
    pub(super) search: Vec<PathBuf>,
    pub(super) env: EnvRules,
    pub(super) limits: TaskLimits,
    pub(super) agent_limits: AgentLimits,
    pub(super) consent: ConsentRules,
    pub(super) sandbox: SandboxRules,
    pub(super) places: Places,
    pub(super) files: FileRules,
    /// `None`: there is no browser.
    pub(super) browser: Option<BrowserRules>,
    pub(super) rules: Vec<Rule>,
    /// Rules by the last part of the program's name they are about.
    pub(super) by_program: BTreeMap<String, Vec<usize>>,
    /// Rules about every program.
    pub(super) for_all: Vec<usize>,
    /// What a server takes away.
    pub(super) narrowing: Narrowing,
}

/// What may be done with files without a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileRules {
    pub(super) read: Effect,
    pub(super) write: Effect,
}

/// What a browser may do.
#[derive(Clone, Debug)]
pub(super) struct BrowserRules {
    pub(super) effect: Effect,
    pub(super) download: Effect,
    /// Its network: [`NetMode::Domains`] or [`NetMode::Loopback`].
    pub(super) net: NetMode,
    /// Where documents may come from.
    pub(super) origins: Vec<OriginPattern>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct EnvRules {
    pub(super) pass: Vec<String>,
    pub(super) set: BTreeMap<String, String>,
    /// Name that a task may ask for, and where its value is.
    pub(super) secrets: BTreeMap<String, SecretRef>,
}

/// Where a secret value is kept on the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretRef {
    /// The content of a file, without the line end.
    File(PathBuf),
    /// An entry of the desktop's keyring.
    Keyring(String),
}

/// Processor time as the owner wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// Percent of one processor.
    Percent(u32),
    /// Percent of all processors of the machine.
    OfMachine(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TaskLimits {
    pub(super) cpu: Option<Cpu>,
    pub(super) memory: Option<u64>,
    pub(super) pids: Option<u32>,
    pub(super) wall_ms: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) file_size: Option<u64>,
    pub(super) enforce: Enforce,
}

/// What all tasks together may use. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentLimits {
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Tasks at the same time.
    pub tasks: Option<u32>,
}

/// How the owner is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRules {
    /// Where.
    pub channels: BTreeSet<Channel>,
    /// Longest wait, milliseconds; `None` is the task's own deadline.
    pub timeout_ms: Option<u64>,
    /// The longest scope that an answer may have.
    pub remember: Remember,
}

/// What the machine must be able to enforce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxRules {
    /// Abilities without which the agent takes no work: `landlock>=4`, `seccomp`, `no_new_privs`, `full`, ...
    pub require: Vec<(String, u32)>,
    /// Tasks may run without any sandbox, each with the owner's consent.
    pub allow_none: bool,
    /// On Windows: quotas alone are enough.
    pub allow_job_only: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) roots: Vec<PathBuf>,
    pub(super) read: Vec<PathBuf>,
    pub(super) write: Vec<PathBuf>,
    /// `@task_tmp` is writable.
    pub(super) task_tmp: bool,
    pub(super) protect: Vec<Pattern>,
    pub(super) deny: Vec<Hidden>,
    pub(super) shown: Shown,
}

/// What follows from the places alone for what a task sees, worked out once for all decisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Roots, `read` and `write` places that are not hidden for good.
    pub(super) roots: Vec<PathBuf>,
    pub(super) read: Vec<PathBuf>,
    pub(super) write: Vec<PathBuf>,
    /// Trees that are hidden for good.
    pub(super) closed: Vec<PathBuf>,
    /// Hidden trees, and whether each lies in an opened place.
    pub(super) hidden: Vec<(PathBuf, bool)>,
    /// Protected trees.
    pub(super) protected: Vec<PathBuf>,
}

impl Places {
    /// Works out what is shown. Called once, when everything else is there.
    pub(super) fn settle(&mut self) {
        for hidden in &mut self.deny {
            if let Pattern::Tree(tree) = &mut hidden.pattern {
                *tree = tree.components().collect();
            }
        }
        let opened = || self.roots.iter().chain(&self.read).chain(&self.write);
        let closed: Vec<PathBuf> = self
            .deny
            .iter()
            .filter(|hidden| !hidden.reopened)
            .filter_map(|hidden| hidden.pattern.tree())
            .collect();
        // What is hidden for good hides what lies below it too, whatever else names that.
        let open = |list: &[PathBuf]| -> Vec<PathBuf> {
            let seen = |place: &&PathBuf| !closed.iter().any(|tree| place.starts_with(tree));
            list.iter().filter(seen).cloned().collect()
        };
        let trees = self.deny.iter().filter_map(|hidden| hidden.pattern.tree());
        self.shown = Shown {
            roots: open(&self.roots),
            read: open(&self.read),
            write: open(&self.write),
            hidden: trees
                .map(|tree| (tree.clone(), opened().any(|place| tree.starts_with(place))))
                .collect(),
            protected: self.protect.iter().filter_map(Pattern::tree).collect(),
            closed,
        };
    }
}

/// A hidden place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    pub(super) pattern: Pattern,
    /// A root, `read` or `write` place below it stays visible: `/tmp`, `/run`, the agent's own directory.
    pub(super) reopened: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) programs: Vec<ProgramName>,
    /// `None`: any, which only rules that do not allow can have.
    pub(super) globals: Option<Vec<Flag>>,
    /// Subcommands, each as its words. Empty: the program has none.
    pub(super) subs: Vec<Vec<String>>,
    pub(super) flags: Option<Vec<Flag>>,
    pub(super) args: Option<ArgsWord>,
    pub(super) harden_git: bool,
    pub(super) read_only: bool,
    pub(super) net: NetMode,
    /// `None`: as the policy says for all.
    pub(super) terminal: Option<Effect>,
    pub(super) secrets: BTreeMap<String, SecretRef>,
    pub(super) classes: BTreeSet<Class>,
    pub(super) effect: Effect,
    pub(super) reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProgramName {
    /// A name to be found in `programs.search`.
    Named(String),
    /// A file inside a root.
    Exact(PathBuf),
    /// Every program; not for rules that allow.
    Any,
}

/// A flag and what may follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) value: FlagValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlagValue {
    None,
    Any,
    PathRead,
    PathWrite,
}

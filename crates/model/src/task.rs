//! What a task is and how it can end. A [`TaskSpec`] that exists was checked; wire forms are in `wire`.

use crate::browser::BrowserAction;
use crate::capability::Requirement;
use crate::file::FileAction;
use crate::ids::NodeId;
use crate::limits;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Who asked, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Human, AI or program.
    pub kind: ActorKind,
    /// Stable identifier within the workspace.
    pub id: String,
    /// The model that acted; only for an AI.
    pub model: String,
    /// On whose behalf; empty means on its own.
    pub on_behalf_of: String,
}

/// Kind of an [`Actor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// A person.
    Human,
    /// An AI agent.
    Ai,
    /// A script or service.
    Program,
}

/// What to do on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Return these bytes as standard output.
    Echo {
        /// Up to 64 KiB.
        payload: Vec<u8>,
    },
    /// Run a program.
    Shell(ShellAction),
    /// Read or change files.
    File(Box<FileAction>),
    /// Open a page in a browser.
    Browser(Box<BrowserAction>),
}

/// One program, or one script, with its surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShellAction {
    /// Program and arguments, raw bytes without NUL, at least one unless there is a script.
    pub argv: Vec<Vec<u8>>,
    /// Lines for a shell, in place of `argv`; empty when there is none.
    pub script: String,
    /// Absolute working directory, or empty for the agent's default.
    pub cwd: String,
    /// Variables, in the order given, names unique.
    pub env: Vec<(String, Vec<u8>)>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Variables whose values the node reads from its own secrets: name, and what the node's policy calls the secret.
    pub secret_env: Vec<(String, String)>,
    /// A terminal in place of the three streams.
    pub terminal: Option<Terminal>,
}

/// A terminal of a program's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Its kind; empty is [`Terminal::KIND`].
    pub term: String,
    /// Lines at the beginning; 0 is 24.
    pub rows: u16,
    /// Characters in a line; 0 is 80.
    pub columns: u16,
}

impl Terminal {
    /// The kind of a terminal that does not say.
    pub const KIND: &str = "xterm-256color";

    /// The variable `TERM`.
    #[must_use]
    pub fn kind(&self) -> &str {
        if self.term.is_empty() { Self::KIND } else { &self.term }
    }

    /// Lines and characters at the beginning.
    #[must_use]
    pub fn size(&self) -> (u16, u16) {
        let or = |given: u16, own: u16| if given == 0 { own } else { given };
        (or(self.rows, 24), or(self.columns, 80))
    }
}

/// What may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryOn {
    /// Exit with another code than 0, or a signal.
    Exit,
    /// The node died or lost the attempt.
    Lost,
    /// The run timeout struck.
    Timeout,
}

/// A path that is to be held for the length of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathLock {
    /// Raw bytes without NUL. Absolute, or from the first root of the node's policy.
    pub path: Vec<u8>,
    /// Others may hold it as well, if they share too.
    pub shared: bool,
}

/// A lock that an attempt held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// Links followed.
    pub path: Vec<u8>,
    /// Others could hold it as well.
    pub shared: bool,
    /// Grows with every attempt that held the path alone; 0 where it was shared.
    pub fence: u64,
}

/// When and how often an attempt is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all; 0 leaves it to [`TaskSpec::max_attempts`].
    pub max_attempts: u32,
    /// Endings that are retried.
    pub on: BTreeSet<RetryOn>,
    /// First pause, milliseconds; 0 is the default.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds; 0 is the default.
    pub max_backoff_ms: u64,
}

/// A checked task specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// What to do.
    pub action: Action,
    /// Needs, sorted, without doubles.
    pub require: BTreeSet<Requirement>,
    /// Pinned node.
    pub node: Option<NodeId>,
    /// -100 to 100, higher first.
    pub priority: i32,
    /// Repeating does no harm.
    pub safe_to_repeat: bool,
    /// Retries.
    pub retry: RetryPolicy,
    /// Longest run, milliseconds; 0 is the default.
    pub run_timeout_ms: u64,
    /// Time from submission to the end of patience, milliseconds; 0 is never.
    pub deadline_ms: u64,
    /// Silence before a safe-to-repeat attempt is given up, milliseconds; 0 is the default.
    pub node_lost_grace_ms: u64,
    /// Output kept per attempt, bytes; 0 is the default.
    pub output_limit_bytes: u64,
    /// Words to find it by.
    pub labels: BTreeMap<String, String>,
    /// Paths to hold.
    pub locks: Vec<PathLock>,
    /// Longest wait for them, milliseconds; 0 is as long as the task lives.
    pub lock_timeout_ms: u64,
}

impl TaskSpec {
    /// Every requirement, including the ability its action itself needs, as canonical text, sorted.
    #[must_use]
    pub fn requirements(&self) -> Vec<String> {
        let own = match self.action {
            Action::Echo { .. } => "echo",
            Action::Shell(_) => "shell",
            Action::File(_) => "files",
            Action::Browser(_) => "browser",
        };
        let mut all: BTreeSet<String> = self.require.iter().map(ToString::to_string).collect();
        all.insert(own.to_owned());
        if self.terminal().is_some() {
            all.insert("terminal".to_owned());
        }
        all.into_iter().collect()
    }

    /// The terminal that the program is to have.
    #[must_use]
    pub fn terminal(&self) -> Option<&Terminal> {
        match &self.action {
            Action::Shell(shell) => shell.terminal.as_ref(),
            Action::Echo { .. } | Action::File(_) | Action::Browser(_) => None,
        }
    }

    /// Attempts in all, the first included.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        match (self.retry.max_attempts, self.safe_to_repeat || !self.retry.on.is_empty()) {
            (0, true) => limits::ATTEMPTS_DEFAULT,
            (0, false) => 1,
            (n, _) => n,
        }
    }

    /// Whether an attempt that ended this way may be followed by another, if any are left.
    #[must_use]
    pub fn retries(&self, on: RetryOn) -> bool {
        match on {
            RetryOn::Lost => self.safe_to_repeat,
            RetryOn::Exit | RetryOn::Timeout => self.retry.on.contains(&on),
        }
    }

    /// The pause before attempt `next` (2, 3...), milliseconds: doubling, bounded.
    #[must_use]
    pub fn backoff_ms(&self, next: u32) -> u64 {
        let first = or(self.retry.backoff_ms, limits::RETRY_BACKOFF_MS);
        let most = or(self.retry.max_backoff_ms, limits::RETRY_BACKOFF_MAX_MS);
        first.saturating_mul(1u64 << next.saturating_sub(2).min(40)).min(most)
    }

    /// Run timeout with the default applied, milliseconds.
    #[must_use]
    pub fn run_timeout(&self) -> u64 {
        or(self.run_timeout_ms, limits::RUN_TIMEOUT_DEFAULT_MS)
    }

    /// Node-lost grace with the default applied, milliseconds.
    #[must_use]
    pub fn node_lost_grace(&self) -> u64 {
        or(self.node_lost_grace_ms, limits::NODE_LOST_GRACE_DEFAULT_MS)
    }

    /// Output limit with the default applied, bytes.
    #[must_use]
    pub fn output_limit(&self) -> u64 {
        or(self.output_limit_bytes, limits::OUTPUT_LIMIT_DEFAULT)
    }
}

fn or(value: u64, default: u64) -> u64 {
    if value == 0 { default } else { value }
}

/// How an attempt, or a task that never started, ended. One list for the log and the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program ended by itself.
    Exited {
        /// Exit code.
        code: i32,
    },
    /// A signal that Cortex did not send ended it.
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// It could not be started; nothing ran.
    SpawnFailed(WireError),
    /// The run timeout struck; the tree is gone.
    Timeout {
        /// The timeout, milliseconds.
        after_ms: u64,
    },
    /// Cancelled; the tree is gone.
    Cancelled {
        /// No attempt was running.
        never_started: bool,
        /// Processes that could not be ended.
        survivors: u32,
    },
    /// The owner's policy does not allow it; nothing ran.
    Denied {
        /// Why.
        error: WireError,
        /// The rule that decided.
        rule: String,
    },
    /// Agent or machine died meanwhile; effects uncertain.
    Interrupted {
        /// What was found afterwards.
        found: String,
    },
    /// The task's deadline passed.
    Expired {
        /// No attempt was running.
        never_started: bool,
    },
}

impl Ending {
    /// Whether this is what the author hoped for.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Ending::Exited { code: 0 })
    }
}

/// An error as somebody else reported it: the code may be newer than this program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireError {
    /// `CX-nnnn`.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// May succeed later.
    pub retryable: bool,
}

/// Bytes and digests of what an attempt wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputSummary {
    /// Bytes of standard output kept.
    pub stdout_bytes: u64,
    /// Bytes of standard error kept.
    pub stderr_bytes: u64,
    /// SHA-256 of standard output as it left the node; empty when nothing ran.
    pub stdout_sha256: Vec<u8>,
    /// SHA-256 of standard error.
    pub stderr_sha256: Vec<u8>,
    /// Bytes dropped at the output limit.
    pub dropped_bytes: u64,
    /// Bytes at the end of the sequence that were lost on the node before they were delivered.
    pub lost_bytes: u64,
    /// Bytes of standard output kept before the place where dropped ones are missing.
    pub gap_stdout: u64,
    /// The same for standard error.
    pub gap_stderr: u64,
}

impl OutputSummary {
    /// Length of the attempt's whole output sequence.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stdout_bytes.saturating_add(self.stderr_bytes)
    }
}

/// Which stream a piece of output belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of an attempt's output; `offset` counts over both streams together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// The stream.
    pub stream: Stream,
    /// Position of the first byte in the attempt's output.
    pub offset: u64,
    /// 1 byte to 64 KiB.
    pub data: Bytes,
}

/// An attempt's result as the node told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What it wrote.
    pub output: OutputSummary,
    /// The whole output, if small and not sent before.
    pub inline_output: Vec<OutputChunk>,
    /// Start by the node's clock, Unix milliseconds; 0: never.
    pub started_at_ms: u64,
    /// End by the node's clock, Unix milliseconds.
    pub ended_at_ms: u64,
    /// Entry in the node's journal.
    pub journal_seq: u64,
    /// Run time, microseconds.
    pub duration_us: u64,
    /// How the process was confined and what it used; `None`: no process ran.
    pub confinement: Option<Confinement>,
    /// The locks of the task that were held.
    pub locks: Vec<HeldLock>,
    /// Repositories that appeared while it ran; `None`: nobody looked.
    pub repositories: Option<NewRepositories>,
}

/// Git repositories that were not there when an attempt began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRepositories {
    /// Their directories, raw bytes.
    pub paths: Vec<Vec<u8>>,
    /// Why there may be more, for people; empty: all were found.
    pub gaps: Vec<String>,
}

/// What held a process, with all its descendants, and what they used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// `full`, `landlock` or `none`.
    pub level: String,
    /// What is not enforced at this level on this node, for people.
    pub not_enforced: Vec<String>,
    /// `none`, `loopback`, `domains` or `full`.
    pub network: String,
    /// The limits that were set.
    pub limits: Vec<LimitUse>,
    /// Name of the limit over which it was ended; empty: none.
    pub killed_by: String,
}

/// A limit and what was used of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitUse {
    /// `cpu`, `memory`, `pids`, `wall`, `output` or `file_size`.
    pub name: String,
    /// The limit; 0: there was none.
    pub limit: u64,
    /// What was used, in the unit of the limit; 0 where nobody measures it.
    pub used: u64,
    /// `hard`, `approx` or `none`.
    pub strength: String,
}

impl Outcome {
    /// An outcome of something that never ran on a node.
    #[must_use]
    pub fn without_run(ending: Ending) -> Outcome {
        Outcome {
            ending,
            output: OutputSummary::default(),
            inline_output: Vec::new(),
            started_at_ms: 0,
            ended_at_ms: 0,
            journal_seq: 0,
            duration_us: 0,
            confinement: None,
            locks: Vec::new(),
            repositories: None,
        }
    }
}

//! What each kind of entry says: typed data with its `to_value`. Sensitive parts are handed in as
//! [`Commitment`]s; nothing here ever holds a plain command line, environment or output.

use crate::canonical::Value;
use crate::commitment::Commitment;
use crate::leaf::Leaf;

/// `genesis`: a journal begins.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The node's id.
    pub node: String,
    /// The workspace that owns the node.
    pub tenant: String,
    /// 64 hex digits of randomness, so that no two journals have the same id.
    pub nonce: String,
    /// Version of the agent.
    pub agent: String,
}

/// `session.open` and `session.close`: an agent process came and went.
#[derive(Clone, Debug)]
pub struct Session {
    /// Version of the agent.
    pub agent: String,
    /// UUID of the process's session.
    pub session: String,
    /// SHA-256 of the owner's policy, 64 hex digits.
    pub policy: String,
    /// For `session.close`: nothing was running. For `session.open`: the last one closed in order.
    pub clean: bool,
}

/// Who asked, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// `human`, `ai` or `program`.
    pub kind: String,
    /// Identifier within the workspace.
    pub id: String,
    /// The model, for `ai`; otherwise empty.
    pub model: String,
    /// On whose behalf; empty means on its own.
    pub on_behalf_of: String,
}

/// `intent`: this is about to be started.
#[derive(Clone, Debug)]
pub struct Intent {
    /// `<task>/<attempt>`.
    pub cmd: String,
    /// The workspace.
    pub workspace: String,
    /// Revision of `Started` in the task's log.
    pub fence: u64,
    /// First 32 hex digits of the journal's id.
    pub incarnation: String,
    /// Who asked.
    pub actor: Actor,
    /// The policy rule that allowed it.
    pub rule: String,
    /// SHA-256 of the policy, 64 hex digits.
    pub policy: String,
    /// What kind of thing: `echo` or `process.exec`.
    pub op: &'static str,
    /// The program and how it will be run; `None` where no process is started.
    pub exec: Option<Exec>,
}

/// The process of an intent.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Absolute path of the program.
    pub exe: String,
    /// Arguments, the program's name included.
    pub argc: u64,
    /// The arguments.
    pub argv: Commitment,
    /// The working directory.
    pub cwd: Commitment,
    /// The whole environment.
    pub env: Commitment,
    /// Length and digest of what is fed to standard input, if anything is.
    pub stdin: Option<Commitment>,
    /// User id that the program runs under.
    pub uid: u32,
    /// What confines it: `none` until there is a sandbox.
    pub sandbox: &'static str,
    /// Run timeout in milliseconds.
    pub timeout_ms: u64,
}

/// How something ended, in the words shared with the task log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The program ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended it that we did not send.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It could not be started.
    SpawnFailed {
        /// Stable error code.
        code: String,
    },
    /// The run timeout struck.
    Timeout,
    /// Cancelled on request.
    Cancelled {
        /// Processes of the tree that could not be ended.
        survivors: u32,
    },
    /// The owner does not allow it.
    Denied {
        /// Stable error code.
        code: String,
    },
    /// The agent died meanwhile.
    Interrupted,
}

/// `outcome`: how an intent ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `<task>/<attempt>`.
    pub cmd: String,
    /// Number of the intent.
    pub intent: u64,
    /// Leaf of the intent.
    pub intent_hash: Leaf,
    /// How it ended.
    pub status: Status,
    /// From start to end, microseconds.
    pub dur_us: u64,
    /// Length and digest of standard output.
    pub stdout: Option<Commitment>,
    /// Length and digest of standard error.
    pub stderr: Option<Commitment>,
    /// Some output was dropped because of the limit.
    pub truncated: bool,
}

/// `refusal`: this was not started.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// `<task>/<attempt>`.
    pub cmd: String,
    /// The workspace.
    pub workspace: String,
    /// Revision of `Started` in the task's log.
    pub fence: u64,
    /// Who asked.
    pub actor: Actor,
    /// Why, as a stable error code.
    pub code: String,
    /// The rule that decided; empty when no rule matched.
    pub rule: String,
    /// SHA-256 of the policy, 64 hex digits.
    pub policy: String,
    /// What was asked for.
    pub argv: Option<Commitment>,
}

/// `recovery`: an intent without outcome was found at start.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Number of the intent.
    pub intent: u64,
    /// Leaf of the intent.
    pub intent_hash: Leaf,
    /// What was found, for people: `crash` (same boot) or `reboot`.
    pub found: String,
    /// Processes of the attempt that were still alive and had to be ended.
    pub orphans: u32,
}

impl Genesis {
    /// The entry's data. Version 0 carries no keys: `pub` and `pred` are null.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::map([
            ("node", Value::from(self.node.as_str())),
            ("tenant", Value::from(self.tenant.as_str())),
            ("enroll", Value::from("")),
            ("pub", Value::Null),
            ("nonce", Value::from(self.nonce.as_str())),
            ("alg", Value::from("sha256-rfc6962")),
            ("agent", Value::from(self.agent.as_str())),
            ("pred", Value::Null),
        ])
    }
}

impl Session {
    /// The entry's data.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::map([
            ("agent", Value::from(self.agent.as_str())),
            ("session", Value::from(self.session.as_str())),
            ("policy", Value::from(self.policy.as_str())),
            ("clean", Value::Bool(self.clean)),
        ])
    }
}

impl Actor {
    fn to_value(&self) -> Value {
        Value::map([
            ("type", Value::from(self.kind.as_str())),
            ("id", Value::from(self.id.as_str())),
            ("model", optional(&self.model)),
            ("for", optional(&self.on_behalf_of)),
        ])
    }
}

impl Intent {
    /// The entry's data.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::map([
            ("cmd", Value::from(self.cmd.as_str())),
            ("ws", Value::from(self.workspace.as_str())),
            ("fence", Value::from(self.fence.to_string())),
            ("incarnation", Value::from(self.incarnation.as_str())),
            ("actor", self.actor.to_value()),
            ("auth", auth("allow", &self.policy, &self.rule)),
            ("op", Value::from(self.op)),
            ("exec", self.exec.as_ref().map_or(Value::Null, Exec::to_value)),
        ])
    }
}

impl Exec {
    fn to_value(&self) -> Value {
        Value::map([
            ("exe", Value::from(self.exe.as_str())),
            ("argc", Value::number(self.argc)),
            ("argv", self.argv.to_value()),
            ("cwd", self.cwd.to_value()),
            ("env", self.env.to_value()),
            ("stdin", commitment(self.stdin.as_ref())),
            ("uid", Value::from(self.uid)),
            ("sandbox", Value::from(self.sandbox)),
            ("timeout_ms", Value::number(self.timeout_ms)),
        ])
    }
}

impl Outcome {
    /// The entry's data.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let none = Value::Null;
        let (status, exit_code, signal, code, survivors) = match &self.status {
            Status::Exited { code } => ("exited", int(*code), none.clone(), none.clone(), none),
            Status::Signaled { signal } => {
                ("signaled", none.clone(), int(*signal), none.clone(), none)
            }
            Status::SpawnFailed { code } => {
                ("spawn_failed", none.clone(), none.clone(), Value::from(code.as_str()), none)
            }
            Status::Timeout => ("timeout", none.clone(), none.clone(), none.clone(), none),
            Status::Cancelled { survivors } => {
                ("cancelled", none.clone(), none.clone(), none, Value::from(*survivors))
            }
            Status::Denied { code } => {
                ("denied", none.clone(), none.clone(), Value::from(code.as_str()), none)
            }
            Status::Interrupted => ("interrupted", none.clone(), none.clone(), none.clone(), none),
        };
        Value::map([
            ("cmd", Value::from(self.cmd.as_str())),
            ("intent", Value::number(self.intent)),
            ("intent_hash", Value::from(self.intent_hash.to_string())),
            ("status", Value::from(status)),
            ("exit_code", exit_code),
            ("signal", signal),
            ("code", code),
            ("survivors", survivors),
            ("dur_us", Value::number(self.dur_us)),
            ("stdout", commitment(self.stdout.as_ref())),
            ("stderr", commitment(self.stderr.as_ref())),
            ("truncated", Value::Bool(self.truncated)),
        ])
    }
}

impl Refusal {
    /// The entry's data.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::map([
            ("cmd", Value::from(self.cmd.as_str())),
            ("ws", Value::from(self.workspace.as_str())),
            ("fence", Value::from(self.fence.to_string())),
            ("actor", self.actor.to_value()),
            ("code", Value::from(self.code.as_str())),
            ("auth", auth("deny", &self.policy, &self.rule)),
            ("argv", commitment(self.argv.as_ref())),
        ])
    }
}

impl Recovery {
    /// The entry's data.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::map([
            ("intent", Value::number(self.intent)),
            ("intent_hash", Value::from(self.intent_hash.to_string())),
            ("found", Value::from(self.found.as_str())),
            ("orphans", Value::from(self.orphans)),
        ])
    }
}

/// Dispatches are not signed yet and there is no consent: `dispatch`, `floor` and `approval` are null.
fn auth(decision: &str, policy: &str, rule: &str) -> Value {
    Value::map([
        ("decision", Value::from(decision)),
        ("policy", Value::from(policy)),
        ("rule", optional(rule)),
        ("approval", Value::Null),
        ("dispatch", Value::Null),
        ("floor", Value::Null),
    ])
}

fn optional(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

fn commitment(commitment: Option<&Commitment>) -> Value {
    commitment.map_or(Value::Null, Commitment::to_value)
}

fn int(number: i32) -> Value {
    Value::Int(i64::from(number))
}

//! The policy file as it is written: TOML, version 1. It is read completely or not at all; what it means is decided
//! in [`super::compile`].

use serde::Deserialize;
use std::collections::BTreeMap;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Always 1.
    #[serde(rename = "version")]
    pub(super) _version: u32,
    /// For people.
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) default: DefaultEffect,
    #[serde(default)]
    pub(super) strict: Strict,
    #[serde(default)]
    pub(super) opaque_shell: OpaqueShell,
    /// Whether a program may have a terminal, where its rule does not say.
    pub(super) terminal: Option<EffectWord>,
    pub(super) programs: Programs,
    #[serde(default)]
    pub(super) env: Env,
    #[serde(default)]
    pub(super) net: Net,
    #[serde(default)]
    pub(super) limits: LimitTables,
    #[serde(default)]
    pub(super) consent: Consent,
    #[serde(default)]
    pub(super) sandbox: Sandbox,
    pub(super) paths: Paths,
    #[serde(default)]
    pub(super) files: Files,
    pub(super) browser: Option<Browser>,
    #[serde(default)]
    pub(super) rule: Vec<Rule>,
}

/// What may be done with files by operations of their own, without a program. Where is said by `paths`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Files {
    /// Reading, listing, searching.
    pub(super) read: EffectWord,
    /// Writing, editing, moving, removing.
    pub(super) write: EffectWord,
}

impl Default for Files {
    fn default() -> Self {
        Self { read: EffectWord::Deny, write: EffectWord::Deny }
    }
}

/// What a browser may do. Without this table there is none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Browser {
    /// Whether pages may be opened.
    pub(super) effect: EffectWord,
    /// The network profile that it runs in: one of mode domains, or loopback.
    pub(super) net: String,
    /// Where documents may come from: `https://NAME`, `https://*.NAME`, `http://NAME:PORT`.
    pub(super) origins: Vec<String>,
    /// Whether a file may be fetched.
    #[serde(default = "denied")]
    pub(super) download: EffectWord,
}

fn denied() -> EffectWord {
    EffectWord::Deny
}

/// What happens to what no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DefaultEffect {
    #[default]
    Deny,
    Ask,
}

/// Which classes need the owner's word even when a rule allows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Strict {
    Off,
    #[default]
    Destructive,
    All,
}

/// What happens to a script outside the checked subset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OpaqueShell {
    #[default]
    Deny,
    Ask,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Programs {
    pub(super) search: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Env {
    pub(super) pass: Vec<String>,
    pub(super) set: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Net {
    pub(super) profiles: BTreeMap<String, NetProfile>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetProfile {
    pub(super) mode: Mode,
    pub(super) allow: Option<Vec<String>>,
    pub(super) ports: Option<Vec<u16>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    None,
    Loopback,
    Domains,
    Full,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitTables {
    pub(super) enforce: EnforceWord,
    pub(super) task: TaskLimits,
    pub(super) agent: AgentLimits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EnforceWord {
    #[default]
    BestEffort,
    Hard,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TaskLimits {
    pub(super) cpu: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) pids: Option<u32>,
    pub(super) wall: Option<String>,
    pub(super) output: Option<String>,
    pub(super) file_size: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AgentLimits {
    pub(super) cpu: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) tasks: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Consent {
    pub(super) channels: Vec<Channel>,
    pub(super) timeout: Option<String>,
    pub(super) remember: Remember,
}

/// Where the owner can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// The terminal that the agent was started on.
    Tty,
    /// The agent's local socket.
    Socket,
    /// A notification that only announces; it cannot answer.
    Desktop,
}

/// For how long an answer may be remembered at most. Ordered from short to long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Remember {
    /// For this question only.
    #[default]
    Once,
    /// For the other attempts of the same task.
    Task,
    /// Until the agent ends.
    Session,
    /// Until a time that the owner names.
    Until,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sandbox {
    pub(super) require: Vec<String>,
    pub(super) allow_none: bool,
    pub(super) allow_job_only: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paths {
    #[serde(default)]
    pub(super) roots: Vec<String>,
    #[serde(default)]
    pub(super) read: Vec<String>,
    #[serde(default)]
    pub(super) write: Vec<String>,
    #[serde(default = "protect_default")]
    pub(super) protect: Vec<String>,
    #[serde(default = "deny_default")]
    pub(super) deny: Vec<String>,
}

fn protect_default() -> Vec<String> {
    vec!["@vcs_meta".to_owned(), "@autorun".to_owned()]
}

fn deny_default() -> Vec<String> {
    vec!["@secrets".to_owned(), "@sockets".to_owned()]
}

/// One rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) program: OneOrMany,
    pub(super) globals: Option<Vec<String>>,
    pub(super) sub: Option<Vec<String>>,
    pub(super) flags: Option<Vec<String>>,
    pub(super) args: Option<ArgsWord>,
    pub(super) harden: Option<Harden>,
    pub(super) fs: Option<FsWord>,
    pub(super) net: Option<String>,
    /// Whether the program may have a terminal.
    pub(super) terminal: Option<EffectWord>,
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, String>,
    /// Classes that the owner adds.
    #[serde(default)]
    pub(super) class: Vec<ClassWord>,
    pub(super) effect: EffectWord,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) examples: Examples,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum ArgsWord {
    #[serde(rename = "none")]
    None,
    #[serde(rename = "any")]
    Any,
    #[serde(rename = "path:read")]
    PathRead,
    #[serde(rename = "path:write")]
    PathWrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Harden {
    Git,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum FsWord {
    #[serde(rename = "read-only")]
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ClassWord {
    Destructive,
    Privilege,
    Outward,
    Opaque,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum EffectWord {
    Allow,
    Ask,
    Deny,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Examples {
    #[serde(rename = "match")]
    pub(super) matching: Vec<String>,
    pub(super) no_match: Vec<String>,
}

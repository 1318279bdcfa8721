//! What a server takes away from the owner's policy. It can only take away: every wish for more is left out and named. Where the
//! policy says no the answer stays no, and what runs has no more rights than without it.

use super::capacity::percent;
use super::decision::Effect;
use super::rules::{Cpu, ProgramName, Rule, Rules};
use super::whole::Sum;
use super::{Content, Policy, units};
use crate::plan::{Limits, NetMode, ProcessPlan};
use cortex_model::limits::NARROWING_MAX;
use cortex_model::{Code, Fault};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// Rule that denies what a server denies.
const RULE: &str = "server";
/// What the owner is told of it.
const REASON: &str = "an administrator of the server denies it on this node";
/// Most programs that can be denied.
const PROGRAMS_MAX: usize = 256;

/// What is taken away. Empty takes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// Programs that do not run, by name.
    pub deny: BTreeSet<String>,
    /// No task has a network.
    pub no_network: bool,
    /// What the policy allows its owner is asked about.
    pub ask: bool,
    /// Roots cannot be written to, by programs or otherwise.
    pub read_only: bool,
    /// No program has a terminal.
    pub no_terminal: bool,
    /// Processor time of a task.
    pub cpu: Option<Cpu>,
    /// Memory of a task, bytes.
    pub memory: Option<u64>,
    /// Processes of a task.
    pub pids: Option<u32>,
    /// Longest run of a task, milliseconds.
    pub wall_ms: Option<u64>,
    /// Most output of a task that is kept, bytes.
    pub output: Option<u64>,
    /// Largest file that a task writes, bytes.
    pub file_size: Option<u64>,
    /// Tasks at the same time.
    pub tasks: Option<u32>,
}

/// What was read of a server's wish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// What it takes away.
    pub narrowing: Narrowing,
    /// What of it counts for nothing, in words.
    pub ignored: Vec<String>,
}

impl Narrowing {
    /// Reads what a server sent.
    ///
    /// # Errors
    /// It is no such text at all; nothing of it can be told apart.
    pub fn read(text: &str) -> Result<Read, String> {
        if text.len() > NARROWING_MAX {
            return Err(format!("it has more than {NARROWING_MAX} bytes"));
        }
        let table: Table = text.parse().map_err(|err: toml::de::Error| err.message().to_owned())?;
        match table.get("version").and_then(Value::as_integer) {
            Some(1) => {}
            Some(other) => return Err(format!("version {other} is not known here")),
            None => return Err("it has no version".to_owned()),
        }
        let mut read = Read::default();
        for (key, value) in table.iter().filter(|(key, _)| *key != "version") {
            read.take(key, value);
        }
        Ok(read)
    }

    /// Whether it takes nothing away.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What it takes away, in words.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if !self.deny.is_empty() {
            let names: Vec<&str> = self.deny.iter().map(String::as_str).collect();
            words.push(format!("deny {}", names.join(", ")));
        }
        for (set, word) in [
            (self.no_network, "network none"),
            (self.ask, "ask in place of allow"),
            (self.read_only, "roots read-only"),
            (self.no_terminal, "no terminals"),
        ] {
            words.extend(set.then(|| word.to_owned()));
        }
        let cpu = self.cpu.map(|cpu| match cpu {
            Cpu::Percent(percent) => format!("{percent}%"),
            Cpu::OfMachine(percent) => format!("{percent}% of machine"),
        });
        for (name, limit) in [
            ("cpu", cpu),
            ("memory", self.memory.map(|bytes| format!("{bytes} bytes"))),
            ("pids", self.pids.map(|pids| pids.to_string())),
            ("wall", self.wall_ms.map(|ms| format!("{ms} ms"))),
            ("output", self.output.map(|bytes| format!("{bytes} bytes"))),
            ("file_size", self.file_size.map(|bytes| format!("{bytes} bytes"))),
            ("tasks", self.tasks.map(|tasks| tasks.to_string())),
        ] {
            words.extend(limit.map(|limit| format!("{name} at most {limit}")));
        }
        words
    }

    /// What a process gets of what the policy gives it. Everything was decided before, by the policy alone; this takes away.
    pub(super) fn hold(&self, process: &mut ProcessPlan, sum: &mut Sum<'_>, cpus: u32) {
        if self.no_network && process.net != NetMode::None {
            sum.trail.push("the server takes the network away".to_owned());
            process.net = NetMode::None;
        }
        process.view.read_only |= self.read_only;
        process.limits = self.limits(process.limits, cpus);
        if self.ask && sum.effect == Effect::Allow {
            let why = "the server wants the owner to be asked".to_owned();
            sum.trail.push(why.clone());
            sum.why.push(why.clone());
            let decider = sum.decider.clone();
            sum.raise(Effect::Ask, Some(Fault::new(Code::ConsentNeeded, why)), &decider);
        }
    }

    /// The smaller one of each limit counts.
    pub(super) fn limits(&self, limits: Limits, cpus: u32) -> Limits {
        Limits {
            cpu_percent: least(limits.cpu_percent, self.cpu.map(|cpu| percent(cpu, cpus))),
            memory: least(limits.memory, self.memory),
            pids: least(limits.pids, self.pids),
            wall_ms: limits.wall_ms.min(self.wall_ms.unwrap_or(u64::MAX)),
            output: limits.output.min(self.output.unwrap_or(u64::MAX)),
            file_size: least(limits.file_size, self.file_size),
            enforce: limits.enforce,
        }
    }
}

fn least<T: Ord>(own: Option<T>, other: Option<T>) -> Option<T> {
    match (own, other) {
        (Some(own), Some(other)) => Some(own.min(other)),
        (own, other) => own.or(other),
    }
}

impl Read {
    fn take(&mut self, key: &str, value: &Value) {
        let n = &mut self.narrowing;
        match (key, value) {
            ("deny", Value::Array(names)) => names.iter().for_each(|name| self.deny(name)),
            ("network", Value::String(word)) if word == "none" => n.no_network = true,
            ("effect", Value::String(word)) if word == "ask" => n.ask = true,
            ("fs", Value::String(word)) if word == "read-only" => n.read_only = true,
            ("terminal", Value::String(word)) if word == "deny" => n.no_terminal = true,
            ("limits", Value::Table(tables)) => {
                for (name, table) in tables {
                    match (name.as_str(), table) {
                        ("task", Value::Table(limits)) => {
                            limits.iter().for_each(|(name, value)| self.limit(name, value));
                        }
                        ("agent", Value::Table(limits)) => {
                            limits.iter().for_each(|(name, value)| self.agent_limit(name, value));
                        }
                        (other, value) => self.ignore(&format!("limits.{other}"), value),
                    }
                }
            }
            (key, value) => self.ignore(key, value),
        }
    }

    /// Whatever could give more, or is not understood, counts for nothing.
    fn ignore(&mut self, key: &str, value: &Value) {
        let shown: String = value.to_string().chars().take(80).collect();
        self.ignored.push(format!("{key} = {shown}: a server can only take away"));
    }

    fn deny(&mut self, name: &Value) {
        let plain = |name: &&str| {
            !name.is_empty() && !name.contains('/') && !name.contains(char::is_whitespace)
        };
        match name.as_str().filter(plain) {
            Some(name) if self.narrowing.deny.len() < PROGRAMS_MAX => {
                self.narrowing.deny.insert(name.to_owned());
            }
            Some(_) | None => {
                self.ignored.push(format!("deny {name}: it is not the name of a program"));
            }
        }
    }

    fn limit(&mut self, name: &str, value: &Value) {
        let n = &mut self.narrowing;
        let text = value.as_str().unwrap_or_default();
        let read = match name {
            "cpu" => units::cpu(text).map(|cpu| n.cpu = Some(cpu)),
            "memory" => units::bytes(text).map(|bytes| n.memory = Some(bytes)),
            "wall" => units::duration_ms(text).map(|ms| n.wall_ms = Some(ms)),
            "output" => units::bytes(text).map(|bytes| n.output = Some(bytes)),
            "file_size" => units::bytes(text).map(|bytes| n.file_size = Some(bytes)),
            "pids" => count(value).map(|pids| n.pids = Some(pids)),
            _ => Err("no such limit".to_owned()),
        };
        if let Err(why) = read {
            self.ignored.push(format!("limits.task.{name} = {value}: {why}"));
        }
    }

    fn agent_limit(&mut self, name: &str, value: &Value) {
        let read = match name {
            "tasks" => count(value).map(|tasks| self.narrowing.tasks = Some(tasks)),
            _ => Err("no such limit".to_owned()),
        };
        if let Err(why) = read {
            self.ignored.push(format!("limits.agent.{name} = {value}: {why}"));
        }
    }
}

fn count(value: &Value) -> Result<u32, String> {
    let count = value.as_integer().and_then(|count| u32::try_from(count).ok());
    count.filter(|count| *count > 0).ok_or_else(|| "it is no number above 0".to_owned())
}

/// The policy with something taken away. Nothing that it denies is allowed by that, and what it allows gets no more rights.
#[must_use]
pub fn narrow(policy: &Policy, narrowing: &Narrowing) -> Policy {
    let mut narrowed = policy.clone();
    if narrowing.is_empty() {
        return narrowed;
    }
    let mut hash = Sha256::new();
    hash.update(b"cortex narrowed policy 1\n");
    for line in std::iter::once(&policy.digest).chain(&narrowing.words()) {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    narrowed.digest = cortex_audit::leaf::hex(&hash.finalize());
    match &mut narrowed.content {
        Content::Legacy(legacy) => legacy.narrow(narrowing),
        Content::Rules(rules) => narrow_rules(rules, narrowing),
    }
    narrowed
}

fn narrow_rules(rules: &mut Rules, narrowing: &Narrowing) {
    if narrowing.read_only {
        rules.files.write = Effect::Deny;
    }
    if narrowing.no_terminal {
        rules.terminal = Effect::Deny;
        rules.rules.iter_mut().for_each(|rule| rule.terminal = None);
    }
    rules.agent_limits.tasks = least(rules.agent_limits.tasks, narrowing.tasks);
    rules.narrowing = narrowing.clone();
    if narrowing.deny.is_empty() {
        return;
    }
    let index = rules.rules.len();
    for name in &narrowing.deny {
        match name.as_str() {
            "*" => rules.for_all.push(index),
            name => rules.by_program.entry(name.to_owned()).or_default().push(index),
        }
    }
    let program = |name: &String| match name.as_str() {
        "*" => ProgramName::Any,
        name => ProgramName::Named(name.to_owned()),
    };
    rules.rules.push(Rule {
        id: RULE.to_owned(),
        programs: narrowing.deny.iter().map(program).collect(),
        globals: None,
        subs: Vec::new(),
        flags: None,
        args: None,
        harden_git: false,
        read_only: false,
        terminal: None,
        net: NetMode::None,
        secrets: BTreeMap::new(),
        classes: BTreeSet::new(),
        effect: Effect::Deny,
        reason: REASON.to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_give_more_is_left_out_and_named() {
        let text = "version = 1\nnetwork = \"full\"\nstrict = \"off\"\ndefault = \"ask\"\ndeny = [\"curl\", \"/bin/sh\", 7]\n\
             fs = \"read-write\"\nterminal = \"allow\"\n[paths]\nroots = [\"/\"]\n[[rule]]\nid = \"x\"\n\
             [limits.task]\npids = 0\nwall = \"1m\"\nenforce = \"x\"\n[limits.agent]\ntasks = 2\n[sandbox]\nallow_none = true\n";
        let Read { narrowing, ignored } = Narrowing::read(text).unwrap();
        let expected = Narrowing {
            deny: ["curl".to_owned()].into(),
            wall_ms: Some(60_000),
            tasks: Some(2),
            ..Narrowing::default()
        };
        assert_eq!(narrowing, expected);
        for wish in [
            "network", "strict", "default", "/bin/sh", "deny 7", "fs", "terminal", "paths", "rule",
            "pids", "enforce", "sandbox",
        ] {
            assert!(ignored.iter().any(|line| line.contains(wish)), "{wish}: {ignored:?}");
        }
        assert_eq!(ignored.len(), 12, "{ignored:?}");
        assert_eq!(narrowing.words(), ["deny curl", "wall at most 60000 ms", "tasks at most 2"]);
    }

    #[test]
    fn what_is_no_narrowing_at_all_is_an_error() {
        for text in ["", "version = 2\n", "version = \"1\"\n", "{}", "version = 1\nversion = 1\n"] {
            assert!(Narrowing::read(text).is_err(), "{text:?}");
        }
        let long = format!("version = 1\n#{}", "x".repeat(NARROWING_MAX));
        assert!(Narrowing::read(&long).is_err());
    }
}

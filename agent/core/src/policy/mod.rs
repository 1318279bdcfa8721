//! May this run here? The owner's rules, and [`decide`]: a function of policy, facts and request alone. It looks at no
//! disk, no clock and no environment; what it needs to know it names in [`Needs`], and is given as [`Facts`].

mod assemble;
mod browser;
mod capacity;
mod classes;
mod compile;
mod decision;
mod error;
mod examples;
mod facts;
mod file;
mod files;
mod form;
mod harden;
mod judge;
mod legacy;
mod lists;
mod matching;
mod narrow;
mod needs;
mod paths;
mod reach;
mod request;
mod rules;
mod script;
pub mod sets;
mod terminal;
mod units;
mod whole;

pub use browser::PROGRAMS as BROWSERS;
pub use compile::Place;
pub use decision::{Class, ClassSet, Decision, Effect, Fingerprint, Proposal};
pub use error::PolicyError;
pub use facts::{Facts, Machine, PathFact, PathKind, Program, Secret};
pub use file::{Channel, Remember};
pub use narrow::{Narrowing, Read as ReadNarrowing, narrow};
pub use needs::Needs;
pub use paths::{lexical, wildcard};
pub use request::Request;
pub use rules::{AgentLimits, ConsentRules, Cpu, SandboxRules, SecretRef};

use crate::plan::Operation;
use cortex_model::{Action, Code, Fault};
use legacy::Legacy;
use paths::Pattern;
use reach::Reach;
use rules::Rules;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The newest version of the policy file that this program reads.
pub const VERSION: u32 = 1;

/// A policy file that was read and whose places are not resolved yet.
#[derive(Clone, Debug)]
pub struct Draft {
    content: Content<file::File>,
    digest: String,
}

#[derive(Clone, Debug)]
enum Content<R> {
    Legacy(Legacy),
    Rules(Box<R>),
}

/// The owner's rules, ready to decide.
#[derive(Clone, Debug)]
pub struct Policy {
    content: Content<Rules>,
    digest: String,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Draft {
    /// Reads the text of a policy file. `digest` is the SHA-256 of the text, for the journal.
    ///
    /// # Errors
    /// Anything that is not understood completely.
    pub fn parse(text: &str, digest: String) -> Result<Self, PolicyError> {
        let version: Version =
            toml::from_str(text).map_err(|err| PolicyError::syntax(text, &err))?;
        let content = match version.version {
            0 => Content::Legacy(Legacy::parse(text)?),
            VERSION => {
                let file = toml::from_str(text).map_err(|err| PolicyError::syntax(text, &err))?;
                Content::Rules(Box::new(file))
            }
            other => return Err(PolicyError::Version(other)),
        };
        Ok(Self { content, digest })
    }

    /// Every path that the file names: the caller follows their links and puts the result into [`Place::resolved`].
    #[must_use]
    pub fn named(&self, place: &Place) -> BTreeSet<PathBuf> {
        match &self.content {
            Content::Legacy(legacy) => legacy.named(),
            Content::Rules(file) => compile::named(file, place),
        }
    }

    /// The policy at a place.
    ///
    /// # Errors
    /// Places or rules that cannot be, and examples that do not come out as they say.
    pub fn compile(self, place: &Place) -> Result<Policy, PolicyError> {
        let Self { content, digest } = self;
        let content = match content {
            Content::Legacy(legacy) => Content::Legacy(legacy.resolved(&place.resolved)),
            Content::Rules(file) => {
                let examples = examples::of(&file);
                let rules = compile::rules(*file, place)?;
                examples::check(&rules, &examples, place)?;
                Content::Rules(Box::new(rules))
            }
        };
        Ok(Policy { content, digest })
    }
}

impl Policy {
    /// Reads a policy for a place without a home of its own, variables and links.
    ///
    /// # Errors
    /// As [`Draft::parse`] and [`Draft::compile`].
    pub fn parse(text: &str, digest: String) -> Result<Self, PolicyError> {
        let place = Place { home: PathBuf::from("/"), ..Place::default() };
        Draft::parse(text, digest)?.compile(&place)
    }

    /// A policy that allows nothing at all.
    #[must_use]
    pub fn nothing() -> Self {
        Self { content: Content::Legacy(Legacy::nothing()), digest: String::new() }
    }

    fn rules(&self) -> Option<&Rules> {
        match &self.content {
            Content::Legacy(_) => None,
            Content::Rules(rules) => Some(rules),
        }
    }

    /// SHA-256 of the policy file, 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What the owner calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.rules().map_or("version 0", |rules| &rules.name)
    }

    /// Version of the file.
    #[must_use]
    pub fn version(&self) -> u32 {
        u32::from(self.rules().is_some())
    }

    /// Number of rules.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules().map_or(0, |rules| rules.rules.len())
    }

    /// Whether echo tasks may run: they touch nothing.
    #[must_use]
    pub fn allows_echo(&self) -> bool {
        match &self.content {
            Content::Legacy(legacy) => legacy.echo,
            Content::Rules(_) => true,
        }
    }

    /// Whether any program may run.
    #[must_use]
    pub fn allows_shell(&self) -> bool {
        match &self.content {
            Content::Legacy(legacy) => !legacy.is_empty(),
            Content::Rules(rules) => {
                let asks = rules.default == file::DefaultEffect::Ask
                    || rules.opaque == file::OpaqueShell::Ask;
                asks || rules.rules.iter().any(|rule| rule.effect != Effect::Deny)
            }
        }
    }

    /// Whether any program may have a terminal.
    #[must_use]
    pub fn allows_terminals(&self) -> bool {
        self.rules().is_some_and(|rules| {
            let own = rules.rules.iter().filter(|rule| rule.effect != Effect::Deny);
            let mut all = own.filter_map(|rule| rule.terminal).chain([rules.terminal]);
            self.allows_shell() && all.any(|terminal| terminal != Effect::Deny)
        })
    }

    /// Whether any operation on files may be done.
    #[must_use]
    pub fn allows_files(&self) -> bool {
        self.rules().is_some_and(|rules| rules.files.read != Effect::Deny)
    }

    /// Whether any page may be opened.
    #[must_use]
    pub fn allows_browser(&self) -> bool {
        self.rules().is_some_and(|rules| {
            let own = rules.browser.as_ref();
            let open = own.is_some_and(|own| own.effect != Effect::Deny && !own.origins.is_empty());
            open && !rules.narrowing.no_network
        })
    }

    /// How the owner is asked; `None` for a policy that never asks.
    #[must_use]
    pub fn consent(&self) -> Option<&ConsentRules> {
        self.rules().map(|rules| &rules.consent)
    }

    /// What the machine must be able to enforce.
    #[must_use]
    pub fn sandbox(&self) -> Option<&SandboxRules> {
        self.rules().map(|rules| &rules.sandbox)
    }

    /// What all tasks together may use.
    #[must_use]
    pub fn agent_limits(&self) -> AgentLimits {
        self.rules().map_or_else(AgentLimits::default, |rules| rules.agent_limits)
    }

    /// Where tasks work; the first is where a task starts that names no directory.
    #[must_use]
    pub fn roots(&self) -> &[PathBuf] {
        self.rules().map_or(&[], |rules| &rules.places.roots)
    }

    /// Directories in which programs are looked for.
    #[must_use]
    pub fn search(&self) -> Vec<PathBuf> {
        match self.rules() {
            Some(rules) => rules.search.clone(),
            None => crate::environment::SEARCH.iter().map(PathBuf::from).collect(),
        }
    }

    /// Whether a variable of the agent's own environment is passed to tasks.
    #[must_use]
    pub fn passes(&self, name: &str) -> bool {
        let passes = |pattern: &String| paths::wildcard(pattern, name);
        !crate::environment::is_refused(name)
            && self.rules().is_some_and(|rules| rules.env.pass.iter().any(passes))
    }

    /// Names by which places below the roots are hidden and protected: `(hidden, protected)`, each as the names in a row.
    #[must_use]
    pub fn names_to_look_for(&self) -> (Vec<&[String]>, Vec<&[String]>) {
        let Some(rules) = self.rules() else { return Default::default() };
        fn of(pattern: &Pattern) -> Option<&[String]> {
            match pattern {
                Pattern::Names(names) => Some(names),
                Pattern::Tree(_) => None,
            }
        }
        let hidden = rules.places.deny.iter().filter_map(|hidden| of(&hidden.pattern));
        (hidden.collect(), rules.places.protect.iter().filter_map(of).collect())
    }

    /// What is still to be found out before [`decide`] can say anything but no.
    #[must_use]
    pub fn needs(&self, action: &Action, facts: &Facts) -> Needs {
        let shell = match action {
            Action::Shell(shell) => shell,
            Action::File(file) => return files::needs(file, facts),
            Action::Browser(browser) => {
                let rules = self.rules();
                return rules
                    .map(|rules| browser::needs(rules, browser, facts))
                    .unwrap_or_default();
            }
            Action::Echo { .. } => return Needs::default(),
        };
        match &self.content {
            Content::Rules(rules) => Needs::of(rules, shell, facts),
            Content::Legacy(_) => {
                let name =
                    shell.argv.first().map(|name| String::from_utf8_lossy(name).into_owned());
                let programs =
                    name.into_iter().filter(|name| !facts.programs.contains_key(name)).collect();
                Needs { programs, ..Needs::default() }
            }
        }
    }

    /// Whether a path may be read or written by a task: what the policy says about places, before the kernel does.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn place(&self, canonical: &Path, write: bool, tmpdir: &str) -> Result<(), String> {
        let Some(rules) = self.rules() else {
            return Err("a policy of version 0 knows no places".to_owned());
        };
        let reach = Reach::new(&rules.places, tmpdir);
        if write { reach.writable(canonical, false) } else { reach.readable(canonical) }
    }
}

/// Decides about a request.
#[must_use]
pub fn decide(policy: &Policy, facts: &Facts, request: &Request<'_>) -> Decision {
    match request.action {
        Action::Echo { payload } if policy.allows_echo() => {
            let request = match &policy.content {
                Content::Legacy(_) => *request,
                Content::Rules(rules) => limited(rules, facts, request),
            };
            Decision::start("echo", Operation::Echo(payload.clone()), Vec::new(), &request)
        }
        Action::Echo { .. } => {
            let trail = vec!["the policy has echo.allow = false".to_owned()];
            Decision::deny(
                "echo.allow",
                trail,
                Fault::new(Code::NotAllowed, "the node's policy does not allow echo"),
            )
        }
        Action::Shell(shell) => match &policy.content {
            Content::Legacy(legacy) => legacy.decide(facts, request, shell),
            Content::Rules(rules) => whole::decide(rules, &policy.digest, facts, request, shell),
        },
        Action::File(file) => match &policy.content {
            Content::Legacy(_) => {
                let why = "the node's policy is of version 0, which opens no files";
                let hint = "write a new policy with 'cortex-agent init'";
                let fault = Fault::new(Code::NotAllowed, why).with_hint(hint);
                Decision::deny("", vec![why.to_owned()], fault)
            }
            Content::Rules(rules) => files::decide(rules, &policy.digest, facts, request, file),
        },
        Action::Browser(browser) => match &policy.content {
            Content::Legacy(_) => {
                let fault = browser::closed();
                Decision::deny("", vec![fault.message.clone()], fault)
            }
            Content::Rules(rules) => {
                browser::decide(rules, &policy.digest, facts, request, browser)
            }
        },
    }
}

/// What is started without a process has the limits that the policy gives to all.
fn limited<'a>(rules: &Rules, facts: &Facts, request: &Request<'a>) -> Request<'a> {
    let limits = assemble::limits(rules, facts, request);
    let limits = rules.narrowing.limits(limits, facts.machine.cpus);
    Request { timeout_ms: limits.wall_ms, output_limit: limits.output, ..*request }
}

#[cfg(test)]
mod tests;

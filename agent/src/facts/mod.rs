//! Facts about a request that only this machine can tell: which file a program's name means, where a path leads, what
//! a pattern stands for, what is hidden below the roots. It answers what the policy asks, and judges nothing.

mod paths;
mod programs;
mod secrets;
mod walk;

pub use programs::{resolve_dir, resolve_program};

use crate::sandbox::Sandbox;
use cortex_agent_core::policy::{Facts, Machine, Policy};
use cortex_model::Action;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Rounds of questions: names, then what patterns stand for, then where that leads.
const ROUNDS: usize = 4;

/// What the facts of one attempt are gathered for.
#[derive(Clone, Debug)]
pub struct Scene {
    /// `TMPDIR` of the attempt; it need not exist yet.
    pub tmpdir: PathBuf,
    /// Mark of the agent.
    pub mark: String,
    /// What can be enforced here.
    pub machine: Machine,
}

/// What this machine can enforce, as the sandbox found it at the start.
pub(crate) fn machine(sandbox: Option<&Sandbox>) -> Machine {
    let cpus = std::thread::available_parallelism();
    let cpus = cpus.map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    match sandbox {
        Some(sandbox) => Machine {
            level: sandbox.armed().level,
            features: sandbox.armed().features(),
            exact_limits: sandbox.exact_limits(),
            cpus,
        },
        None => Machine { cpus, ..Machine::default() },
    }
}

/// Where this program lies, as it was when this was asked first.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| std::env::current_exe().unwrap_or_default());

/// Answers what the policy asks about an action. Looks at the disk: not for a thread that must not wait.
#[must_use]
pub fn gather(policy: &Policy, action: &Action, scene: &Scene) -> Facts {
    let mut facts = Facts {
        cwd: cwd(policy, action),
        tmpdir: scene.tmpdir.to_string_lossy().into_owned(),
        program: PROGRAM.clone(),
        agent: scene.mark.clone(),
        machine: scene.machine.clone(),
        ..Facts::default()
    };
    if let Action::Echo { .. } = action {
        // It starts nothing that could have an environment.
        return facts;
    }
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let passed = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| policy.passes(name))?;
        Some((name, value.into_encoded_bytes()))
    });
    facts.env = passed.collect();
    facts.home = variable("HOME");
    if facts.home.is_empty() {
        facts.home = "/".to_owned();
    }
    facts.user = variable("USER");
    let search = policy.search();
    for _ in 0..ROUNDS {
        let needs = policy.needs(action, &facts);
        if needs.is_empty() {
            break;
        }
        let from = match &facts.cwd {
            Some(Ok(cwd)) if policy.version() > 0 => Some(cwd.clone()),
            Some(_) | None => None,
        };
        for name in needs.programs {
            let found = programs::find(name.as_bytes(), &search, from.as_deref());
            facts.programs.insert(name, found);
        }
        for path in needs.paths {
            let fact = paths::resolve(&path);
            facts.paths.insert(path, fact);
        }
        for (dir, pattern) in needs.globs {
            let found = paths::expand(&dir, &pattern);
            facts.globs.insert((dir, pattern), found);
        }
        for secret in needs.secrets {
            let value = secrets::read(&secret);
            facts.secrets.insert(secret, value);
        }
    }
    let (hidden, protected) = policy.names_to_look_for();
    let anything = !hidden.is_empty() || !protected.is_empty();
    if anything && !policy.roots().is_empty() {
        let found = walk::look(policy.roots(), &hidden, &protected);
        (facts.hidden, facts.protected) = match found {
            Ok(found) => (Ok(found.hidden), Ok(found.protected)),
            Err(why) => (Err(why.clone()), Err(why)),
        };
    }
    facts
}

/// Where the task wants to start, and relative paths count from: what it names, or the first root. `None`: in its own temporary directory.
fn cwd(policy: &Policy, action: &Action) -> Option<Result<PathBuf, String>> {
    let named = match action {
        Action::Shell(shell) if !shell.cwd.is_empty() => Some(PathBuf::from(&shell.cwd)),
        Action::Shell(_) | Action::File(_) => policy.roots().first().cloned(),
        Action::Echo { .. } | Action::Browser(_) => None,
    }?;
    let shown = named.display();
    Some(match std::fs::canonicalize(&named) {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => Err(format!("{shown} is not a directory")),
        Err(err) => Err(format!("{shown}: {err}")),
    })
}

/// Follows the links of paths that a policy names.
#[must_use]
pub fn follow(path: &Path) -> PathBuf {
    paths::resolve(path).canonical
}

#[cfg(test)]
mod tests;

//! Which facts a decision rests on. Asked again with the answers, until nothing is open: what a pattern stands for is known
//! only then.

use super::classes;
use super::facts::Facts;
use super::form::Form;
use super::matching::bases;
use super::rules::{Rules, SecretRef};
use super::script::{Builtin, Redirect, Step, Word, builtin};
use cortex_model::task::ShellAction;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Questions about this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Programs to find, by the name that was given.
    pub programs: BTreeSet<String>,
    /// Paths to resolve; absolute, not normalised.
    pub paths: BTreeSet<PathBuf>,
    /// Patterns to expand, with the directory they count from.
    pub globs: BTreeSet<(PathBuf, String)>,
    /// Secret values to read.
    pub secrets: BTreeSet<SecretRef>,
}

impl Needs {
    /// Nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is still open for a request under a policy.
    pub(super) fn of(rules: &Rules, shell: &ShellAction, facts: &Facts) -> Self {
        let mut needs = Self::default();
        let Ok(form) = Form::of(shell) else { return needs };
        let start = match &facts.cwd {
            Some(Ok(cwd)) => cwd.clone(),
            Some(Err(_)) => return needs,
            None => PathBuf::from(&facts.tmpdir),
        };
        match &form {
            Form::Argv(argv) => needs.command(argv, &[start], facts),
            Form::Script { text, .. } => {
                // The shell that runs what was written down anew.
                needs.program("sh", facts);
                if let Some(steps) = form.steps(&start, &facts.home) {
                    for step in &steps {
                        needs.step(step, facts);
                    }
                }
                debug_assert!(!text.is_empty());
            }
        }
        let secrets = rules.rules.iter().flat_map(|rule| rule.secrets.values());
        let asked = shell.secret_env.iter().filter_map(|(_, name)| rules.env.secrets.get(name));
        let open = secrets.chain(asked).filter(|secret| !facts.secrets.contains_key(*secret));
        needs.secrets.extend(open.cloned());
        needs
    }

    fn program(&mut self, name: &str, facts: &Facts) {
        if !facts.programs.contains_key(name) {
            self.programs.insert(name.to_owned());
        }
    }

    fn path(&mut self, dir: &Path, word: &str, facts: &Facts) {
        let path = dir.join(word);
        if !facts.paths.contains_key(&path) {
            self.paths.insert(path);
        }
    }

    fn step(&mut self, step: &Step<'_>, facts: &Facts) {
        if let Some(to) = &step.to {
            self.path(to, "", facts);
        }
        for redirect in step.redirects {
            let (Redirect::In(word)
            | Redirect::Out(word)
            | Redirect::Append(word)
            | Redirect::Err(word)) = redirect
            else {
                continue;
            };
            if let Some(text) = word.literal(&facts.home) {
                step.dirs.iter().for_each(|dir| self.path(dir, &text, facts));
            }
        }
        let Some(words) = self.expand(step.words, &step.dirs, facts) else { return };
        if builtin(&words) == Builtin::None {
            self.command(&words, &step.dirs, facts);
        }
    }

    /// The words with patterns replaced, once it is known by what.
    fn expand(&mut self, words: &[Word], dirs: &[PathBuf], facts: &Facts) -> Option<Vec<String>> {
        let mut open = false;
        for word in words.iter().filter(|word| word.is_glob()) {
            let [dir] = dirs else { return None };
            let key = (dir.clone(), word.pattern(&facts.home));
            if !facts.globs.contains_key(&key) {
                self.globs.insert(key);
                open = true;
            }
        }
        if open { None } else { super::form::expand(words, dirs, facts).ok() }
    }

    fn command(&mut self, argv: &[String], dirs: &[PathBuf], facts: &Facts) {
        let Some((name, args)) = argv.split_first() else { return };
        self.program(name, facts);
        for dir in bases(args, dirs) {
            for word in args.iter().flat_map(|arg| candidates(arg)) {
                self.path(&dir, word, facts);
            }
        }
        let base = name.rsplit('/').next().unwrap_or(name);
        for target in classes::targets(base, args) {
            dirs.iter().for_each(|dir| self.path(dir, &target, facts));
        }
    }
}

/// What of a word may be a path: all of it, what follows `=`, what follows a letter.
pub(super) fn candidates(arg: &str) -> impl Iterator<Item = &str> {
    let whole = Some(arg).filter(|arg| !arg.starts_with('-') && !arg.is_empty());
    let value = arg.split_once('=').map(|(_, value)| value).filter(|value| !value.is_empty());
    let attached = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-')).and_then(|rest| {
        let first = rest.chars().next()?;
        Some(&rest[first.len_utf8()..]).filter(|rest| !rest.is_empty())
    });
    whole.into_iter().chain(value).chain(attached)
}

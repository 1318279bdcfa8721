//! One command of a request: which rule decides about it, and how.

use super::classes;
use super::decision::{Class, ClassSet, Effect};
use super::facts::{Facts, PathKind, Program};
use super::file::DefaultEffect;
use super::lists;
use super::matching::{Command, Hit, Miss, View, bases, generous, names, strict};
use super::needs::candidates;
use super::reach::Reach;
use super::rules::{ProgramName, Rule, Rules};
use super::script::Redirect;
use cortex_model::{Code, Fault};
use std::path::{Path, PathBuf};

/// What is judged with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Court<'a> {
    pub(super) rules: &'a Rules,
    pub(super) facts: &'a Facts,
    pub(super) reach: &'a Reach<'a>,
}

/// The judgement on one command.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    pub(super) effect: Effect,
    pub(super) rule: Option<&'a Rule>,
    pub(super) hit: Option<Hit>,
    pub(super) classes: ClassSet,
    pub(super) fault: Option<Fault>,
    pub(super) trail: Vec<String>,
    pub(super) program: Option<&'a Program>,
    /// Runs code that was not looked at: never remembered.
    pub(super) runs_code: bool,
}

impl<'a> Verdict<'a> {
    pub(super) fn deny(fault: Fault, trail: Vec<String>) -> Self {
        let (classes, effect) = (ClassSet::new(), Effect::Deny);
        Self {
            effect,
            rule: None,
            hit: None,
            classes,
            fault: Some(fault),
            trail,
            program: None,
            runs_code: false,
        }
    }
}

impl<'a> Court<'a> {
    fn view(&self) -> View<'a> {
        View { reach: self.reach, facts: self.facts, assume: false }
    }

    /// Decides about a program with its arguments.
    pub(super) fn command(&self, argv: &[String], dirs: &[PathBuf]) -> Verdict<'a> {
        let Some((name, args)) = argv.split_first() else {
            return Verdict::deny(
                Fault::new(Code::RequestRefused, "there is no program"),
                Vec::new(),
            );
        };
        let shown = show(name);
        let program = match self.facts.programs.get(name) {
            Some(Ok(program)) => program,
            Some(Err(why)) => {
                return Verdict::deny(
                    Fault::new(Code::ProgramNotFound, format!("{shown}: {why}")),
                    Vec::new(),
                );
            }
            None => {
                let fault =
                    Fault::new(Code::ProgramNotFound, format!("{shown}: it was not looked for"));
                return Verdict::deny(fault, Vec::new());
            }
        };
        let mut trail = vec![format!("{shown} is {}", program.path.display())];
        let command = Command { name, program, searched: self.searched(program), args, dirs };
        if let Some(fault) = self.hidden(&command) {
            return Verdict::deny(fault, trail);
        }
        let candidates = self.candidates(program);
        if let Some(rule) = candidates.iter().find(|rule| self.denies(rule, &command)) {
            trail.push(format!("rule {} denies it", rule.id));
            let why =
                if rule.reason.is_empty() { String::new() } else { format!(": {}", rule.reason) };
            let fault = Fault::new(
                Code::RuleDenies,
                format!("rule {} of the node's policy denies {shown}{why}", rule.id),
            );
            return Verdict { rule: Some(rule), ..Verdict::deny(fault, trail) };
        }
        let known =
            candidates.iter().any(|rule| rule.effect != Effect::Deny && names(rule, &command));
        if !command.searched && !known {
            trail.push("it does not lie in programs.search".to_owned());
            let message = format!(
                "{} lies outside of the directories whose programs may run",
                program.path.display()
            );
            return Verdict::deny(Fault::new(Code::ProgramNotTrusted, message), trail);
        }
        self.open(&command, &candidates, trail)
    }

    /// Decides by the rules that allow or ask.
    fn open(
        &self,
        command: &Command<'_>,
        candidates: &[&'a Rule],
        mut trail: Vec<String>,
    ) -> Verdict<'a> {
        let program = self.facts.programs.get(command.name).and_then(|found| found.as_ref().ok());
        let mut best: Option<(&'a Rule, Hit)> = None;
        let mut nearest: Option<(&'a Rule, Miss)> = None;
        for rule in candidates.iter().copied().filter(|rule| rule.effect != Effect::Deny) {
            match strict(rule, command, self.view()) {
                Ok(hit) if best.is_none_or(|(best, _)| rule.effect > best.effect) => {
                    best = Some((rule, hit))
                }
                Ok(_) => {}
                Err(miss) => {
                    trail.push(format!("rule {} does not match: {}", rule.id, explain(&miss)));
                    if nearest.as_ref().is_none_or(|(_, nearest)| depth(&miss) > depth(nearest)) {
                        nearest = Some((rule, miss));
                    }
                }
            }
        }
        let wrapper = is_wrapper(command.program);
        let mut classes = classes::of(command, self.view());
        if let Some((rule, _)) = best {
            classes.extend(rule.classes.iter().copied());
            classes.extend(wrapper.then_some(Class::Opaque));
        }
        // A rule that names a wrapper does not undo one that denies what is wrapped.
        if let Some(rule) = self.denied_inside(command.args).filter(|_| wrapper) {
            trail.push(format!("rule {} denies what is inside", rule.id));
            let message = format!(
                "rule {} of the node's policy denies what {} would run",
                rule.id,
                show(command.name)
            );
            let fault = Fault::new(Code::RuleDenies, message);
            return Verdict { rule: Some(rule), classes, program, ..Verdict::deny(fault, trail) };
        }
        if let Some((rule, hit)) = best {
            let verdict = Verdict { classes, program, ..matched(rule, hit, wrapper, trail) };
            let code = lists::has(lists::INTERPRETERS, &command.program.name());
            return Verdict { runs_code: verdict.runs_code || code, ..verdict };
        }
        let shown = show(command.name);
        if wrapper {
            trail.push(format!("{shown} runs other programs, and no rule names it"));
            let message = format!(
                "{shown} runs whatever it is given, and no rule of the node's policy names it"
            );
            return Verdict {
                classes,
                program,
                ..Verdict::deny(Fault::new(Code::WrapperNotAllowed, message), trail)
            };
        }
        if self.rules.default == DefaultEffect::Ask {
            trail.push("no rule matches; the policy asks by default".to_owned());
            let fault = Some(Fault::new(Code::ConsentNeeded, format!("no rule matches {shown}")));
            let (effect, runs_code) = (Effect::Ask, true);
            return Verdict {
                effect,
                rule: None,
                hit: None,
                classes,
                fault,
                trail,
                program,
                runs_code,
            };
        }
        let fault = no_match(&shown, nearest.as_ref());
        trail.push("no rule matches; the policy denies by default".to_owned());
        Verdict { classes, program, ..Verdict::deny(fault, trail) }
    }

    /// In one of the directories for programs, and not leading to a file that a task could write.
    fn searched(&self, program: &Program) -> bool {
        let inside = program
            .path
            .parent()
            .is_some_and(|dir| self.rules.search.iter().any(|search| search == dir));
        let places = &self.rules.places;
        let writable =
            places.roots.iter().chain(&places.write).any(|place| program.target.starts_with(place));
        inside && !writable && !program.target.starts_with(&self.facts.tmpdir)
    }

    fn candidates(&self, program: &Program) -> Vec<&'a Rule> {
        let name = program.name();
        let by_name = self.rules.by_program.get(&name).into_iter().flatten();
        let mut all: Vec<usize> = by_name.chain(&self.rules.for_all).copied().collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().filter_map(|index| self.rules.rules.get(index)).collect()
    }

    fn denies(&self, rule: &Rule, command: &Command<'_>) -> bool {
        if rule.effect != Effect::Deny {
            return false;
        }
        let about = rule.programs.iter().any(|program| match program {
            ProgramName::Named(name) => command.program.name() == *name,
            ProgramName::Exact(path) => command.program.path == *path,
            ProgramName::Any => true,
        });
        about && generous(rule, command.args)
    }

    /// A word that leads to something hidden denies, whatever the rules say.
    fn hidden(&self, command: &Command<'_>) -> Option<Fault> {
        for dir in bases(command.args, command.dirs) {
            for word in command.args.iter().flat_map(|arg| candidates(arg)) {
                let Some((path, _)) = self.view().resolve(&dir, word) else {
                    let message = format!("what {} means was not looked at", show(word));
                    return Some(Fault::new(Code::PathDenied, message));
                };
                if self.reach.hidden(&path) {
                    let message = format!(
                        "{} leads to {}, which the node's policy hides",
                        show(word),
                        path.display()
                    );
                    return Some(Fault::new(Code::PathDenied, message));
                }
            }
        }
        None
    }

    /// A redirection reads or writes its target. Gives the class it has.
    pub(super) fn redirect(
        &self,
        redirect: &Redirect,
        dirs: &[PathBuf],
        read_only: bool,
    ) -> Result<ClassSet, Fault> {
        let (word, write) = match redirect {
            Redirect::In(word) => (word, false),
            Redirect::Out(word) | Redirect::Append(word) | Redirect::Err(word) => (word, true),
            Redirect::ErrToOut => return Ok(ClassSet::new()),
        };
        let text = word.literal(&self.facts.home).unwrap_or_default();
        let mut classes = ClassSet::new();
        for dir in dirs {
            let denied = |why: String| {
                Fault::new(Code::PathDenied, format!("a redirection to {}: {why}", show(&text)))
            };
            let (path, kind) = self
                .view()
                .resolve(dir, &text)
                .ok_or_else(|| denied("it was not looked at".to_owned()))?;
            // Some shells take these for a network.
            if path.starts_with("/dev/tcp") || path.starts_with("/dev/udp") {
                return Err(denied("it is a network, not a file".to_owned()));
            }
            if write {
                self.reach.writable(&path, read_only).map_err(denied)?;
            } else {
                self.reach.readable(&path).map_err(denied)?;
            }
            if kind == PathKind::File && matches!(redirect, Redirect::Out(_) | Redirect::Err(_)) {
                classes.insert(Class::Destructive);
            }
        }
        Ok(classes)
    }

    /// Where a `cd` leads.
    pub(super) fn directory(&self, to: &Path) -> Result<PathBuf, Fault> {
        let denied = |why: &str| {
            Fault::new(Code::PathDenied, format!("cd to {}: {why}", show(&to.to_string_lossy())))
        };
        let fact = self.facts.path(&to.join("")).ok_or_else(|| denied("it was not looked at"))?;
        if fact.kind != PathKind::Dir {
            return Err(denied("there is no such directory"));
        }
        if !self.reach.is_home(&fact.canonical) || self.reach.hidden(&fact.canonical) {
            return Err(denied("it is outside of the roots"));
        }
        Ok(fact.canonical.clone())
    }

    /// A rule that denies, found by a generous reading.
    pub(super) fn denied_inside(&self, words: &[String]) -> Option<&'a Rule> {
        (0..words.len()).find_map(|at| {
            let name = words[at].rsplit('/').next().unwrap_or(&words[at]);
            let by_name = self.rules.by_program.get(name).into_iter().flatten();
            let mut rules =
                by_name.chain(&self.rules.for_all).filter_map(|index| self.rules.rules.get(*index));
            rules.find(|rule| rule.effect == Effect::Deny && generous(rule, &words[at + 1..]))
        })
    }
}

/// A rule that allows or asks.
fn matched(rule: &Rule, hit: Hit, wrapper: bool, mut trail: Vec<String>) -> Verdict<'_> {
    trail.push(format!("rule {} matches: {}", rule.id, rule.effect.word()));
    let fault = (rule.effect == Effect::Ask).then(|| {
        let why = if rule.reason.is_empty() { String::new() } else { format!(": {}", rule.reason) };
        Fault::new(Code::ConsentNeeded, format!("rule {} asks the owner{why}", rule.id))
    });
    Verdict {
        effect: rule.effect,
        rule: Some(rule),
        hit: Some(hit),
        classes: ClassSet::new(),
        fault,
        trail,
        program: None,
        runs_code: wrapper || in_root(rule),
    }
}

fn in_root(rule: &Rule) -> bool {
    rule.programs.iter().any(|program| matches!(program, ProgramName::Exact(_)))
}

/// By its name or by that of the file it leads to.
pub(super) fn is_wrapper(program: &Program) -> bool {
    let target = program
        .target
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let lists = |name: &str| lists::has(lists::WRAPPERS, name) || lists::has(lists::SHELLS, name);
    let multi = ["busybox", "toybox"].contains(&target.as_str()) && program.name() != target;
    lists(&program.name()) || (lists(&target) && !multi)
}

fn depth(miss: &Miss) -> usize {
    match miss {
        Miss::Program => 0,
        Miss::Global(_) => 1,
        Miss::Sub(_) => 2,
        Miss::Flag(_) => 3,
        Miss::Value(_) => 4,
        Miss::Arg(..) => 5,
    }
}

pub(super) fn explain(miss: &Miss) -> String {
    match miss {
        Miss::Program => "it is about other programs".to_owned(),
        Miss::Global(token) => format!("{} is not one of its globals", show(token)),
        Miss::Sub(Some(token)) => format!("{} is not one of its subcommands", show(token)),
        Miss::Sub(None) => "there is no subcommand".to_owned(),
        Miss::Flag(token) => format!("{} is not one of its flags", show(token)),
        Miss::Value(token) => format!("{} lacks a value", show(token)),
        Miss::Arg(token, why) => format!("{}: {why}", show(token)),
    }
}

fn no_match(shown: &str, nearest: Option<&(&Rule, Miss)>) -> Fault {
    let Some((rule, miss)) = nearest else {
        let fault =
            Fault::new(Code::NotAllowed, format!("no rule of the node's policy is about {shown}"));
        return fault
            .with_hint("the node's owner can add a rule: see 'cortex-agent policy explain'");
    };
    let code = match miss {
        Miss::Program | Miss::Sub(_) => Code::NotAllowed,
        Miss::Global(_) | Miss::Flag(_) | Miss::Value(_) => Code::FlagNotAllowed,
        Miss::Arg(..) => Code::PathDenied,
    };
    let message =
        format!("no rule allows this {shown}; the nearest is {}: {}", rule.id, explain(miss));
    Fault::new(code, message)
}

/// Text of a request as it can stand in a message: escaped, and not without end.
pub(super) fn show(text: &str) -> String {
    let mut shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    if text.chars().count() > 120 {
        shown.push_str("...");
    }
    shown
}

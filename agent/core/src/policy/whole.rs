//! The decision about a whole request: every command alone, the strictest answer wins; then strict mode, then what the
//! machine can enforce, then the plan.

use super::assemble::{Parts, assemble};
use super::classes;
use super::decision::{Class, ClassSet, Decision, Effect, Fingerprint};
use super::file::{OpaqueShell, Strict};
use super::form::{Form, expand};
use super::judge::{Court, Verdict, show};
use super::reach::Reach;
use super::request::Request;
use super::rules::{Rule, Rules};
use super::script::{
    Builtin, Redirect, Script, Step, Word, builtin, fragments, quote, render, walk,
};
use super::{Facts, harden, terminal};
use crate::environment;
use crate::plan::NetMode;
use cortex_model::task::ShellAction;
use cortex_model::{Code, Fault};
use std::path::PathBuf;

/// What the commands of a request add up to.
#[derive(Debug)]
pub(super) struct Sum<'a> {
    pub(super) effect: Effect,
    pub(super) fault: Option<Fault>,
    pub(super) classes: ClassSet,
    pub(super) trail: Vec<String>,
    /// Why the owner must be asked.
    pub(super) why: Vec<String>,
    pub(super) rules: Vec<&'a Rule>,
    /// The rule that decided.
    pub(super) decider: String,
    pub(super) files: Vec<&'a super::Program>,
    pub(super) runs_code: bool,
    pub(super) read_only: bool,
    /// Network and secrets: the same for all commands.
    pub(super) rights: Option<&'a Rule>,
}

impl<'a> Sum<'a> {
    pub(super) fn new() -> Self {
        Self {
            effect: Effect::Allow,
            fault: None,
            classes: ClassSet::new(),
            trail: Vec::new(),
            why: Vec::new(),
            rules: Vec::new(),
            decider: String::new(),
            files: Vec::new(),
            runs_code: false,
            read_only: false,
            rights: None,
        }
    }

    /// Strictest wins; of equals the first.
    pub(super) fn raise(&mut self, effect: Effect, fault: Option<Fault>, rule: &str) {
        if effect > self.effect
            || (self.decider.is_empty() && self.fault.is_none() && effect == self.effect)
        {
            self.effect = effect;
            rule.clone_into(&mut self.decider);
            self.fault = fault;
        }
    }

    fn add(&mut self, verdict: Verdict<'a>) {
        self.trail.extend(verdict.trail);
        self.classes.extend(verdict.classes);
        self.runs_code |= verdict.runs_code;
        self.files.extend(verdict.program);
        let id = verdict.rule.map(|rule| rule.id.clone()).unwrap_or_default();
        if verdict.effect == Effect::Ask {
            self.why.extend(verdict.fault.iter().map(|fault| fault.message.clone()));
        }
        self.raise(verdict.effect, verdict.fault, &id);
        let Some(rule) = verdict.rule else { return };
        self.read_only |= rule.read_only;
        match self.rights {
            Some(other) if other.net != rule.net || other.secrets != rule.secrets => {
                let message = format!(
                    "rules {} and {} give different networks or secrets",
                    other.id, rule.id
                );
                self.trail.push(message.clone());
                self.raise(Effect::Deny, Some(Fault::new(Code::RightsDiffer, message)), &rule.id);
            }
            Some(_) => {}
            None => self.rights = Some(rule),
        }
        self.rules.push(rule);
    }
}

/// Decides by a policy of version 1.
pub(super) fn decide(
    rules: &Rules,
    digest: &str,
    facts: &Facts,
    request: &Request<'_>,
    shell: &ShellAction,
) -> Decision {
    let reach = Reach::new(&rules.places, &facts.tmpdir);
    let court = Court { rules, facts, reach: &reach };
    let early = |fault: Fault| Decision::deny("", vec![fault.message.clone()], fault);
    if let Some((name, _)) = shell.env.iter().find(|(name, _)| environment::is_refused(name)) {
        let message = format!("the task may not set the environment variable {}", show(name));
        return early(Fault::new(Code::EnvForbidden, message));
    }
    let form = match Form::of(shell) {
        Ok(form) => form,
        Err(fault) => return early(fault),
    };
    let cwd = match cwd(facts, &reach) {
        Ok(cwd) => cwd,
        Err(fault) => return early(fault),
    };
    let mut sum = Sum::new();
    let mut opaque = None;
    let argv = match &form {
        Form::Argv(argv) => Some(self::argv(&court, argv, &cwd, &mut sum)),
        Form::Script { text, read } => match script(&court, read, &cwd, &mut sum) {
            Ok(argv) => argv,
            Err(why) => {
                opaque = Some(text.clone());
                judge_opaque(&court, text, &why, &mut sum)
            }
        },
    };
    let net = sum.rights.map_or(NetMode::None, |rule| rule.net.clone());
    sum.classes.extend(classes::of_net(&net));
    strict_mode(rules, &mut sum);
    if shell.terminal.is_some() {
        terminal::decide(rules, &facts.machine, &mut sum);
    }
    let parts = Parts { digest, cwd, argv, net, opaque };
    assemble(&court, request, shell, parts, sum)
}

fn cwd(facts: &Facts, reach: &Reach<'_>) -> Result<PathBuf, Fault> {
    match &facts.cwd {
        None => Ok(PathBuf::from(&facts.tmpdir)),
        Some(Err(why)) => Err(Fault::new(Code::BadCwd, why.clone())),
        Some(Ok(cwd)) if reach.is_home(cwd) && !reach.hidden(cwd) => Ok(cwd.clone()),
        Some(Ok(cwd)) => {
            let message =
                format!("the working directory {} is outside of the policy's roots", cwd.display());
            Err(Fault::new(Code::PathDenied, message))
        }
    }
}

/// A single program: its words as they will be executed.
fn argv<'a>(
    court: &Court<'a>,
    argv: &[String],
    cwd: &std::path::Path,
    sum: &mut Sum<'a>,
) -> Vec<String> {
    let base = argv.first().map(|name| name.rsplit('/').next().unwrap_or(name)).unwrap_or_default();
    let dirs = [cwd.to_owned()];
    let verdict = court.command(argv, &dirs);
    // A shell in another form than `-c SCRIPT` runs what cannot be seen here.
    if super::lists::SHELLS.contains(&base)
        && verdict.rule.is_none()
        && court.rules.opaque == OpaqueShell::Ask
    {
        let known =
            verdict.fault.as_ref().is_some_and(|fault| fault.code == Code::WrapperNotAllowed);
        let inside = argv.iter().skip(1).flat_map(|word| fragments(word));
        let denied = inside.into_iter().find_map(|words| court.denied_inside(&words));
        if known && denied.is_none() {
            let why = format!("{} runs a script that cannot be looked into", show(base));
            sum.trail.extend(verdict.trail);
            sum.files.extend(verdict.program);
            ask_opaque(sum, why);
            return argv.to_vec();
        }
    }
    let hit = verdict.hit.zip(verdict.rule);
    sum.add(verdict);
    match hit {
        Some((hit, rule)) if rule.harden_git => harden::arguments(argv, hit.after_sub),
        Some(_) | None => argv.to_vec(),
    }
}

fn ask_opaque(sum: &mut Sum<'_>, why: String) {
    sum.classes.insert(Class::Opaque);
    sum.runs_code = true;
    sum.trail.push(why.clone());
    sum.why.push(why.clone());
    sum.raise(Effect::Ask, Some(Fault::new(Code::OpaqueScript, why)), "opaque_shell");
}

/// A script: `Ok` with what runs in its place, `Err` when it is opaque.
fn script<'a>(
    court: &Court<'a>,
    read: &Result<Script, super::script::Opaque>,
    cwd: &std::path::Path,
    sum: &mut Sum<'a>,
) -> Result<Option<Vec<String>>, String> {
    let script = read.as_ref().map_err(ToString::to_string)?;
    let steps = walk(script, cwd, &court.facts.home).map_err(|opaque| opaque.why.to_owned())?;
    let mut words = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        // A pattern is looked up before the script runs: it must not stand for what another command makes.
        let others = steps.iter().enumerate().filter(|(other, _)| *other != at);
        if step.words.iter().any(Word::is_glob) && others.into_iter().any(|(_, step)| makes(step)) {
            return Err("a pattern may stand for what the script itself makes".to_owned());
        }
        words.push(expand(step.words, &step.dirs, court.facts)?);
    }
    let mut commands = Vec::new();
    for (step, words) in steps.iter().zip(&words) {
        commands.push(self::step(court, step, words, sum));
    }
    // Redirections last: whether a root can be written in is known only now.
    for (step, command) in steps.iter().zip(&mut commands) {
        for redirect in step.redirects {
            match court.redirect(redirect, &step.dirs, sum.read_only) {
                Ok(classes) => sum.classes.extend(classes),
                Err(fault) => {
                    sum.trail.push(fault.message.clone());
                    sum.raise(Effect::Deny, Some(fault), "");
                }
            }
            command.push_str(&self::redirect(court, redirect, step));
        }
        if step.alone {
            command.push_str(" || exit 1");
        }
    }
    let Some(Ok(sh)) = court.facts.programs.get("sh") else {
        sum.raise(
            Effect::Deny,
            Some(Fault::new(Code::ProgramNotFound, "sh: not found on this machine")),
            "",
        );
        return Ok(None);
    };
    sum.files.insert(0, sh);
    Ok(Some(vec!["sh".to_owned(), "-c".to_owned(), render(script, &commands)]))
}

/// Whether a command writes into a file by a redirection.
fn makes(step: &Step<'_>) -> bool {
    let writes = |redirect: &Redirect| match redirect {
        Redirect::Out(_) | Redirect::Append(_) | Redirect::Err(_) => true,
        Redirect::In(_) | Redirect::ErrToOut => false,
    };
    step.redirects.iter().any(writes)
}

/// One command of a script, written down anew.
fn step<'a>(court: &Court<'a>, step: &Step<'_>, words: &[String], sum: &mut Sum<'a>) -> String {
    let name = words.first().map(|name| show(name)).unwrap_or_default();
    let mut written = words.to_vec();
    match builtin(words) {
        Builtin::Harmless => {
            sum.trail.push(format!("{name} is done by the shell itself and harmless"))
        }
        Builtin::Refused(why) => {
            sum.trail.push(format!("{name}: {why}"));
            let fault =
                Fault::new(Code::BuiltinNotAllowed, format!("the script uses {name}: {why}"));
            sum.raise(Effect::Deny, Some(fault), "");
        }
        Builtin::Cd => {
            match court.directory(step.to.as_deref().unwrap_or(std::path::Path::new(""))) {
                Ok(dir) => {
                    sum.trail.push(format!("cd to {}", dir.display()));
                    written = vec!["cd".to_owned(), dir.to_string_lossy().into_owned()];
                }
                Err(fault) => {
                    sum.trail.push(fault.message.clone());
                    sum.raise(Effect::Deny, Some(fault), "");
                }
            }
        }
        Builtin::None => {
            let verdict = court.command(words, &step.dirs);
            if let (Some(hit), Some(rule)) = (verdict.hit, verdict.rule)
                && rule.harden_git
            {
                written = harden::arguments(words, hit.after_sub);
            }
            if let (Some(program), Some(first)) = (verdict.program, written.first_mut()) {
                *first = program.path.to_string_lossy().into_owned();
            }
            sum.add(verdict);
        }
    }
    written.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// A redirection, to where its target really is.
fn redirect(court: &Court<'_>, redirect: &Redirect, step: &Step<'_>) -> String {
    let (sign, word) = match redirect {
        Redirect::ErrToOut => return " 2>&1".to_owned(),
        Redirect::In(word) => ("<", word),
        Redirect::Out(word) => (">", word),
        Redirect::Append(word) => (">>", word),
        Redirect::Err(word) => ("2>", word),
    };
    let text = word.literal(&court.facts.home).unwrap_or_default();
    let place = match step.dirs.as_slice() {
        [dir] => court
            .facts
            .path(&dir.join(&text))
            .map(|fact| fact.canonical.to_string_lossy().into_owned()),
        _ => None,
    };
    format!(" {sign} {}", quote(&place.unwrap_or(text)))
}

/// A script outside of the subset: a rule that denies may still be found in it; otherwise it is the owner's to decide.
fn judge_opaque<'a>(
    court: &Court<'a>,
    text: &str,
    why: &str,
    sum: &mut Sum<'a>,
) -> Option<Vec<String>> {
    sum.trail.push(format!("the script cannot be looked into ({why})"));
    for words in fragments(text) {
        if let Some(rule) = court.denied_inside(&words) {
            let because =
                if rule.reason.is_empty() { String::new() } else { format!(": {}", rule.reason) };
            let message = format!("the script seems to do what rule {} denies{because}", rule.id);
            sum.trail.push(message.clone());
            sum.raise(Effect::Deny, Some(Fault::new(Code::RuleDenies, message)), &rule.id);
        }
        for at in 0..words.len() {
            let name = words[at].rsplit('/').next().unwrap_or(&words[at]);
            sum.classes.extend(classes::by_words(name, &words[at + 1..]));
        }
    }
    let message = format!("the script cannot be looked into ({why})");
    if court.rules.opaque == OpaqueShell::Deny {
        sum.raise(Effect::Deny, Some(Fault::new(Code::OpaqueScript, message)), "opaque_shell");
    }
    ask_opaque(sum, format!("the script cannot be looked into: {why}"));
    match court.facts.programs.get("sh") {
        Some(Ok(sh)) => sum.files.insert(0, sh),
        Some(Err(_)) | None => {
            sum.raise(
                Effect::Deny,
                Some(Fault::new(Code::ProgramNotFound, "sh: not found on this machine")),
                "",
            );
        }
    }
    Some(vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

/// Some classes need the owner's word even when a rule allows them.
pub(super) fn strict_mode(rules: &Rules, sum: &mut Sum<'_>) {
    let asks = |class: &Class| match rules.strict {
        Strict::Off => false,
        Strict::Destructive => matches!(class, Class::Destructive | Class::Privilege),
        Strict::All => true,
    };
    let asked: Vec<&str> =
        sum.classes.iter().filter(|class| asks(class)).map(|class| class.word()).collect();
    if asked.is_empty() || sum.effect == Effect::Deny {
        return;
    }
    let why = format!("strict mode: {}", asked.join(", "));
    sum.trail.push(why.clone());
    sum.why.push(why.clone());
    let decider = sum.decider.clone();
    sum.raise(Effect::Ask, Some(Fault::new(Code::ConsentNeeded, why)), &decider);
}

impl Decision {
    pub(super) fn deny(rule: &str, trail: Vec<String>, fault: Fault) -> Self {
        Self {
            effect: Effect::Deny,
            classes: ClassSet::new(),
            rule: rule.to_owned(),
            trail,
            fault: Some(fault),
            plan: None,
            proposal: None,
            fingerprint: Fingerprint([0; 32]),
        }
    }
}

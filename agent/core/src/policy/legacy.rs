//! Policies of version 0, from before there was a sandbox: an allow-list of programs by absolute path. They keep working,
//! and mean what they always meant: each program with any arguments, with the agent's own rights.

use super::decision::{ClassSet, Decision, Effect, Fingerprint};
use super::error::PolicyError;
use super::facts::{Facts, Program};
use super::narrow::Narrowing;
use super::request::Request;
use crate::environment;
use crate::plan::{
    Confine, Enforce, ExecPlan, FsView, Limits, NetMode, Operation, ProcessPlan, TmpDir,
};
use cortex_model::task::ShellAction;
use cortex_model::{Code, Fault};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Legacy {
    programs: BTreeSet<PathBuf>,
    pub(super) echo: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default)]
    shell: Shell,
    #[serde(default)]
    echo: Echo,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Shell {
    #[serde(default)]
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Echo {
    allow: bool,
}

impl Default for Echo {
    fn default() -> Self {
        Self { allow: true }
    }
}

impl Legacy {
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text).map_err(|err| PolicyError::syntax(text, &err))?;
        let mut programs = BTreeSet::new();
        for entry in file.shell.allow {
            let path = PathBuf::from(&entry);
            let plain = path.components().all(|part| {
                matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_))
            });
            if !path.is_absolute() || !plain || entry.ends_with('/') || path.file_name().is_none() {
                return Err(PolicyError::Program(entry));
            }
            programs.insert(path);
        }
        Ok(Self { programs, echo: file.echo.allow })
    }

    pub(super) fn nothing() -> Self {
        Self { programs: BTreeSet::new(), echo: false }
    }

    /// Such a policy holds nobody to anything: where something else than a program is taken away, nothing runs any more.
    pub(super) fn narrow(&mut self, narrowing: &Narrowing) {
        let names_only = Narrowing { deny: narrowing.deny.clone(), ..Narrowing::default() };
        if *narrowing != names_only || narrowing.deny.contains("*") {
            self.programs.clear();
        }
        let denied = |program: &PathBuf| {
            program
                .file_name()
                .is_some_and(|name| narrowing.deny.contains(name.to_string_lossy().as_ref()))
        };
        self.programs.retain(|program| !denied(program));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Directories whose links are to be followed.
    pub(super) fn named(&self) -> BTreeSet<PathBuf> {
        self.programs.iter().filter_map(|program| program.parent()).map(Path::to_owned).collect()
    }

    /// `/bin/ls` and `/usr/bin/ls` are the same file where one directory is a link to the other.
    pub(super) fn resolved(self, dirs: &BTreeMap<PathBuf, PathBuf>) -> Self {
        let resolve = |program: PathBuf| match (
            program.parent().and_then(|dir| dirs.get(dir)),
            program.file_name(),
        ) {
            (Some(dir), Some(name)) => dir.join(name),
            _ => program.clone(),
        };
        Self { programs: self.programs.into_iter().map(resolve).collect(), ..self }
    }

    pub(super) fn decide(
        &self,
        facts: &Facts,
        request: &Request<'_>,
        shell: &ShellAction,
    ) -> Decision {
        let mut trail = Vec::new();
        if let Some(fault) = unknown(shell) {
            let hint = "write a new policy with 'cortex-agent init'";
            return Decision::deny("", trail, fault.with_hint(hint));
        }
        let name = shell
            .argv
            .first()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .unwrap_or_default();
        let program = match facts.programs.get(&name) {
            Some(Ok(program)) => program,
            Some(Err(why)) => {
                return Decision::deny(
                    "",
                    trail,
                    Fault::new(Code::ProgramNotFound, format!("{name}: {why}")),
                );
            }
            None => {
                let fault =
                    Fault::new(Code::ProgramNotFound, format!("{name}: it was not looked for"));
                return Decision::deny("", trail, fault);
            }
        };
        let path = program.path.display();
        trail.push(format!("{name} is {path}"));
        if !self.programs.contains(&program.path) {
            trail.push(format!("{path} is not in shell.allow"));
            let message = format!("the node's policy does not allow {path}");
            let hint = format!(
                "the node's owner can add {:?} to shell.allow in policy.toml",
                program.path
            );
            return Decision::deny(
                "",
                trail,
                Fault::new(Code::NotAllowed, message).with_hint(hint),
            );
        }
        trail.push(format!("{path} is in shell.allow"));
        if let Some((name, _)) = shell.env.iter().find(|(name, _)| environment::is_refused(name)) {
            let message = format!("the task may not set the environment variable {name}");
            return Decision::deny("env", trail, Fault::new(Code::EnvForbidden, message));
        }
        let cwd = match &facts.cwd {
            Some(Ok(cwd)) => cwd.clone(),
            Some(Err(why)) => {
                return Decision::deny("", trail, Fault::new(Code::BadCwd, why.clone()));
            }
            None => PathBuf::from(&facts.tmpdir),
        };
        let process = process(program, cwd, facts, request, shell);
        let rule = format!("shell.allow {path}");
        Decision::start(&rule, Operation::Process(Box::new(process)), trail, request)
    }
}

/// What a policy of version 0 has no word for.
fn unknown(shell: &ShellAction) -> Option<Fault> {
    let older = "the node's policy is of version 0, which";
    if shell.terminal.is_some() {
        return Some(Fault::new(Code::TerminalDenied, format!("{older} gives no terminals")));
    }
    let plain = shell.script.is_empty() && shell.secret_env.is_empty();
    (!plain)
        .then(|| Fault::new(Code::NotAllowed, format!("{older} knows no scripts and no secrets")))
}

/// With the agent's own rights, as version 0 always said.
fn process(
    program: &Program,
    cwd: PathBuf,
    facts: &Facts,
    request: &Request<'_>,
    shell: &ShellAction,
) -> ProcessPlan {
    let Facts { agent, home, tmpdir, .. } = facts;
    ProcessPlan {
        program: program.path.clone(),
        files: vec![(program.path.clone(), program.id)],
        argv: shell.argv.clone(),
        cwd,
        env: environment::build(request.key, request.fence, agent, home, tmpdir, &shell.env),
        stdin: shell.stdin.clone(),
        terminal: None,
        view: FsView { read: vec!["/".into()], write: vec!["/".into()], ..FsView::default() },
        net: NetMode::Full,
        limits: Limits {
            cpu_percent: None,
            memory: None,
            pids: None,
            wall_ms: request.timeout_ms,
            output: request.output_limit,
            file_size: None,
            enforce: Enforce::BestEffort,
        },
        confine: Confine::Never,
        tmp: TmpDir::Shared(PathBuf::from(tmpdir)),
        secrets: Vec::new(),
        work: None,
    }
}

impl Decision {
    pub(super) fn start(
        rule: &str,
        operation: Operation,
        trail: Vec<String>,
        request: &Request<'_>,
    ) -> Self {
        Self {
            effect: Effect::Allow,
            classes: ClassSet::new(),
            rule: rule.to_owned(),
            trail,
            fault: None,
            plan: Some(ExecPlan::new(operation, request.timeout_ms, request.output_limit)),
            proposal: None,
            fingerprint: Fingerprint([0; 32]),
        }
    }
}

//! May this run here? For now an allow-list of programs by absolute path; what is not allowed is
//! denied. [`decide`] is a function of policy, facts and request alone.

use crate::environment;
use crate::plan::{
    Confine, Enforce, ExecPlan, FileId, FsView, Limits, NetMode, Operation, ProcessPlan, TmpDir,
};
use cortex_model::task::ShellAction;
use cortex_model::{Action, AttemptKey, Code, Fault};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The only version of the policy file that this program reads.
pub const VERSION: u32 = 0;

/// The owner's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Programs that may run; their directories resolved, see [`Policy::with_programs`].
    programs: BTreeSet<PathBuf>,
    echo: bool,
    digest: String,
}

/// Why a policy file cannot be used. The agent then takes no work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Not TOML, or with unknown or missing keys.
    #[error("it cannot be read: {0}")]
    Syntax(String),
    /// Another version.
    #[error("it has version {0}, this agent reads version {VERSION}")]
    Version(u32),
    /// An entry of the allow-list that is no absolute path of a file.
    #[error("{0:?} in shell.allow is not an absolute path of a program")]
    Program(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
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

impl Policy {
    /// Reads the text of a policy file. `digest` is the SHA-256 of the text, for the journal.
    ///
    /// # Errors
    /// Anything that is not understood completely.
    pub fn parse(text: &str, digest: String) -> Result<Self, PolicyError> {
        let file: File =
            toml::from_str(text).map_err(|err| PolicyError::Syntax(err.message().to_owned()))?;
        if file.version != VERSION {
            return Err(PolicyError::Version(file.version));
        }
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
        Ok(Self { programs, echo: file.echo.allow, digest })
    }

    /// A policy that allows nothing at all.
    #[must_use]
    pub fn nothing() -> Self {
        Self { programs: BTreeSet::new(), echo: false, digest: String::new() }
    }

    /// The programs as the file names them.
    #[must_use]
    pub fn programs(&self) -> &BTreeSet<PathBuf> {
        &self.programs
    }

    /// The same policy with each program's directory resolved by the caller, so that `/bin/ls` and
    /// `/usr/bin/ls` mean the same file where one directory is a link to the other.
    #[must_use]
    pub fn with_programs(self, programs: BTreeSet<PathBuf>) -> Self {
        Self { programs, ..self }
    }

    /// Whether echo tasks may run.
    #[must_use]
    pub fn allows_echo(&self) -> bool {
        self.echo
    }

    /// SHA-256 of the policy file, 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The attempt.
    pub key: &'a AttemptKey,
    /// Revision of `Started`.
    pub fence: u64,
    /// What to do.
    pub action: &'a Action,
    /// Longest run, milliseconds.
    pub timeout_ms: u64,
    /// Most output kept, bytes.
    pub output_limit: u64,
}

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its directory resolved, its name kept.
    pub path: PathBuf,
    /// Which file that is.
    pub id: FileId,
}

/// What the agent found out about the request on this machine.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The program. `Err` says why there is none.
    pub program: Result<Program, String>,
    /// The working directory. `Err` says why it cannot be used.
    pub cwd: Result<PathBuf, String>,
    /// `HOME` of the process.
    pub home: String,
    /// `TMPDIR` of the process.
    pub tmpdir: String,
    /// The journal's incarnation, which marks the agent's processes.
    pub agent: String,
}

/// Whether it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// The answer of [`decide`], with its reasons.
#[derive(Debug)]
pub struct Decision {
    /// Allow or deny.
    pub effect: Effect,
    /// The rule that decided; empty when nothing matched.
    pub rule: String,
    /// The steps that led here, for people.
    pub trail: Vec<String>,
    /// Why not, when denied.
    pub fault: Option<Fault>,
    /// What may be started, when allowed.
    pub plan: Option<ExecPlan>,
}

/// Decides about a request.
#[must_use]
pub fn decide(policy: &Policy, facts: &Facts, request: &Request<'_>) -> Decision {
    match request.action {
        Action::Echo { payload } if policy.echo => {
            allow("echo.allow", Operation::Echo(payload.clone()), Vec::new(), request)
        }
        Action::Echo { .. } => deny(
            "echo.allow",
            vec!["the policy has echo.allow = false".to_owned()],
            Fault::new(Code::NotAllowed, "the node's policy does not allow echo"),
        ),
        Action::Shell(shell) => decide_shell(policy, facts, request, shell),
    }
}

fn decide_shell(
    policy: &Policy,
    facts: &Facts,
    request: &Request<'_>,
    shell: &ShellAction,
) -> Decision {
    let name = shell.argv.first().map(|name| String::from_utf8_lossy(name)).unwrap_or_default();
    let mut trail = Vec::new();
    let program = match &facts.program {
        Ok(program) => program,
        Err(why) => {
            let message = format!("{name}: {why}");
            return deny("", trail, Fault::new(Code::ProgramNotFound, message));
        }
    };
    let Program { path: program, id } = program;
    trail.push(format!("{name} is {}", program.display()));
    if !policy.programs.contains(program) {
        trail.push(format!("{} is not in shell.allow", program.display()));
        let message = format!("the node's policy does not allow {}", program.display());
        let hint = format!("the node's owner can add {:?} to shell.allow in policy.toml", program);
        return deny("", trail, Fault::new(Code::NotAllowed, message).with_hint(hint));
    }
    trail.push(format!("{} is in shell.allow", program.display()));
    if let Some((name, _)) = shell.env.iter().find(|(name, _)| environment::is_refused(name)) {
        let message = format!("the task may not set the environment variable {name}");
        return deny("env", trail, Fault::new(Code::EnvForbidden, message));
    }
    let cwd = match &facts.cwd {
        Ok(cwd) => cwd.clone(),
        Err(why) => return deny("", trail, Fault::new(Code::BadCwd, why.clone())),
    };
    let Facts { agent, home, tmpdir, .. } = facts;
    let process = ProcessPlan {
        program: program.clone(),
        files: vec![(program.clone(), *id)],
        argv: shell.argv.clone(),
        cwd,
        env: environment::build(request.key, request.fence, agent, home, tmpdir, &shell.env),
        stdin: shell.stdin.clone(),
        view: FsView {
            read: vec![PathBuf::from("/")],
            write: vec![PathBuf::from("/")],
            ..FsView::default()
        },
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
    };
    let rule = format!("shell.allow {}", display(program));
    allow(&rule, Operation::Process(Box::new(process)), trail, request)
}

fn display(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn allow(rule: &str, op: Operation, trail: Vec<String>, request: &Request<'_>) -> Decision {
    Decision {
        effect: Effect::Allow,
        rule: rule.to_owned(),
        trail,
        fault: None,
        plan: Some(ExecPlan::new(op, request.timeout_ms, request.output_limit)),
    }
}

fn deny(rule: &str, trail: Vec<String>, fault: Fault) -> Decision {
    Decision { effect: Effect::Deny, rule: rule.to_owned(), trail, fault: Some(fault), plan: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_model::{TaskId, TaskKey, Workspace};

    fn policy(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, "d".to_owned())
    }

    fn key() -> AttemptKey {
        let task = TaskId::parse("t").unwrap();
        AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 2 }
    }

    fn facts(program: Result<&str, &str>) -> Facts {
        Facts {
            program: program
                .map(|path| Program { path: PathBuf::from(path), id: FileId { dev: 1, ino: 2 } })
                .map_err(str::to_owned),
            cwd: Ok(PathBuf::from("/work")),
            home: "/home/x".to_owned(),
            tmpdir: "/tmp/x".to_owned(),
            agent: "inc".to_owned(),
        }
    }

    fn ask(policy: &Policy, facts: &Facts, env: &[(&str, &str)]) -> Decision {
        let env = env.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect();
        let shell =
            ShellAction { argv: vec![b"ls".to_vec()], cwd: String::new(), env, stdin: vec![] };
        let action = Action::Shell(shell);
        let key = key();
        let request =
            Request { key: &key, fence: 7, action: &action, timeout_ms: 5, output_limit: 6 };
        decide(policy, facts, &request)
    }

    #[test]
    fn files_that_are_not_understood_completely_are_refused() {
        assert!(policy("version = 0\n[shell]\nallow = [\"/usr/bin/ls\"]").is_ok());
        assert!(policy("version = 0").is_ok());
        assert_eq!(policy("version = 1"), Err(PolicyError::Version(1)));
        for text in ["", "version = 0\nx = 1", "version = 0\n[shell]\nalow = []", "version = \"0\""]
        {
            assert!(matches!(policy(text), Err(PolicyError::Syntax(_))), "{text}");
        }
        for path in ["ls", "./ls", "/usr/bin/", "/", "/usr/../bin/ls", ""] {
            let text = format!("version = 0\n[shell]\nallow = [{path:?}]");
            assert!(matches!(policy(&text), Err(PolicyError::Program(_))), "{path}");
        }
    }

    #[test]
    fn only_listed_programs_run_and_the_plan_is_complete() {
        let policy = policy("version = 0\n[shell]\nallow = [\"/usr/bin/ls\"]").unwrap();
        let allowed = ask(&policy, &facts(Ok("/usr/bin/ls")), &[("TZ", "UTC"), ("LANG", "C")]);
        assert_eq!(
            (allowed.effect, allowed.rule.as_str()),
            (Effect::Allow, "shell.allow /usr/bin/ls")
        );
        let plan = allowed.plan.unwrap();
        assert_eq!((plan.timeout_ms(), plan.output_limit()), (5, 6));
        let Operation::Process(process) = plan.operation() else { panic!("no process") };
        let env: Vec<String> = process
            .env
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(
            env,
            [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/home/x",
                "TMPDIR=/tmp/x",
                "CORTEX_AGENT=inc",
                "CORTEX_TASK=default/t",
                "CORTEX_ATTEMPT=2",
                "CORTEX_FENCE=7",
                "TZ=UTC",
                "LANG=C",
            ]
        );
    }

    #[test]
    fn what_is_denied_says_why_and_has_no_plan() {
        let policy = policy("version = 0\n[shell]\nallow = [\"/usr/bin/ls\"]").unwrap();
        let good = facts(Ok("/usr/bin/ls"));
        let mut no_cwd = good.clone();
        no_cwd.cwd = Err("no such directory".to_owned());
        for (facts, env, code) in [
            (facts(Ok("/tmp/ls")), &[][..], Code::NotAllowed),
            (facts(Err("not found")), &[], Code::ProgramNotFound),
            (good, &[("LD_PRELOAD", "x")], Code::EnvForbidden),
            (no_cwd, &[], Code::BadCwd),
        ] {
            let denied = ask(&policy, &facts, env);
            assert_eq!(denied.effect, Effect::Deny);
            assert_eq!(denied.fault.map(|fault| fault.code), Some(code));
            assert!(denied.plan.is_none());
        }
    }
}

//! `cortex-agent policy check|explain|test|show`: what the policy file says, and what it does to a command. They start nothing.

use super::narrowing::Held;
use super::{expanded, file};
use crate::facts::{Scene, gather};
use clap::{Args, Subcommand};
use cortex_agent_core::policy::{Machine, Policy};
use cortex_agent_core::{Decision, Request, decide};
use cortex_model::task::{ShellAction, Terminal};
use cortex_model::{
    Action, AttemptKey, BrowserAction, Code, Fault, TaskId, TaskKey, Workspace, browser, wire,
};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Works on the policy file.
#[derive(Debug, Args)]
pub(crate) struct PolicyCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Args)]
struct Where {
    /// Directory of the agent's data [default: where 'join' made it].
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The policy file; without it, policy.toml in the data directory.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether the policy can be used, and if not, what is wrong.
    Check(Where),
    /// Say what the policy does to a command, step by step. Starts nothing.
    Explain {
        #[command(flatten)]
        place: Where,
        /// Working directory of the command.
        #[arg(long, value_name = "DIR", default_value = "")]
        cwd: String,
        /// Take the one word that follows as a script.
        #[arg(long)]
        script: bool,
        /// With a terminal.
        #[arg(long)]
        tty: bool,
        /// The words that follow are a page in place of a command: what is wanted of it (text, html, links, screenshot, pdf,
        /// download), its address, and steps as 'cortex browser --step' takes them.
        #[arg(long, conflicts_with_all = ["script", "tty", "env"])]
        browser: bool,
        /// A variable that the task sets; may be given more than once.
        #[arg(long = "env", value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// The command.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Run the examples that stand in a policy file.
    Test {
        /// The policy file.
        file: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print the policy.
    Show {
        #[command(flatten)]
        place: Where,
        /// With every named set written out.
        #[arg(long)]
        expanded: bool,
    },
}

impl Where {
    fn paths(&self) -> Result<(PathBuf, PathBuf), Fault> {
        let dir = self.data_dir.clone().or_else(|| {
            self.policy
                .as_ref()
                .and_then(|file| file.parent())
                .map(|_| PathBuf::from("/nonexistent"))
        });
        let dir = match dir {
            Some(dir) => dir,
            None => crate::config::default_data_dir()?,
        };
        Ok((self.policy.clone().unwrap_or_else(|| dir.join("policy.toml")), dir))
    }

    /// The owner's policy.
    fn load(&self) -> Result<(PathBuf, PathBuf, Policy), Fault> {
        let (path, dir) = self.paths()?;
        let policy = file::load(&path, &file::place(&path, &dir)).map_err(|err| err.to_fault())?;
        Ok((path, dir, policy))
    }

    /// What a server takes away from it; nothing where the policy is not that of an agent.
    fn held(&self, dir: &Path) -> Result<Held, Fault> {
        if self.policy.is_some() { Ok(Held::default()) } else { Held::load(dir) }
    }
}

impl PolicyCommand {
    /// Runs it. `false`: what was asked is answered with no.
    pub(crate) fn run(self, out: &mut impl Write) -> Result<bool, Fault> {
        let said = |err: std::io::Error| Fault::new(Code::AgentUnable, err.to_string());
        match self.what {
            What::Check(place) => {
                let (path, _, policy) = place.load()?;
                let (version, rules) = (policy.version(), policy.rule_count());
                if place.json {
                    let digest = policy.digest();
                    let value = json!({"ok": true, "file": path, "name": policy.name(), "version": version, "rules": rules, "sha256": digest});
                    writeln!(out, "{value}").map_err(said)?;
                } else {
                    writeln!(out, "{} is good: {}, {rules} rules", path.display(), policy.name())
                        .map_err(said)?;
                    if version == 0 {
                        let note = "it is of version 0: no sandbox, no rules, no consent; 'cortex-agent init' writes a new one";
                        writeln!(out, "{note}").map_err(said)?;
                    }
                }
                Ok(true)
            }
            What::Explain { place, cwd, script, tty, browser, env, command } => {
                let (_, dir, policy) = place.load()?;
                let policy = place.held(&dir)?.narrow(policy);
                let action = match browser {
                    true => page(&command)?,
                    false => action(command, script, (cwd, tty), env)?,
                };
                let decision = ask(&policy, &action, dir);
                explain(out, &decision, place.json).map_err(said)?;
                Ok(decision.plan.is_some())
            }
            What::Test { file, json } => test(out, &file, json),
            What::Show { place, expanded } => {
                let (path, dir, policy) = place.load()?;
                let text = file::read(&path).map_err(|err| err.to_fault())?;
                let own = file::place(&path, &dir);
                let held = place.held(&dir)?;
                if place.json {
                    let mut value = expanded::json(&policy, &text, &own, expanded)?;
                    value["taken_away"] = held.applied().into();
                    writeln!(out, "{value}").map_err(said)?;
                } else {
                    writeln!(out, "{}", text.trim_end()).map_err(said)?;
                    for what in held.applied() {
                        writeln!(out, "# an administrator of the server takes away: {what}")
                            .map_err(said)?;
                    }
                    if expanded {
                        write!(out, "{}", expanded::text(&own)).map_err(said)?;
                    }
                }
                Ok(true)
            }
        }
    }
}

/// Runs the examples that stand in a policy file.
fn test(out: &mut impl Write, path: &Path, json: bool) -> Result<bool, Fault> {
    let said = |err: std::io::Error| Fault::new(Code::AgentUnable, err.to_string());
    let place = file::place(path, &PathBuf::from("/nonexistent"));
    let text = std::fs::read_to_string(path)
        .map_err(|err| Fault::new(Code::PolicyUnusable, format!("{}: {err}", path.display())))?;
    let policy = file::compile(path, &text, &place).map_err(|err| err.to_fault())?;
    let count = text.matches("examples.").count();
    if json {
        writeln!(out, "{}", json!({"ok": true, "rules": policy.rule_count()})).map_err(said)?;
    } else {
        let rules = policy.rule_count();
        writeln!(
            out,
            "{}: {rules} rules, every example comes out as it says ({count} lists)",
            path.display()
        )
        .map_err(said)?;
    }
    Ok(true)
}

/// A page, from the words for it.
fn page(words: &[OsString]) -> Result<Action, Fault> {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let wrong = || Fault::new(Code::Usage, "--browser takes RESULT URL [STEP]...");
    let result = words.first().and_then(|word| browser::result_of(word)).ok_or_else(wrong)?;
    let url = words.get(1).ok_or_else(wrong)?.clone().into_owned();
    let steps = words.iter().skip(2).map(|step| browser::parse_step(step));
    let steps = steps.collect::<Result<_, _>>()?;
    let action = BrowserAction { url, steps, result, window: (0, 0), step_timeout_ms: 0 };
    wire::browser::action((&action).into()).map(|action| Action::Browser(Box::new(action)))
}

fn action(
    command: Vec<OsString>,
    script: bool,
    (cwd, tty): (String, bool),
    env: Vec<String>,
) -> Result<Action, Fault> {
    let terminal = tty.then(Terminal::default);
    let mut shell = ShellAction { cwd, terminal, ..ShellAction::default() };
    for variable in env {
        let bad = || Fault::new(Code::Usage, format!("{variable:?} is not NAME=VALUE"));
        let (name, value) = variable.split_once('=').ok_or_else(bad)?;
        shell.env.push((name.to_owned(), value.as_bytes().to_vec()));
    }
    if script {
        let [text] = command.as_slice() else {
            return Err(Fault::new(
                Code::Usage,
                "--script takes one word: the whole script in quotes",
            ));
        };
        shell.script = text.to_string_lossy().into_owned();
    } else {
        shell.argv = command.into_iter().map(OsString::into_encoded_bytes).collect();
    }
    Ok(Action::Shell(shell))
}

/// Decides as the agent would, as if everything could be enforced: what can be is for `doctor` to say.
fn ask(policy: &Policy, action: &Action, dir: PathBuf) -> Decision {
    let machine = Machine {
        level: cortex_agent_core::plan::Level::Full,
        exact_limits: vec!["cpu", "memory", "pids", "file_size"],
        features: [("terminal".to_owned(), 0)].into(),
        ..Machine::default()
    };
    let scene = Scene { tmpdir: dir.join("tmp/explained"), mark: String::new(), machine };
    let facts = gather(policy, action, &scene);
    let workspace = Workspace::default_workspace();
    let task = TaskId::derive(&workspace, "explained");
    let task = TaskKey { workspace, task };
    let key = AttemptKey { task, attempt: 1 };
    let (timeout_ms, output_limit) =
        (cortex_model::limits::RUN_TIMEOUT_DEFAULT_MS, cortex_model::limits::OUTPUT_LIMIT_DEFAULT);
    let request = Request { key: &key, fence: 1, action, timeout_ms, output_limit, consent: None };
    decide(policy, &facts, &request)
}

fn explain(out: &mut impl Write, decision: &Decision, json: bool) -> std::io::Result<()> {
    let classes: Vec<&str> = decision.classes.iter().map(|class| class.word()).collect();
    let process = decision
        .plan
        .as_ref()
        .and_then(|plan| match plan.operation() {
            cortex_agent_core::Operation::Process(process) => Some(process.as_ref()),
            cortex_agent_core::Operation::Echo(_) => None,
        })
        .or_else(|| decision.proposal.as_ref().map(|proposal| &proposal.process));
    let argv: Option<Vec<String>> = process.map(|process| {
        process.argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    });
    if json {
        let fault = decision.fault.as_ref();
        let value: Value = json!({
            "effect": decision.effect.word(),
            "code": fault.map(|fault| fault.code.as_str()),
            "message": fault.map(|fault| &fault.message),
            "hint": fault.map(|fault| &fault.hint),
            "rule": decision.rule,
            "classes": classes,
            "trail": decision.trail,
            "program": process.map(|process| &process.program),
            "argv": argv,
            "cwd": process.map(|process| &process.cwd),
            "fingerprint": process.map(|_| decision.fingerprint.hex()),
        });
        return writeln!(out, "{value}");
    }
    for step in &decision.trail {
        writeln!(out, "  {step}")?;
    }
    if let (Some(process), Some(argv)) = (process, argv) {
        writeln!(out, "  would run {} in {}:", process.program.display(), process.cwd.display())?;
        for word in argv {
            writeln!(out, "    {word:?}")?;
        }
    }
    let classes =
        if classes.is_empty() { String::new() } else { format!(" ({})", classes.join(", ")) };
    writeln!(out, "{}{classes}", decision.effect.word())?;
    match &decision.fault {
        Some(fault) => writeln!(out, "{fault}\nhint: {}", fault.hint),
        None => Ok(()),
    }
}

//! The policy alone, in this process: how long a decision takes under 200 rules. Facts are given: gathering them is the
//! disk's affair.

use crate::report::{Goal, Row};
use anyhow::ensure;
use cortex_agent_core::plan::{FileId, Level};
use cortex_agent_core::policy::{
    Facts, Machine, PathFact, PathKind, Policy, Program, Request, decide,
};
use cortex_model::task::ShellAction;
use cortex_model::{Action, AttemptKey, TaskId, TaskKey, Workspace};
use std::path::PathBuf;
use std::time::Instant;

const RULES: usize = 200;

/// Measures a command and a script.
///
/// # Errors
/// When what should be allowed is not.
pub(crate) fn run(rounds: usize, decisions: u32) -> anyhow::Result<Vec<Row>> {
    let policy = Policy::parse(&text(), String::new())?;
    let task = TaskKey { workspace: Workspace::default_workspace(), task: TaskId::parse("t")? };
    let (key, facts) = (AttemptKey { task, attempt: 1 }, facts());
    let words = ["git", "status", "--short", "-n", "5", "src/main.rs"];
    let argv = words.map(|word| word.as_bytes().to_vec()).to_vec();
    let script = "git status --short && git status -n 5 src/main.rs | git status".to_owned();
    let command = ShellAction { argv, ..ShellAction::default() };
    let script = ShellAction { script, ..ShellAction::default() };
    let mut rows = Vec::new();
    for (name, shell) in [("decision on a command", command), ("on a script of three", script)] {
        let action = Action::Shell(shell);
        let request = Request {
            key: &key,
            fence: 1,
            action: &action,
            timeout_ms: 1,
            output_limit: 1,
            consent: None,
        };
        let first = decide(&policy, &facts, &request);
        ensure!(first.plan.is_some(), "{name} is not allowed: {first:?}");
        let mut values = Vec::new();
        for _ in 0..rounds {
            let begun = Instant::now();
            for _ in 0..decisions {
                std::hint::black_box(decide(&policy, &facts, &request));
            }
            values.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(decisions));
        }
        let row = Row::new("policy", name, &values, "us", &format!("{RULES} rules, facts given"));
        // A script is a decision for each of its commands.
        let one = matches!(&action, Action::Shell(shell) if shell.script.is_empty());
        rows.push(if one { row.goal(Goal::AtMost(20.0)) } else { row });
    }
    Ok(rows)
}

/// Every tenth rule is about the program that is asked for; the last one matches.
fn text() -> String {
    let mut text = String::from(
        "version = 1\nprograms.search = [\"/usr/bin\"]\n[paths]\nroots = [\"/srv/shop\"]\nread = [\"@system\"]\n",
    );
    for number in 0..RULES {
        let git = number % 10 == 9;
        let program = if git { "git".to_owned() } else { format!("tool{number}") };
        let sub = if number + 1 == RULES { "status".to_owned() } else { format!("sub{number}") };
        text.push_str(&format!(
            "[[rule]]\nid = \"r{number}\"\nprogram = {program:?}\nsub = [{sub:?}]\nargs = \"path:read\"\n\
             flags = [\"--short\", \"-n=*\"]\nfs = \"read-only\"\neffect = \"allow\"\n"
        ));
    }
    text
}

fn facts() -> Facts {
    let program = |name: &str| {
        let path = PathBuf::from("/usr/bin").join(name);
        let id = FileId { dev: 1, ino: 1 };
        (name.to_owned(), Ok(Program { target: path.clone(), path, id, setuid: false }))
    };
    let root = PathBuf::from("/srv/shop");
    let words = ["status", "src/main.rs", "5", "hort"];
    let paths = words.map(|word| {
        let path = root.join(word);
        (path.clone(), PathFact { canonical: path, kind: PathKind::File })
    });
    Facts {
        programs: [program("git"), program("sh")].into(),
        cwd: Some(Ok(root)),
        tmpdir: "/srv/agent/tmp/t.1".to_owned(),
        paths: paths.into(),
        machine: Machine { level: Level::Full, ..Machine::default() },
        ..Facts::default()
    }
}

//! `cortex-agent consent list|show|allow|deny|watch|grants`: the owner's end of the socket.

use super::Act;
use crate::clock::unix_now;
use crate::local::connect;
use clap::{Args, Subcommand, ValueEnum};
use cortex_model::{Code, Fault};
use serde_json::Value;
use std::io::{BufRead as _, Write};
use std::path::PathBuf;

/// Answers what tasks need the owner for.
#[derive(Debug, Args)]
pub(crate) struct ConsentCommand {
    /// The agent's data directory [default: where 'join' made it].
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Remember {
    /// For other attempts of the same task.
    Task,
    /// Until the agent ends.
    Session,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what waits for an answer.
    List,
    /// Show a question: everything that an answer is bound to.
    Show {
        /// Number of the question.
        id: u64,
        /// Also what does not fit on a screen.
        #[arg(long)]
        all: bool,
    },
    /// Agree to exactly what was shown.
    Allow {
        /// Number of the question.
        id: u64,
        /// The four characters that the question shows, for something destructive.
        #[arg(long, default_value = "")]
        code: String,
        /// Agree to the same again.
        #[arg(long, value_enum, conflicts_with = "for_minutes")]
        remember: Option<Remember>,
        /// Agree to the same again for this long.
        #[arg(long = "for-minutes", value_name = "MINUTES")]
        for_minutes: Option<u64>,
    },
    /// Say no.
    Deny {
        /// Number of the question.
        id: u64,
    },
    /// Say what waits, and again whenever that changes, until stopped.
    Watch,
    /// Say which answers are remembered.
    Grants {
        /// Take the answer of this number back.
        #[arg(long, value_name = "ID")]
        revoke: Option<u64>,
    },
}

impl ConsentCommand {
    /// Asks the agent and prints what it says.
    pub(crate) fn run(self, out: &mut impl Write) -> Result<(), Fault> {
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => crate::config::default_data_dir()?,
        };
        let act = match self.what {
            What::List => Act::List,
            What::Show { id, all } => Act::Show { id, all },
            What::Allow { id, code, remember, for_minutes } => {
                let (remember, until_ms) = match (remember, for_minutes) {
                    (_, Some(minutes)) => {
                        ("until", unix_now().0.saturating_add(minutes.saturating_mul(60_000)))
                    }
                    (Some(Remember::Task), None) => ("task", 0),
                    (Some(Remember::Session), None) => ("session", 0),
                    (None, None) => ("once", 0),
                };
                Act::Allow { id, code, remember: remember.to_owned(), until_ms }
            }
            What::Deny { id } => Act::Deny { id },
            What::Watch => Act::Watch,
            What::Grants { revoke: Some(id) } => Act::Revoke { id },
            What::Grants { revoke: None } => Act::Grants,
        };
        let failed = |err: std::io::Error| Fault::new(Code::AgentUnable, err.to_string());
        for line in connect(&data_dir, &act)?.lines() {
            let line = line.map_err(failed)?;
            let value: Value = serde_json::from_str(&line).map_err(|err| failed(err.into()))?;
            if let Some(error) = value.get("error") {
                return Err(fault(error));
            }
            let said = if self.json {
                writeln!(out, "{line}")
            } else {
                out.write_all(text(&value).as_bytes())
            };
            said.and_then(|()| out.flush()).map_err(failed)?;
        }
        Ok(())
    }
}

/// The agent's error with its own code and hint.
fn fault(error: &Value) -> Fault {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let wanted = text("code");
    let code =
        Code::ALL.iter().copied().find(|code| code.as_str() == wanted).unwrap_or(Code::AgentUnable);
    Fault::new(code, text("message")).with_hint(text("hint"))
}

/// An answer for people. The agent has made every text in it safe to print.
fn text(value: &Value) -> String {
    let word = |value: &Value, name: &str| match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    if let Some(waiting) = value.get("waiting").and_then(Value::as_array) {
        if waiting.is_empty() {
            return "nothing waits\n".to_owned();
        }
        let line = |one: &Value| {
            format!("{:>4}  {}  {}\n", word(one, "id"), word(one, "attempt"), word(one, "title"))
        };
        return waiting.iter().map(line).collect();
    }
    if let Some(grants) = value.get("grants").and_then(Value::as_array) {
        if grants.is_empty() {
            return "no answer is remembered\n".to_owned();
        }
        let line = |one: &Value| {
            let (task, until) = (word(one, "task"), word(one, "until_ms"));
            format!(
                "{:>4}  {}  used {}  task {task}  until {until}\n",
                word(one, "id"),
                word(one, "title"),
                word(one, "used")
            )
        };
        return grants.iter().map(line).collect();
    }
    let Some(lines) = value.get("lines").and_then(Value::as_array) else {
        return "done\n".to_owned();
    };
    let mut text: String =
        lines.iter().filter_map(Value::as_str).map(|line| format!("{line}\n")).collect();
    let id = word(value, "id");
    match (
        value.get("more").and_then(Value::as_u64).unwrap_or(0),
        value.get("code").and_then(Value::as_str),
    ) {
        (0, Some(code)) => {
            text.push_str(&format!("\nto agree: cortex-agent consent allow {id} --code {code}\n"))
        }
        (0, None) => text.push_str(&format!("\nto agree: cortex-agent consent allow {id}\n")),
        (more, _) => {
            text.push_str(&format!("\n{more} more lines: cortex-agent consent show {id} --all\n"))
        }
    }
    text
}

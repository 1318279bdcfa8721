//! `pause`, `resume`, `stop-all`, `running` and `history` of the command line: the owner's word to a running agent.

use crate::local::{Answer, Ask, ask};
use clap::Args;
use cortex_model::{Code, Fault};
use serde_json::Value;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Which agent, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The agent's data directory [default: where 'join' made it].
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// JSON with stable fields.
    #[arg(long)]
    json: bool,
}

/// Asks, and prints the answer.
pub(crate) fn tell(which: &Which, what: &Ask) -> Result<(), Fault> {
    let data_dir = match &which.data_dir {
        Some(dir) => dir.clone(),
        None => crate::config::default_data_dir()?,
    };
    let answer = ask(&data_dir, what)?;
    print(&answer, which.json).map_err(|err| Fault::new(Code::AgentUnable, err.to_string()))
}

fn print(answer: &Answer, json: bool) -> io::Result<()> {
    let mut out = crate::out::out();
    match answer {
        // Each entry is an object of its own, as it is stored.
        Answer::History { entries } if json => {
            entries.iter().try_for_each(|entry| writeln!(out, "{entry}"))
        }
        Answer::History { entries } => {
            entries.iter().try_for_each(|entry| writeln!(out, "{}", line(entry)))
        }
        Answer::Status { .. } | Answer::Error { .. } if json => {
            writeln!(out, "{}", serde_json::to_string(answer).map_err(io::Error::other)?)
        }
        Answer::Status { paused, running, stopped } => {
            for attempt in stopped {
                writeln!(out, "ended {attempt}, with all its processes")?;
            }
            for attempt in running {
                writeln!(out, "running {attempt}")?;
            }
            let word = if *paused { "paused: it takes no work" } else { "it takes work" };
            writeln!(out, "{word}")
        }
        Answer::Error { message, .. } => writeln!(out, "{message}"),
    }
}

/// One entry of the journal in a line.
fn line(entry: &str) -> String {
    let value: Value = serde_json::from_str(entry).unwrap_or(Value::Null);
    let word = |name: &str| {
        find(&value, name).map(|found| match found.as_str() {
            Some(text) => text.to_owned(),
            None => found.to_string(),
        })
    };
    let parts =
        ["seq", "at", "kind", "cmd", "op", "exe", "level", "status", "code", "killed_by", "rule"];
    let parts = parts.iter().filter_map(|name| word(name)).filter(|text| text != "null");
    // What a task has named must not steer the terminal.
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    parts.collect::<Vec<_>>().join("  ").chars().map(plain).collect()
}

/// The first value of this name, wherever it is.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => {
            map.get(name).or_else(|| map.values().find_map(|inner| find(inner, name)))
        }
        Value::Array(list) => list.iter().find_map(|inner| find(inner, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_without_control_characters() {
        let entry = r#"{"seq":7,"at":"2026","kind":"intent","data":{"cmd":"t/1","exec":{"exe":"/bin/\u001b[2Jx"},"code":null}}"#;
        assert_eq!(line(entry), "7  2026  intent  t/1  /bin/\u{fffd}[2Jx");
    }
}

//! `cortex fs`: one operation on files of a node, each a task like any other. It interprets no path itself.

mod delete;
mod edit;
mod find;
mod look;
mod read;
mod rename;
mod write;

use super::Session;
use crate::error::CliError;
use crate::files::{Came, Operation, Told, Where, not_done, perform};
use crate::{render, words};
use clap::Subcommand;
use cortex_agent::files::{Bytes, Done};
use cortex_model::FileOp;
use serde::Serialize;
use std::ffi::OsString;

/// Operations.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Paths are absolute, or count from the first root of the node's policy. Exit codes: 0 done, 1 the node could not do it,
otherwise those of 'cortex run'.

Examples:
  cortex fs list --node desk src
  cortex fs read README.md
  cortex fs search 'fn main' src --glob '*.rs'
  cortex fs edit src/lib.rs --replace 'old text' --with 'new text'
  echo hello | cortex fs write notes.txt")]
pub(crate) enum FsCommand {
    /// Print a file's bytes
    Read(read::ReadArgs),
    /// Put a whole small file in place, at once or not at all
    Write(write::WriteArgs),
    /// Change parts of a file: all of them or none
    Edit(edit::EditArgs),
    /// List a directory
    List(look::ListArgs),
    /// Say what something is
    Stat(look::StatArgs),
    /// Find paths that match patterns
    Glob(find::GlobArgs),
    /// Find lines that match a regular expression
    Search(find::SearchArgs),
    /// Remove a file, or a directory with --recursive
    Delete(delete::DeleteArgs),
    /// Give something another name
    Move(rename::MoveArgs),
}

/// Runs the command.
pub(crate) async fn run(session: &Session, command: FsCommand) -> Result<u8, CliError> {
    match command {
        FsCommand::Read(args) => read::run(session, args).await,
        FsCommand::Write(args) => write::run(session, args).await,
        FsCommand::Edit(args) => edit::run(session, args).await,
        FsCommand::List(args) => look::list(session, args).await,
        FsCommand::Stat(args) => look::stat(session, args).await,
        FsCommand::Glob(args) => find::glob(session, args).await,
        FsCommand::Search(args) => find::search(session, args).await,
        FsCommand::Delete(args) => delete::run(session, args).await,
        FsCommand::Move(args) => rename::run(session, args).await,
    }
}

/// The last line of `--json`.
#[derive(Serialize)]
struct End<'a> {
    task_id: &'a str,
    done: &'a Done,
}

/// One operation whose output, if it has any, is lines of JSON; `show` prints one for people.
async fn one(
    session: &Session,
    place: &Where,
    path: &OsString,
    op: FileOp,
    repeatable: bool,
    show: impl Fn(&[u8]) -> Result<String, serde_json::Error>,
) -> Result<Result<Box<Told>, u8>, CliError> {
    let target = session.target()?;
    let (path, key) = (path.as_encoded_bytes(), place.key.clone());
    let came = perform(session, &target, place, Operation { path, op, repeatable, key }).await?;
    let told = match came {
        Came::Done(told) => told,
        Came::Failed(error) => return Ok(Err(not_done(session, &error))),
        Came::Ended(code) => return Ok(Err(code)),
    };
    for line in told.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let bad = |err| CliError::internal(format!("the node's answer cannot be read: {err}"));
        let text = if session.json() {
            String::from_utf8_lossy(line).into_owned()
        } else {
            show(line).map_err(bad)?
        };
        render::line(&text)?;
    }
    if session.json() {
        render::json(&End { task_id: &told.task_id, done: &told.done })?;
    } else if told.done.more {
        render::note("there is more: raise --limit");
    }
    Ok(Ok(told))
}

/// An operation of which only its end is told, as one line for people.
async fn change(
    session: &Session,
    place: &Where,
    path: &OsString,
    op: FileOp,
) -> Result<u8, CliError> {
    let told = match one(session, place, path, op, false, |_| Ok(String::new())).await? {
        Ok(told) => told,
        Err(code) => return Ok(code),
    };
    if !session.json() {
        render::line(&said(&told.done))?;
    }
    Ok(0)
}

fn said(done: &Done) -> String {
    let what = match (done.changed, &done.sha256, done.count) {
        (Some(false), ..) => "nothing to change".to_owned(),
        (_, Some(sha256), _) => format!("{} bytes, sha256 {sha256}", done.size.unwrap_or(0)),
        (_, None, Some(count)) => format!("{count} removed"),
        (_, None, None) => "done".to_owned(),
    };
    format!("{}: {what}", shown(&done.path))
}

/// A name, safe for a terminal.
fn shown(name: &Bytes) -> String {
    words::safe(&String::from_utf8_lossy(&name.0))
}

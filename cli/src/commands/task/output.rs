//! `cortex task output`: what a task has written so far, byte for byte. It does not wait for more.

use crate::client;
use crate::commands::Session;
use crate::error::CliError;
use crate::follow::{Follower, Show};
use crate::{render, words};
use clap::{Args, ValueEnum};

/// Flags of `task output`.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints stdout to stdout and stderr to stderr, of the last attempt if not told otherwise.

Examples:
  cortex task output TASK > result.txt
  cortex task output TASK --stream stderr
  cortex task output TASK --attempt 1 --json"
)]
pub(crate) struct OutputArgs {
    /// The task's id
    #[arg(value_name = "TASK")]
    task: String,
    /// Of this attempt instead of the last one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Only one of the streams
    #[arg(long, value_name = "STREAM")]
    stream: Option<Stream>,
}

/// A stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stream {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// Prints the output that exists.
pub(crate) async fn run(session: &Session, args: OutputArgs) -> Result<(), CliError> {
    let id = client::task_id(&args.task)?;
    let target = session.target()?;
    let client = target.connect().await?;
    let task = client.task(&id).await?;
    let last = task.attempt;
    let attempt = args.attempt.unwrap_or(last);
    if attempt == 0 || attempt > last {
        return Ok(());
    }
    let show = if session.json() { Show::JsonOutput } else { Show::Raw };
    let only = args.stream.map(|s| s == Stream::Stderr);
    Follower::new(target, &id, show).what_there_is(&client, attempt, only).await?;
    let output = task.outcome.as_ref().filter(|_| attempt == last).and_then(|o| o.output.as_ref());
    if let Some(gap) = output.and_then(words::gap).filter(|_| !session.json()) {
        render::note(&gap);
    }
    Ok(())
}

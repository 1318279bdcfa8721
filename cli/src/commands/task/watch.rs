//! `cortex task watch`: like `run`, for a task that exists. Leaving it changes nothing.

use crate::client;
use crate::commands::Session;
use crate::commands::run::finish;
use crate::error::CliError;
use crate::follow::{Follower, Show};
use clap::Args;

/// Flags of `task watch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with the exit codes of 'cortex run'. Ctrl-C only ends the watching.

Examples:
  cortex task watch TASK
  cortex task watch TASK --json      (events and output as lines of JSON)
  cortex task watch TASK --quiet; echo $?")]
pub(crate) struct WatchArgs {
    /// The task's id
    #[arg(value_name = "TASK")]
    task: String,
    /// Only wait for the end; print no output
    #[arg(long)]
    quiet: bool,
}

/// Follows the task and gives its exit code.
pub(crate) async fn run(session: &Session, args: WatchArgs) -> Result<u8, CliError> {
    let id = client::task_id(&args.task)?;
    let show = match (args.quiet, session.json()) {
        (true, _) => Show::Nothing,
        (false, true) => Show::Json,
        (false, false) => Show::Raw,
    };
    // Without a server there is nothing to wait for yet; later cuts are waited out.
    let target = session.target()?;
    drop(target.connect().await?);
    finish(session, &Follower::new(target, &id, show).until_over().await?)
}

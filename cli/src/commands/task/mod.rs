//! `cortex task`: the life of tasks, one file per command.

mod attach;
mod cancel;
mod explain;
mod history;
mod list;
mod output;
mod resolve;
mod show;
pub(crate) mod submit;
mod submit_file;
mod watch;

use super::Session;
use crate::error::CliError;
use clap::{Args, Subcommand};

/// Commands about tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Submit one task, or many from a file, without waiting for them
    Submit(Box<submit::SubmitArgs>),
    /// List tasks, newest first
    List(list::ListArgs),
    /// Say who asked for a task, what was to run, where, and how it ended
    Show(OneTask),
    /// Follow a task: its output as it comes, and its exit code
    Watch(watch::WatchArgs),
    /// Sit down at the terminal of a task that runs: see it, and type
    Attach(attach::AttachArgs),
    /// Print the output that a task has so far
    Output(output::OutputArgs),
    /// Print everything that happened to a task
    History(OneTask),
    /// Ask for a task to be stopped
    Cancel(cancel::CancelArgs),
    /// Say why a task is not running
    Explain(OneTask),
    /// Settle a task whose outcome nobody knows
    Resolve(resolve::ResolveArgs),
}

/// The flags of commands that only need a task.
#[derive(Debug, Args)]
pub(crate) struct OneTask {
    /// The task's id
    #[arg(value_name = "TASK")]
    task: String,
}

/// Runs one of them.
pub(crate) async fn run(session: &Session, command: TaskCommand) -> Result<u8, CliError> {
    let done = match command {
        TaskCommand::Submit(args) => return submit::run(session, *args).await,
        TaskCommand::Watch(args) => return watch::run(session, args).await,
        TaskCommand::Attach(args) => return attach::run(session, args).await,
        TaskCommand::List(args) => list::run(session, args).await,
        TaskCommand::Show(args) => show::run(session, &args.task).await,
        TaskCommand::Output(args) => output::run(session, args).await,
        TaskCommand::History(args) => history::run(session, &args.task).await,
        TaskCommand::Cancel(args) => cancel::run(session, args).await,
        TaskCommand::Explain(args) => explain::run(session, &args.task).await,
        TaskCommand::Resolve(args) => resolve::run(session, args).await,
    };
    done.map(|()| 0)
}

//! `cortex task resolve`: a person settles what no machine can know. It is an event with their name.

use crate::client::{self, required};
use crate::commands::Session;
use crate::error::CliError;
use crate::{render, view};
use clap::{Args, ValueEnum};
use cortex_model::proto as pb;

/// Flags of `task resolve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Only for a task that is INDETERMINATE: it started, and nobody can say how it ended.

Examples:
  cortex task resolve TASK --as succeeded --reason 'the file is there, checked by hand'
  cortex task resolve TASK --as retry --reason 'nothing was written'"
)]
pub(crate) struct ResolveArgs {
    /// The task's id
    #[arg(value_name = "TASK")]
    task: String,
    /// How to settle it
    #[arg(long = "as", value_name = "RESULT")]
    result: Verdict,
    /// How you know, for the history
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

/// What it is settled as.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verdict {
    /// It did what it should
    Succeeded,
    /// It did not
    Failed,
    /// Run it again
    Retry,
}

/// Settles the task.
pub(crate) async fn run(session: &Session, args: ResolveArgs) -> Result<(), CliError> {
    let r#as = match args.result {
        Verdict::Succeeded => pb::ResolveAs::Succeeded,
        Verdict::Failed => pb::ResolveAs::Failed,
        Verdict::Retry => pb::ResolveAs::Retry,
    };
    let request = pb::ResolveTaskRequest {
        task_id: client::task_id(&args.task)?,
        r#as: r#as.into(),
        reason: args.reason,
        actor: session.actor()?,
    };
    let task = required(session.connect().await?.resolve_task(request).await?.task)?;
    if session.json() {
        return render::json(&view::Task::from(&task));
    }
    render::line(&format!("task {} is {} now", task.task_id, view::state_name(task.state)))
}

//! `cortex task cancel`.

use crate::client::{self, required};
use crate::commands::Session;
use crate::error::CliError;
use crate::follow::{Follower, Show};
use crate::{render, view, words};
use clap::Args;
use cortex_model::proto as pb;

/// Flags of `task cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex task cancel TASK
  cortex task cancel TASK --reason 'wrong branch' --wait")]
pub(crate) struct CancelArgs {
    /// The task's id
    #[arg(value_name = "TASK")]
    task: String,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Wait until it is proven how the task ended
    #[arg(long)]
    wait: bool,
}

/// Asks for cancellation; with `--wait` also for its end.
pub(crate) async fn run(session: &Session, args: CancelArgs) -> Result<(), CliError> {
    let task_id = client::task_id(&args.task)?;
    let request = pb::CancelTaskRequest {
        task_id: task_id.clone(),
        reason: args.reason,
        actor: session.actor()?,
    };
    let target = session.target()?;
    let mut task = required(target.connect().await?.cancel_task(request).await?.task)?;
    if args.wait {
        task = Follower::new(target, &task_id, Show::Nothing).until_over().await?;
    }
    if session.json() {
        return render::json(&view::Task::from(&task));
    }
    render::line(&match (&task.outcome, task.ended_at_ms) {
        (Some(outcome), _) => format!("task {task_id}: {}", words::ending(Some(outcome))),
        (None, 0) => format!(
            "task {task_id} is {}; its cancellation is asked for, and 'cortex task watch' waits for the proof",
            view::state_name(task.state)
        ),
        (None, _) => format!("task {task_id} is {}", view::state_name(task.state)),
    })
}

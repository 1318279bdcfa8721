//! `cortex task attach`: the terminal of a task, from wherever one is. The newest attachment has the keyboard, all see the same.

use crate::client;
use crate::commands::Session;
use crate::commands::run::sit_at;
use crate::error::CliError;
use crate::follow::{Follower, Show};
use crate::terminal;
use clap::Args;
use cortex_model::Code;

/// Of older output the end is shown again.
const LAST_KIB: u64 = 64;

/// Flags of `task attach`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with the exit codes of 'cortex run'. Ctrl-] d leaves the task running, Ctrl-] c cancels it. Whoever attached last types;
the others see what happens. What was typed before all older output was shown is forgotten.

Examples:
  cortex task attach TASK
  cortex task attach TASK --last 1024     (the last MiB of what was written before)")]
pub(crate) struct AttachArgs {
    /// The task's id
    #[arg(value_name = "TASK")]
    task: String,
    /// Of the older output show so many KiB, from its end; 0 is all of it
    #[arg(long, value_name = "KIB", default_value_t = LAST_KIB)]
    last: u64,
}

/// Sits down at the terminal and gives the task's exit code.
pub(crate) async fn run(session: &Session, args: AttachArgs) -> Result<u8, CliError> {
    if session.json() {
        return Err(CliError::new(Code::Usage, "a terminal cannot be shown as JSON")
            .with_hint("use 'cortex task watch --json'"));
    }
    let id = client::task_id(&args.task)?;
    drop(terminal::wanted(true)?);
    let (target, actor) = (session.target()?, session.actor()?);
    let task = target.connect().await?.task(&id).await?;
    if !terminal::has_one(&task) {
        let why = format!("task {id} was submitted without a terminal");
        return Err(
            CliError::new(Code::NoTerminal, why).with_hint("see what it does: cortex task watch")
        );
    }
    let follower = Follower::new(target.clone(), &id, Show::Raw);
    let follower = follower.only_the_end(args.last.saturating_mul(1024));
    sit_at(session, &target, follower, &id, actor, true).await
}

//! `cortex scheduler`: one scheduler on a shared log. Two or more share the work, and one that dies is replaced by
//! the others within seconds.

use super::up;
use crate::client::data_dir;
use crate::error::CliError;
use crate::interrupts::Interrupts;
use crate::render;
use crate::serve::compose::{Servers, open_log};
use crate::serve::data_dir::DataDir;
use crate::serve::logging;
use clap::Args;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Flags of `scheduler`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cortex scheduler --data-dir /srv/s1 --log nats://127.0.0.1:4222")]
pub(crate) struct SchedulerArgs {
    #[command(flatten)]
    shared: up::LogArgs,
}

/// Schedules until Ctrl-C or SIGTERM.
///
/// # Errors
/// Whatever keeps the scheduler from starting.
pub(crate) async fn run(args: SchedulerArgs, given: Option<&Path>) -> Result<u8, CliError> {
    logging::start("info", args.shared.json_logs())?;
    let mut interrupts = Interrupts::listen()?;
    let dir = DataDir::open(&data_dir(given)?)?;
    let open = open_log(&dir, args.shared.url()?, args.shared.quotas()).await?;
    let stop = CancellationToken::new();
    let servers = Servers::new(stop.clone());
    servers.scheduler(&open);
    drop(open);
    render::line("scheduler is running")?;
    servers.until(&mut interrupts, &stop).await
}

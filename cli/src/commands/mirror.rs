//! `cortex mirror`: countersigns the journals of nodes, on a shared log. It alone holds the key.

use super::up;
use crate::client::data_dir;
use crate::duration;
use crate::error::CliError;
use crate::interrupts::Interrupts;
use crate::render;
use crate::serve::compose::{Servers, open_log};
use crate::serve::data_dir::DataDir;
use crate::serve::{logging, mirror};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Flags of every process that has a mirror in it.
#[derive(Debug, Args)]
pub(crate) struct MirrorFlags {
    /// Name of the mirror's key when it is made, for example example.org/mirror/1 [default: cortex/mirror/<random>]
    #[arg(long, value_name = "NAME")]
    pub(crate) mirror_name: Option<String>,
    /// Name a node suspect when a dispatch is not in its journal this long after it is back
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    reconcile_after: String,
}

impl MirrorFlags {
    /// How long a dispatch may be without a record.
    ///
    /// # Errors
    /// `CX-0105`.
    pub(crate) fn reconcile_after(&self) -> Result<Duration, CliError> {
        Ok(Duration::from_millis(duration::parse(&self.reconcile_after)?))
    }
}

/// Flags of `mirror`.
#[derive(Debug, Args)]
#[command(after_help = "\
The key is made in the data directory at the first start (mirror.key, readable by its owner alone); mirror.vkey is the
public half, which auditors put into their policy. A second mirror with a copy of the key may run as a spare.

Examples:
  cortex mirror --data-dir /srv/m1 --log nats://127.0.0.1:4222
  cortex mirror --data-dir /srv/m1 --log nats://127.0.0.1:4222 --key /etc/cortex/mirror.key")]
pub(crate) struct MirrorArgs {
    /// The key file [default: mirror.key in the data directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    flags: MirrorFlags,
    #[command(flatten)]
    shared: up::LogArgs,
}

/// Countersigns until Ctrl-C or SIGTERM.
///
/// # Errors
/// Whatever keeps the mirror from starting: `CX-0706` when others can read its key.
pub(crate) async fn run(args: MirrorArgs, given: Option<&Path>) -> Result<u8, CliError> {
    logging::start("info", args.shared.json_logs())?;
    let mut interrupts = Interrupts::listen()?;
    let dir = DataDir::open(&data_dir(given)?)?;
    let key = mirror::key(&dir, args.key.as_deref(), &args.flags)?;
    let open = open_log(&dir, args.shared.url()?, args.shared.quotas()).await?;
    let stop = CancellationToken::new();
    let servers = Servers::new(stop.clone());
    let line = format!("mirror is running with key {}", key.verifier());
    servers.mirror(&open, key, args.flags.reconcile_after()?)?;
    drop(open);
    render::line(&line)?;
    servers.until(&mut interrupts, &stop).await
}

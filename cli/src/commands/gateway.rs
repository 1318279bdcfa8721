//! `cortex gateway`: one gateway on a shared log. Any number of them may run behind a load balancer.

use super::up;
use crate::client::data_dir;
use crate::error::CliError;
use crate::interrupts::Interrupts;
use crate::render;
use crate::serve::compose::{Servers, listen, open_log};
use crate::serve::data_dir::DataDir;
use crate::serve::logging;
use clap::Args;
use std::net::SocketAddr;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Flags of `gateway`.
#[derive(Debug, Args)]
#[command(after_help = "\
Its data directory holds the tokens that clients and agents show; gateways of one deployment share their content.

Examples:
  cortex gateway --data-dir /srv/g1 --log nats://127.0.0.1:4222 --listen 127.0.0.1:7401")]
pub(crate) struct GatewayArgs {
    /// Address to listen on, loopback only [default: the last one, or any free port]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    shared: up::LogArgs,
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// Whatever keeps the gateway from starting.
pub(crate) async fn run(args: GatewayArgs, given: Option<&Path>) -> Result<u8, CliError> {
    logging::start("info", args.shared.json_logs())?;
    let mut interrupts = Interrupts::listen()?;
    let dir = DataDir::open(&data_dir(given)?)?;
    let listener = listen(&dir, args.listen).await?;
    let address = listener.local_addr().map_err(|e| CliError::internal(e.to_string()))?;
    let open = open_log(&dir, args.shared.url()?, args.shared.quotas()).await?;
    let stop = CancellationToken::new();
    let servers = Servers::new(stop.clone());
    servers.gateway(&dir, &open, listener, args.shared.quotas().outputs)?;
    drop(open);
    dir.write_endpoint(&format!("http://{address}"))?;
    render::line(&format!("gateway at http://{address}, data in {}", dir.path().display()))?;
    servers.until(&mut interrupts, &stop).await
}

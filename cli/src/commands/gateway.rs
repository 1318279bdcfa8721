//! `cortex gateway`: one gateway on a shared log. Any number of them may run behind a load balancer.

use super::up;
use crate::client::data_dir;
use crate::error::CliError;
use crate::interrupts::Interrupts;
use crate::render;
use crate::serve::access;
use crate::serve::compose::{Servers, listen, open_log};
use crate::serve::data_dir::DataDir;
use crate::serve::logging;
use clap::Args;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Flags of `gateway`.
#[derive(Debug, Args)]
#[command(after_help = "\
All gateways of a deployment share their keys: make them once with 'cortex ca init DIR'.

Examples:
  cortex gateway --data-dir /srv/g1 --log nats://127.0.0.1:4222 --authority /etc/cortex/authority \\
    --listen 0.0.0.0:7400 --name g1.example.org")]
pub(crate) struct GatewayArgs {
    /// Address to listen on [default: the last one, or any free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    identity: up::IdentityArgs,
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
    let dir = Arc::new(DataDir::open(&data_dir(given)?)?);
    let listener = listen(&dir, args.listen).await?;
    let address = listener.local_addr().map_err(|e| CliError::internal(e.to_string()))?;
    let open = open_log(&dir, args.shared.url()?, args.shared.quotas()).await?;
    let stop = CancellationToken::new();
    let servers = Servers::new(stop.clone());
    let own = &args.identity;
    let settings = own.settings(&args.shared)?;
    let (authority, certificate) = (own.authority.as_deref(), own.certificate());
    let keys = access::keys(&dir, authority, false, address, &own.names, certificate)?;
    let registrar = access::registrar(&open, &keys, "cortex-gateway");
    access::root_token(dir.clone(), registrar, stop.clone()).await?;
    servers.gateway(&open, keys, listener, settings);
    drop(open);
    let url = access::url(address);
    dir.write_endpoint(&url)?;
    render::line(&format!("gateway at {url}, data in {}", dir.path().display()))?;
    if let Some(note) = access::reachable_note(address, &own.names) {
        render::note(&note);
    }
    servers.until(&mut interrupts, &stop).await
}

//! Gateway, scheduler and log in one process.

use super::data_dir::DataDir;
use crate::error::CliError;
use cortex_gateway::{Config, Gateway, Identity, Retention};
use cortex_log::EventLog;
use cortex_model::Code;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bounds on what the server keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotas {
    /// Bytes of events.
    pub(crate) log_bytes: u64,
    /// Bytes and age of outputs.
    pub(crate) outputs: Retention,
}

/// Opens the log a server was told to use.
///
/// # Errors
/// The log's own error with its code.
pub(crate) async fn open_log(dir: &DataDir, url: &str, quotas: Quotas) -> Result<Arc<dyn EventLog>, CliError> {
    let failed = |e: cortex_log::LogError| {
        CliError::from(cortex_model::Fault::new(e.code(), format!("the event log cannot be opened: {e}")))
    };
    if url == "embedded" {
        let path = dir.join("log");
        let options = cortex_log::embedded::Options {
            quota: Some(quotas.log_bytes),
            output_quota: Some(quotas.outputs.max_bytes),
            ..cortex_log::embedded::Options::default()
        };
        let opened = tokio::task::spawn_blocking(move || cortex_log::EmbeddedLog::open(path, options)).await;
        let opened = opened.map_err(|e| CliError::internal(format!("opening the log: {e}")))?;
        return opened.map(|l| Arc::new(l) as Arc<dyn EventLog>).map_err(failed);
    }
    Err(CliError::new(Code::Usage, format!("{url:?} is not a log: use 'embedded'")))
}

/// Binds the address, or for none the one of last time if it is free, or any.
///
/// # Errors
/// `CX-0705` when the address is in use, `CX-0803` when it is not a loopback address.
pub(crate) async fn listen(dir: &DataDir, wanted: Option<SocketAddr>) -> Result<TcpListener, CliError> {
    if let Some(address) = wanted {
        if !address.ip().is_loopback() {
            return Err(CliError::new(Code::Usage, format!("{address} is not a loopback address"))
                .with_hint("until nodes are enrolled, a server listens on 127.0.0.1 or [::1] only"));
        }
        return TcpListener::bind(address).await.map_err(|e| bind_error(address, &e));
    }
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if let Some(last) = dir.last_address().filter(|a| a.ip().is_loopback())
        && let Ok(listener) = TcpListener::bind(last).await
    {
        return Ok(listener);
    }
    TcpListener::bind(any).await.map_err(|e| bind_error(any, &e))
}

fn bind_error(address: SocketAddr, e: &std::io::Error) -> CliError {
    let code = if e.kind() == std::io::ErrorKind::AddrInUse { Code::AddressInUse } else { Code::Usage };
    CliError::new(code, format!("cannot listen on {address}: {e}"))
}

/// Servers that run in this process.
pub(crate) struct Servers {
    tracker: TaskTracker,
}

impl Servers {
    /// Starts a gateway and a scheduler on this log. `stop` ends both; a server that fails ends the other.
    ///
    /// # Errors
    /// `CX-0706` when a token can be read by others.
    pub(crate) fn start(
        dir: &DataDir,
        log: &Arc<dyn EventLog>,
        listener: TcpListener,
        quotas: Quotas,
        stop: &CancellationToken,
    ) -> Result<Servers, CliError> {
        let (client, agent) = dir.tokens()?;
        let metrics = PrometheusBuilder::new().install_recorder().ok();
        let name = format!("g-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let gateway = Gateway {
            log: log.clone(),
            config: Config { retention: quotas.outputs, ..Config::named(&name) },
            identity: Identity::new(&client, &agent),
            metrics,
        };
        let tracker = TaskTracker::new();
        let serving = stop.clone();
        tracker.spawn(async move {
            if let Err(e) = cortex_gateway::serve(gateway, listener, serving.clone()).await {
                tracing::error!(error = %e, "the gateway ended");
                serving.cancel();
            }
        });
        let scheduler = cortex_scheduler::Config { name: format!("s-{}", &name[2..]) };
        let (log, scheduling) = (log.clone(), stop.clone());
        tracker.spawn(async move {
            if let Err(e) = cortex_scheduler::run(log, scheduler, scheduling.clone()).await {
                tracing::error!(error = %e, "the scheduler ended");
                scheduling.cancel();
            }
        });
        Ok(Servers { tracker })
    }

    /// Resolves when both have ended.
    pub(crate) async fn ended(self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

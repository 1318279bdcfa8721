//! Gateway, scheduler and log in one process.

use super::data_dir::DataDir;
use crate::error::CliError;
use crate::interrupts::Interrupts;
use cortex_gateway::{Backup, Config, Gateway, Issuers, Keys, Retention};
use cortex_log::{EmbeddedLog, EventLog};
use cortex_mirror::{Mirror, MirrorKey};
use cortex_model::{Code, Fault};
use metrics_exporter_prometheus::PrometheusBuilder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bytes of events an embedded log holds when nobody said.
const EMBEDDED_LOG_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Bounds on what the server keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotas {
    /// Bytes of events, where somebody said so.
    pub(crate) log_bytes: Option<u64>,
    /// Copies of each event, on a log of several servers.
    pub(crate) replicas: usize,
    /// Bytes and age of outputs.
    pub(crate) outputs: Retention,
}

/// Opens the log a server was told to use.
///
/// # Errors
/// The log's own error with its code.
pub(crate) async fn open_log(
    dir: &DataDir,
    url: &str,
    quotas: Quotas,
) -> Result<OpenLog, CliError> {
    let failed = |e: cortex_log::LogError| {
        CliError::from(cortex_model::Fault::new(
            e.code(),
            format!("the event log cannot be opened: {e}"),
        ))
    };
    if url == "embedded" {
        let path = dir.join("log");
        let options = cortex_log::embedded::Options {
            quota: Some(quotas.log_bytes.unwrap_or(EMBEDDED_LOG_BYTES)),
            output_quota: Some(quotas.outputs.max_bytes),
            ..cortex_log::embedded::Options::default()
        };
        let opened =
            tokio::task::spawn_blocking(move || cortex_log::EmbeddedLog::open(path, options)).await;
        let opened = opened.map_err(|e| CliError::internal(format!("opening the log: {e}")))?;
        let log = Arc::new(opened.map_err(failed)?);
        let backup = backup_of(log.clone(), dir.join("backups"));
        return Ok(OpenLog { log, backup: Some(backup) });
    }
    if !url.starts_with("nats://") {
        return Err(CliError::new(Code::Usage, format!("{url:?} is not a log"))
            .with_hint("use 'embedded' or nats://HOST:PORT"));
    }
    let defaults = cortex_log::jetstream::Options::default();
    let options = cortex_log::jetstream::Options {
        quota: quotas.log_bytes.map(|all| all / u64::from(defaults.shards)),
        replicas: quotas.replicas,
        ..defaults
    };
    let log = cortex_log::JetStreamLog::open(url, options).await.map_err(failed)?;
    Ok(OpenLog { log: Arc::new(log), backup: None })
}

/// An open log, with the way to copy it if it lies in our files.
pub(crate) struct OpenLog {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) backup: Option<Backup>,
}

/// Copies the log into a new directory that can itself be used as a data directory.
fn backup_of(log: Arc<EmbeddedLog>, backups: PathBuf) -> Backup {
    Arc::new(move || {
        let (log, backups) = (log.clone(), backups.clone());
        Box::pin(async move {
            let name = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
            let target = backups.join(name.replace('.', "-"));
            copy(&log, &target).await.map(|()| target.clone())
        })
    })
}

async fn copy(log: &EmbeddedLog, target: &Path) -> Result<(), Fault> {
    let failed = |e: CliError| Fault::new(Code::DiskFull, e.message);
    // Opening makes the version file; what is missing after a restore (tokens) is made anew.
    drop(DataDir::open(target).map_err(failed)?);
    log.backup(target.join("log"))
        .await
        .map_err(|e| Fault::new(e.code(), format!("the copy failed: {e}")))
}

/// Binds the address, or for none the one of last time if it is free, or any.
///
/// # Errors
/// `CX-0705` when the address is in use, `CX-0803` when it is none of this machine.
pub(crate) async fn listen(
    dir: &DataDir,
    wanted: Option<SocketAddr>,
) -> Result<TcpListener, CliError> {
    raise_open_files();
    if let Some(address) = wanted {
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

/// Every connection is an open file, and systems allow 1,024 of them unless a program asks for more.
fn raise_open_files() {
    let now = getrlimit(Resource::Nofile);
    let most = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(e) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(error = %e, "the limit of open files stays as it was: fewer connections fit");
    }
}

fn bind_error(address: SocketAddr, e: &std::io::Error) -> CliError {
    let code =
        if e.kind() == std::io::ErrorKind::AddrInUse { Code::AddressInUse } else { Code::Usage };
    CliError::new(code, format!("cannot listen on {address}: {e}"))
}

/// What a gateway is told beside its log and keys.
pub(crate) struct GatewaySettings {
    /// Others whose tokens are accepted.
    pub(crate) issuers: Issuers,
    /// Bytes and age of outputs.
    pub(crate) outputs: Retention,
    /// How long after its end a node's certificate is renewed by its key alone, milliseconds.
    pub(crate) renewal_grace_ms: u64,
    /// Calls per second of one workspace.
    pub(crate) calls_per_second: u32,
}

/// Servers that run in this process.
pub(crate) struct Servers {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Servers {
    /// None yet. `stop` ends all; one that fails ends the others.
    pub(crate) fn new(stop: CancellationToken) -> Servers {
        Servers { tracker: TaskTracker::new(), stop }
    }

    /// Starts a gateway.
    pub(crate) fn gateway(
        &self,
        open: &OpenLog,
        keys: Keys,
        listener: TcpListener,
        settings: GatewaySettings,
    ) {
        let gateway = Gateway {
            log: open.log.clone(),
            backup: open.backup.clone(),
            config: Config {
                retention: settings.outputs,
                renewal_grace_ms: settings.renewal_grace_ms,
                calls_per_second: settings.calls_per_second,
                ..Config::named(&name("g"))
            },
            keys,
            issuers: settings.issuers,
            metrics: PrometheusBuilder::new().install_recorder().ok(),
        };
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            if let Err(e) = cortex_gateway::serve(gateway, listener, stop.clone()).await {
                tracing::error!(error = %e, "the gateway ended");
                stop.cancel();
            }
        });
    }

    /// Starts a scheduler.
    pub(crate) fn scheduler(&self, open: &OpenLog) {
        let config = cortex_scheduler::Config { name: name("s") };
        let (log, stop) = (open.log.clone(), self.stop.clone());
        self.tracker.spawn(async move {
            if let Err(e) = cortex_scheduler::run(log, config, stop.clone()).await {
                tracing::error!(error = %e, "the scheduler ended");
                stop.cancel();
            }
        });
    }

    /// Starts a mirror, on a thread of its own: verifying and signing journals delays nobody's tunnel, and what it
    /// costs can be seen apart.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn mirror(
        &self,
        open: &OpenLog,
        key: MirrorKey,
        reconcile_after: Duration,
    ) -> Result<(), CliError> {
        let config =
            cortex_mirror::Config { reconcile_after, ..cortex_mirror::Config::named(&name("m")) };
        let mirror = Mirror { log: open.log.clone(), key, config };
        let stop = self.stop.clone();
        let failed = |e: std::io::Error| CliError::internal(format!("starting the mirror: {e}"));
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        // Dropped with the thread's end, however it ends: `ended` waits for it.
        let running = self.tracker.token();
        let serve = move || {
            let _running = running;
            // Also when it panics: a server without its mirror must not go on as if nothing was missing.
            let stopping = stop.clone().drop_guard();
            if let Err(e) = runtime.block_on(cortex_mirror::serve(mirror, stop)) {
                tracing::error!(error = %e, "the mirror ended");
            }
            drop(stopping);
        };
        thread::Builder::new().name("mirror".into()).spawn(serve).map_err(failed)?;
        Ok(())
    }

    /// Serves until a signal, then ends everything in order.
    ///
    /// # Errors
    /// When a server ended by itself.
    pub(crate) async fn until(
        self,
        interrupts: &mut Interrupts,
        stop: &CancellationToken,
    ) -> Result<u8, CliError> {
        let ended = tokio::select! {
            () = interrupts.next() => Ok(0),
            () = stop.cancelled() => Err(CliError::internal("a server ended by itself; see the log above")),
        };
        stop.cancel();
        self.ended().await;
        ended
    }

    /// Resolves when all have ended.
    pub(crate) async fn ended(self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// A name that no other process of this log has.
fn name(kind: &str) -> String {
    format!("{kind}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
}

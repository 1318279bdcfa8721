//! `cortex up`: a whole Cortex on this machine: gateway, scheduler and mirror in this process, the log beside them, an agent as
//! its own process.

use super::mirror::MirrorFlags;
use crate::client::{Target, data_dir};
use crate::context::Contexts;
use crate::error::CliError;
use crate::interrupts::Interrupts;
use crate::render;
use crate::serve::access;
use crate::serve::agent::LocalAgent;
use crate::serve::compose::{GatewaySettings, Quotas, Servers, listen, open_log};
use crate::serve::data_dir::DataDir;
use crate::serve::{first_task, logging, mirror};
use clap::Args;
use cortex_gateway::{GivenFiles, Issuers, Retention};
use cortex_model::Code;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const GIB: u64 = 1024 * 1024 * 1024;

/// Flags of `up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cortex up
  cortex up --data-dir /srv/cortex --listen 0.0.0.0:7400 --name cortex.example.org
  cortex up --log nats://127.0.0.1:4222
  CORTEX_LOG=info cortex up --no-agent --log-format json")]
pub(crate) struct UpArgs {
    /// Address to listen on [default: the last one, or any free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Start no local agent
    #[arg(long)]
    no_agent: bool,
    /// Do not run the first task
    #[arg(long)]
    no_first_task: bool,
    /// Tasks the local agent runs at a time
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    #[command(flatten)]
    mirror: MirrorFlags,
    #[command(flatten)]
    shared: LogArgs,
}

/// Flags of every gateway: its keys, and how it is reached.
#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// Directory of the deployment's keys, made with 'cortex ca init' [default: authority in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) authority: Option<PathBuf>,
    /// Name or address others reach this server by; repeat for more
    #[arg(long = "name", value_name = "HOST")]
    pub(crate) names: Vec<String>,
    /// Certificate of a public or company CA (PEM, with its chain), shown to everybody but agents and this command line, which
    /// know the server by its own CA; read again when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// File of outside issuers whose tokens are accepted (docs/identity.md)
    #[arg(long, value_name = "FILE")]
    pub(crate) issuers: Option<PathBuf>,
    /// Days after its end in which a node's certificate is renewed by its key alone
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    pub(crate) renewal_grace: u64,
    /// Calls a workspace may make per second; twice as many may come at once
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) calls_per_second: u32,
}

impl IdentityArgs {
    /// The given certificate, if there is one.
    pub(crate) fn certificate(&self) -> Option<GivenFiles> {
        let (certificate, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(GivenFiles { certificate, key })
    }

    /// What a gateway is told.
    ///
    /// # Errors
    /// `CX-0525` when the file of outside issuers cannot be used.
    pub(crate) fn settings(&self, shared: &LogArgs) -> Result<GatewaySettings, CliError> {
        let issuers = self.issuers.as_deref().map(Issuers::read).transpose()?.unwrap_or_default();
        Ok(GatewaySettings {
            issuers,
            outputs: shared.quotas().outputs,
            renewal_grace_ms: self.renewal_grace.saturating_mul(24 * 3_600 * 1_000),
            calls_per_second: self.calls_per_second,
        })
    }
}

/// Flags of every server: which log, and how much of it.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Where events are kept: 'embedded' (in the data directory, 'up' only) or nats://HOST:PORT[,...]
    #[arg(long, default_value = "embedded", value_name = "LOG")]
    log: String,
    /// Copies of each event on a clustered NATS: 1, 3 or 5
    #[arg(long, default_value_t = 1, value_name = "N")]
    log_replicas: usize,
    /// Most MiB of events; submits stop at 90 % of it [default: 8192 embedded; on NATS what its server allows]
    #[arg(long, value_name = "MIB")]
    log_quota: Option<u64>,
    /// Most MiB of kept outputs; the oldest go first
    #[arg(long, default_value_t = 51200, value_name = "MIB")]
    output_quota: u64,
    /// Days that outputs are kept
    #[arg(long, default_value_t = 7, value_name = "DAYS")]
    output_days: u64,
    /// Form of log lines on stderr; what is logged says CORTEX_LOG
    #[arg(long, value_parser = ["text", "json"], default_value = "text", value_name = "FORM")]
    log_format: String,
}

impl LogArgs {
    /// The log's address, which other processes can reach too.
    ///
    /// # Errors
    /// `CX-0803` for the embedded log: one process alone can open it.
    pub(crate) fn url(&self) -> Result<&str, CliError> {
        if self.log == "embedded" {
            return Err(CliError::new(
                Code::Usage,
                "the embedded log serves one process: 'cortex up'",
            )
            .with_hint("name a log that several processes share: --log nats://HOST:PORT"));
        }
        Ok(&self.log)
    }

    /// Whether log lines are JSON.
    pub(crate) fn json_logs(&self) -> bool {
        self.log_format == "json"
    }

    /// Bounds on what is kept.
    pub(crate) fn quotas(&self) -> Quotas {
        Quotas {
            log_bytes: self.log_quota.map(|mib| mib.saturating_mul(GIB / 1024)),
            replicas: self.log_replicas,
            outputs: Retention {
                max_age: Duration::from_secs(self.output_days.saturating_mul(24 * 3600)),
                max_bytes: self.output_quota.saturating_mul(GIB / 1024),
            },
        }
    }
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// Whatever keeps the server from starting; nothing is left half-made.
pub(crate) async fn run(args: UpArgs, given: Option<&Path>) -> Result<u8, CliError> {
    logging::start("warn", args.shared.json_logs())?;
    let mut interrupts = Interrupts::listen()?;
    let dir = Arc::new(DataDir::open(&data_dir(given)?)?);
    let listener = listen(&dir, args.listen).await?;
    let address = listener.local_addr().map_err(|e| CliError::internal(e.to_string()))?;
    let open = open_log(&dir, &args.shared.log, args.shared.quotas()).await?;
    let durability = open.log.describe().acknowledged_means;
    let stop = CancellationToken::new();
    let servers = Servers::new(stop.clone());
    let own = &args.identity;
    let settings = own.settings(&args.shared)?;
    let (authority, certificate) = (own.authority.as_deref(), own.certificate());
    let keys = access::keys(&dir, authority, true, address, &own.names, certificate)?;
    let registrar = access::registrar(&open, &keys, "cortex-up");
    access::root_token(dir.clone(), registrar.clone(), stop.clone()).await?;
    servers.gateway(&open, keys, listener, settings);
    servers.scheduler(&open);
    servers.mirror(
        &open,
        mirror::key(&dir, None, &args.mirror)?,
        args.mirror.reconcile_after()?,
    )?;
    drop(open);
    let url = access::url(address);
    dir.write_endpoint(&url)?;
    if let Some(contexts) = Contexts::of_user() {
        contexts.local(dir.path())?;
    }
    render::line(&format!("cortex is up at {url}, data in {}", dir.path().display()))?;
    if let Some(note) = access::reachable_note(address, &own.names) {
        render::note(&note);
    }
    render::line(&format!("what is acknowledged is durable: {durability}"))?;

    let agent = (!args.no_agent).then(|| LocalAgent::new(&dir, registrar, args.slots));
    let policy = agent.as_ref().map(LocalAgent::policy_file);
    let supervised = agent.map(|a| tokio::spawn(a.supervise(stop.clone())));
    let target = Target::new(dir.path().to_owned());
    let greeting = async {
        if policy.is_some() && !args.no_first_task {
            match greet(&target).await {
                Ok(text) => render::line(&text)?,
                Err(e) => render::note(&format!("the first task did not run: {}", e.message)),
            }
        }
        render::line(&next_steps(given, policy.as_deref()))?;
        std::future::pending::<Result<(), CliError>>().await
    };
    let ended = tokio::select! {
        () = interrupts.next() => Ok(()),
        () = stop.cancelled() => Err(CliError::internal("a server ended by itself; see the log above")),
        r = greeting => r,
    };
    render::note("stopping");
    stop.cancel();
    if let Some(agent) = supervised {
        agent.await.ok();
    }
    servers.ended().await;
    ended.map(|()| 0)
}

async fn greet(target: &Target) -> Result<String, CliError> {
    let client = target.connect().await?;
    first_task::run(&client).await
}

fn next_steps(given: Option<&Path>, policy: Option<&Path>) -> String {
    let with = given.map_or(String::new(), |d| format!("CORTEX_DATA_DIR={} ", d.display()));
    let mut text = format!(
        "From another terminal:\n  {with}cortex run -- uname -a\n  {with}cortex task list\n  {with}cortex node list\n"
    );
    if let Some(policy) = policy {
        text.push_str(&format!(
            "What may run on this machine is decided in {}\n",
            policy.display()
        ));
    }
    text.push_str("Ctrl-C stops it: waiting tasks are kept, what runs on this machine is ended with its agent.");
    text
}

//! The yardstick of `echo`: a process that does only a task's durable writes, with the product's own log, and answers one
//! gRPC call over mutual TLS. No scheduling, no tunnel, no second hop; what is missing to its figures is what Cortex costs.

use crate::procs::Proc;
use crate::{sample, tls};
use anyhow::Context as _;
use bytes::Bytes;
use cortex_log::{
    Commit, CommitId, EmbeddedLog, EventLog, Expect, JetStreamLog, Key, Space, embedded, jetstream,
};
use cortex_model::proto::{SubmitTaskRequest, SubmitTaskResponse, Task};
use futures::future::BoxFuture;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

const PATH: &str = "/cortex.bench.Yardstick/Do";
/// Bytes of the two entries an agent's journal gets for an echo task.
const JOURNAL_ENTRIES: [usize; 2] = [900, 700];

/// Serves until standard input ends. The first line on standard output is the address. `start`: a task has a program to start.
///
/// # Errors
/// When the directory or the socket cannot be used.
pub(crate) async fn serve(directory: &Path, nats: Option<&str>, start: bool) -> anyhow::Result<()> {
    let config = tls::server(directory)?;
    let open = |name: &str| EmbeddedLog::open(directory.join(name), embedded::Options::default());
    let log: Arc<dyn EventLog> = match nats {
        Some(url) => {
            let options = jetstream::Options { replicas: 1, ..Default::default() };
            Arc::new(JetStreamLog::open(url, options).await?)
        }
        None => Arc::new(open("log")?),
    };
    let stores = Arc::new(Stores { log, journal: open("journal")?, start });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::say(&listener.local_addr()?.to_string())?;
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(1024 * 1024)
        .add_service(Yardstick(stores))
        .serve_with_incoming(tls::accept(listener, config));
    tokio::select! {
        served = server => Ok(served?),
        () = crate::stdin_ended() => Ok(()),
    }
}

struct Stores {
    log: Arc<dyn EventLog>,
    journal: EmbeddedLog,
    start: bool,
}

impl Stores {
    /// The writes of one task, each durable before the next.
    async fn task(&self) -> anyhow::Result<()> {
        let id = uuid::Uuid::now_v7().to_string();
        let [submitted, started, finished] = sample::commits()?;
        let key = Key::new(Space::Task, "default", id.as_str())?;
        let rev = self.log.append(&key, Expect::Absent, sample::record(&submitted)).await?;
        let rev = self.log.append(&key, Expect::At(rev), sample::record(&started)).await?;
        let entry = Key::new(Space::Audit, "default", id.as_str())?;
        let [intent, outcome] = JOURNAL_ENTRIES;
        let at = self.journal.append(&entry, Expect::Absent, journal_entry(1, intent)).await?;
        if self.start {
            crate::shell::spawn_and_wait().await?;
        }
        self.journal.append(&entry, Expect::At(at), journal_entry(2, outcome)).await?;
        self.log.append(&key, Expect::At(rev), sample::record(&finished)).await?;
        Ok(())
    }
}

fn journal_entry(n: u64, size: usize) -> Commit {
    let body = Bytes::from(vec![b'j'; size]);
    Commit { id: CommitId::generate(), kind: "entry".into(), n, body }
}

#[derive(Clone)]
struct Yardstick(Arc<Stores>);

impl NamedService for Yardstick {
    const NAME: &'static str = "cortex.bench.Yardstick";
}

impl UnaryService<SubmitTaskRequest> for Yardstick {
    type Response = SubmitTaskResponse;
    type Future = BoxFuture<'static, Result<Response<SubmitTaskResponse>, Status>>;

    fn call(&mut self, request: Request<SubmitTaskRequest>) -> Self::Future {
        let stores = self.0.clone();
        Box::pin(async move {
            let SubmitTaskRequest { spec, idempotency_key, actor, .. } = request.into_inner();
            stores.task().await.map_err(|e| Status::internal(e.to_string()))?;
            let task = Task { spec, idempotency_key, actor, ..Task::default() };
            Ok(Response::new(SubmitTaskResponse { task: Some(task), created: true }))
        })
    }
}

impl tower::Service<http::Request<Body>> for Yardstick {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            Ok(grpc.unary(service, request).await)
        })
    }
}

/// A running yardstick and a warm channel to it.
pub(crate) struct Running {
    /// Its process.
    pub(crate) process: Proc,
    channel: Channel,
}

impl Running {
    /// Starts one in a new directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn start(directory: PathBuf, nats: Option<&str>) -> anyhow::Result<Running> {
        let mut command = Self::command(&directory)?;
        if let Some(url) = nats {
            command.arg("--nats").arg(url);
        }
        Self::run(&mut command, &directory).await
    }

    /// Starts one whose calls start a program each, `sh -c true`, between the two entries of the journal.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn that_starts(directory: PathBuf) -> anyhow::Result<Running> {
        Self::run(Self::command(&directory)?.arg("--start"), &directory).await
    }

    fn command(directory: &Path) -> anyhow::Result<Command> {
        std::fs::create_dir_all(directory)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("yardstick").arg("--directory").arg(directory);
        Ok(command)
    }

    async fn run(command: &mut Command, directory: &Path) -> anyhow::Result<Running> {
        let mut process = Proc::spawn("yardstick", command)?;
        let address: SocketAddr = process.line()?.parse().context("the yardstick's address")?;
        Ok(Running { process, channel: tls::channel(address, directory).await? })
    }

    /// One call.
    pub(crate) fn call(
        &self,
    ) -> impl Fn() -> BoxFuture<'static, anyhow::Result<()>> + Clone + Send + use<> {
        let channel = self.channel.clone();
        move || {
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            Box::pin(async move {
                grpc.ready().await?;
                let codec = ProstCodec::<SubmitTaskRequest, SubmitTaskResponse>::default();
                let path = http::uri::PathAndQuery::from_static(PATH);
                grpc.unary(Request::new(sample::echo_request()), path, codec).await?;
                Ok(())
            })
        }
    }
}

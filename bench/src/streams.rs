//! Many tunnels without agents behind them: simulated agents that speak the real protocol by `AgentEnd`, and a bare gRPC
//! server that only holds the same streams.

use crate::node::Node;
use anyhow::Context as _;
use cortex_model::Tick;
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AgentFrame, Capability, GatewayFrame, GatewayHeartbeat, JournalHead, Manifest, Welcome,
};
use cortex_proto::v1::agent_gateway_client::AgentGatewayClient;
use cortex_tunnel::{AgentAction, AgentConfig, AgentEnd, HelloState};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Connections made at a time.
const DIALS: usize = 32;

/// How often an agent shows a newer token.
const SHOW_EVERY: Duration = Duration::from_secs(180);

/// Which simulated agents to connect.
#[derive(clap::Args)]
pub(crate) struct Agents {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// The token they join with
    #[arg(long)]
    join: Option<String>,
    /// Instead: where the bare server left its client's certificate
    #[arg(long)]
    bare: Option<PathBuf>,
    /// Number of the first one
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// How many
    #[arg(long)]
    count: usize,
}

/// Connects them, prints a line, and holds them until standard input ends.
///
/// # Errors
/// When one is refused or its connection ends.
pub(crate) async fn connect(agents: Agents) -> anyhow::Result<()> {
    let (held, mut broken) = mpsc::channel(1);
    let mut dials = futures::stream::iter(agents.first..agents.first + agents.count)
        .map(|n| Agent::connect(n, &agents))
        .buffer_unordered(DIALS);
    while let Some(agent) = dials.next().await {
        let (agent, held) = (agent?, held.clone());
        tokio::spawn(async move {
            if let Err(e) = agent.hold().await {
                // Only the first one matters.
                drop(held.try_send(e));
            }
        });
    }
    crate::say("connected")?;
    tokio::select! {
        () = crate::stdin_ended() => Ok(()),
        Some(e) = broken.recv() => Err(e.context("a tunnel ended")),
    }
}

struct Agent {
    end: AgentEnd,
    begun: Instant,
    up: mpsc::Sender<AgentFrame>,
    down: Streaming<GatewayFrame>,
    node: Option<Node>,
    /// When it last showed a token.
    shown: Instant,
}

impl Agent {
    /// Dials and waits for the welcome.
    async fn connect(n: usize, agents: &Agents) -> anyhow::Result<Agent> {
        let name = format!("simulated-{n:05}");
        let (node, channel) = match (&agents.join, &agents.bare) {
            (Some(token), _) => {
                let node = Node::join(&agents.url, token, &name).await?;
                let channel = node.channel.clone();
                (Some(node), channel)
            }
            (None, Some(directory)) => {
                (None, crate::tls::channel(agents.url.parse()?, directory).await?)
            }
            (None, None) => anyhow::bail!("--join or --bare is needed"),
        };
        let begun = Instant::now();
        let mut end = AgentEnd::new(AgentConfig {
            node: name,
            incarnation: uuid::Uuid::new_v4().simple().to_string(),
            session: uuid::Uuid::now_v7().to_string(),
            agent_version: "bench".into(),
        });
        end.poll_action(Tick(0)).context("the first action is to connect")?;
        end.connected(hello(n), Tick(0));
        let (up, frames) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(frames));
        if let Some(node) = &node {
            let token = format!("Bearer {}", node.mint().await?);
            request.metadata_mut().insert("authorization", token.parse()?);
        }
        let first = end.poll_frame().context("a hello")?;
        up.send(first).await?;
        let mut client = AgentGatewayClient::new(channel);
        let down = client.connect(request).await?.into_inner();
        let mut agent = Agent { end, begun, up, down, node, shown: Instant::now() };
        agent.receive().await?;
        Ok(agent)
    }

    async fn hold(mut self) -> anyhow::Result<()> {
        loop {
            if let Some(node) = self.node.as_ref().filter(|_| self.shown.elapsed() > SHOW_EVERY) {
                self.end.show_token(node.mint().await?);
                self.shown = Instant::now();
            }
            while let Some(frame) = self.end.poll_frame() {
                self.up.send(frame).await?;
            }
            let now = self.now();
            let due = self.end.poll_timeout().map_or(60_000, |t| t.since(now));
            // A pause is cheaper than a wake-up that comes a moment too early.
            match tokio::time::timeout(Duration::from_millis(due + 1), self.receive()).await {
                Ok(received) => received?,
                Err(_) => {
                    let now = self.now();
                    self.end.handle_timeout(now);
                    self.act()?;
                }
            }
        }
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let frame = self.down.message().await?.context("the server ended the call")?;
        let now = self.now();
        self.end.handle_frame(frame, now)?;
        self.act()
    }

    /// Nothing is offered to it, so whatever it should do but being welcome is an end.
    fn act(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        while let Some(action) = self.end.poll_action(now) {
            let expected =
                matches!(action, AgentAction::Welcomed { .. } | AgentAction::TokenAccepted { .. });
            if !expected {
                anyhow::bail!("{action:?}");
            }
        }
        Ok(())
    }

    fn now(&self) -> Tick {
        Tick(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

fn hello(n: usize) -> HelloState {
    let capability = |name: &str, version: &str| Capability {
        name: name.into(),
        version: version.into(),
        path: format!("/usr/bin/{name}"),
    };
    HelloState {
        manifest: Manifest {
            hostname: format!("machine-{n:05}"),
            os: "linux".into(),
            arch: "x86_64".into(),
            cpus: 8,
            memory_bytes: 16 << 30,
            capabilities: vec![
                capability("shell", ""),
                capability("python", "3.11.2"),
                capability("git", "2.39.5"),
            ],
            labels: [("team".to_owned(), "red".to_owned())].into(),
            kernel: "6.12.0".into(),
            unable: None,
            narrowed: None,
        },
        journal: JournalHead { size: 1, leaf: "00".repeat(32) },
        attempts: Vec::new(),
        slots: 4,
        slots_free: 4,
    }
}

/// Holds streams until standard input ends: a welcome, then a heartbeat for each one it gets, nothing kept. The first line on
/// standard output is the address.
///
/// # Errors
/// When the socket cannot be used.
pub(crate) async fn serve(directory: &Path) -> anyhow::Result<()> {
    let config = crate::tls::server(directory)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::say(&listener.local_addr()?.to_string())?;
    let server = tonic::transport::Server::builder()
        .add_service(Bare)
        .serve_with_incoming(crate::tls::accept(listener, config));
    tokio::select! {
        served = server => Ok(served?),
        () = crate::stdin_ended() => Ok(()),
    }
}

/// Holds streams as a gRPC server does that changes nothing of what the library brings.
#[derive(Clone)]
struct Bare;

impl NamedService for Bare {
    const NAME: &'static str = "cortex.v1.AgentGateway";
}

impl StreamingService<AgentFrame> for Bare {
    type Response = GatewayFrame;
    type ResponseStream = BoxStream<'static, Result<GatewayFrame, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<AgentFrame>>) -> Self::Future {
        let frames = request.into_inner();
        ready(Ok(Response::new(frames.filter_map(async |f| f.map(answer).transpose()).boxed())))
    }
}

impl tower::Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            Ok(grpc.streaming(Bare, request).await)
        })
    }
}

fn answer(frame: AgentFrame) -> Option<GatewayFrame> {
    let body = match frame.body? {
        Up::Hello(_) => Down::Welcome(Welcome {
            version: 1,
            gateway: "bare".into(),
            workspace: "default".into(),
            heartbeat_ms: cortex_model::limits::HEARTBEAT_MS,
            dead_after_ms: cortex_model::limits::DEAD_AFTER_MS,
            output_credit: cortex_model::limits::OUTPUT_WINDOW,
            ..Welcome::default()
        }),
        Up::Heartbeat(beat) => {
            Down::Heartbeat(GatewayHeartbeat { seq: beat.seq, ..GatewayHeartbeat::default() })
        }
        Up::Claim(_)
        | Up::Busy(_)
        | Up::Outcome(_)
        | Up::QueryAnswer(_)
        | Up::CancelAnswer(_)
        | Up::TokenShown(_)
        | Up::TerminalAnswer(_)
        | Up::Leaving(_)
        | Up::AuditHello(_)
        | Up::AuditBatch(_)
        | Up::AuditOpenings(_)
        | Up::AuditEvidence(_)
        | Up::Consent(_)
        | Up::Output(_) => return None,
    };
    Some(GatewayFrame { body: Some(body) })
}

//! What it costs to let an agent in: a full TLS handshake with both certificates and the check of its token, alone and with
//! hello, seat and welcome; against a bare accept loop that does the handshake and answers one byte.

use crate::Bench;
use crate::cortex::Server;
use crate::load::{Load, drive};
use crate::procs::{Proc, Watched};
use crate::report::{Goal, Row};
use crate::tls;
use anyhow::Context as _;
use cortex_model::proto as pb;
use cortex_proto::v1::agent_gateway_client::AgentGatewayClient;
use cortex_proto::v1::node_identity_client::NodeIdentityClient;
use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

/// Nodes that connect at the same time, each again and again.
const NODES: usize = 16;
/// The name in the server's certificate that is asked for.
const NAME: &str = "127.0.0.1";
/// Wanted share of the bare loop's rate.
const SHARE: f64 = 0.60;

/// Measures it.
///
/// # Errors
/// When a process fails, or somebody is refused.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(bench, "tunnel-auth").await?;
    let nodes = join(&server).await?;
    let directory = bench.directory.path().join("handshakes");
    std::fs::create_dir_all(&directory)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("handshakes").arg("--directory").arg(&directory);
    let mut bare = Proc::spawn("the bare loop", &mut command)?;
    let address: SocketAddr = bare.line()?.parse().context("the bare loop's address")?;
    let connector = TlsConnector::from(Arc::new(tls::client(&directory)?.config()?));
    let (mut known, mut opened, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let shake = handshake(address, connector.clone());
        theirs.push(drive(NODES, bench.window, &[Watched::Process(bare.pid())], shake).await?);
        let watched = [Watched::Process(server.process.pid())];
        known.push(drive(NODES, bench.window, &watched, connect(&nodes, Way::Known)).await?);
        opened.push(drive(NODES, bench.window, &watched, connect(&nodes, Way::Welcome)).await?);
    }
    let setting =
        format!("TLS 1.3, both certificates ECDSA P-256, no resumption; {NODES} at a time");
    let row = |ours: &[Load], what: &str, unit, of: fn(&Load) -> f64| {
        let (values, bare): (Vec<f64>, Vec<f64>) =
            (ours.iter().map(of).collect(), theirs.iter().map(of).collect());
        Row::new("tunnel-auth", what, &values, unit, &setting).beside(&values, &bare)
    };
    Ok(vec![
        row(&known, "handshakes", "/s", |l| l.rate).goal(Goal::RatioAtLeast(SHARE)),
        row(&known, "CPU per handshake of the server", "us", |l| l.cpu_us[0]),
        row(&known, "handshake, p50", "us", |l| l.p50_us),
        row(&known, "handshake, p99", "us", |l| l.p99_us),
        row(&opened, "tunnels opened", "/s", |l| l.rate),
        row(&opened, "CPU per tunnel of the server", "us", |l| l.cpu_us[0]),
        row(&opened, "tunnel, p50", "us", |l| l.p50_us),
        row(&opened, "tunnel, p99", "us", |l| l.p99_us),
    ])
}

/// How far a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Until the gateway has checked certificate and token and answers the call.
    Known,
    /// Until the welcome: hello, the node's seat (synced), presence.
    Welcome,
}

/// A node and what it shows.
struct Node {
    address: SocketAddr,
    connector: TlsConnector,
    token: MetadataValue<Ascii>,
    id: String,
    session: String,
    generation: AtomicU64,
}

/// Makes nodes as machines become them: with a join token, a key and a request.
async fn join(server: &Server) -> anyhow::Result<Arc<Vec<Node>>> {
    let address: SocketAddr = server.url().trim_start_matches("https://").parse()?;
    let token = server.join_token(u32::try_from(NODES)?).await?;
    let mut nodes = Vec::new();
    for n in 0..NODES {
        let id = format!("bench-{n}");
        let client = crate::node::Node::certified(server.url(), &token, &id).await?;
        let connector = TlsConnector::from(Arc::new(client.config()?));
        let channel = tls::dial(address, NAME, connector.clone()).await?;
        let mut client = NodeIdentityClient::new(channel);
        let minted = client.mint_tunnel_token(pb::MintTunnelTokenRequest {}).await?.into_inner();
        let token = format!("Bearer {}", minted.token).parse()?;
        let session = uuid::Uuid::new_v4().to_string();
        nodes.push(Node { address, connector, token, id, session, generation: AtomicU64::new(0) });
    }
    Ok(Arc::new(nodes))
}

/// One connection from the first byte to the welcome. Whoever comes next takes the node that rested longest: two connections of
/// one node at the same time would throw each other out.
fn connect(
    nodes: &Arc<Vec<Node>>,
    way: Way,
) -> impl Fn() -> BoxFuture<'static, anyhow::Result<()>> + Clone + Send + use<> {
    let (nodes, rested) =
        (nodes.clone(), Arc::new(Mutex::new((0..NODES).collect::<VecDeque<_>>())));
    move || {
        let (nodes, rested) = (nodes.clone(), rested.clone());
        Box::pin(async move {
            let first = lock(&rested).pop_front();
            let n = first.context("a node that rests")?;
            let opened = nodes[n].open(way).await;
            lock(&rested).push_back(n);
            opened
        })
    }
}

fn lock(rested: &Mutex<VecDeque<usize>>) -> MutexGuard<'_, VecDeque<usize>> {
    rested.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    async fn open(&self, way: Way) -> anyhow::Result<()> {
        let channel = tls::dial(self.address, NAME, self.connector.clone()).await?;
        if way == Way::Known {
            let mut request = Request::new(tokio_stream::pending());
            request.metadata_mut().insert("authorization", self.token.clone());
            AgentGatewayClient::new(channel).connect(request).await?;
            return Ok(());
        }
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let hello = pb::Hello {
            min_version: 1,
            max_version: 1,
            node: self.id.clone(),
            incarnation: "0".repeat(32),
            session: self.session.clone(),
            generation,
            manifest: Some(pb::Manifest::default()),
            ..Default::default()
        };
        let hello = pb::AgentFrame { body: Some(pb::agent_frame::Body::Hello(hello)) };
        let mut request = Request::new(tokio_stream::once(hello).chain(tokio_stream::pending()));
        request.metadata_mut().insert("authorization", self.token.clone());
        let mut down = AgentGatewayClient::new(channel).connect(request).await?.into_inner();
        let first = down.message().await?.context("a first frame")?.body;
        anyhow::ensure!(matches!(first, Some(pb::gateway_frame::Body::Welcome(_))), "{first:?}");
        Ok(())
    }
}

/// One connection to the bare loop.
fn handshake(
    address: SocketAddr,
    connector: TlsConnector,
) -> impl Fn() -> BoxFuture<'static, anyhow::Result<()>> + Clone + Send + use<> {
    move || {
        let connector = connector.clone();
        Box::pin(async move {
            let name = ServerName::try_from("localhost")?;
            let mut stream = tls::stream(address, name, connector).await?;
            // With TLS 1.3 the client's certificate is only known to be accepted once something came back.
            stream.write_all(&[1]).await?;
            anyhow::ensure!(stream.read_u8().await? == 1, "another byte came back");
            Ok(())
        })
    }
}

/// The bare loop: prints its address and serves until standard input ends.
///
/// # Errors
/// When the directory or the socket cannot be used.
pub(crate) async fn serve(directory: &Path) -> anyhow::Result<()> {
    let config = tls::server(directory)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::say(&listener.local_addr()?.to_string())?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let serve = async {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { answer(acceptor, socket).await });
        }
    };
    tokio::select! {
        () = serve => Ok(()),
        () = crate::stdin_ended() => Ok(()),
    }
}

async fn answer(acceptor: tokio_rustls::TlsAcceptor, socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = acceptor.accept(socket).await?;
    let byte = stream.read_u8().await?;
    stream.write_u8(byte).await?;
    stream.flush().await
}

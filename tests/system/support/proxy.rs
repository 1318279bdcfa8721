//! A proxy between an agent and its gateway: it can be cut, and it can stop at the very frame that a test names. It never
//! changes, reorders or drops a byte of a connection that lives. Because what travels is encrypted, it ends TLS with the keys of
//! both sides, which lie in the test's own directories: a certificate of the server's authority, and the key of whichever
//! agent calls.

use super::Server;
use super::tls;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the agent to the gateway.
    Up,
    /// From the gateway to the agent.
    Down,
}

/// When to stop: at the first piece on its way that holds one text and not the other.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) way: Way,
    pub(crate) holds: String,
    pub(crate) without: Option<String>,
}

#[derive(Default)]
struct State {
    /// Connections are refused and dropped.
    cut: bool,
    stop: Option<Stop>,
    /// The stop was reached: nothing goes that way any more.
    reached: bool,
    links: Vec<AbortHandle>,
    passed: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    endpoint: PathBuf,
    /// Dropped with the proxy, and with it every connection.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Proxy {
    /// A proxy in front of a server, and the endpoint file that leads agents to it.
    pub(crate) fn start(server: &Server, name: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = server.path(&format!("{name}-endpoint.json"));
        let text = format!(r#"{{"version":1,"url":"https://{address}","pid":0}}"#);
        std::fs::write(&endpoint, text).unwrap();
        let shared = Arc::new(Shared::default());
        let sides = Arc::new(tls::Sides::of(&server.data().join("authority"), server.root()));
        let target = server.data().join("endpoint.json");
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(accept(listener, shared.clone(), sides, target));
        Proxy { shared, endpoint, runtime: Some(runtime) }
    }

    pub(crate) fn endpoint(&self) -> PathBuf {
        self.endpoint.clone()
    }

    /// Drops every connection and refuses new ones.
    pub(crate) fn cut(&self) {
        let mut state = self.shared.lock();
        state.cut = true;
        drop_links(&mut state);
    }

    /// Lets connections through again.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.lock();
        state.cut = false;
        state.stop = None;
        state.reached = false;
        // What was held back belongs to connections that are dead for one side.
        drop_links(&mut state);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Will hold everything back, from the piece that this names.
    pub(crate) fn stop_at(&self, stop: Stop) {
        self.shared.lock().stop = Some(stop);
    }

    /// Whether that piece came.
    pub(crate) fn reached(&self) -> bool {
        self.shared.lock().reached
    }

    /// Bytes that went through, both ways.
    pub(crate) fn passed(&self) -> u64 {
        self.shared.lock().passed
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn drop_links(state: &mut State) {
    for link in state.links.drain(..) {
        link.abort();
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    sides: Arc<tls::Sides>,
    target: PathBuf,
) -> Option<()> {
    listener.set_nonblocking(true).ok()?;
    let listener = tokio::net::TcpListener::from_std(listener).ok()?;
    loop {
        let (client, _) = listener.accept().await.ok()?;
        let mut state = shared.lock();
        if state.cut {
            continue;
        }
        let link = link(client, shared.clone(), sides.clone(), target.clone());
        let handle = tokio::spawn(link);
        state.links.push(handle.abort_handle());
    }
}

/// One connection, until either side or the test ends it.
async fn link(
    client: TcpStream,
    shared: Arc<Shared>,
    sides: Arc<tls::Sides>,
    target: PathBuf,
) -> Option<()> {
    client.set_nodelay(true).ok()?;
    let client = sides.acceptor().accept(client).await.ok()?;
    let shown = client.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
    let gateway = TcpStream::connect(address(&target)?).await.ok()?;
    gateway.set_nodelay(true).ok()?;
    let gateway = sides.connector(shown.as_ref()).connect(tls::loopback(), gateway).await.ok()?;
    let (from_client, to_client) = tokio::io::split(client);
    let (from_gateway, to_gateway) = tokio::io::split(gateway);
    tokio::select! {
        () = pump(Way::Up, from_client, to_gateway, &shared) => {}
        () = pump(Way::Down, from_gateway, to_client, &shared) => {}
    }
    Some(())
}

/// Where the server says it is; none while it is away.
fn address(endpoint: &Path) -> Option<SocketAddr> {
    let text = std::fs::read(endpoint).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    value["url"].as_str()?.strip_prefix("https://")?.parse().ok()
}

async fn pump(
    way: Way,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let piece = &buffer[..n];
        let passes = may_pass(way, piece, shared).await;
        if !passes || to.write_all(piece).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// Waits while this way is held. False when the piece must not go on: its connection was dropped meanwhile.
async fn may_pass(way: Way, piece: &[u8], shared: &Shared) -> bool {
    let healed = shared.changed.notified();
    tokio::pin!(healed);
    {
        let mut state = shared.lock();
        let stop = state.stop.clone().filter(|s| s.way == way);
        let has = |text: &str| piece.windows(text.len()).any(|part| part == text.as_bytes());
        let held = stop.is_some_and(|stop| {
            let is_named = has(&stop.holds) && !stop.without.is_some_and(|w| has(&w));
            state.reached || is_named
        });
        if !held {
            state.passed += piece.len() as u64;
            return true;
        }
        state.reached = true;
        healed.as_mut().enable();
    }
    healed.await;
    false
}

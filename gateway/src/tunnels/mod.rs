//! Agents' tunnels: one task per connection drives the pure machine of `cortex-tunnel`. Which connection of a
//! node counts is kept here; it never decides about a task.

mod audit;
mod connection;
mod dispatch;
mod flow;
mod offers;
mod peer;
mod reports;

use crate::audit::Audits;
use crate::config::Config;
use crate::identity::{Identity, Principal};
use crate::nodes::Nodes;
use crate::registry::Registry;
use crate::status::status;
use crate::tasks::Tasks;
use cortex_log::EventLog;
use cortex_model::contract::v1::agent_gateway_server::AgentGateway;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, Tick};
use cortex_tunnel::GatewayConfig;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

/// Frames between a connection's task and its transport. Small, so that control frames are not stuck behind others.
const FRAMES_QUEUED: usize = 16;

/// What tunnels are made of.
pub(crate) struct Parts {
    pub(crate) identity: Arc<Identity>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) config: Arc<Config>,
    pub(crate) stop: CancellationToken,
    pub(crate) connections: TaskTracker,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) identity: Arc<Identity>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) config: Arc<Config>,
    pub(crate) tunnel: Arc<GatewayConfig>,
    pub(crate) stop: CancellationToken,
    /// The connection that counts, by workspace and node.
    current: Mutex<HashMap<(String, String), (String, CancellationToken)>>,
    started: Instant,
}

impl Shared {
    /// Monotonic time of this process.
    pub(crate) fn tick(&self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The instant of a tick.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.started + std::time::Duration::from_millis(tick.0)
    }

    /// Makes this connection the one that counts for its node and ends the one before.
    pub(crate) fn take_over(
        &self,
        workspace: &str,
        node: &str,
        session: &str,
    ) -> CancellationToken {
        let superseded = CancellationToken::new();
        let entry = (session.to_owned(), superseded.clone());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = current.insert((workspace.to_owned(), node.to_owned()), entry) {
            before.cancel();
        }
        superseded
    }

    /// Forgets a connection, unless a newer one took over.
    pub(crate) fn leave(&self, workspace: &str, node: &str, session: &str) {
        let key = (workspace.to_owned(), node.to_owned());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.get(&key).is_some_and(|(s, _)| s == session) {
            current.remove(&key);
        }
    }
}

/// Serves `cortex.v1.AgentGateway`.
pub(crate) struct Tunnels {
    shared: Arc<Shared>,
    connections: TaskTracker,
}

impl Tunnels {
    /// No connection yet.
    #[must_use]
    pub(crate) fn new(parts: Parts) -> Tunnels {
        let Parts { identity, registry, tasks, nodes, audits, log, config, stop, connections } =
            parts;
        let tunnel = GatewayConfig {
            heartbeat_ms: config.heartbeat_ms,
            dead_after_ms: config.dead_after_ms,
            min_backoff_ms: config.min_backoff_ms,
            ..GatewayConfig::new(&config.name)
        };
        let shared = Shared {
            identity,
            registry,
            tasks,
            nodes,
            audits,
            log,
            config,
            tunnel: Arc::new(tunnel),
            stop,
            current: Mutex::default(),
            started: Instant::now(),
        };
        Tunnels { shared: Arc::new(shared), connections }
    }
}

#[tonic::async_trait]
impl AgentGateway for Tunnels {
    type ConnectStream = ReceiverStream<Result<pb::GatewayFrame, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<pb::AgentFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let Some(principal) = request.extensions().get::<Principal>().cloned() else {
            return Err(status(&Fault::new(
                Code::Unauthenticated,
                "the call carries no principal",
            )));
        };
        if self.shared.stop.is_cancelled() {
            return Err(status(&Fault::new(Code::Draining, "the gateway is going away")));
        }
        let (tx, rx) = mpsc::channel(FRAMES_QUEUED);
        let inbound = request.into_inner();
        let connection = connection::Connection::new(self.shared.clone(), principal, tx);
        self.connections.spawn(connection.run(inbound));
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

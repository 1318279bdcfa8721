//! Agents' tunnels: one task per connection drives the pure machine of `cortex-tunnel`. It never decides about a task.

mod audit;
mod connection;
mod dispatch;
mod flow;
mod offers;
mod peer;
mod reports;
mod seats;
mod takeover;

pub(crate) use seats::{NODES_BUCKET, Seats};

use crate::audit::Audits;
use crate::config::Config;
use crate::identity::{Identity, Principal};
use crate::nodes::Nodes;
use crate::registry::Registry;
use crate::status::status;
use crate::tasks::Tasks;
use connection::Connection;
use cortex_log::EventLog;
use cortex_model::contract::v1::agent_gateway_server::AgentGateway;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, Tick};
use cortex_tunnel::GatewayConfig;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

/// Frames between a connection's task and its transport. Small, so that control frames are not stuck behind others.
const FRAMES_QUEUED: usize = 16;

/// What one connection's transport sends. A queue's memory is a block of many slots and a frame can be large: a pointer
/// keeps the queues of the many idle tunnels small.
pub(crate) struct Frames(mpsc::Receiver<Box<pb::GatewayFrame>>);

impl futures::Stream for Frames {
    type Item = Result<pb::GatewayFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|frame| frame.map(|frame| Ok(*frame)))
    }
}

/// What tunnels are made of.
pub(crate) struct Parts {
    pub(crate) identity: Arc<Identity>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) seats: Arc<Seats>,
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
    pub(crate) seats: Arc<Seats>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) config: Arc<Config>,
    pub(crate) tunnel: Arc<GatewayConfig>,
    pub(crate) stop: CancellationToken,
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
        let Parts {
            identity,
            registry,
            tasks,
            nodes,
            seats,
            audits,
            log,
            config,
            stop,
            connections,
        } = parts;
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
            seats,
            audits,
            log,
            config,
            tunnel: Arc::new(tunnel),
            stop,
            started: Instant::now(),
        };
        Tunnels { shared: Arc::new(shared), connections }
    }
}

#[tonic::async_trait]
impl AgentGateway for Tunnels {
    type ConnectStream = Frames;

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
        let connection = Box::new(Connection::new(self.shared.clone(), principal, tx));
        self.connections.spawn(connection.run(inbound));
        Ok(Response::new(Frames(rx)))
    }
}

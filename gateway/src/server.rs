//! Composes the gateway's parts and serves them on one socket. Wiring only.

use crate::api::audit::AuditApi;
use crate::api::{Api, Backup};
use crate::audit::Audits;
use crate::config::Config;
use crate::housekeeping::{self, Fullness};
use crate::identity::{Identity, Issuers};
use crate::layer::AuthLayer;
use crate::nodes::Nodes;
use crate::registry::{self, Registry};
use crate::tasks::Tasks;
use crate::tls::{self, Keys, Peer};
use crate::tunnels::{self, Seats, Tunnels};
use axum::routing::get;
use cortex_log::EventLog;
use cortex_model::contract::FILE_DESCRIPTOR_SET;
use cortex_model::contract::v1::access_server::AccessServer;
use cortex_model::contract::v1::agent_gateway_server::AgentGatewayServer;
use cortex_model::contract::v1::audit_server::AuditServer;
use cortex_model::contract::v1::cortex_server::CortexServer;
use cortex_model::contract::v1::node_identity_server::NodeIdentityServer;
use cortex_model::limits::{FRAME_MAX, REQUEST_MAX};
use futures::Stream;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;

/// Pings on connections that say nothing, and how long their answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes a stream may send before it is read.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Largest request about identity, bytes.
const IDENTITY_MAX: usize = 64 * 1024;

/// What a gateway is made of.
pub struct Gateway {
    /// The log it writes to.
    pub log: Arc<dyn EventLog>,
    /// Settings.
    pub config: Config,
    /// The deployment's keys.
    pub keys: Keys,
    /// Others whose tokens are accepted.
    pub issuers: Issuers,
    /// Copies the log, where it lies in this server's files.
    pub backup: Option<Backup>,
    /// Renders the process's metrics; `None` serves none.
    pub metrics: Option<PrometheusHandle>,
}

/// Serves until `stop` is cancelled, then drains: tunnels are told to go elsewhere, open calls get the drain grace.
///
/// # Errors
/// When the socket fails or the log's messages cannot be subscribed to.
pub async fn serve(
    gateway: Gateway,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let config = Arc::new(gateway.config);
    let log = gateway.log;
    let tasks = Arc::new(Tasks::new(log.clone(), config.finished_kept));
    let seats = Seats::new(log.clone(), &config.name);
    let nodes = Arc::new(Nodes::new(log.clone(), &config.name, seats.clone()));
    let audits = Arc::new(Audits::new(log.clone(), &config.name));
    let background = TaskTracker::new();
    let ended = stop.child_token();

    let keys = Arc::new(gateway.keys);
    let (registry, ended_nodes) = Registry::new(log.clone(), &config.name, config.renewal_grace_ms);
    let registry = Arc::new(registry);
    let (issuers, rate) = (gateway.issuers, config.calls_per_second);
    let identity = Identity::new(keys.clone(), registry.clone(), issuers.clone(), rate);
    let identity = Arc::new(identity);
    follow(&background, &tasks, &nodes, &audits, &log, &ended);
    follow_identity(&background, &registry, &keys, &ended);
    hear_others(&background, &seats, &ended);
    issuers.follow(&background, &ended);
    let settling = registry::settle(tasks.clone(), log.shards(), ended_nodes, ended.clone());
    background.spawn(settling);
    let fullness = Arc::new(Fullness::default());
    background.spawn(housekeeping::run(
        log.clone(),
        tasks.clone(),
        config.clone(),
        fullness.clone(),
        ended.clone(),
    ));

    let audit_api = AuditApi::new(&log, &audits, &stop);
    let api = Api {
        tasks: tasks.clone(),
        nodes: nodes.clone(),
        audits: audits.clone(),
        log: log.clone(),
        config: config.clone(),
        fullness,
        backup: gateway.backup,
        keys: keys.clone(),
        registry: registry.clone(),
        identity: identity.clone(),
        drain: stop.clone(),
    };
    let tunnels = Tunnels::new(tunnels::Parts {
        identity: identity.clone(),
        registry: registry.clone(),
        tasks: tasks.clone(),
        nodes,
        seats,
        audits,
        log: log.clone(),
        config: config.clone(),
        stop: stop.clone(),
        connections: background.clone(),
    });
    let (health, health_service) = tonic_health::server::health_reporter();
    let routes = services(web(gateway.metrics, &keys), api, audit_api, tunnels)?;
    let routes = routes.add_service(health_service);

    tasks.projection.caught_up(log.shards()).await;
    registry.caught_up().await;
    health.set_serving::<CortexServer<Api>>().await;
    health.set_serving::<AgentGatewayServer<Tunnels>>().await;
    let connections = tls::accept(listener, keys, stop.clone());
    let served = accept(routes, AuthLayer(identity), connections, &stop, config.drain_grace).await;
    ended.cancel();
    background.close();
    background.wait().await;
    served
}

/// Everything that is spoken here, each with its largest message.
fn services(
    web: axum::Router,
    api: Api,
    audit: AuditApi,
    tunnels: Tunnels,
) -> anyhow::Result<Routes> {
    Ok(Routes::from(web)
        .add_service(
            CortexServer::new(api.clone())
                .max_decoding_message_size(REQUEST_MAX)
                .max_encoding_message_size(REQUEST_MAX),
        )
        .add_service(AccessServer::new(api.clone()).max_decoding_message_size(IDENTITY_MAX))
        .add_service(NodeIdentityServer::new(api).max_decoding_message_size(IDENTITY_MAX))
        .add_service(
            AuditServer::new(audit)
                .max_decoding_message_size(REQUEST_MAX)
                .max_encoding_message_size(REQUEST_MAX),
        )
        .add_service(
            AgentGatewayServer::new(tunnels)
                .max_decoding_message_size(FRAME_MAX)
                .max_encoding_message_size(FRAME_MAX),
        )
        .add_service(reflection()?))
}

/// Serves until `stop`, then for the grace at most: open streams would hold a graceful shutdown for ever.
async fn accept(
    routes: Routes,
    auth: AuthLayer,
    connections: impl Stream<Item = std::io::Result<Peer>>,
    stop: &CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let server = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(STREAM_WINDOW)
        .layer(auth)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    let bounded = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        r = server => r.map_err(anyhow::Error::from),
        () = bounded => Ok(()),
    }
}

/// Starts what follows the log and tells others about nodes.
fn follow(
    background: &TaskTracker,
    tasks: &Arc<Tasks>,
    nodes: &Arc<Nodes>,
    audits: &Arc<Audits>,
    log: &Arc<dyn EventLog>,
    until: &CancellationToken,
) {
    let (projected, log, stop) = (tasks.clone(), log.clone(), until.clone());
    background.spawn(async move { projected.projection.run(log, stop).await });
    let (audits, stop) = (audits.clone(), until.clone());
    background.spawn(async move {
        while let Err(e) = audits.run(stop.clone()).await {
            tracing::error!(error = %e, "mirrors are not heard: nothing is countersigned through this gateway");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let (nodes, stop) = (nodes.clone(), until.clone());
    background.spawn(async move {
        while let Err(e) = nodes.run(stop.clone()).await {
            tracing::error!(error = %e, "presence is not announced: nothing is dispatched to nodes here");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

/// Starts what makes nodes' connections at different gateways one.
fn hear_others(background: &TaskTracker, seats: &Arc<Seats>, until: &CancellationToken) {
    let (seats, stop) = (seats.clone(), until.clone());
    background.spawn(async move {
        while let Err(e) = seats.run(stop.clone()).await {
            tracing::error!(error = %e, "this gateway does not hear the others: it does nothing for nodes");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

/// Starts what keeps tokens, nodes and keys up to date.
fn follow_identity(
    background: &TaskTracker,
    registry: &Arc<Registry>,
    keys: &Arc<Keys>,
    until: &CancellationToken,
) {
    let (registry, stop) = (registry.clone(), until.clone());
    background.spawn(async move { registry.run(stop).await });
    let (keys, stop) = (keys.clone(), until.clone());
    background.spawn(async move { keys.follow(stop).await });
}

fn reflection() -> anyhow::Result<
    tonic_reflection::server::v1::ServerReflectionServer<
        impl tonic_reflection::server::v1::ServerReflection,
    >,
> {
    Ok(tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?)
}

/// Plain HTTPS beside gRPC: liveness, metrics, and what of the keys is public.
fn web(metrics: Option<PrometheusHandle>, keys: &Arc<Keys>) -> axum::Router {
    let (roots, public) = (keys.clone(), keys.clone());
    let router = axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/ca.pem", get(move || async move { roots.authority().roots_pem() }))
        .route(
            "/.well-known/jwks.json",
            get(move || async move {
                let json = [(http::header::CONTENT_TYPE, "application/json")];
                (json, public.authority().jwks().to_string())
            }),
        );
    match metrics {
        Some(handle) => router.route("/metrics", get(move || async move { handle.render() })),
        None => router,
    }
}

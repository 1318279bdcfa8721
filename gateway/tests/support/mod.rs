//! Gateways of one deployment on one log, and clients of every kind. It asserts nothing about the product.

pub(crate) mod cut;
mod tunnel;

pub(crate) use tunnel::Tunnel;

use cortex_agent::dial::{self, Trust};
use cortex_gateway::authority::{self, Authority};
use cortex_gateway::{Config, Gateway, Issuers, Keys, Registrar};
use cortex_log::{EventLog, MemoryLog};
use cortex_model::credential::TokenText;
use cortex_model::proto as pb;
use cortex_model::registry::Digest;
use cortex_model::{Code, UnixMillis};
use cortex_proto::v1::access_client::AccessClient;
use cortex_proto::v1::cortex_client::CortexClient;
use cortex_proto::v1::node_identity_client::NodeIdentityClient;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Wall time now.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

/// A deployment. Dropped with everything in it.
pub(crate) struct Site {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) authority: PathBuf,
    pub(crate) addresses: Vec<SocketAddr>,
    /// The text of root's token.
    pub(crate) root: String,
    stop: CancellationToken,
    _dir: TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    /// So many gateways.
    pub(crate) async fn start(gateways: usize) -> Site {
        Site::with_issuers(gateways, None).await
    }

    /// So many gateways that accept tokens of outside issuers.
    pub(crate) async fn with_issuers(gateways: usize, issuers: Option<&str>) -> Site {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(4));
        let mut site = Site::prepare(log.clone()).await;
        for n in 0..gateways {
            let file = issuers.map(|text| {
                let file = site.authority.join("../issuers.toml");
                std::fs::write(&file, text).unwrap();
                Issuers::read(&file).unwrap()
            });
            site.gateway(&format!("g{n}"), log.clone(), file).await;
        }
        site
    }

    /// One gateway that takes so many calls per second of a workspace.
    pub(crate) async fn slow(calls_per_second: u32) -> Site {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(4));
        let mut site = Site::prepare(log.clone()).await;
        let config = Config { calls_per_second, ..Config::named("g0") };
        site.gateway_as(config, log, None).await;
        site
    }

    /// A gateway for each way to the same log.
    pub(crate) async fn on<const N: usize>(
        ways: [Arc<dyn EventLog>; N],
        log: Arc<dyn EventLog>,
    ) -> Site {
        let mut site = Site::prepare(log).await;
        for (n, way) in ways.into_iter().enumerate() {
            site.gateway(&format!("g{n}"), way, None).await;
        }
        site
    }

    async fn prepare(log: Arc<dyn EventLog>) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authority");
        authority::init(&path, "test.example", now()).unwrap();
        let stop = CancellationToken::new();
        let keys = Keys::open(path.clone(), names(), None).unwrap();
        let registrar = Registrar::new(log.clone(), keys.authority(), "test");
        let root = registrar.root_token(None, 3_600_000).await.unwrap().unwrap().reveal();
        Site { log, authority: path, addresses: Vec::new(), root, stop, _dir: dir }
    }

    async fn gateway(&mut self, name: &str, log: Arc<dyn EventLog>, issuers: Option<Issuers>) {
        self.gateway_as(Config::named(name), log, issuers).await;
    }

    async fn gateway_as(
        &mut self,
        config: Config,
        log: Arc<dyn EventLog>,
        issuers: Option<Issuers>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.addresses.push(listener.local_addr().unwrap());
        let gateway = Gateway {
            log,
            config,
            keys: Keys::open(self.authority.clone(), names(), None).unwrap(),
            issuers: issuers.unwrap_or_default(),
            backup: None,
            metrics: None,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { cortex_gateway::serve(gateway, listener, stop).await.unwrap() });
        let at = self.addresses.len() - 1;
        until("the gateway to serve", async || {
            let mut client = self.user_at(at, &self.root.clone()).await;
            client.access.who_am_i(pb::WhoAmIRequest {}).await.ok()
        })
        .await;
    }

    pub(crate) fn url(&self, gateway: usize) -> String {
        format!("https://{}", self.addresses[gateway])
    }

    /// The keys, as on disk now.
    pub(crate) fn keys(&self) -> Authority {
        authority::load(&self.authority).unwrap()
    }

    /// A channel without a certificate.
    pub(crate) async fn channel(&self, gateway: usize) -> Channel {
        let trust = Trust::Pinned(self.keys().fingerprint());
        dial::connect(&self.url(gateway), trust).await.unwrap()
    }

    /// Somebody with a token, at the first gateway.
    pub(crate) async fn user(&self, token: &str) -> User {
        self.user_at(0, token).await
    }

    /// Somebody with a token.
    pub(crate) async fn user_at(&self, gateway: usize, token: &str) -> User {
        let channel = self.channel(gateway).await;
        let bearer = Bearer(token.to_owned());
        User {
            access: AccessClient::with_interceptor(channel.clone(), bearer.clone()),
            cortex: CortexClient::with_interceptor(channel, bearer),
        }
    }

    /// Makes a token for a person and returns its text.
    pub(crate) async fn token(&self, workspace: &str, role: pb::Role, id: &str) -> String {
        let grant = pb::UserGrant { role: role.into(), holder: Some(person(id)) };
        self.make(workspace, pb::create_token_request::Grant::User(grant)).await
    }

    /// Makes a join token and returns its text.
    pub(crate) async fn join_token(&self, workspace: &str, grant: pb::JoinGrant) -> String {
        self.make(workspace, pb::create_token_request::Grant::Join(grant)).await
    }

    async fn make(&self, workspace: &str, grant: pb::create_token_request::Grant) -> String {
        let request = pb::CreateTokenRequest {
            workspace: workspace.to_owned(),
            grant: Some(grant),
            ..Default::default()
        };
        let mut root = self.user(&self.root).await;
        root.access.create_token(request).await.unwrap().into_inner().text
    }

    /// A machine that joins and is approved at once.
    pub(crate) async fn node(&self, workspace: &str, name: &str) -> Node {
        let token =
            self.join_token(workspace, pb::JoinGrant { uses: 1, ..Default::default() }).await;
        let mut node = Node::new(name);
        let answer = node.join(self, 0, &token).await.unwrap();
        assert_eq!(answer.state(), pb::Enrolment::Approved);
        node
    }
}

/// Shows a token with every call.
#[derive(Clone)]
pub(crate) struct Bearer(String);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = format!("Bearer {}", self.0).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

type Shown<C> = tonic::service::interceptor::InterceptedService<C, Bearer>;

/// A person or program.
pub(crate) struct User {
    pub(crate) access: AccessClient<Shown<Channel>>,
    pub(crate) cortex: CortexClient<Shown<Channel>>,
}

impl User {
    /// Submits an echo task.
    pub(crate) async fn submit(&mut self, key: &str) -> Result<pb::Task, Status> {
        let answer = self.cortex.submit_task(echo(key)).await?.into_inner();
        Ok(answer.task.unwrap())
    }
}

/// A request for an echo task that waits for a node that is not there.
pub(crate) fn echo(key: &str) -> pb::SubmitTaskRequest {
    let echo = pb::EchoAction { payload: b"hello".to_vec() };
    pb::SubmitTaskRequest {
        spec: Some(pb::TaskSpec {
            action: Some(pb::Action { kind: Some(pb::action::Kind::Echo(echo)) }),
            ..Default::default()
        }),
        idempotency_key: key.to_owned(),
        ..Default::default()
    }
}

pub(crate) fn person(id: &str) -> pb::Actor {
    pb::Actor { kind: pb::ActorKind::Human.into(), id: id.to_owned(), ..Default::default() }
}

/// A machine.
pub(crate) struct Node {
    pub(crate) key: KeyPair,
    pub(crate) name: String,
    pub(crate) certificate: Option<pb::NodeCertificate>,
}

impl Node {
    pub(crate) fn new(name: &str) -> Node {
        Node { key: KeyPair::generate().unwrap(), name: name.to_owned(), certificate: None }
    }

    pub(crate) fn csr(&self) -> Vec<u8> {
        CertificateParams::default().serialize_request(&self.key).unwrap().der().to_vec()
    }

    /// Asks to be enrolled, and takes over what the answer says.
    pub(crate) async fn join(
        &mut self,
        site: &Site,
        gateway: usize,
        token: &str,
    ) -> Result<pb::JoinResponse, Status> {
        let request = pb::JoinRequest {
            token: token.to_owned(),
            csr: self.csr(),
            node: self.name.clone(),
            ..Default::default()
        };
        let mut client = NodeIdentityClient::new(site.channel(gateway).await);
        let answer = client.join(request).await?.into_inner();
        self.name.clone_from(&answer.node);
        self.certificate.clone_from(&answer.certificate);
        Ok(answer)
    }

    /// SHA-256 of its certificate.
    pub(crate) fn thumbprint(&self) -> Digest {
        Digest::of(&self.certificate.as_ref().unwrap().chain[0])
    }

    /// A channel with its certificate.
    pub(crate) async fn channel(&self, site: &Site, gateway: usize) -> Result<Channel, String> {
        let certificate = self.certificate.as_ref().unwrap();
        let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        channel(site.addresses[gateway], &certificate.roots, Some((chain, key))).await
    }

    pub(crate) async fn mint(&self, site: &Site, gateway: usize) -> Result<String, Status> {
        let mut client = NodeIdentityClient::new(self.channel(site, gateway).await.unwrap());
        let answer = client.mint_tunnel_token(pb::MintTunnelTokenRequest {}).await?;
        Ok(answer.into_inner().token)
    }

    /// Opens its tunnel, up to the first frame.
    pub(crate) async fn tunnel(&self, site: &Site, gateway: usize) -> Result<Tunnel, Status> {
        let token = self.mint(site, gateway).await?;
        self.tunnel_with(site, gateway, Some(&token)).await
    }

    /// Opens its tunnel with some token.
    pub(crate) async fn tunnel_with(
        &self,
        site: &Site,
        gateway: usize,
        token: Option<&str>,
    ) -> Result<Tunnel, Status> {
        let channel = self.channel(site, gateway).await.unwrap();
        Tunnel::open(channel, &self.name, token).await
    }

    /// The same as a session's connection of some generation.
    pub(crate) async fn tunnel_as(
        &self,
        site: &Site,
        gateway: usize,
        session: &str,
        generation: u64,
    ) -> Result<Tunnel, Status> {
        let token = self.mint(site, gateway).await?;
        let channel = self.channel(site, gateway).await.unwrap();
        Tunnel::open_as(channel, &self.name, Some(&token), session, generation).await
    }
}

/// A channel over TLS with these roots, and with a certificate.
pub(crate) async fn channel(
    address: SocketAddr,
    roots: &[Vec<u8>],
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Channel, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.clone())).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(store);
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let name = ServerName::IpAddress(address.ip().into());
            let tcp = TcpStream::connect(address).await?;
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector(dial).await.map_err(|e| format!("{e:?}"))
}

/// The code of a refusal.
pub(crate) fn code<T>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(status) => {
            let own = status.metadata().get_bin(cortex_proto::ERROR_METADATA);
            let own = own.and_then(|v| v.to_bytes().ok()).and_then(|b| pb::Error::decode(b).ok());
            own.map_or_else(
                || format!("{status:?}"),
                |error| {
                    assert!(!error.hint.is_empty(), "{error:?}");
                    error.code
                },
            )
        }
    }
}

/// Whether an answer is this refusal.
#[track_caller]
pub(crate) fn refused<T>(answer: Result<T, Status>, expected: Code, what: &str) {
    assert_eq!(code(answer), expected.as_str(), "{what}");
}

/// The next thing of a watch, which must come.
pub(crate) async fn next(
    updates: &mut Streaming<pb::WatchTaskResponse>,
) -> Result<Option<pb::WatchTaskResponse>, Status> {
    let next = tokio::time::timeout(PATIENCE, updates.message()).await;
    next.expect("an update or the end of the watch")
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, asking).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Asks again and again for so long, and fails when it is once not so.
pub(crate) async fn stays(what: &str, so_long: Duration, mut ask: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < so_long {
        assert!(ask().await, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The id of a token's text.
pub(crate) fn id_of(text: &str) -> String {
    TokenText::parse(text).unwrap().id
}

fn names() -> Vec<String> {
    vec!["127.0.0.1".to_owned(), "localhost".to_owned()]
}

/// The body of a plain HTTPS answer.
pub(crate) async fn get(site: &Site, gateway: usize, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut store = RootCertStore::empty();
    store.add(site.keys().ca().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let address = site.addresses[gateway];
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::IpAddress(address.ip().into());
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    tls.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

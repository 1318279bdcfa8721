//! A stranger: speaks TLS and gRPC by itself, with whatever keys, certificates and tokens a test gives it. It keeps none of our
//! agent's rules.

use crate::machine;
use crate::support::Server;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cortex_proto::ERROR_METADATA;
use cortex_proto::v1 as pb;
use cortex_proto::v1::agent_frame::Body as Up;
use cortex_proto::v1::agent_gateway_client::AgentGatewayClient;
use cortex_proto::v1::node_identity_client::NodeIdentityClient;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// How a call of a stranger ended that was not answered: the code of the error, or what the transport said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Refused {
        let own = status.metadata().get_bin(ERROR_METADATA).and_then(|v| v.to_bytes().ok());
        match own.and_then(|bytes| pb::Error::decode(bytes).ok()) {
            Some(error) => Refused { code: error.code, message: error.message, hint: error.hint },
            None => transport(&format!("{status:?}")),
        }
    }
}

async fn reach(
    from: SocketAddr,
    to: SocketAddr,
    connector: TlsConnector,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let socket = socket.connect(to).await?;
    connector.connect(ServerName::from(to.ip()), socket).await
}

fn transport(message: &str) -> Refused {
    Refused { code: String::new(), message: message.to_owned(), hint: String::new() }
}

/// Keys and certificates to be shown, and the server they are shown to.
pub(crate) struct Stranger {
    address: SocketAddr,
    roots: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) node: String,
    /// Its clock, when it looks at the server's certificate.
    clock: Clock,
    /// The address it comes from.
    from: Ipv4Addr,
}

/// A clock that is ahead by so many seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Clock(u64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now_s() + self.0)))
    }
}

/// Runs what a stranger does.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), work)
            .await
            .expect("a stranger waited in vain")
    })
}

impl Stranger {
    /// Somebody with a fresh key who knows the server's authority.
    pub(crate) fn new(server: &Server) -> Stranger {
        Stranger::with_roots(&server.data().join("authority"), machine::address(server))
    }

    /// The same, of a deployment whose keys lie somewhere.
    pub(crate) fn with_roots(authority: &Path, address: SocketAddr) -> Stranger {
        let pem = std::fs::read(authority.join("ca.pem")).unwrap();
        let roots = CertificateDer::pem_slice_iter(&pem).map(Result::unwrap).collect();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Stranger {
            address,
            roots,
            key,
            chain: Vec::new(),
            node: String::new(),
            clock: Clock::default(),
            from: Ipv4Addr::LOCALHOST,
        }
    }

    /// Somebody who joined as a node, by the protocol.
    #[track_caller]
    pub(crate) fn joined(server: &Server, node: &str) -> Stranger {
        Stranger::new(server).enrolled(server, node)
    }

    /// The same after it joined, with a token that this server makes.
    #[track_caller]
    pub(crate) fn enrolled(self, server: &Server, node: &str) -> Stranger {
        let mut stranger = self;
        let answer = block_on(stranger.join(&machine::join_token(server, &[]), node)).unwrap();
        let certificate = answer.certificate.unwrap();
        stranger.chain = certificate.chain.into_iter().map(CertificateDer::from).collect();
        stranger.node = answer.node;
        stranger
    }

    /// Somebody who copied its key and certificate.
    pub(crate) fn copied(&self) -> Stranger {
        Stranger {
            address: self.address,
            roots: self.roots.clone(),
            key: KeyPair::try_from(self.key.serialize_der()).unwrap(),
            chain: self.chain.clone(),
            node: self.node.clone(),
            clock: self.clock,
            from: self.from,
        }
    }

    /// The same in front of another gateway.
    pub(crate) fn facing(mut self, gateway: &Server) -> Stranger {
        self.address = machine::address(gateway);
        self
    }

    /// Knows the server by other roots.
    pub(crate) fn trusting(mut self, roots: Vec<CertificateDer<'static>>) -> Stranger {
        self.roots = roots;
        self
    }

    /// The same in another time.
    pub(crate) fn in_time(mut self, ahead_s: u64) -> Stranger {
        self.clock = Clock(ahead_s);
        self
    }

    /// The same from another address of this machine.
    pub(crate) fn coming_from(mut self, n: u8) -> Stranger {
        self.from = Ipv4Addr::new(127, 9, 0, n);
        self
    }

    /// A connection, with the certificate if there is one.
    pub(crate) async fn channel(&self) -> Result<Channel, Refused> {
        let (connector, address) = (self.connector(), self.address);
        let from = SocketAddr::from((self.from, 0));
        let dial = tower::service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(reach(from, address, connector).await?)) }
        });
        let endpoint = Endpoint::from_static("http://cortex.invalid");
        endpoint.connect_with_connector(dial).await.map_err(|e| transport(&format!("{e:?}")))
    }

    /// The certificate that the server shows.
    pub(crate) async fn shown(&self) -> Result<CertificateDer<'static>, Refused> {
        let from = SocketAddr::from((self.from, 0));
        let stream = reach(from, self.address, self.connector()).await;
        let stream = stream.map_err(|e| transport(&format!("{e:?}")))?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(root.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(self.clock))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = if self.chain.is_empty() {
            builder.with_no_client_auth()
        } else {
            builder.with_client_auth_cert(self.chain.clone(), key).unwrap()
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    fn csr(&self, names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        let uri = |name: &&str| SanType::URI((*name).try_into().unwrap());
        params.subject_alt_names = names.iter().map(uri).collect();
        params.serialize_request(&self.key).unwrap().der().to_vec()
    }

    /// Asks to join.
    pub(crate) async fn join(&self, token: &str, node: &str) -> Result<pb::JoinResponse, Refused> {
        self.join_as(token, node, &[]).await
    }

    /// Asks to join with names in the request.
    pub(crate) async fn join_as(
        &self,
        token: &str,
        node: &str,
        names: &[&str],
    ) -> Result<pb::JoinResponse, Refused> {
        let request = pb::JoinRequest {
            token: token.to_owned(),
            csr: self.csr(names),
            node: node.to_owned(),
            ..pb::JoinRequest::default()
        };
        let mut client = NodeIdentityClient::new(self.channel().await?);
        Ok(client.join(request).await?.into_inner())
    }

    /// Gets a token for the tunnel.
    pub(crate) async fn mint(&self) -> Result<String, Refused> {
        let mut client = NodeIdentityClient::new(self.channel().await?);
        Ok(client.mint_tunnel_token(pb::MintTunnelTokenRequest {}).await?.into_inner().token)
    }

    /// Opens a tunnel with whatever token, and returns the first frame.
    pub(crate) async fn tunnel(&self, token: Option<&str>) -> Result<pb::GatewayFrame, Refused> {
        self.tunnel_as(token, &uuid::Uuid::new_v4().to_string(), 1).await
    }

    /// The same as a session's connection of some generation.
    pub(crate) async fn tunnel_as(
        &self,
        token: Option<&str>,
        session: &str,
        generation: u64,
    ) -> Result<pb::GatewayFrame, Refused> {
        self.hold(token, session, generation).await.map(|(first, _)| first)
    }

    /// Opens a tunnel that stands as long as what follows the first frame is held.
    pub(crate) async fn hold(
        &self,
        token: Option<&str>,
        session: &str,
        generation: u64,
    ) -> Result<(pb::GatewayFrame, Streaming<pb::GatewayFrame>), Refused> {
        let mut client = AgentGatewayClient::new(self.channel().await?);
        let hello = pb::Hello {
            min_version: 1,
            max_version: 1,
            node: self.node.clone(),
            incarnation: "0".repeat(32),
            session: session.to_owned(),
            generation,
            manifest: Some(pb::Manifest::default()),
            ..pb::Hello::default()
        };
        let (up, frames) = mpsc::channel(4);
        let say = |body| pb::AgentFrame { body: Some(body) };
        up.send(say(Up::Hello(hello))).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(frames));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut frames = client.connect(request).await?.into_inner();
        let first = frames.message().await?.ok_or_else(|| transport("the tunnel ended"))?;
        if let Some(pb::gateway_frame::Body::Welcome(_)) = first.body {
            tokio::spawn(async move {
                let mut beats = tokio::time::interval(Duration::from_millis(500));
                for seq in 1.. {
                    beats.tick().await;
                    let beat = pb::AgentHeartbeat { seq, ..pb::AgentHeartbeat::default() };
                    if up.send(say(Up::Heartbeat(beat))).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok((first, frames))
    }

    /// The hash of its certificate, as tokens are bound to it.
    pub(crate) fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.chain[0]))
    }
}

/// Somebody who stole the deployment's keys, and can sign what the server never would.
pub(crate) struct Thief {
    authority: PathBuf,
}

impl Thief {
    pub(crate) fn of(server: &Server) -> Thief {
        Thief { authority: server.data().join("authority") }
    }

    /// A certificate of the deployment's CA for a key and a name, valid between these times (seconds from now).
    pub(crate) fn certificate(
        &self,
        key: &KeyPair,
        uri: &str,
        from_s: i64,
        until_s: i64,
    ) -> CertificateDer<'static> {
        let ca = CertificateDer::from_pem_file(self.authority.join("ca.pem")).unwrap();
        let pem = std::fs::read_to_string(self.authority.join("ca.key")).unwrap();
        let ca_key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap(),
            &PKCS_ECDSA_P256_SHA256,
        );
        let (issuer_key, params) = (ca_key.unwrap(), leaf(uri, from_s, until_s));
        let issuer = Issuer::from_ca_cert_der(&ca, &issuer_key).unwrap();
        params.signed_by(key, &issuer).unwrap().der().clone()
    }

    /// The newest token key: its file (PKCS #8), its `kid`, and its public half.
    pub(crate) fn token_key(&self) -> (Vec<u8>, String, Vec<u8>) {
        let pem = std::fs::read(self.authority.join("token-1.key")).unwrap();
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).unwrap();
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
        let public = pair.public_key_raw().to_vec();
        let kid: String = Sha256::digest(&public).iter().map(|b| format!("{b:02x}")).collect();
        (pair.serialize_der(), kid[..16].to_owned(), public)
    }
}

/// What a node's certificate looks like.
pub(crate) fn leaf(uri: &str, from_s: i64, until_s: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |s: i64| epoch + Duration::from_secs(now_s().checked_add_signed(s).unwrap());
    (params.not_before, params.not_after) = (at(from_s), at(until_s));
    params
}

/// The name that a node's certificate gives.
pub(crate) fn uri_of(node: &Stranger) -> String {
    let text = String::from_utf8_lossy(&node.chain[0]).into_owned();
    let name = text.split("spiffe://").nth(1).unwrap();
    // What follows in the certificate may look like text.
    let end = format!("/node/{}", node.node);
    format!("spiffe://{}{end}", name.split(&end).next().unwrap())
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// Reads a file of the checkout's tests.
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

//! Mutual TLS for the yardsticks: a throw-away authority, both ends' certificates, and a channel over them. Never used by
//! the product.

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

const AUTHORITY: &str = "authority.der";
const CLIENT: &str = "client.der";
const CLIENT_KEY: &str = "client.key.der";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes an authority, leaves the client's part in the directory, and returns the server's.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn server(directory: &Path) -> anyhow::Result<ServerConfig> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.der().clone();
    let issuer = Issuer::new(params, key);
    let leaf = || -> anyhow::Result<(CertificateDer<'static>, Vec<u8>)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(["localhost".to_owned()])?;
        Ok((params.signed_by(&key, &issuer)?.der().clone(), key.serialize_der()))
    };
    let (client, client_key) = leaf()?;
    std::fs::write(directory.join(AUTHORITY), &authority)?;
    std::fs::write(directory.join(CLIENT), &client)?;
    std::fs::write(directory.join(CLIENT_KEY), client_key)?;
    let (own, own_key) = leaf()?;
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own], key_of(own_key))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn key_of(der: Vec<u8>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der))
}

/// Accepts connections whose handshake succeeds.
pub(crate) fn accept(
    listener: TcpListener,
    config: ServerConfig,
) -> ReceiverStream<std::io::Result<TlsStream<TcpStream>>> {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (tx, rx) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, tx) = (acceptor.clone(), tx.clone());
            tokio::spawn(async move {
                socket.set_nodelay(true)?;
                let stream = acceptor.accept(socket).await?;
                tx.send(Ok(stream)).await.map_err(std::io::Error::other)
            });
        }
    });
    ReceiverStream::new(rx)
}

/// A channel to a server whose `server` wrote into that directory.
///
/// # Errors
/// When the files are not there or the handshake fails.
pub(crate) async fn channel(address: SocketAddr, directory: &Path) -> anyhow::Result<Channel> {
    client(directory)?.channel(address, "localhost").await
}

/// The client's side of what `server` wrote into that directory.
///
/// # Errors
/// When the files are not there.
pub(crate) fn client(directory: &Path) -> anyhow::Result<Client> {
    let read = |name: &str| std::fs::read(directory.join(name)).with_context(|| name.to_owned());
    Ok(Client {
        root: CertificateDer::from(read(AUTHORITY)?),
        chain: vec![CertificateDer::from(read(CLIENT)?)],
        key: read(CLIENT_KEY)?,
    })
}

/// A channel over a connection of its own.
///
/// # Errors
/// When nobody answers or the handshake fails.
pub(crate) async fn dial(
    address: SocketAddr,
    name: &str,
    connector: TlsConnector,
) -> anyhow::Result<Channel> {
    let name = ServerName::try_from(name.to_owned())?;
    let dial = tower::service_fn(move |_: http::Uri| {
        let (connector, name) = (connector.clone(), name.clone());
        async move { stream(address, name, connector).await.map(TokioIo::new) }
    });
    // The scheme says nothing here: the connector speaks TLS.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_with_connector(dial).await?)
}

/// A connection after its handshake.
///
/// # Errors
/// When nobody answers or the handshake fails.
pub(crate) async fn stream(
    address: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    connector.connect(name, socket).await
}

/// One end's certificate, and what it believes.
pub(crate) struct Client {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    pub(crate) key: Vec<u8>,
}

impl Client {
    /// Settings for many connections. Nothing is resumed: every handshake is a full one.
    ///
    /// # Errors
    /// When a certificate or key cannot be used.
    pub(crate) fn config(self) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root)?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(self.chain, key_of(self.key))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// A channel to a server that has a certificate of this name.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(crate) async fn channel(self, address: SocketAddr, name: &str) -> anyhow::Result<Channel> {
        let config = self.config()?;
        let connector = TlsConnector::from(Arc::new(config));
        dial(address, name, connector).await
    }
}

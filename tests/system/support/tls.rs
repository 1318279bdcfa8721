//! TLS for tests that stand between agents and gateways, with the keys that lie in their directories.

use base64::Engine as _;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Both sides of a connection that a test ends in the middle.
pub(crate) struct Sides {
    server: Arc<ServerConfig>,
    roots: RootCertStore,
    /// Where the data directories of agents lie.
    agents: PathBuf,
}

impl Sides {
    /// With the keys of an authority's directory, and of the agents below another.
    pub(crate) fn of(authority: &Path, agents: &Path) -> Sides {
        let ca = CertificateDer::from_pem_file(authority.join("ca.pem")).unwrap();
        let key = std::fs::read_to_string(authority.join("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_der(&ca, KeyPair::from_pem(&key).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        let own = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&own, &issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).unwrap();
        let provider = provider();
        let nodes =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
        let nodes = nodes.allow_unauthenticated().build().unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(nodes)
            .with_single_cert(vec![certificate.der().clone(), ca], private)
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        Sides { server: Arc::new(server), roots, agents: agents.to_owned() }
    }

    /// The gateway's side.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.server.clone())
    }

    /// The side of the agent that showed this certificate, or of one that showed none.
    pub(crate) fn connector(&self, shown: Option<&CertificateDer<'_>>) -> TlsConnector {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match shown.and_then(|shown| identity(&self.agents, shown)) {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

/// The name of a gateway on this machine.
pub(crate) fn loopback() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Chain and key of the agent that has this certificate.
fn identity(
    agents: &Path,
    shown: &CertificateDer<'_>,
) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let directories = std::fs::read_dir(agents).ok()?.flatten().map(|e| e.path());
    let nested = directories.flat_map(|dir| [dir.join("agent"), dir]);
    nested.map(|dir| dir.join("identity")).find_map(|dir| {
        let text = std::fs::read(dir.join("identity.json")).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let engine = base64::engine::general_purpose::STANDARD;
        let chain = value["standing"]["certified"]["chain"].as_array()?.iter();
        let chain: Option<Vec<_>> = chain.map(|der| engine.decode(der.as_str()?).ok()).collect();
        let chain: Vec<_> = chain?.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).ok()?;
        (chain.first() == Some(shown)).then_some((chain, key))
    })
}

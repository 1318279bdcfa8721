//! The scripted gateway's authority: it certifies itself and the machines of a test, whose identities it writes as
//! docs/agent-identity.md says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

/// An authority of its own for every gateway.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), root }
    }

    fn certify(
        &self,
        name: SanType,
        usage: ExtendedKeyUsagePurpose,
    ) -> (CertificateDer<'static>, KeyPair) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }

    /// Connections of machines that it certified.
    pub(crate) fn accept(
        &self,
        listener: TcpListener,
    ) -> ReceiverStream<std::io::Result<TlsStream<TcpStream>>> {
        let name = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (own, key) = self.certify(name, ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let nodes = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(nodes.build().unwrap())
            .with_single_cert(vec![own], der(&key))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (ready, connections) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, ready) = (acceptor.clone(), ready.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(socket).await?;
                    ready.send(Ok(stream)).await.map_err(std::io::Error::other)
                });
            }
        });
        ReceiverStream::new(connections)
    }

    /// Makes a machine node `n1` of a gateway.
    pub(crate) fn enrol(&self, data_dir: &Path, server: &str) {
        let uri = "spiffe://test/workspace/default/node/n1".try_into().unwrap();
        let (own, key) = self.certify(SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth);
        let certificate = serde_json::json!({
            "chain": [STANDARD.encode(&own)], "roots": [STANDARD.encode(&self.root)], "trust_domain": "test",
            "not_before_ms": 0, "not_after_ms": u64::MAX / 2, "renew_at_ms": u64::MAX / 2,
        });
        let identity = serde_json::json!({
            "version": 1, "server": server, "workspace": "default", "node": "n1",
            "standing": { "certified": certificate },
        });
        let dir = data_dir.join("identity");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(key.serialize_der())
        );
        for (name, text) in [("key.pem", pem), ("identity.json", identity.to_string())] {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(dir.join(name)).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        }
    }
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

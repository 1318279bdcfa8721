//! An outside issuer's keys: read from a file or by HTTPS, kept, and read again in time, or sooner when a token names a key that is not
//! there. While they cannot be read the ones before stay.

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use cortex_model::{Code, Fault};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// Largest set of keys, bytes.
const SIZE_MAX: usize = 256 * 1024;
/// How often a file is looked at.
const FILE_EVERY: Duration = Duration::from_secs(1);
/// How often a URL is read.
const URL_EVERY: Duration = Duration::from_secs(300);
/// How soon it is read again because a key is not there, or because it failed.
const URL_SOONEST: Duration = Duration::from_secs(10);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

enum Source {
    File(PathBuf),
    Url { host: String, port: u16, path: String, tls: TlsConnector },
}

/// See the module.
pub(super) struct Keys {
    source: Source,
    set: ArcSwapOption<JwkSet>,
    wanted: Notify,
}

/// A key, and how it may sign.
pub(super) struct FoundKey {
    pub(super) key: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
}

impl Keys {
    /// Not read yet.
    ///
    /// # Errors
    /// When the place or the certificates for it cannot be used.
    pub(super) fn new(place: &str, ca: Option<&Path>) -> Result<Keys, String> {
        let source = if place.contains("://") {
            url(place, ca)?
        } else {
            Source::File(PathBuf::from(place))
        };
        Ok(Keys { source, set: ArcSwapOption::empty(), wanted: Notify::new() })
    }

    /// The key of this id. One that is not there is looked for again soon.
    ///
    /// # Errors
    /// `CX-0520` while nothing could be read, `CX-0501` when there is no such key.
    pub(super) fn find(&self, kid: &str) -> Result<FoundKey, Fault> {
        let Some(set) = self.set.load_full() else {
            self.wanted.notify_one();
            return Err(Fault::new(
                Code::IssuerUnavailable,
                "the keys of the token's issuer are not known yet",
            ));
        };
        let found = set.keys.iter().find(|jwk| jwk.common.key_id.as_deref() == Some(kid));
        let usable = found.and_then(|jwk| {
            let algorithms = algorithms(jwk);
            let key = DecodingKey::from_jwk(jwk).ok()?;
            (!algorithms.is_empty()).then_some(FoundKey { key, algorithms })
        });
        usable.ok_or_else(|| {
            self.wanted.notify_one();
            Fault::new(
                Code::Unauthenticated,
                "the token is signed by a key that its issuer does not have",
            )
        })
    }

    /// Reads the keys again and again, until cancelled.
    pub(super) async fn follow(&self, issuer: &str, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let read = tokio::select! {
                read = self.read() => read,
                () = stop.cancelled() => return,
            };
            let (usual, soonest) = match self.source {
                Source::File(_) => (FILE_EVERY, FILE_EVERY),
                Source::Url { .. } => (URL_EVERY, URL_SOONEST),
            };
            let pause = if read.is_ok() { usual } else { soonest };
            match read {
                Ok(set) => {
                    failing = false;
                    self.set.store(Some(Arc::new(set)));
                }
                Err(why) if !failing => {
                    failing = true;
                    tracing::error!(
                        issuer,
                        why,
                        "an issuer's keys cannot be read; going on with those before"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(soonest) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(pause.saturating_sub(soonest)) => {}
                () = self.wanted.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn read(&self) -> Result<JwkSet, String> {
        let bytes = match &self.source {
            Source::File(path) => {
                let read = tokio::fs::read(path).await;
                Bytes::from(read.map_err(|e| format!("{}: {e}", path.display()))?)
            }
            Source::Url { host, port, path, tls } => {
                let got = tokio::time::timeout(PATIENCE, get(host, *port, path, tls)).await;
                got.map_err(|_| "no answer in time".to_owned())??
            }
        };
        if bytes.len() > SIZE_MAX {
            return Err(format!("larger than {SIZE_MAX} bytes"));
        }
        serde_json::from_slice(&bytes).map_err(|e| format!("no JWKS: {e}"))
    }
}

/// How a key may sign: as it says itself, else as its kind does. A secret key never does: it would have to be known here.
fn algorithms(jwk: &Jwk) -> Vec<Algorithm> {
    use Algorithm as A;
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => {
            vec![A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512]
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => vec![A::ES256],
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => vec![A::ES384],
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            vec![A::EdDSA]
        }
        AlgorithmParameters::EllipticCurve(_)
        | AlgorithmParameters::OctetKeyPair(_)
        | AlgorithmParameters::OctetKey(_)
        | _ => Vec::new(),
    };
    match jwk.common.key_algorithm.and_then(|alg| alg.to_string().parse::<Algorithm>().ok()) {
        Some(own) => kind.into_iter().filter(|alg| *alg == own).collect(),
        None if jwk.common.key_algorithm.is_some() => Vec::new(),
        None => kind,
    }
}

fn url(place: &str, ca: Option<&Path>) -> Result<Source, String> {
    let uri: http::Uri = place.parse().map_err(|_| "jwks is no URL".to_owned())?;
    let host = uri.host().ok_or_else(|| "jwks names no host".to_owned())?;
    if uri.scheme_str() != Some("https") {
        return Err("jwks is a file or an https URL".to_owned());
    }
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
            let read = CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))?;
            for certificate in read {
                roots.add(certificate.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no certificate that a server of that URL could lead to".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Source::Url {
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: uri.port_u16().unwrap_or(443),
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        tls: TlsConnector::from(Arc::new(config)),
    })
}

async fn get(host: &str, port: u16, path: &str, tls: &TlsConnector) -> Result<Bytes, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let tcp = TcpStream::connect((host, port)).await.map_err(|e| text(&e))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| text(&e))?;
    let stream = tls.connect(name, tcp).await.map_err(|e| text(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    let request = http::Request::get(path)
        .header(http::header::HOST, format!("{host}:{port}"))
        .header(http::header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|e| text(&e))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|e| text(&e))?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("it answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), SIZE_MAX);
        body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|e| e.to_string())
    };
    // The connection is driven beside the request, and dropped with it.
    tokio::select! {
        asked = asked => asked,
        ended = connection => Err(ended.err().map_or_else(|| "it closed the connection".to_owned(), |e| e.to_string())),
    }
}

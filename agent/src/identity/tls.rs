//! TLS to a gateway. Before a byte is said the gateway's certificate was checked: against the fingerprint in a join token, or
//! against the authorities that came with the node's own certificate. What goes wrong is told as a fault with its cause.

use super::key::NodeKey;
use cortex_model::credential::authority_hint;
use cortex_model::limits::CONNECT_TIMEOUT_MS;
use cortex_model::registry::Digest;
use cortex_model::{Code, Fault};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, SignatureScheme,
};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// How a gateway is known.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Its chain holds the certificate with this SHA-256, and leads to it.
    Pinned(Digest),
    /// Its chain leads to one of these.
    Roots(Vec<CertificateDer<'static>>),
}

/// Connects, and is sure of the gateway when it returns. With a certificate the node is also known to the gateway, if that
/// accepts it: a refusal shows on the first call.
///
/// # Errors
/// `CX-0801` when nobody answers, `CX-0544` when it is not TLS 1.3, `CX-0523` when it is another server, `CX-0506` when the
/// certificate's time and this machine's clock do not fit.
pub(crate) async fn connect(
    url: &str,
    trust: Trust,
    own: Option<(Vec<CertificateDer<'static>>, &NodeKey)>,
) -> Result<Channel, Fault> {
    let (host, port) = address(url)?;
    let name = ServerName::try_from(host.clone())
        .map_err(|_| Fault::new(Code::Usage, format!("{host:?} is not a host")))?;
    let connector = TlsConnector::from(Arc::new(config(trust, own)?));
    let reach = async {
        let socket = TcpStream::connect((host.as_str(), port)).await?;
        socket.set_nodelay(true)?;
        connector.connect(name, socket).await
    };
    let patience = Duration::from_millis(CONNECT_TIMEOUT_MS);
    let stream = match tokio::time::timeout(patience, reach).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(err)) => return Err(refusal(url, &err)),
        Err(_) => return Err(unreachable(url, "no answer")),
    };
    over(url, stream).await
}

/// A channel over one connection that stands already. When it is gone, the channel is.
async fn over(url: &str, stream: TlsStream<TcpStream>) -> Result<Channel, Fault> {
    let stream = Mutex::new(Some(stream));
    let once = tower::service_fn(move |_: http::Uri| {
        let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gone = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        std::future::ready(taken.map(TokioIo::new).ok_or_else(gone))
    });
    // The scheme says nothing here: the stream is encrypted, and the library refuses another one.
    let plain = url.replacen("https://", "http://", 1);
    let endpoint =
        Endpoint::from_shared(plain).map_err(|err| unreachable(url, &err.to_string()))?;
    let endpoint = endpoint
        .user_agent(concat!("cortex-agent/", env!("CARGO_PKG_VERSION")))
        .map_err(|err| unreachable(url, &err.to_string()))?;
    endpoint.connect_with_connector(once).await.map_err(|err| refusal(url, &err))
}

/// Host and port of `https://HOST:PORT`.
pub(crate) fn address(url: &str) -> Result<(String, u16), Fault> {
    let bad = |why: &str| {
        Fault::new(Code::Usage, format!("{url:?}: {why}")).with_hint("write https://HOST:PORT")
    };
    let uri: http::Uri = url.parse().map_err(|_| bad("this is not a URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(bad("a gateway is reached by https"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("nothing follows the port"));
    }
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("a name does not belong into it"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, authority.port_u16().unwrap_or(443)))
}

fn config(
    trust: Trust,
    own: Option<(Vec<CertificateDer<'static>>, &NodeKey)>,
) -> Result<ClientConfig, Fault> {
    let damaged = |err: rustls::Error| {
        Fault::new(Code::IdentityDamaged, format!("a certificate cannot be used: {err}"))
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(damaged)?;
    let verifier = Verifier::new(trust, provider).map_err(damaged)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own {
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key.for_tls()).map_err(damaged)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Accepts a chain that leads to what the gateway is known by, and asks for such a chain: a gateway may have another one beside
/// it, of a public authority, for everybody else.
#[derive(Debug)]
struct Verifier {
    known: Known,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Known {
    /// The chain holds the certificate with this SHA-256.
    Pinned(Digest),
    /// One of several roots.
    Roots(Arc<WebPkiServerVerifier>),
}

impl Verifier {
    fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Result<Verifier, rustls::Error> {
        let hint = |ca: &Digest| DistinguishedName::in_sequence(&authority_hint(ca));
        let (known, hints) = match trust {
            Trust::Pinned(digest) => (Known::Pinned(digest), vec![hint(&digest)]),
            Trust::Roots(roots) => {
                let hints = roots.iter().map(|der| hint(&Digest::of(der))).collect();
                (Known::Roots(leads_to(roots, provider.clone())?), hints)
            }
        };
        Ok(Verifier { known, hints, provider })
    }

    /// Who verifies the rest of a chain.
    fn inner(
        &self,
        end_entity: &CertificateDer<'_>,
        behind: &[CertificateDer<'_>],
    ) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let digest = match &self.known {
            Known::Roots(verifier) => return Ok(verifier.clone()),
            Known::Pinned(digest) => digest,
        };
        let Some(pinned) = behind.iter().find(|der| Digest::of(der) == *digest) else {
            let shown = Digest::of(behind.last().unwrap_or(end_entity));
            let other = OtherError(Arc::new(NotPinned { shown }));
            return Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)));
        };
        leads_to(vec![pinned.clone().into_owned()], self.provider.clone())
    }
}

fn leads_to(
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|err| rustls::Error::General(err.to_string()))
}

/// The chain does not hold the pinned certificate.
#[derive(Debug)]
struct NotPinned {
    shown: Digest,
}

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its authority has the fingerprint {}", self.shown)
    }
}

impl Error for NotPinned {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let inner = self.inner(end_entity, intermediates)?;
        inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.hints)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn unreachable(url: &str, why: &str) -> Fault {
    Fault::new(Code::CannotConnect, format!("{url}: {why}"))
        .with_hint("is a gateway running there? the agent tries again by itself")
}

/// What an error of the transport says, as far as it is known.
pub(crate) fn refusal(url: &str, err: &(dyn Error + 'static)) -> Fault {
    let mut cause = Some(err);
    let mut innermost = err;
    while let Some(err) = cause {
        innermost = err;
        let inner = err.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = err.downcast_ref().or_else(|| inner.and_then(|err| err.downcast_ref()));
        if let Some(tls) = tls {
            return tls_refusal(url, tls);
        }
        cause = err.source();
    }
    // HTTP/2 keeps no more of the transport's error than its text.
    let text = innermost.to_string();
    alerted(url, &text).unwrap_or_else(|| unreachable(url, &text))
}

/// What an alert of the server means, by the library's text for it.
fn alerted(url: &str, text: &str) -> Option<Fault> {
    let (_, alert) = text.split_once("received fatal alert: ")?;
    match alert {
        "ProtocolVersion" | "HandshakeFailure" => {
            Some(Fault::new(Code::NotTls, format!("{url}: {text}")))
        }
        "CertificateExpired" | "CertificateRevoked" | "CertificateUnknown" | "BadCertificate"
        | "UnknownCA" | "AccessDenied" => {
            let why = format!("{url}: the server refuses this node's certificate: {text}");
            Some(Fault::new(Code::Unauthenticated, why).with_hint(
                "see 'cortex-agent status'; a certificate of another authority needs a new join",
            ))
        }
        _ => None,
    }
}

fn tls_refusal(url: &str, err: &rustls::Error) -> Fault {
    let said = |code, why: String| Fault::new(code, format!("{url}: {why}"));
    if let rustls::Error::InvalidCertificate(bad) = err {
        use CertificateError as C;
        if let C::Other(other) = bad {
            let why = format!("{}, not the one that the token names", other.0);
            return said(Code::ServerNotTrusted, why);
        }
        if matches!(bad, C::NotValidYet | C::NotValidYetContext { .. }) {
            return said(
                Code::ClockSkew,
                format!("{err}: this machine's clock is behind the server's"),
            );
        }
        let ahead = matches!(bad, C::Expired | C::ExpiredContext { .. });
        let or = if ahead { ", or this machine's clock is ahead of the server's" } else { "" };
        return said(Code::ServerNotTrusted, format!("{err}{or}"));
    }
    if matches!(err, rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_)) {
        return said(Code::NotTls, err.to_string());
    }
    let text = err.to_string();
    alerted(url, &text).unwrap_or_else(|| unreachable(url, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_understood_by_the_librarys_own_text_for_it() {
        for (alert, code) in [
            (rustls::AlertDescription::UnknownCA, Code::Unauthenticated),
            (rustls::AlertDescription::CertificateExpired, Code::Unauthenticated),
            (rustls::AlertDescription::AccessDenied, Code::Unauthenticated),
            (rustls::AlertDescription::ProtocolVersion, Code::NotTls),
            (rustls::AlertDescription::InternalError, Code::CannotConnect),
        ] {
            let tls = rustls::Error::AlertReceived(alert);
            assert_eq!(tls_refusal("u", &tls).code, code, "{alert:?}");
            let text = std::io::Error::other(tls.to_string());
            assert_eq!(refusal("u", &text).code, code, "{alert:?} as text");
        }
    }

    #[test]
    fn a_gateway_is_named_by_host_and_port_and_nothing_else() {
        for (url, host, port) in [
            ("https://h:7700", "h", 7700),
            ("https://h.example", "h.example", 443),
            ("https://127.0.0.1:1/", "127.0.0.1", 1),
            ("https://[::1]:7700", "::1", 7700),
        ] {
            assert_eq!(address(url).unwrap(), (host.to_owned(), port));
        }
        for url in [
            "http://h:1",
            "h:1",
            "https://",
            "https://u:p@h:1",
            "https://h:1/x",
            "https://h:1?x",
            "x y",
        ] {
            assert_eq!(address(url).unwrap_err().code, Code::Usage, "{url}");
        }
    }
}

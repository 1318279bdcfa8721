//! TLS 1.3 in front of everything: certificates that follow the authority's files, handshakes that are bounded, and what is known
//! of the peer. It never decides what a peer may do.

mod accept;
mod crowd;
mod given;
mod peer;
mod strangers;

pub(crate) use accept::accept;
pub(crate) use crowd::counted;
pub use given::GivenFiles;
pub(crate) use peer::{Peer, PeerInfo};

use crate::authority::{self, Authority};
use arc_swap::ArcSwap;
use cortex_model::limits::identity::CERTIFICATE_LIFE_MS;
use cortex_model::registry::Digest;
use cortex_model::{Code, Fault};
use given::Choice;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the authority's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When a gateway's own certificate is made anew.
const RENEW_AFTER: Duration = Duration::from_millis(CERTIFICATE_LIFE_MS / 3);

/// The keys in use, and the TLS settings made of them. New connections get the newest.
pub struct Keys {
    dir: PathBuf,
    names: Vec<String>,
    given: Option<GivenFiles>,
    authority: ArcSwap<Authority>,
    config: ArcSwap<ServerConfig>,
    /// The CA that signs, for those who wait for another one.
    ca: watch::Sender<Digest>,
}

impl Keys {
    /// Reads the authority and makes a certificate for a gateway that is reached by these names. A given certificate is shown to
    /// everybody who does not ask for the authority's.
    ///
    /// # Errors
    /// As [`authority::load`]; `CX-0803` for a name that cannot be in a certificate; `CX-0528` and `CX-0706` for a given
    /// certificate that cannot be used.
    pub fn open(
        dir: PathBuf,
        names: Vec<String>,
        given: Option<GivenFiles>,
    ) -> Result<Keys, Fault> {
        let authority = authority::load(&dir)?;
        let config = server_config(&authority, &names, given.as_ref())?;
        Ok(Keys {
            dir,
            names,
            given,
            ca: watch::channel(authority.fingerprint()).0,
            authority: ArcSwap::from_pointee(authority),
            config: ArcSwap::from_pointee(config),
        })
    }

    /// The authority as it is now.
    #[must_use]
    pub fn authority(&self) -> Arc<Authority> {
        self.authority.load_full()
    }

    /// Changes when another CA signs.
    pub(crate) fn ca(&self) -> watch::Receiver<Digest> {
        self.ca.subscribe()
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Follows the files until cancelled. What cannot be used is said and not taken: the gateway goes on with what it had.
    pub(crate) async fn follow(&self, stop: CancellationToken) {
        let mut seen = self.stamp();
        let mut made = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
            let stamp = self.stamp();
            let changed = stamp != seen;
            if !changed && made.elapsed() < RENEW_AFTER {
                continue;
            }
            match self.renew() {
                Ok(()) if changed => {
                    tracing::info!(authority = ?self.authority(), "keys read again")
                }
                Ok(()) => {}
                Err(fault) => {
                    tracing::error!(error = %fault, hint = fault.hint, "files of keys changed and cannot be used; going on with those before");
                }
            }
            (seen, made) = (stamp, tokio::time::Instant::now());
        }
    }

    fn stamp(&self) -> (Option<Digest>, Option<Digest>) {
        (authority::stamp(&self.dir), self.given.as_ref().and_then(GivenFiles::stamp))
    }

    fn renew(&self) -> Result<(), Fault> {
        let authority = authority::load(&self.dir)?;
        let config = server_config(&authority, &self.names, self.given.as_ref())?;
        self.config.store(Arc::new(config));
        let ca = authority.fingerprint();
        self.authority.store(Arc::new(authority));
        self.ca.send_if_modified(|before| std::mem::replace(before, ca) != ca);
        Ok(())
    }
}

fn server_config(
    authority: &Authority,
    names: &[String],
    given: Option<&GivenFiles>,
) -> Result<ServerConfig, Fault> {
    let unusable = |e: &dyn std::fmt::Display| {
        Fault::new(
            Code::DataDirCorrupt,
            format!("the authority's certificates cannot be used: {e}"),
        )
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in authority.roots() {
        roots.add(root.clone()).map_err(|e| unusable(&e))?;
    }
    let (chain, key) = authority.server_certificate(names, crate::clock::now())?;
    let own = CertifiedKey::from_der(chain, key, &provider).map_err(|e| unusable(&e))?;
    let given = given.map(|files| files.read(&provider)).transpose()?;
    let nodes = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| unusable(&e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| unusable(&e))?
        .with_client_cert_verifier(nodes)
        .with_cert_resolver(Arc::new(Choice::new(authority, own, given)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Connections last for days, and each proves its key anew: nothing is resumed.
    config.send_tls13_tickets = 0;
    Ok(config)
}

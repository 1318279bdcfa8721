//! A certificate of a public or company authority, in files that others renew. It is shown to everybody who does not ask for the
//! deployment's own authority; agents and the command line do, and go on knowing the gateway by that.

use crate::authority::Authority;
use cortex_model::credential::authority_hint;
use cortex_model::registry::Digest;
use cortex_model::{Code, Fault};
use rustls::DistinguishedName;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Largest file that is read, bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Where a given certificate lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFiles {
    /// The chain, PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key, PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

impl GivenFiles {
    /// Reads and checks both.
    ///
    /// # Errors
    /// `CX-0706` when anybody can read the key, `CX-0528` for files that cannot be read, do not belong together, or hold a
    /// certificate that is not valid now.
    pub(super) fn read(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Fault> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&text(&self.certificate)?).collect();
        let chain = chain.map_err(|e| unusable(&self.certificate, &e))?;
        let Some(own) = chain.first() else {
            return Err(unusable(&self.certificate, &"it holds no certificate in PEM"));
        };
        timely(&self.certificate, own)?;
        private(&self.key)?;
        // The reason could repeat parts of the key.
        let key = PrivateKeyDer::from_pem_slice(&text(&self.key)?)
            .map_err(|_| unusable(&self.key, &"it holds no private key in PEM"))?;
        let pair = CertifiedKey::from_der(chain, key, provider).map_err(|e| {
            if matches!(e, rustls::Error::InconsistentKeys(_)) {
                let of = self.certificate.display();
                unusable(&self.key, &format!("it is not the key of the certificate in {of}"))
            } else {
                unusable(&self.key, &e)
            }
        })?;
        Ok(Arc::new(pair))
    }

    /// Changes when either file does.
    pub(super) fn stamp(&self) -> Option<Digest> {
        let all = [fs::read(&self.certificate).ok()?, fs::read(&self.key).ok()?];
        Some(Digest::of(all.map(|bytes| Digest::of(&bytes).0).as_flattened()))
    }
}

/// Chooses between the gateway's own certificate and the given one.
#[derive(Debug)]
pub(super) struct Choice {
    own: Arc<CertifiedKey>,
    given: Option<Arc<CertifiedKey>>,
    /// How clients ask for the own one.
    hints: Vec<DistinguishedName>,
}

impl Choice {
    pub(super) fn new(
        authority: &Authority,
        own: CertifiedKey,
        given: Option<Arc<CertifiedKey>>,
    ) -> Choice {
        let hint = |der: &CertificateDer<'_>| {
            DistinguishedName::in_sequence(&authority_hint(&Digest::of(der)))
        };
        Choice { own: Arc::new(own), given, hints: authority.roots().map(hint).collect() }
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(given) = &self.given else { return Some(self.own.clone()) };
        let asked = hello.certificate_authorities().unwrap_or_default();
        let ours =
            |name: &DistinguishedName| self.hints.iter().any(|own| own.as_ref() == name.as_ref());
        Some(if asked.iter().any(ours) { self.own.clone() } else { given.clone() })
    }
}

fn text(path: &Path) -> Result<Vec<u8>, Fault> {
    let size = fs::metadata(path).map_err(|e| unusable(path, &e))?.len();
    if size > FILE_MAX {
        return Err(unusable(path, &"it is too large"));
    }
    fs::read(path).map_err(|e| unusable(path, &e))
}

/// The group may read it, as system groups for certificates do; everybody must not.
fn private(path: &Path) -> Result<(), Fault> {
    let mode = fs::metadata(path).map_err(|e| unusable(path, &e))?.permissions().mode() & 0o777;
    if mode & 0o027 == 0 {
        return Ok(());
    }
    let text = format!("{} can be used by others (mode {mode:o})", path.display());
    Err(Fault::new(Code::InsecureFile, text)
        .with_hint(format!("run: chmod 640 {}", path.display())))
}

fn timely(path: &Path, own: &CertificateDer<'_>) -> Result<(), Fault> {
    let (_, own) = X509Certificate::from_der(own)
        .map_err(|_| unusable(path, &"its first certificate cannot be read"))?;
    let now = i64::try_from(crate::clock::now().0 / 1_000).unwrap_or(i64::MAX);
    let validity = own.validity();
    if now > validity.not_after.timestamp() {
        return Err(unusable(path, &format!("its certificate ran out on {}", validity.not_after)));
    }
    if now < validity.not_before.timestamp() {
        let from = validity.not_before;
        return Err(unusable(path, &format!("its certificate is not valid before {from}")));
    }
    Ok(())
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Fault {
    Fault::new(Code::BadServerCertificate, format!("{}: {why}", path.display()))
}

//! The deployment's keys: the CA that signs certificates of nodes and gateways, and the keys that sign tunnel tokens. Read from
//! a directory that nobody else may read; they never leave this process.
//!
//! ```text
//! ca.key          0600, PKCS #8: ECDSA P-256, signs certificates      ca.pem         its certificate
//! ca-cross.pem    that certificate signed by the CA before            ca-older.pem   CAs before, still accepted
//! token-N.key     0600, PKCS #8: Ed25519; the highest N signs tunnel tokens, the one before is still accepted
//! ```

mod files;
mod issue;
mod request;
mod tokens;
mod x509;

pub use files::{init, load, rotate_ca, rotate_tokens, stamp};
pub(crate) use issue::{Issued, renew_at};
pub(crate) use request::CheckedRequest;
pub(crate) use tokens::refused;
pub use tokens::{Confirmation, TunnelClaims};
pub(crate) use x509::{PeerCertificate, verify};

use cortex_model::registry::Digest;
use cortex_model::{Code, Fault};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use std::fmt;

/// The keys, as they lay in the directory when they were read.
pub struct Authority {
    trust_domain: String,
    ca_key: KeyPair,
    ca: CertificateDer<'static>,
    /// Hash of its name, as in the certificates it signs.
    ca_name: Option<Digest>,
    cross: Option<CertificateDer<'static>>,
    older: Vec<CertificateDer<'static>>,
    /// Newest first; never empty.
    signers: Vec<TokenKey>,
}

/// A key that signs tunnel tokens.
struct TokenKey {
    /// First 16 hex digits of the SHA-256 of the public key.
    kid: String,
    /// PKCS #8.
    private: Vec<u8>,
    /// 32 raw bytes.
    public: Vec<u8>,
}

impl Authority {
    /// Name of the deployment, as in every certificate.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The CA's certificate, DER.
    #[must_use]
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// SHA-256 of the CA's certificate: what every token carries.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.ca)
    }

    /// Whether the CA that signs now signed a certificate, and not one before it.
    pub(crate) fn is_newest(&self, issued: &PeerCertificate) -> bool {
        self.ca_name == Some(issued.issuer)
    }

    /// The certificates a client may be led to: the CA's, and those before it.
    pub fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.ca).chain(&self.older)
    }

    /// The roots as one PEM text.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.roots().map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// Ids of the keys that sign tunnel tokens, the one that signs now first.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.signers.iter().map(|key| key.kid.as_str())
    }

    /// Checks that this deployment made a certificate, whenever it was valid.
    ///
    /// # Errors
    /// `CX-0526` otherwise.
    pub(crate) fn made(&self, certificate: &[u8]) -> Result<(), Fault> {
        x509::signed_by_one_of(certificate, self.roots())
    }

    /// What follows a certificate of this CA in a chain: the way to older CAs, and the CAs themselves, so that who knows only a
    /// fingerprint finds it there.
    fn chain_behind(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.cross.iter().chain(self.roots())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<_> = self.kids().collect();
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("ca", &self.fingerprint())
            .field("token_keys", &kids)
            .finish_non_exhaustive()
    }
}

/// PEM of some bytes, lines of 64.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Random bytes from the system.
///
/// # Errors
/// `CX-0901` when the system gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Fault::new(Code::Internal, "the system gives no random numbers"))?;
    Ok(bytes)
}

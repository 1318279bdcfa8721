//! Reads certificates. That they are genuine is checked elsewhere: by TLS, or by the signature over a renewal.

use cortex_model::credential::NodeName;
use cortex_model::registry::Digest;
use cortex_model::{Code, Fault, UnixMillis};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A node's certificate, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerCertificate {
    /// Whose it is.
    pub(crate) name: NodeName,
    /// Hash of its key's SubjectPublicKeyInfo.
    pub(crate) key: Digest,
    /// Hash of its issuer's name.
    pub(crate) issuer: Digest,
    /// Hash of the certificate.
    pub(crate) sha256: Digest,
    /// The end of its life.
    pub(crate) not_after: UnixMillis,
}

impl PeerCertificate {
    /// Reads a certificate; one that names no node is `None`.
    pub(crate) fn read(der: &[u8]) -> Option<PeerCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut uris = uris(&certificate);
        let name = NodeName::parse(&uris.pop()?)?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        uris.is_empty().then(|| PeerCertificate {
            name,
            key: Digest::of(certificate.public_key().raw),
            issuer: Digest::of(certificate.issuer().as_raw()),
            sha256: Digest::of(der),
            not_after: UnixMillis(seconds.saturating_mul(1_000)),
        })
    }
}

/// Checks that `signature` over `message` is by the key of this certificate.
///
/// # Errors
/// `CX-0526` otherwise.
pub(crate) fn verify(certificate: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Fault> {
    let bad = || Fault::new(Code::BadProof, "the proof of the node's key is not valid");
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| bad())?;
    let key = &certificate.public_key().subject_public_key.data;
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1;
    aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .map_err(|_| bad())
}

/// Checks that one of these CAs signed the certificate, whenever it was valid.
///
/// # Errors
/// `CX-0526` otherwise.
pub(crate) fn signed_by_one_of<'a>(
    certificate: &[u8],
    mut roots: impl Iterator<Item = &'a CertificateDer<'static>>,
) -> Result<(), Fault> {
    let signed = |root: &CertificateDer<'static>| {
        let (_, leaf) = X509Certificate::from_der(certificate).ok()?;
        let (_, root) = X509Certificate::from_der(root).ok()?;
        let key = &root.public_key().subject_public_key.data;
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1;
        aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, key)
            .verify(leaf.tbs_certificate.as_ref(), &leaf.signature_value.data)
            .ok()
    };
    if roots.any(|root| signed(root).is_some()) {
        return Ok(());
    }
    Err(Fault::new(Code::BadProof, "the certificate is not of this deployment"))
}

/// Hash of a CA's name, as in what it issues.
pub(super) fn name_of(ca: &[u8]) -> Option<Digest> {
    let (_, certificate) = X509Certificate::from_der(ca).ok()?;
    Some(Digest::of(certificate.subject().as_raw()))
}

/// The trust domain in a CA's certificate, if that is for this key.
pub(super) fn trust_domain(ca: &[u8], public_key: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(ca).ok()?;
    let uri = uris(&certificate).pop()?;
    let own = certificate.public_key().subject_public_key.data.as_ref() == public_key;
    let name = uri.strip_prefix("spiffe://")?;
    (own && cortex_model::credential::is_trust_domain(name)).then(|| name.to_owned())
}

fn uris(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|san| san.value.general_names.as_slice()).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .map(str::to_owned)
        .collect()
}

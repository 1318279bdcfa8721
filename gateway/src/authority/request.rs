//! What a machine may ask a certificate for: its own ECDSA P-256 key, which signed the request, and no name but the one it gets.

use cortex_model::limits::identity::CSR_MAX;
use cortex_model::registry::Digest;
use cortex_model::{Code, Fault};
use rcgen::{CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PublicKey, SanType};
use rcgen::{IsCa, PublicKeyData};
use rustls::pki_types::CertificateSigningRequestDer;

/// A request whose signature and kind of key are as they must be.
#[derive(Debug)]
pub(crate) struct CheckedRequest {
    inner: CertificateSigningRequestParams,
    key: Digest,
}

impl CheckedRequest {
    /// Reads and checks a PKCS #10 request.
    ///
    /// # Errors
    /// `CX-0514` with what is wrong.
    pub(crate) fn read(der: &[u8]) -> Result<CheckedRequest, Fault> {
        let bad = |why: &str| Fault::new(Code::BadCsr, format!("the certificate request {why}"));
        if der.len() > CSR_MAX {
            return Err(bad("is too large"));
        }
        let inner =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
                .map_err(|e| {
                    if e == rcgen::Error::InvalidCertificationRequestSignature {
                        return bad("is not signed by its own key");
                    }
                    bad("cannot be read, or asks for what no node gets")
                })?;
        if inner.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(bad("has a key that is not ECDSA P-256"));
        }
        if !matches!(inner.params.is_ca, IsCa::NoCa | IsCa::ExplicitNoCa) {
            return Err(bad("asks to be a CA"));
        }
        let key = Digest::of(&inner.public_key.subject_public_key_info());
        Ok(CheckedRequest { inner, key })
    }

    /// Hash of the key's SubjectPublicKeyInfo.
    pub(crate) fn key(&self) -> Digest {
        self.key
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.inner.public_key
    }

    /// Checks that no other name is asked for than this URI.
    ///
    /// # Errors
    /// `CX-0514` with the other name.
    pub(crate) fn names_only(&self, uri: &str) -> Result<(), Fault> {
        for name in &self.inner.params.subject_alt_names {
            if !matches!(name, SanType::URI(asked) if asked.as_str() == uri) {
                let shown: String = format!("{name:?}").chars().take(200).collect();
                let text =
                    format!("the certificate request asks for {shown}; this node gets {uri}");
                return Err(Fault::new(Code::BadCsr, text));
            }
        }
        Ok(())
    }
}

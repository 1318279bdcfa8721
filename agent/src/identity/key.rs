//! The node's key. It is made here, kept in a file that only the node's account can read, and never sent anywhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cortex_model::{Code, Fault};
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
    SigningKey as _,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// An ECDSA P-256 key.
pub(crate) struct NodeKey(KeyPair);

impl NodeKey {
    /// A new key.
    pub(crate) fn generate() -> Result<NodeKey, Fault> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(NodeKey).map_err(|err| broken(&err))
    }

    /// Reads the PEM of a key that was made here.
    pub(crate) fn from_pem(pem: &str) -> Result<NodeKey, Fault> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|err| {
            Fault::new(Code::IdentityDamaged, format!("the node's key is not PEM: {err}"))
        })?;
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
        pair.map(NodeKey).map_err(|err| broken(&err))
    }

    /// PKCS #8, PEM. It is the secret.
    pub(crate) fn to_pem(&self) -> String {
        let text = STANDARD.encode(self.0.serialize_der());
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for line in text.as_bytes().chunks(PEM_LINE) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }

    /// For TLS.
    pub(crate) fn for_tls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }

    /// A PKCS #10 request, DER, that names nothing: the server gives the name.
    pub(crate) fn request(&self) -> Result<Vec<u8>, Fault> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(|err| broken(&err))?;
        Ok(request.der().to_vec())
    }

    /// ECDSA over SHA-256 of the bytes, ASN.1 DER.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        self.0.sign(bytes).map_err(|err| broken(&err))
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo), 64 hex digits: how people compare keys.
    pub(crate) fn fingerprint(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.0.subject_public_key_info()).into();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.fingerprint())
    }
}

fn broken(err: &rcgen::Error) -> Fault {
    Fault::new(Code::IdentityDamaged, format!("the node's key cannot be used: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_is_never_shown() {
        let key = NodeKey::generate().unwrap();
        let pem = key.to_pem();
        let again = NodeKey::from_pem(&pem).unwrap();
        assert_eq!(again.fingerprint(), key.fingerprint());
        assert_ne!(NodeKey::generate().unwrap().fingerprint(), key.fingerprint());
        let shown = format!("{key:?}");
        assert!(pem.contains("PRIVATE KEY") && !shown.contains("PRIVATE") && shown.len() < 80);
        assert_eq!(NodeKey::from_pem("x").unwrap_err().code, Code::IdentityDamaged);
    }

    #[test]
    fn a_request_names_nothing_and_is_as_short_as_can_be() {
        let request = NodeKey::generate().unwrap().request().unwrap();
        assert!(request.len() < 400 && !request.windows(5).any(|w| w == b"rcgen"), "{request:?}");
    }
}

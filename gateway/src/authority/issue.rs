//! Certificates: of nodes, for the key of a checked request, and of this gateway.

use super::request::CheckedRequest;
use super::{Authority, random};
use cortex_model::credential::NodeName;
use cortex_model::limits::identity::{BACKDATE_MS, CERTIFICATE_LIFE_MS};
use cortex_model::registry::{CertificateIssued, Digest};
use cortex_model::{Code, Fault, UnixMillis};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::IpAddr;

/// A certificate and its chain.
pub(crate) struct Issued {
    /// The certificate itself first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// What the registry records of it.
    pub(crate) record: CertificateIssued,
}

impl Authority {
    /// Signs a node's certificate. The names are ours, only the key is the request's.
    ///
    /// # Errors
    /// `CX-0901` when it cannot be made.
    pub(crate) fn node_certificate(
        &self,
        name: &NodeName,
        request: &CheckedRequest,
        gateway: &str,
        now: UnixMillis,
    ) -> Result<Issued, Fault> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name.node.as_str());
        let uri = name.to_string().try_into().map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let serial = serial()?;
        let (not_before, not_after) = validity(now);
        params.serial_number = Some(serial.clone());
        set_validity(&mut params, not_before, not_after);
        let issuer = Issuer::from_ca_cert_der(&self.ca, &self.ca_key).map_err(failed)?;
        let signed = params.signed_by(request.public_key(), &issuer).map_err(failed)?;
        let der = signed.der().clone();
        let record = CertificateIssued {
            serial: serial.to_bytes().iter().map(|b| format!("{b:02x}")).collect(),
            sha256: Digest::of(&der),
            not_before,
            not_after,
            at: now,
            gateway: gateway.to_owned(),
        };
        Ok(Issued { chain: self.chained(der), record })
    }

    /// A fresh key and certificate for a gateway that is reached by these names.
    ///
    /// # Errors
    /// `CX-0803` for a name that cannot be in a certificate.
    pub(crate) fn server_certificate(
        &self,
        names: &[String],
        now: UnixMillis,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "cortex gateway");
        for name in names {
            let san = match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|_| {
                    Fault::new(
                        Code::Usage,
                        format!("{name:?} is neither a host name nor an address"),
                    )
                })?),
            };
            params.subject_alt_names.push(san);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        let (not_before, not_after) = validity(now);
        set_validity(&mut params, not_before, not_after);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_der(&self.ca, &self.ca_key).map_err(failed)?;
        let signed = params.signed_by(&key, &issuer).map_err(failed)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((self.chained(signed.der().clone()), private))
    }

    fn chained(&self, der: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        std::iter::once(der).chain(self.chain_behind().cloned()).collect()
    }
}

/// When a certificate that should be renewed at 2/3 of its life is to be renewed.
pub(crate) fn renew_at(issued_at: UnixMillis) -> UnixMillis {
    issued_at + CERTIFICATE_LIFE_MS / 3 * 2
}

/// Valid a while back, so that a clock that is behind does no harm. Whole seconds, as certificates have them.
fn validity(now: UnixMillis) -> (UnixMillis, UnixMillis) {
    let now = now.0 / 1_000 * 1_000;
    (UnixMillis(now.saturating_sub(BACKDATE_MS)), UnixMillis(now + CERTIFICATE_LIFE_MS))
}

/// Writes when a certificate is valid.
pub(super) fn set_validity(params: &mut CertificateParams, from: UnixMillis, until: UnixMillis) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + std::time::Duration::from_millis(from.0);
    params.not_after = epoch + std::time::Duration::from_millis(until.0);
}

/// A random serial number: 16 bytes, positive.
pub(super) fn serial() -> Result<SerialNumber, Fault> {
    let mut bytes = random::<16>()?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn failed(e: rcgen::Error) -> Fault {
    Fault::new(Code::Internal, format!("a certificate cannot be made: {e}"))
}

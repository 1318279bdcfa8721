//! The authority's directory: made, read, rotated. A secret that others could read is refused, before anything is done with it.

use super::{Authority, TokenKey, pem, random};
use cortex_model::credential::is_trust_domain;
use cortex_model::limits::identity::BACKDATE_MS;
use cortex_model::registry::Digest;
use cortex_model::{Code, Fault, UnixMillis};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Life of a CA's certificate, milliseconds: ten years.
const CA_LIFE_MS: u64 = 3_652 * 24 * 3_600 * 1_000;
/// Keys that sign or are accepted for tunnel tokens.
const TOKEN_KEYS: usize = 2;
/// CAs before the present one that are still accepted.
const OLDER_KEPT: usize = 2;

/// Makes an authority in a directory that has none.
///
/// # Errors
/// `CX-0803` for a name that cannot be, `CX-0202` when the directory has one, I/O errors.
pub fn init(dir: &Path, trust_domain: &str, now: UnixMillis) -> Result<Authority, Fault> {
    if !is_trust_domain(trust_domain) {
        let text = format!("{trust_domain:?} cannot be a trust domain");
        return Err(Fault::new(Code::Usage, text)
            .with_hint("use a name like 'cortex.example.org': a-z, 0-9, '.', '-', '_'"));
    }
    if dir.join("ca.key").exists() {
        let text = format!("{} has an authority already", dir.display());
        return Err(Fault::new(Code::KeyConflict, text).with_hint(
            "see it with 'cortex ca show', or change its keys with 'cortex ca rotate'",
        ));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| io(dir, &e))?;
    let (key, params) = new_ca(trust_domain, now)?;
    let certificate = params.self_signed(&key).map_err(signing)?;
    write(dir, "token-1.key", &new_token_key()?, 0o600)?;
    write(dir, "ca.pem", &pem("CERTIFICATE", certificate.der()), 0o644)?;
    // The key comes last: with it, the authority exists.
    write(dir, "ca.key", &key.serialize_pem(), 0o600)?;
    load(dir)
}

/// Reads an authority.
///
/// # Errors
/// `CX-0521` when there is none, `CX-0706` when others can read a key, `CX-0703` for what cannot be used.
pub fn load(dir: &Path) -> Result<Authority, Fault> {
    if !dir.join("ca.key").exists() {
        return Err(Fault::new(Code::NoAuthority, format!("{} has no authority", dir.display())));
    }
    let ca_key = key_pair(&dir.join("ca.key"))?;
    let ca = certificates(&dir.join("ca.pem"))?.pop();
    let ca = ca.ok_or_else(|| damaged(&dir.join("ca.pem"), "it has no certificate"))?;
    let trust_domain = super::x509::trust_domain(&ca, ca_key.public_key_raw())
        .ok_or_else(|| damaged(&dir.join("ca.pem"), "it is not the certificate of ca.key"))?;
    let mut signers = Vec::new();
    for (_, path) in token_keys(dir)?.into_iter().take(TOKEN_KEYS) {
        let pair = key_pair(&path)?;
        if !pair.is_compatible(&PKCS_ED25519) {
            return Err(damaged(&path, "it is not an Ed25519 key"));
        }
        let public = pair.public_key_raw().to_vec();
        let kid = Digest::of(&public).to_string()[..16].to_owned();
        signers.push(TokenKey { kid, private: pair.serialize_der(), public });
    }
    if signers.is_empty() {
        return Err(damaged(dir, "it has no token-N.key"));
    }
    let cross = optional(&dir.join("ca-cross.pem"))?.pop();
    let older = optional(&dir.join("ca-older.pem"))?;
    let ca_name = super::x509::name_of(&ca);
    Ok(Authority { trust_domain, ca_key, ca, ca_name, cross, older, signers })
}

/// Makes a new CA. What the old one signed stays good until it runs out; the new one is also signed by the old one, so that
/// who knows only the old one believes it.
///
/// # Errors
/// As [`load`], and I/O errors.
pub fn rotate_ca(dir: &Path, now: UnixMillis) -> Result<Authority, Fault> {
    let before = load(dir)?;
    let (key, params) = new_ca(&before.trust_domain, now)?;
    let certificate = params.self_signed(&key).map_err(signing)?;
    let old = Issuer::from_ca_cert_der(&before.ca, &before.ca_key).map_err(signing)?;
    let cross = params.signed_by(&key, &old).map_err(signing)?;
    let older: String =
        before.roots().take(OLDER_KEPT).map(|der| pem("CERTIFICATE", der)).collect();
    // A reader between two of these finds a certificate that is not of its key, and keeps what it had.
    write(dir, "ca-older.pem", &older, 0o644)?;
    write(dir, "ca-cross.pem", &pem("CERTIFICATE", cross.der()), 0o644)?;
    write(dir, "ca.key", &key.serialize_pem(), 0o600)?;
    write(dir, "ca.pem", &pem("CERTIFICATE", certificate.der()), 0o644)?;
    load(dir)
}

/// Makes a new key for tunnel tokens. The one before is accepted until the next rotation, older ones are removed.
///
/// # Errors
/// As [`load`], and I/O errors.
pub fn rotate_tokens(dir: &Path) -> Result<Authority, Fault> {
    load(dir)?;
    let keys = token_keys(dir)?;
    let next = keys.first().map_or(1, |(number, _)| number + 1);
    write(dir, &format!("token-{next}.key"), &new_token_key()?, 0o600)?;
    for (_, path) in keys.into_iter().skip(TOKEN_KEYS - 1) {
        fs::remove_file(&path).map_err(|e| io(&path, &e))?;
    }
    load(dir)
}

/// Changes when any file of the directory does.
#[must_use]
pub fn stamp(dir: &Path) -> Option<Digest> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).collect();
    names.sort();
    let mut all = Vec::new();
    for path in names.iter().filter(|p| p.extension().is_some_and(|e| e == "pem" || e == "key")) {
        all.extend(path.as_os_str().as_encoded_bytes());
        all.extend(Digest::of(&fs::read(path).ok()?).0);
    }
    Some(Digest::of(&all))
}

fn new_ca(trust_domain: &str, now: UnixMillis) -> Result<(KeyPair, CertificateParams), Fault> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signing)?;
    // Two CAs of a deployment have different names, or a chain between them would be ambiguous.
    let short = &Digest::of(key.public_key_raw()).to_string()[..8];
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Cortex CA {short} of {trust_domain}"));
    let uri = format!("spiffe://{trust_domain}").try_into().map_err(signing)?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let from = UnixMillis(now.0.saturating_sub(BACKDATE_MS));
    super::issue::set_validity(&mut params, from, now + CA_LIFE_MS);
    params.serial_number = Some(super::issue::serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok((key, params))
}

fn new_token_key() -> Result<String, Fault> {
    let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(signing)?;
    Ok(pair.serialize_pem())
}

/// Files of token keys, newest first.
fn token_keys(dir: &Path) -> Result<Vec<(u32, PathBuf)>, Fault> {
    let number = |path: &Path| {
        path.file_name()?.to_str()?.strip_prefix("token-")?.strip_suffix(".key")?.parse().ok()
    };
    let entries = fs::read_dir(dir).map_err(|e| io(dir, &e))?;
    let mut keys: Vec<(u32, PathBuf)> =
        entries.flatten().filter_map(|e| number(&e.path()).map(|n| (n, e.path()))).collect();
    keys.sort_by(|a, b| b.cmp(a));
    Ok(keys)
}

fn key_pair(path: &Path) -> Result<KeyPair, Fault> {
    let mode = fs::metadata(path).map_err(|e| io(path, &e))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let text = format!("{} can be used by others (mode {mode:o})", path.display());
        return Err(Fault::new(Code::InsecureFile, text)
            .with_hint(format!("run: chmod 600 {}", path.display())));
    }
    let text = fs::read_to_string(path).map_err(|e| io(path, &e))?;
    // The reason could repeat parts of the key.
    KeyPair::from_pem(&text).map_err(|_| damaged(path, "it is no key in PKCS #8"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = fs::read(path).map_err(|e| io(path, &e))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    read.map_err(|e| damaged(path, &e.to_string()))
}

fn optional(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    if path.exists() { certificates(path) } else { Ok(Vec::new()) }
}

/// Writes a file so that it is there whole or not at all.
fn write(dir: &Path, name: &str, text: &str, mode: u32) -> Result<(), Fault> {
    let path = dir.join(name);
    let suffix = Digest(random::<32>()?).to_string();
    let part = dir.join(format!(".{name}.{}", &suffix[..8]));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|e| io(&path, &e))
}

fn io(path: &Path, e: &std::io::Error) -> Fault {
    let full = matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let code = if full { Code::DiskFull } else { Code::DataDirCorrupt };
    Fault::new(code, format!("{}: {e}", path.display()))
}

fn damaged(path: &Path, why: &str) -> Fault {
    Fault::new(Code::DataDirCorrupt, format!("{}: {why}", path.display()))
}

fn signing(e: rcgen::Error) -> Fault {
    Fault::new(Code::Internal, format!("a certificate cannot be made: {e}"))
}

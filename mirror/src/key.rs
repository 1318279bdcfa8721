//! The mirror's key file: made once, readable by nobody else, in the form of C2SP signed-note signers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cortex_audit::{CosignerKey, VerifierKey};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// First words of the file.
const PREFIX: &str = "PRIVATE+KEY+";
/// Type of a cosigner's key.
const COSIGNER: u8 = 4;
/// Longest file that can be a key, bytes.
const FILE_MAX: u64 = 4_096;

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read or made.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Others may read or change it.
    #[error("{path} can be used by others (mode {mode:o})")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no key of a mirror.
    #[error("{0} holds no key of a mirror")]
    Malformed(PathBuf),
}

/// The key of a mirror. It signs only through the signer.
#[derive(Debug)]
pub struct MirrorKey(CosignerKey);

impl MirrorKey {
    /// Reads the key, or makes one with this name and mode 0600 if there is no file.
    ///
    /// # Errors
    /// See [`KeyFileError`]. An existing file is never changed.
    pub fn open(path: &Path, name: &str) -> Result<MirrorKey, KeyFileError> {
        match Self::load(path) {
            Err(KeyFileError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
                Self::create(path, name)
            }
            other => other,
        }
    }

    /// Reads the key.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn load(path: &Path) -> Result<MirrorKey, KeyFileError> {
        let io = |error| KeyFileError::Io { path: path.to_owned(), error };
        let mut file = File::open(path).map_err(io)?;
        // Of the open file, so that nobody can swap it in between.
        let mode = file.metadata().map_err(io)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        (&mut file).take(FILE_MAX).read_to_string(&mut text).map_err(io)?;
        parse(text.trim_end())
            .map(MirrorKey)
            .ok_or_else(|| KeyFileError::Malformed(path.to_owned()))
    }

    fn create(path: &Path, name: &str) -> Result<MirrorKey, KeyFileError> {
        let io = |error| KeyFileError::Io { path: path.to_owned(), error };
        let seed = random().map_err(io)?;
        let key = CosignerKey::from_seed(&seed, name)
            .map_err(|_| KeyFileError::Malformed(path.to_owned()))?;
        // Written aside and linked, so that the name never leads to half a key and never replaces one.
        let part = path.with_extension("part");
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(io)?;
        file.write_all(format!("{}\n", render(&key, &seed)).as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)?;
        std::fs::hard_link(&part, path).map_err(io)?;
        std::fs::remove_file(&part).map_err(io)?;
        if let Some(parent) = path.parent() {
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        Ok(MirrorKey(key))
    }

    /// The public half, as auditors put it into their policy.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.0.verifier()
    }

    pub(crate) fn cosigner(&self) -> &CosignerKey {
        &self.0
    }
}

/// Random bytes of the operating system.
pub(crate) fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn render(key: &CosignerKey, seed: &[u8; 32]) -> String {
    let mut bytes = vec![COSIGNER];
    bytes.extend_from_slice(seed);
    let verifier = key.verifier();
    let id = u32::from_be_bytes(verifier.id());
    format!("{PREFIX}{}+{id:08x}+{}", verifier.name(), STANDARD.encode(bytes))
}

fn parse(text: &str) -> Option<CosignerKey> {
    let mut parts = text.strip_prefix(PREFIX)?.splitn(3, '+');
    let (name, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = STANDARD.decode(secret).ok()?;
    let (kind, seed) = bytes.split_first()?;
    let seed: &[u8; 32] = seed.try_into().ok()?;
    let key = CosignerKey::from_seed(seed, name).ok()?;
    let right = format!("{:08x}", u32::from_be_bytes(key.verifier().id())) == id;
    (*kind == COSIGNER && right).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const NAME: &str = "cortex.example/mirror/m1";

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mirror.key");
        let made = MirrorKey::open(&path, NAME).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = MirrorKey::open(&path, "another name").unwrap();
        assert_eq!(made.verifier().to_string(), again.verifier().to_string());
        assert!(made.verifier().to_string().starts_with(NAME));
        let other = MirrorKey::open(&dir.path().join("other.key"), NAME).unwrap();
        assert_ne!(made.verifier().to_string(), other.verifier().to_string());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
    }

    #[test]
    fn a_key_that_others_can_read_or_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mirror.key");
        MirrorKey::open(&path, NAME).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = MirrorKey::open(&path, NAME).unwrap_err();
            assert!(matches!(refused, KeyFileError::Exposed { .. }), "{mode:o}: {refused}");
        }
    }

    #[test]
    fn anything_else_is_no_key_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mirror.key");
        MirrorKey::open(&path, NAME).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let renamed = good.replace("/m1+", "/m2+");
        for bad in ["", "x", &good[..good.len() - 9], &renamed, &good.replace("PRIVATE", "PUBLIC")]
        {
            fs::write(&path, bad).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let refused = MirrorKey::open(&path, NAME).unwrap_err();
            assert!(matches!(refused, KeyFileError::Malformed(_)), "{bad:?}: {refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }
}

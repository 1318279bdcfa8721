//! Ed25519 keys and how they are written: a *verifier key* names a public key, says what its signatures mean (a log's
//! own checkpoint, or a cosignature with a time), and carries a short id that signature lines repeat.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;
use thiserror::Error;

/// Longest name of a key, bytes.
pub const MAX_NAME: usize = 512;

/// What the signatures of a key mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Type 0x01: the log says that its tree has this size and root.
    Log,
    /// Type 0x04: a mirror or witness saw that at a time, and it contradicts nothing it saw before.
    Cosigner,
}

impl KeyKind {
    /// The signature type of C2SP signed-note.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Cosigner => 4,
        }
    }
}

/// A public key of 32 bytes that is a point of the curve.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a key. Weak ones (of small order), under which anything would verify, are refused, and so are second
    /// spellings (coordinates not below 2^255-19), which verifiers of other languages may take for other keys.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let [low, middle @ .., high] = bytes;
        if *low >= 0xed && high & 0x7f == 0x7f && middle.iter().all(|byte| *byte == 0xff) {
            return None;
        }
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        (!key.is_weak()).then_some(Self(key))
    }

    /// Reads 32 bytes of standard base64 with padding.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        Self::from_bytes(&STANDARD.decode(text).ok()?.try_into().ok()?)
    }

    /// Standard base64 with padding.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` is this key's over `message`, by the strict rules.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

/// Why a verifier key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not `<name>+<8 hex digits>+<base64>`.
    #[error("not of the form <name>+<id>+<key>")]
    Form,
    /// A name is empty, too long, or has a space, plus or control character.
    #[error("the name of a key has 1 to {MAX_NAME} bytes without spaces and plus signs")]
    Name,
    /// Neither 0x01 nor 0x04.
    #[error("its signature type {0:#04x} is not known")]
    Kind(u8),
    /// The key is no valid public key.
    #[error("it holds no valid public key")]
    Key,
    /// The id is not that of the name and key.
    #[error("its id does not belong to its name and key")]
    Id,
}

/// A public key with its name and meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    key: PublicKey,
    id: [u8; 4],
}

impl VerifierKey {
    /// Names a key.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: impl Into<String>, kind: KeyKind, key: PublicKey) -> Result<Self, KeyError> {
        let name = name.into();
        if !is_name(&name) {
            return Err(KeyError::Name);
        }
        let digest: [u8; 32] = Sha256::new()
            .chain_update(&name)
            .chain_update([b'\n', kind.byte()])
            .chain_update(key.as_bytes())
            .finalize()
            .into();
        let id = [digest[0], digest[1], digest[2], digest[3]];
        Ok(Self { name, kind, key, id })
    }

    /// Reads `<name>+<id>+<base64 of type and key>`.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        // Neither name nor id holds a plus sign; the base64 may.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Form);
        };
        let bytes = STANDARD.decode(key).map_err(|_| KeyError::Form)?;
        let (kind, key) = bytes.split_first().ok_or(KeyError::Form)?;
        let kind = match kind {
            1 => KeyKind::Log,
            4 => KeyKind::Cosigner,
            other => return Err(KeyError::Kind(*other)),
        };
        let key = key.try_into().map_err(|_| KeyError::Key)?;
        let key = Self::new(name, kind, PublicKey::from_bytes(key).ok_or(KeyError::Key)?)?;
        if crate::leaf::hex(&key.id) != id {
            return Err(KeyError::Id);
        }
        Ok(key)
    }

    /// The name: for a log its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures mean.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The id that signature lines carry.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind.byte()];
        key.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, crate::leaf::hex(&self.id), STANDARD.encode(key))
    }
}

/// Whether a text can name a key: not empty, at most [`MAX_NAME`] bytes, no plus sign, space or control character.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// The key with which a node signs the checkpoints of one journal, and nothing else.
pub struct LogKey {
    key: SigningKey,
    verifier: VerifierKey,
}

/// The key with which a mirror or witness cosigns checkpoints, and nothing else.
pub struct CosignerKey {
    key: SigningKey,
    verifier: VerifierKey,
}

/// The public key of a 32-byte seed, needed before a journal has a name: its first record holds it.
#[must_use]
pub fn public_key(seed: &[u8; 32]) -> PublicKey {
    PublicKey(SigningKey::from_bytes(seed).verifying_key())
}

/// Signs, with a new key, that it follows `old` in journal `log`: the proof of possession of `key.rotate`.
#[must_use]
pub fn prove_possession(new_seed: &[u8; 32], log: crate::Leaf, old: &PublicKey) -> [u8; 64] {
    let key = SigningKey::from_bytes(new_seed);
    key.sign(&rotation_text(log, old, &public_key(new_seed))).to_bytes()
}

/// What a proof of possession signs.
#[must_use]
pub fn rotation_text(log: crate::Leaf, old: &PublicKey, new: &PublicKey) -> Vec<u8> {
    let (old, new) = (old.to_base64(), new.to_base64());
    format!("{} rotate\n{log}\n{old}\n{new}\n", crate::FORMAT).into_bytes()
}

/// What a node signs to say that its journal stands at a checkpoint now, and not only did once: the checkpoint's text behind what the
/// mirror chose.
#[must_use]
pub fn presence_text(challenge: &[u8], checkpoint: &str) -> Vec<u8> {
    format!("{} present\n{}\n{checkpoint}", crate::FORMAT, crate::leaf::hex(challenge)).into_bytes()
}

impl LogKey {
    /// The key of the journal whose checkpoints carry `origin`.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(seed: &[u8; 32], origin: &str) -> Result<Self, KeyError> {
        let verifier = VerifierKey::new(origin, KeyKind::Log, public_key(seed))?;
        Ok(Self { key: SigningKey::from_bytes(seed), verifier })
    }

    /// Its public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.key.sign(text).to_bytes()
    }
}

impl CosignerKey {
    /// A key of a mirror or witness under its published name.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(seed: &[u8; 32], name: &str) -> Result<Self, KeyError> {
        let verifier = VerifierKey::new(name, KeyKind::Cosigner, public_key(seed))?;
        Ok(Self { key: SigningKey::from_bytes(seed), verifier })
    }

    /// Its public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text together with a time in seconds since 1970.
    #[must_use]
    pub fn sign(&self, text: &str, time: u64) -> [u8; 64] {
        self.key.sign(&cosigned_text(text, time)).to_bytes()
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({})", self.verifier)
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerKey({})", self.verifier)
    }
}

/// What a cosignature signs: C2SP tlog-cosignature, `cosignature/v1`.
#[must_use]
pub fn cosigned_text(text: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

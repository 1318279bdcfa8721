//! Salted commitments: a sensitive value appears in an entry only as `{"$c": hash}`, and its opening
//! (salt, name, value) is stored aside, so that it can be shown or erased without touching the chain.
//! The form is that of SD-JWT disclosures (RFC 9901).

use crate::canonical::{CanonicalError, Value};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Sixteen bytes of fresh randomness, never derived from anything and never used twice.
pub type Salt = [u8; 16];

/// The hash that stands in the entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commitment(String);

/// What opens a commitment: base64url of `[salt, name, value]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening(String);

impl Commitment {
    /// Commits to `value` under `name`.
    ///
    /// # Errors
    /// The value cannot be written canonically.
    pub fn new(salt: Salt, name: &str, value: Value) -> Result<(Self, Opening), CanonicalError> {
        let salt = Value::Text(URL_SAFE_NO_PAD.encode(salt));
        let disclosure = Value::List(vec![salt, Value::from(name), value]).to_bytes()?;
        let opening = Opening(URL_SAFE_NO_PAD.encode(disclosure));
        Ok((opening.commitment(), opening))
    }

    /// As it stands in an entry.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::map([("$c", Value::from(self.0.as_str()))])
    }

    /// Reads it from an entry: a map with the one member `$c`.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let Value::Map(map) = value else { return None };
        (map.len() == 1).then(|| Self::parse(map.get("$c")?.as_text()?)).flatten()
    }

    /// Reads the hash: 32 bytes in base64url without padding.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == 32).then(|| Self(text.to_owned()))
    }

    /// The hash, base64url without padding.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Opening {
    /// An opening as it was stored.
    #[must_use]
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The stored text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The commitment that this opens.
    #[must_use]
    pub fn commitment(&self) -> Commitment {
        Commitment(URL_SAFE_NO_PAD.encode(Sha256::digest(self.0.as_bytes())))
    }

    /// Name and value inside; `None` if this is no opening that we wrote.
    #[must_use]
    pub fn reveal(&self) -> Option<(String, Value)> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.0).ok()?;
        let Ok(Value::List(parts)) = crate::canonical::parse(&bytes) else { return None };
        let [Value::Text(_), Value::Text(name), value] = parts.as_slice() else { return None };
        Some((name.clone(), value.clone()))
    }
}

//! What `--json` prints: stable, documented fields, one struct per thing. Times are Unix
//! milliseconds; what is not known is `null` or absent in the contract's sense, never invented.

pub(crate) mod audit;
mod event;
mod node;
mod task;
mod token;
mod who;

pub(crate) use event::{HistoryEntry, release_reason, resolve_as};
pub(crate) use node::{Node, Registration, enrolment};
pub(crate) use task::{Actor, Task, state_name};
pub(crate) use token::{Token, role};
pub(crate) use who::Who;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes: a JSON string when they are UTF-8, else `{"b64": "..."}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected text or {\"b64\": \"...\"}")]
enum Form {
    Text(String),
    Base64 { b64: String },
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => s.serialize_str(text),
            Err(_) => Form::Base64 { b64: STANDARD.encode(&self.0) }.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        match Form::deserialize(d)? {
            Form::Text(text) => Ok(Bytes(text.into_bytes())),
            Form::Base64 { b64 } => {
                STANDARD.decode(b64).map(Bytes).map_err(serde::de::Error::custom)
            }
        }
    }
}

/// `None` for the contract's empty text.
fn text(s: &str) -> Option<String> {
    (!s.is_empty()).then(|| s.to_owned())
}

/// `None` for the contract's "never".
fn time(ms: u64) -> Option<u64> {
    (ms != 0).then_some(ms)
}

/// Digests and the like.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An error that somebody reported.
#[derive(Debug, Serialize)]
pub(crate) struct Error {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) retryable: bool,
}

impl From<&cortex_model::proto::Error> for Error {
    fn from(e: &cortex_model::proto::Error) -> Error {
        let (code, message, hint) = (e.code.clone(), e.message.clone(), e.hint.clone());
        Error { code, message, hint, retryable: e.retryable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        for (bytes, json) in
            [(&b"a\n\xc3\xbc"[..], "\"a\\nü\""), (&b"\xff\x00"[..], r#"{"b64":"/wA="}"#)]
        {
            let there = serde_json::to_string(&Bytes(bytes.to_vec())).unwrap();
            assert_eq!(there, json);
            assert_eq!(serde_json::from_str::<Bytes>(&there).unwrap().0, bytes);
        }
        assert!(serde_json::from_str::<Bytes>(r#"{"b64":"*"}"#).is_err());
    }
}

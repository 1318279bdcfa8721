//! What a worker tells: lines of JSON with stable fields, read by clients. Bytes that are no text are base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cortex_model::Fault;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes: a JSON string when they are UTF-8, else `{"b64": "..."}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

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

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file with content.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// One entry of a list or glob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name in the directory that was listed, or its path from the directory of a glob.
    pub path: Bytes,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change of its content, Unix milliseconds.
    pub modified_ms: i64,
    /// Where a symbolic link leads, as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Bytes>,
}

/// What `stat` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// The same as in a list; the path is absolute.
    #[serde(flatten)]
    pub entry: Entry,
    /// Changes when anything of the file changes.
    pub version: String,
    /// Names that the file has.
    pub links: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// SHA-256 of its content, where that was asked for; 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// One line of a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The file, from the directory that was searched; a file that was searched alone is named as it was given.
    pub path: Bytes,
    /// Number of the line, from 1.
    pub line: u64,
    /// False for a line that is told because of one that matches.
    pub matched: bool,
    /// The line without its end.
    pub text: Bytes,
    /// There is more of the line than is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// How an operation ended well. What does not apply is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// `read`, `write`, ...
    pub op: String,
    /// The path it was done with, links followed.
    pub path: Bytes,
    /// Bytes of the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes that were given, written or found there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// SHA-256 of what was given, or of the file as it is now; 64 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The file's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Entries or lines that were told, or things that were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// There was more than the limit let be told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Files that could not be read, or whose lines are too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// Whether anything is different now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
    /// Name of the part of a file that is being received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// How an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Stable code.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Whether the same may succeed later.
    pub retryable: bool,
}

impl From<&Fault> for Failed {
    fn from(fault: &Fault) -> Failed {
        let (code, retryable) = (fault.code.as_str().to_owned(), fault.code.retryable());
        Failed { code, message: fault.message.clone(), hint: fault.hint.clone(), retryable }
    }
}

/// The last line of standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Last {
    /// It was done.
    Done(Done),
    /// It was not.
    Error(Failed),
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

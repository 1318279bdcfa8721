//! The envelope around every entry: which journal, which place in it, what came before, what kind, when.
//! [`Envelope::encode`] makes the bytes to store and [`Envelope::parse`] reads stored bytes strictly.

use crate::canonical::{self, CanonicalError, Value};
use crate::leaf::Leaf;
use crate::stamp::{Stamp, is_uuid, parse_rfc3339, rfc3339};
use std::collections::BTreeMap;
use thiserror::Error;

/// Format and version, in every entry, checked first.
pub const FORMAT: &str = "cortex-audit/1";

/// Largest body of one entry, in bytes.
pub const MAX_BODY: usize = 60 * 1024;

/// Names of the kinds that this version knows. Unknown kinds are valid: the chain holds them alike.
pub mod kind {
    /// First entry of a journal.
    pub const GENESIS: &str = "genesis";
    /// An agent process opened the journal.
    pub const SESSION_OPEN: &str = "session.open";
    /// An agent process closed it in order.
    pub const SESSION_CLOSE: &str = "session.close";
    /// Something is about to be started.
    pub const INTENT: &str = "intent";
    /// How an intent ended.
    pub const OUTCOME: &str = "outcome";
    /// Something was not started, and why.
    pub const REFUSAL: &str = "refusal";
    /// An intent without outcome, or something else, was found at start.
    pub const RECOVERY: &str = "recovery";
    /// The owner's rules that hold from now on.
    pub const POLICY_LOADED: &str = "policy.loaded";
    /// The owner is asked.
    pub const CONSENT_ASKED: &str = "consent.asked";
    /// What the owner said.
    pub const CONSENT_ANSWERED: &str = "consent.answered";
    /// Somebody took the keyboard of a terminal.
    pub const TERMINAL_ATTACHED: &str = "terminal.attached";
    /// What they typed.
    pub const TERMINAL_TYPED: &str = "terminal.typed";
    /// A sign of life.
    pub const HEARTBEAT: &str = "heartbeat";
    /// Something that the agent works by was changed.
    pub const CONFIG: &str = "config";
    /// Somebody read or exported records on the node.
    pub const ACCESS: &str = "access";
    /// Openings are erased.
    pub const REDACT: &str = "redact";
    /// Old records are dropped from this copy.
    pub const PRUNE: &str = "prune";
    /// The key that signs checkpoints changes.
    pub const KEY_ROTATE: &str = "key.rotate";
    /// The last record of a journal.
    pub const LOG_CLOSE: &str = "log.close";

    /// All of them.
    pub const ALL: [&str; 19] = [
        GENESIS,
        SESSION_OPEN,
        SESSION_CLOSE,
        INTENT,
        OUTCOME,
        REFUSAL,
        RECOVERY,
        POLICY_LOADED,
        CONSENT_ASKED,
        CONSENT_ANSWERED,
        TERMINAL_ATTACHED,
        TERMINAL_TYPED,
        HEARTBEAT,
        CONFIG,
        ACCESS,
        REDACT,
        PRUNE,
        KEY_ROTATE,
        LOG_CLOSE,
    ];
}

/// A place in a journal: what the next entry must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The journal: leaf of its first entry; [`Leaf::ZERO`] in the first entry itself.
    pub log: Leaf,
    /// Number of the entry, from 0 without gaps.
    pub seq: u64,
    /// Leaf of the entry before; [`Leaf::ZERO`] in the first entry.
    pub prev: Leaf,
}

impl Position {
    /// The place of a journal's first entry.
    pub const GENESIS: Self = Self { log: Leaf::ZERO, seq: 0, prev: Leaf::ZERO };
}

/// An entry as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Its place.
    pub position: Position,
    /// Its kind; see [`kind`].
    pub kind: String,
    /// Wall clock as written (RFC 3339, six decimals).
    pub at: String,
    /// Microseconds since boot.
    pub mono_us: u64,
    /// The boot's id.
    pub boot: String,
    /// What the kind says.
    pub data: Value,
}

/// Why bytes are no entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Not canonical JSON of the profile.
    #[error("not canonical: {0}")]
    Canonical(#[from] CanonicalError),
    /// Written by another version of the format.
    #[error("format is {found:?}, this program reads {FORMAT:?}")]
    Version {
        /// What stood in `v`.
        found: String,
    },
    /// A field is missing, unknown or of the wrong form.
    #[error("field {0:?} is missing, unknown or malformed")]
    Field(&'static str),
    /// Larger than [`MAX_BODY`].
    #[error("entry of {0} bytes is larger than {MAX_BODY}")]
    TooLarge(usize),
}

impl Envelope {
    /// The bytes to store.
    ///
    /// # Errors
    /// The data cannot be written canonically, or the body would be larger than [`MAX_BODY`].
    pub fn encode(
        position: Position,
        kind: &str,
        stamp: &Stamp,
        data: Value,
    ) -> Result<Vec<u8>, FormatError> {
        if !is_uuid(&stamp.boot) {
            return Err(FormatError::Field("boot"));
        }
        if !canonical::is_key(kind) {
            return Err(FormatError::Field("kind"));
        }
        let body = Value::map([
            ("v", Value::from(FORMAT)),
            ("log", Value::from(position.log.to_string())),
            ("seq", Value::number(position.seq)),
            ("prev", Value::from(position.prev.to_string())),
            ("kind", Value::from(kind)),
            ("t", Value::from(rfc3339(stamp.unix_us))),
            ("mono", Value::number(stamp.mono_us)),
            ("boot", Value::from(stamp.boot.as_str())),
            ("data", data),
        ])
        .to_bytes()?;
        if body.len() > MAX_BODY {
            return Err(FormatError::TooLarge(body.len()));
        }
        Ok(body)
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// Anything that [`Envelope::encode`] would not have written.
    pub fn parse(body: &[u8]) -> Result<Self, FormatError> {
        if body.len() > MAX_BODY {
            return Err(FormatError::TooLarge(body.len()));
        }
        let Value::Map(mut fields) = canonical::parse(body)? else {
            return Err(FormatError::Field("v"));
        };
        let version = text(&mut fields, "v")?;
        if version != FORMAT {
            return Err(FormatError::Version { found: version });
        }
        let position = Position {
            log: leaf(&mut fields, "log")?,
            seq: number(&mut fields, "seq")?,
            prev: leaf(&mut fields, "prev")?,
        };
        let envelope = Self {
            position,
            kind: text(&mut fields, "kind")?,
            at: text(&mut fields, "t")?,
            mono_us: number(&mut fields, "mono")?,
            boot: text(&mut fields, "boot")?,
            data: fields.remove("data").ok_or(FormatError::Field("data"))?,
        };
        if parse_rfc3339(&envelope.at).is_none() {
            return Err(FormatError::Field("t"));
        }
        if !is_uuid(&envelope.boot) {
            return Err(FormatError::Field("boot"));
        }
        if !canonical::is_key(&envelope.kind) {
            return Err(FormatError::Field("kind"));
        }
        if !matches!(envelope.data, Value::Map(_)) {
            return Err(FormatError::Field("data"));
        }
        if !fields.is_empty() {
            return Err(FormatError::Field("(unknown)"));
        }
        Ok(envelope)
    }
}

fn text(fields: &mut BTreeMap<String, Value>, key: &'static str) -> Result<String, FormatError> {
    match fields.remove(key) {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(FormatError::Field(key)),
    }
}

fn number(fields: &mut BTreeMap<String, Value>, key: &'static str) -> Result<u64, FormatError> {
    fields.remove(key).as_ref().and_then(Value::as_u64).ok_or(FormatError::Field(key))
}

fn leaf(fields: &mut BTreeMap<String, Value>, key: &'static str) -> Result<Leaf, FormatError> {
    Leaf::parse(&text(fields, key)?).ok_or(FormatError::Field(key))
}

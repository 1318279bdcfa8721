//! What each kind of record says: typed data, one struct per kind. Writing and reading come from the same list of
//! fields, so they cannot part. Sensitive values are [`Commitment`]s: no struct here ever holds a plain command
//! line, environment, path of a user's file, or output.
//!
//! Every field of a kind is always written; what is unknown or does not apply is null. Readers ignore fields that
//! they do not know: later agents may add some.

mod datum;
mod life;
mod work;

pub use datum::{Base64, Decimal, ReadError};
pub use life::{
    ALG, Access, Config, Genesis, Heartbeat, KeyRotate, LogClose, PolicyLoaded, Predecessor, Prune,
    Redact, SessionClose, SessionOpen,
};
pub use work::{
    Actor, Approval, Auth, ConsentAnswered, ConsentAsked, Exec, Intent, LimitUse, Limits, Outcome,
    Recovery, Refusal, Sandbox, Status, Target, TerminalAttached, TerminalTyped,
};

use crate::canonical::Value;
use crate::commitment::Commitment;

macro_rules! records {
    ($($variant:ident = $kind:ident),* $(,)?) => {
        /// The data of a record of any known kind.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Record {
            $(
                #[doc = concat!("`", stringify!($kind), "`; see [`", stringify!($variant), "`].")]
                $variant(Box<$variant>),
            )*
        }

        impl Record {
            /// The kind's name in the envelope.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => crate::entry::kind::$kind,)*
                }
            }

            /// The data as it is written.
            #[must_use]
            pub fn to_value(&self) -> Value {
                match self {
                    $(Self::$variant(data) => data.to_value(),)*
                }
            }

            /// Reads the data of a record; `None` for a kind that this version does not know.
            ///
            /// # Errors
            /// A field is missing or has another type.
            pub fn read(kind: &str, data: &Value) -> Result<Option<Self>, ReadError> {
                Ok(Some(match kind {
                    $(crate::entry::kind::$kind => Self::$variant(Box::new($variant::read(data)?)),)*
                    _ => return Ok(None),
                }))
            }
        }

        $(
            impl From<$variant> for Record {
                fn from(data: $variant) -> Self {
                    Self::$variant(Box::new(data))
                }
            }
        )*
    };
}

records! {
    Genesis = GENESIS,
    SessionOpen = SESSION_OPEN,
    SessionClose = SESSION_CLOSE,
    PolicyLoaded = POLICY_LOADED,
    ConsentAsked = CONSENT_ASKED,
    ConsentAnswered = CONSENT_ANSWERED,
    TerminalAttached = TERMINAL_ATTACHED,
    TerminalTyped = TERMINAL_TYPED,
    Intent = INTENT,
    Outcome = OUTCOME,
    Refusal = REFUSAL,
    Recovery = RECOVERY,
    Heartbeat = HEARTBEAT,
    Config = CONFIG,
    Access = ACCESS,
    Redact = REDACT,
    Prune = PRUNE,
    KeyRotate = KEY_ROTATE,
    LogClose = LOG_CLOSE,
}

/// All commitments in the data of a record, in the order of the bytes.
pub fn commitments(data: &Value, found: &mut Vec<Commitment>) {
    if let Some(commitment) = Commitment::from_value(data) {
        found.push(commitment);
        return;
    }
    match data {
        Value::List(list) => list.iter().for_each(|item| commitments(item, found)),
        Value::Map(map) => map.values().for_each(|item| commitments(item, found)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) => {}
    }
}

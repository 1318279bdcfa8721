//! What `--json` prints: stable, documented fields, one struct per thing. Times are Unix
//! milliseconds; what is not known is `null` or absent in the contract's sense, never invented.

pub(crate) mod audit;
mod browser;
mod event;
mod file;
mod node;
mod task;
mod token;
mod who;

pub(crate) use event::{HistoryEntry, consent_answer, release_reason, resolve_as};
pub(crate) use node::{Node, Registration, enrolment};
pub(crate) use task::{Actor, Task, state_name};
pub(crate) use token::{Token, role};
pub(crate) use who::Who;

pub(crate) use cortex_agent::files::Bytes;
use serde::Serialize;

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

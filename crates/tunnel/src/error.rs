//! What can be wrong with what the other side says, and how it is told. It never decides what is wrong.

use cortex_model::{Code, Fault};
use thiserror::Error;

/// The peer broke the protocol. The connection ends; nothing that matters is lost with it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The frame has no body, or one this version does not know.
    #[error("a frame without a known body")]
    EmptyFrame,
    /// The frame may not come in this state.
    #[error("unexpected {frame} {when}")]
    OutOfOrder {
        /// Name of the frame.
        frame: &'static str,
        /// The state it came in, for example "before welcome".
        when: &'static str,
    },
    /// A part of the frame is missing or out of its range.
    #[error("{frame} with bad {field}")]
    BadField {
        /// Name of the frame.
        frame: &'static str,
        /// Name of the field.
        field: &'static str,
    },
    /// More output was sent than was granted.
    #[error("{sent} bytes of output under a credit of {credit}")]
    CreditExceeded {
        /// Bytes in the frame.
        sent: u64,
        /// Bytes that were allowed.
        credit: u64,
    },
    /// More is open at once than the limit allows.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

impl ProtocolError {
    /// The error as people and the peer are told it.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        Fault::new(Code::ProtocolViolation, format!("the tunnel protocol was broken: {self}"))
    }
}

//! How an operation on the log can fail.

use cortex_model::error::Code;

/// Result of an operation on the log.
pub type Result<T> = std::result::Result<T, LogError>;

/// Why an operation failed. Only [`LogError::Conflict`], [`LogError::TooLarge`],
/// [`LogError::BadName`], [`LogError::OutputGap`], [`LogError::Full`] and [`LogError::DiskFull`] say
/// for certain that nothing was written; after any other error an append may have landed, and repeating it with the
/// same commit id and the same fence is safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The fence does not hold: somebody else moved the aggregate. Read it and decide again.
    #[error("somebody else moved it first")]
    Conflict,
    /// The log could not be asked within the deadline whether the append landed.
    #[error("it is not known whether the append was stored")]
    Unknown,
    /// More bytes than the bound allows.
    #[error("{what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size, bytes.
        size: usize,
        /// The bound, bytes.
        limit: usize,
    },
    /// A part of a key, bucket, subject or commit that is not allowed.
    #[error("{value:?} is not a valid {what}")]
    BadName {
        /// What it should have been.
        what: &'static str,
        /// What it was, shortened.
        value: String,
    },
    /// Output that does not continue what is there; send again from `expected`.
    #[error("output must continue at offset {expected}")]
    OutputGap {
        /// The durable end of the output.
        expected: u64,
    },
    /// Nobody listens on the subject.
    #[error("nobody listens there")]
    NoResponders,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The quota is used up.
    #[error("the log is full")]
    Full,
    /// The disk has too little space left; it is looked at again with every attempt.
    #[error("the disk is full")]
    DiskFull,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Another process has the files open.
    #[error("{0} is in use by another process")]
    Locked(String),
    /// Files of another version, or a server that could lose acknowledged events.
    #[error("{0}")]
    Refused(String),
    /// Stored bytes are damaged.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// The storage or the connection failed.
    #[error("{0}")]
    Backend(String),
}

impl LogError {
    /// The stable code for people and programs outside.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            LogError::Conflict | LogError::OutputGap { .. } => Code::Internal,
            LogError::Unknown => Code::AppendUnknown,
            LogError::TooLarge { .. } => Code::TooLarge,
            LogError::BadName { .. } => Code::BadIdentifier,
            LogError::NoResponders
            | LogError::Timeout
            | LogError::Closed
            | LogError::Backend(_) => Code::LogUnavailable,
            LogError::Full => Code::LogNearlyFull,
            LogError::DiskFull => Code::DiskFull,
            LogError::Locked(_) => Code::DataDirLocked,
            LogError::Refused(_) => Code::LogUnsafe,
            LogError::Corrupt(_) => Code::LogCorrupt,
        }
    }

    pub(crate) fn backend(e: impl std::fmt::Display) -> LogError {
        LogError::Backend(e.to_string())
    }

    pub(crate) fn bad_name(what: &'static str, value: &str) -> LogError {
        LogError::BadName { what, value: value.chars().take(80).collect() }
    }

    pub(crate) fn check_size(what: &'static str, size: usize, limit: usize) -> Result<()> {
        if size <= limit { Ok(()) } else { Err(LogError::TooLarge { what, size, limit }) }
    }
}

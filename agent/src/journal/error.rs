//! What can go wrong with the journal, in words for the node's owner.

use cortex_model::{Code, Fault};
use std::path::PathBuf;
use thiserror::Error;

/// Why a journal cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the journal {0} is in use by another agent")]
    Locked(PathBuf),
    /// Written by a newer version.
    #[error("the journal {path} has format {found:?}; this agent reads {supported:?}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
        /// Ours.
        supported: &'static str,
    },
    /// Damaged, or no journal.
    #[error("the journal {path} is damaged: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the first bad entry where there is one.
        why: String,
    },
    /// No space for it.
    #[error("no space on the disk for the journal {0}")]
    DiskFull(PathBuf),
    /// Cannot be read or written.
    #[error("the journal cannot be opened: {0}")]
    Io(#[source] std::io::Error),
}

/// Why the journal did not take an entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JournalError {
    /// The attempt has an entry already.
    #[error("the journal knows this attempt already")]
    Known,
    /// Writing failed once; nothing is written any more.
    #[error("the journal is blocked: {why}")]
    Blocked {
        /// The first failure.
        why: String,
        /// The disk is full.
        full: bool,
    },
    /// The entry itself cannot be written.
    #[error("the entry cannot be written: {0}")]
    Entry(String),
}

impl OpenError {
    /// The error with its code.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let code = match self {
            Self::Locked(_) => Code::DataDirLocked,
            Self::Newer { .. } => Code::DataDirNewer,
            Self::Corrupt { .. } => Code::DataDirCorrupt,
            Self::DiskFull(_) => Code::DiskFull,
            Self::Io(_) => Code::AgentUnable,
        };
        Fault::new(code, self.to_string())
    }

    pub(crate) fn from_redb(path: &std::path::Path, err: redb::Error) -> Self {
        let path = path.to_owned();
        if let redb::Error::DatabaseAlreadyOpen = err {
            return Self::Locked(path);
        }
        if let redb::Error::UpgradeRequired(found) = err {
            let found = format!("redb {found}");
            return Self::Newer { path, found, supported: cortex_audit::FORMAT };
        }
        if let redb::Error::Io(err) = err {
            if is_full(&err) {
                return Self::DiskFull(path);
            }
            if err.kind() != std::io::ErrorKind::InvalidData {
                return Self::Io(err);
            }
            return Self::Corrupt { path, why: err.to_string() };
        }
        Self::Corrupt { path, why: err.to_string() }
    }
}

impl JournalError {
    /// The error as the gateway and the owner are told it.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let code = match self {
            Self::Blocked { full: true, .. } => Code::NodeDiskLow,
            Self::Known | Self::Blocked { .. } | Self::Entry(_) => Code::AgentUnable,
        };
        Fault::new(code, self.to_string())
            .with_hint("the agent must be restarted on the node once the cause is removed")
    }
}

impl From<redb::Error> for JournalError {
    fn from(err: redb::Error) -> Self {
        let full = matches!(&err, redb::Error::Io(io) if is_full(io));
        Self::Blocked { why: err.to_string(), full }
    }
}

fn is_full(err: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(err.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

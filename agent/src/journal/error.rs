//! What can go wrong with the journal, in words for the node's owner, and which command helps.

use cortex_model::{Code, Fault};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What a person does about a journal that cannot be used as it is.
const RECOVER: &str = "keep a copy of the data directory, look at it with 'cortex-agent journal doctor', then run \
                       'cortex-agent journal recover': it keeps the evidence and begins a new journal";

/// Why a journal cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the journal {0} is in use by another process")]
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
    /// Written by a version whose format was never frozen.
    #[error(
        "the journal {path} has format {found:?}, which is not kept on; this agent writes {}",
        cortex_audit::FORMAT
    )]
    Old {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// Damaged, or no journal.
    #[error("the journal {path} is damaged: {why}")]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What is wrong, with the first bad record where there is one.
        why: String,
    },
    /// Shorter than it once was.
    #[error("the journal {path} is not what it was: {why}")]
    RolledBack {
        /// The directory.
        path: PathBuf,
        /// What shows it.
        why: String,
    },
    /// It contradicts itself or the mirror, and was stopped for that.
    #[error("the journal {path} is quarantined: {why}")]
    Quarantined {
        /// The directory.
        path: PathBuf,
        /// The reason that was recorded.
        why: String,
        /// It is shorter than it once was, and says nothing else than it said then.
        set_back: bool,
    },
    /// No space for it.
    #[error("no space on the disk for the journal {0}")]
    DiskFull(PathBuf),
    /// Cannot be read or written.
    #[error("the journal {path} cannot be opened: {err}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        err: std::io::Error,
    },
}

/// Why the journal did not take a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JournalError {
    /// The attempt has a record already.
    #[error("the journal knows this attempt already")]
    Known,
    /// There is no space for what would have to be recorded; taken up again once there is.
    #[error("there is no space for the journal: {why}")]
    Full {
        /// What is missing.
        why: String,
    },
    /// Nothing is written any more.
    #[error("the journal is blocked: {why}")]
    Blocked {
        /// Code of the first failure.
        code: Code,
        /// The first failure.
        why: String,
    },
    /// This one is refused; others are not.
    #[error("{why}")]
    Refused {
        /// Why, as a code.
        code: Code,
        /// In words.
        why: String,
    },
    /// The record itself cannot be written.
    #[error("the record cannot be written: {0}")]
    Record(String),
}

impl OpenError {
    /// The error with its code and what to do.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let (code, hint) = match self {
            Self::Locked(_) => (Code::JournalLocked, None),
            Self::Newer { .. } => (Code::DataDirNewer, None),
            Self::Old { .. } => (Code::JournalOld, None),
            Self::Corrupt { .. } => (Code::JournalDamaged, Some(RECOVER)),
            Self::RolledBack { .. } => (Code::JournalRolledBack, Some(RECOVER)),
            Self::Quarantined { set_back: true, .. } => (Code::JournalRolledBack, Some(RECOVER)),
            Self::Quarantined { .. } => (Code::JournalForked, Some(RECOVER)),
            Self::DiskFull(_) => (Code::NodeDiskLow, None),
            Self::Io { .. } => (Code::JournalUnwritable, None),
        };
        let fault = Fault::new(code, self.to_string());
        match hint {
            Some(hint) => fault.with_hint(hint),
            None => fault,
        }
    }

    /// It may be gone by itself: worth another try now and then.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Locked(_) | Self::DiskFull(_) | Self::Io { .. })
    }

    pub(crate) fn from_redb(path: &Path, err: redb::Error) -> Self {
        let path = path.to_owned();
        if let redb::Error::DatabaseAlreadyOpen = err {
            return Self::Locked(path);
        }
        if let redb::Error::UpgradeRequired(found) = err {
            let found = format!("redb {found}");
            return Self::Newer { path, found, supported: cortex_audit::FORMAT };
        }
        if let redb::Error::Io(err) = err {
            return Self::from_io(&path, err);
        }
        Self::Corrupt { path, why: format!("log.redb: {err}") }
    }

    pub(crate) fn from_io(path: &Path, err: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.to_owned();
        if is_full(&err) {
            return Self::DiskFull(path);
        }
        if matches!(err.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) {
            return Self::Corrupt { path, why: err.to_string() };
        }
        Self::Io { path, err }
    }
}

impl JournalError {
    /// The error as the gateway and the owner are told it.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let code = match self {
            Self::Full { .. } => Code::NodeDiskLow,
            Self::Known => Code::JournalDuplicate,
            Self::Blocked { code, .. } | Self::Refused { code, .. } => *code,
            Self::Record(_) => Code::AgentUnable,
        };
        let fault = Fault::new(code, self.to_string());
        let lost = [Code::JournalDamaged, Code::JournalRolledBack, Code::JournalForked];
        if lost.contains(&code) { fault.with_hint(RECOVER) } else { fault }
    }

    pub(crate) fn full(why: impl Into<String>) -> Self {
        Self::Full { why: why.into() }
    }

    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Blocked { code: Code::JournalDamaged, why: why.into() }
    }

    pub(crate) fn reopening() -> Self {
        Self::full("its store is being opened again")
    }

    pub(crate) fn gone() -> Self {
        Self::Blocked { code: Code::AgentUnable, why: "its thread has ended".to_owned() }
    }

    /// A file of the journal could not be read or written.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    pub(crate) fn io(err: std::io::Error) -> Self {
        if is_full(&err) {
            return Self::full(err.to_string());
        }
        Self::Blocked { code: Code::JournalUnwritable, why: err.to_string() }
    }
}

impl From<redb::Error> for JournalError {
    fn from(err: redb::Error) -> Self {
        if let redb::Error::Io(err) = err {
            return Self::io(err);
        }
        if let redb::Error::Corrupted(why) = err {
            return Self::damaged(why);
        }
        if let redb::Error::PreviousIo = err {
            // What failed before is known; what redb says now is only that it did.
            return Self::full("an earlier write failed");
        }
        Self::Blocked { code: Code::JournalUnwritable, why: err.to_string() }
    }
}

pub(crate) fn is_full(err: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(err.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

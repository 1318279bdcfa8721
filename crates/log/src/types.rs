//! What goes into the log and what comes out. Data only.

use crate::error::{LogError, Result};
use crate::key::Key;
use crate::limits::{COMMIT_MAX, KIND_MAX};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Position of a commit in its shard. Grows; has gaps; comparable within one shard only. 0 is
/// before everything.
pub type Rev = u64;

/// The fence of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The aggregate has no commit, and never had one.
    Absent,
    /// This is the aggregate's last revision.
    At(Rev),
    /// No fence: imports only.
    Any,
}

/// Identifies a commit (or the attempt to append it) for ever, so that a doubtful append can be
/// resolved. UUID version 7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(Uuid);

impl CommitId {
    /// A new one, from clock and randomness.
    #[must_use]
    pub fn generate() -> CommitId {
        CommitId(Uuid::now_v7())
    }

    /// From 16 bytes, as stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> CommitId {
        CommitId(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the hyphenated form.
    ///
    /// # Errors
    /// [`LogError::BadName`] for anything else.
    pub fn parse(s: &str) -> Result<CommitId> {
        Uuid::try_parse(s).map(CommitId).map_err(|_| LogError::bad_name("commit id", s))
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One to n events of one aggregate, appended together. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Identity: an append repeated with the same id and fence succeeds if it had landed.
    pub id: CommitId,
    /// The types of its events, for filters and for people; printable ASCII, at most 255 bytes.
    pub kind: Arc<str>,
    /// Counts the aggregate's commits from 1, kept by the writer; a gap on reading means loss.
    pub n: u64,
    /// Encoded events, at most 256 KiB. The log does not look inside.
    pub body: Bytes,
}

impl Commit {
    pub(crate) fn check(&self) -> Result<()> {
        LogError::check_size("a commit", self.body.len(), COMMIT_MAX)?;
        let printable = self.kind.bytes().all(|b| (0x20..0x7f).contains(&b));
        if self.kind.is_empty() || self.kind.len() > KIND_MAX || !printable {
            return Err(LogError::bad_name("commit kind", &self.kind));
        }
        Ok(())
    }
}

/// A commit as it stands in the log. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The aggregate.
    pub key: Arc<Key>,
    /// Its position.
    pub rev: Rev,
    /// When the log took it, milliseconds since 1970 by the log's clock.
    pub at_ms: u64,
    /// What was appended.
    pub commit: Commit,
}

/// What a tail yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The next commit.
    Event(Recorded),
    /// Everything that was there when the tail began has been yielded. Comes exactly once.
    CaughtUp,
}

/// A value in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// Its revision, for the next fence.
    pub rev: Rev,
    /// The value.
    pub value: Bytes,
}

/// What a watch of a bucket yields: first every present entry, then `CaughtUp` once, then changes.
/// Changes in quick succession may be folded into the last one per key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvChange {
    /// A key has this value now.
    Put {
        /// The key.
        key: String,
        /// Its entry.
        entry: KvEntry,
    },
    /// A key is gone.
    Delete {
        /// The key.
        key: String,
    },
    /// Every entry that was there when the watch began has been yielded.
    CaughtUp,
}

/// A message that is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was sent.
    pub subject: String,
    /// Where an answer goes, when the sender waits for one.
    pub reply: Option<String>,
    /// Content.
    pub body: Bytes,
}

/// How full the log is. Submits stop at `cortex_model::limits::LOG_SUBMIT_STOP_PERCENT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of commits and values.
    pub bytes: u64,
    /// Bytes allowed for them; `None` is unlimited.
    pub quota: Option<u64>,
    /// Bytes of output.
    pub output_bytes: u64,
    /// Bytes allowed for output; `None` is unlimited.
    pub output_quota: Option<u64>,
}

impl Usage {
    /// How full, in percent of the quota, rounded down; 0 without one.
    #[must_use]
    pub fn percent(&self) -> u64 {
        match self.quota {
            Some(quota) if quota > 0 => self.bytes.saturating_mul(100) / quota,
            Some(_) => 100,
            None => 0,
        }
    }
}

/// What kind of log this is, in words for `status` and `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `jetstream`, `embedded` or `memory`.
    pub backend: &'static str,
    /// What has happened to a commit when its append is acknowledged.
    pub acknowledged_means: String,
    /// Where it is: a directory or an address.
    pub location: String,
}

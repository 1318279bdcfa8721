//! The contract every backend fulfils. `conformance` checks it.

use crate::error::Result;
use crate::key::{Key, Space};
use crate::output::{OutputChunk, OutputInfo, OutputKey};
use crate::types::{
    Commit, Description, Expect, KvChange, KvEntry, Message, Recorded, Rev, Tail, Usage,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::time::Duration;
use tokio::sync::watch;

/// Commits of a shard. Ends after an error item, never otherwise.
pub type TailStream = BoxStream<'static, Result<Tail>>;
/// Changes of a bucket. Ends after an error item, never otherwise.
pub type KvStream = BoxStream<'static, Result<KvChange>>;
/// Messages under a pattern.
pub type MessageStream = BoxStream<'static, Message>;

/// A durable log of commits with fences, and what belongs beside it. See the crate's page for the
/// picture.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Shards of the spaces Task and Audit; Registry has one. Fixed for the life of the log.
    fn shards(&self) -> u32;

    /// Kind of backend and what its acknowledgement means.
    fn describe(&self) -> Description;

    /// Whether appends can be expected to work now.
    ///
    /// # Errors
    /// The reason why not.
    async fn health(&self) -> Result<()>;

    /// How full the log is.
    ///
    /// # Errors
    /// When the backend cannot say.
    async fn usage(&self) -> Result<Usage>;

    /// Appends one commit if the fence holds; durable when this returns. Repeating a call with the
    /// same commit id and the same fence succeeds with the first call's revision if that landed
    /// (with [`Expect::Any`] only while it is the aggregate's last commit).
    ///
    /// # Errors
    /// `Conflict` when the fence does not hold, `TooLarge`, `Full`; after any other error the
    /// commit may have landed.
    async fn append(&self, key: &Key, expect: Expect, commit: Commit) -> Result<Rev>;

    /// The aggregate's commits from revision `from` on, oldest first. May lag behind an append of
    /// another process: decide on what is seen, and let the fence check it.
    ///
    /// # Errors
    /// `Corrupt`, `Backend`, `Timeout`.
    async fn read(&self, key: &Key, from: Rev) -> Result<Vec<Recorded>>;

    /// As [`EventLog::read`], but at most `max` commits (at least 1): for histories that do not fit in memory. Go on from
    /// the revision after the last one; an empty page is the end.
    ///
    /// # Errors
    /// `Corrupt`, `Backend`, `Timeout`.
    async fn read_page(&self, key: &Key, from: Rev, max: usize) -> Result<Vec<Recorded>>;

    /// The aggregate's last commit. May lag, as [`EventLog::read`].
    ///
    /// # Errors
    /// `Corrupt`, `Backend`, `Timeout`.
    async fn last(&self, key: &Key) -> Result<Option<Recorded>>;

    /// Replaces the aggregate's history, whose last revision is `at`, by one commit, atomically.
    /// The fence survives: [`Expect::Absent`] fails afterwards as before.
    ///
    /// # Errors
    /// As [`EventLog::append`].
    async fn compact(&self, key: &Key, at: Rev, summary: Commit) -> Result<Rev>;

    /// Every commit of a shard after revision `after`, in order, none twice, none left out (but
    /// those that a compaction replaced); `CaughtUp` once; then what comes, as it comes. Survives
    /// restarts of servers by itself.
    ///
    /// # Errors
    /// When the shard does not exist or the backend cannot be reached at all.
    async fn tail(&self, space: Space, shard: u32, after: Rev) -> Result<TailStream>;

    /// Revision of the shard's last commit; 0 when it never had one.
    ///
    /// # Errors
    /// `Backend`, `Timeout`.
    async fn head(&self, space: Space, shard: u32) -> Result<Rev>;

    /// A value. Buckets come into being by being used.
    ///
    /// # Errors
    /// `BadName`, `Backend`, `Timeout`.
    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>>;

    /// Sets a value if the fence holds. `Absent` here means absent now: a deleted key is absent.
    ///
    /// # Errors
    /// `Conflict`, `TooLarge`, `Full`, `BadName`; after any other error it may have been set.
    async fn kv_put(&self, bucket: &str, key: &str, expect: Expect, value: Bytes) -> Result<Rev>;

    /// Deletes a value if the fence holds. Deleting what is absent succeeds with `Any`.
    ///
    /// # Errors
    /// As [`EventLog::kv_put`].
    async fn kv_delete(&self, bucket: &str, key: &str, expect: Expect) -> Result<()>;

    /// The bucket's entries, `CaughtUp`, then changes as they come.
    ///
    /// # Errors
    /// `BadName`, `Backend`, `Timeout`.
    async fn kv_watch(&self, bucket: &str) -> Result<KvStream>;

    /// Sends to whoever listens now, at most once.
    ///
    /// # Errors
    /// `BadName`, `TooLarge`, `Backend`. Success does not mean that anybody got it.
    async fn publish(&self, subject: &str, body: Bytes) -> Result<()>;

    /// Sends and waits for the first answer.
    ///
    /// # Errors
    /// `NoResponders` at once when nobody listens, `Timeout`, and as [`EventLog::publish`].
    async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes>;

    /// Messages under a pattern from now on; `*` is one token, `>` the rest. A subscriber that
    /// does not keep up loses messages.
    ///
    /// # Errors
    /// `BadName`, `Backend`.
    async fn subscribe(&self, pattern: &str) -> Result<MessageStream>;

    /// Answers a message; without a waiting sender nothing happens.
    ///
    /// # Errors
    /// As [`EventLog::publish`].
    async fn reply(&self, to: &Message, body: Bytes) -> Result<()> {
        match &to.reply {
            Some(subject) => self.publish(subject, body).await,
            None => Ok(()),
        }
    }

    /// Appends output and returns its durable end. Bytes that are there already are dropped, so
    /// sending again is safe.
    ///
    /// # Errors
    /// `OutputGap` with the offset to go on from (then nothing was written), `TooLarge`, `Full`.
    async fn append_output(&self, key: &OutputKey, chunks: Vec<OutputChunk>) -> Result<u64>;

    /// The durable end; 0 when there is none.
    ///
    /// # Errors
    /// `Corrupt`, `Backend`, `Timeout`.
    async fn output_end(&self, key: &OutputKey) -> Result<u64>;

    /// Output from offset `from` on, about `max_bytes` (at least one chunk when there is one, at
    /// most one chunk more than asked). Only durable bytes. Begins later than `from` when retention
    /// took the front away.
    ///
    /// # Errors
    /// `Corrupt`, `Backend`, `Timeout`.
    async fn read_output(
        &self,
        key: &OutputKey,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>>;

    /// Follows the durable end, so that readers need not poll.
    ///
    /// # Errors
    /// `Backend`, `Timeout`.
    async fn watch_output(&self, key: &OutputKey) -> Result<watch::Receiver<u64>>;

    /// Every output there is, in no particular order, for retention.
    ///
    /// # Errors
    /// `Backend`, `Timeout`.
    async fn list_outputs(&self) -> Result<Vec<OutputInfo>>;

    /// Forgets an output; forgetting what is not there succeeds.
    ///
    /// # Errors
    /// `Backend`, `Timeout`.
    async fn remove_output(&self, key: &OutputKey) -> Result<()>;
}

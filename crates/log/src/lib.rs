//! The event log: what Cortex keeps, and how its processes talk to each other. One contract,
//! [`EventLog`], and three backends that mean the same by it.
//!
//! ```text
//!   append(key, expect, commit)                         tail(space, shard, after)
//!        |   fence: nobody else moved the aggregate          ^  every commit, in order,
//!        v                                                   |  once, then CaughtUp, then live
//!  +------------------------- one shard of one space --------+-------------+
//!  |  rev 4: task a #1   rev 5: task b #1   rev 6: task a #2   rev 9: ...  |
//!  +-----------------------------------------------------------------------+
//!        |                        ^
//!        v read, last             | compact: the history of one aggregate becomes one commit
//!
//!  beside it:  kv_*      small durable values with fences (registry, snapshots, settings)
//!              *_output  bytes that attempts wrote, addressed by offset
//!              publish   messages that are not kept: offers, presence
//! ```
//!
//! An aggregate ([`Key`]) is one task, node or token. A commit is appended to one aggregate, whole
//! or not at all, and only where its fence ([`Expect`]) holds. That fence is the only coordination
//! Cortex has: there are no locks, leases or transactions over several aggregates here, and this
//! crate never looks into the body of a commit.

pub mod audit;
mod contract;
mod error;
mod frame;
mod key;
mod output;
mod subject;
mod types;

pub mod conformance;
pub mod embedded;
#[cfg(feature = "jetstream")]
pub mod jetstream;
pub mod memory;

mod hub;
mod local;

pub use contract::{EventLog, KvStream, MessageStream, TailStream};
pub use embedded::EmbeddedLog;
pub use error::{LogError, Result};
#[cfg(feature = "jetstream")]
pub use jetstream::JetStreamLog;
pub use key::{Key, PARTITIONS, Space};
pub use memory::MemoryLog;
pub use output::{OutputChunk, OutputInfo, OutputKey};
pub use subject::{check_pattern, check_subject, matches};
pub use types::{
    Commit, CommitId, Description, Expect, KvChange, KvEntry, Message, Recorded, Rev, Tail, Usage,
};

/// Bounds of the log that are its own; the ones shared with other crates are in
/// `cortex_model::limits`.
pub mod limits {
    pub use cortex_model::limits::{COMMIT_MAX, OUTPUT_CHUNK_MAX, TOKEN_MAX};

    /// Largest value in a key-value bucket, bytes.
    pub const KV_VALUE_MAX: usize = 768 * 1024;
    /// Longest key in a bucket, bytes.
    pub const KV_KEY_MAX: usize = 256;
    /// Longest `kind` of a commit, bytes.
    pub const KIND_MAX: usize = 255;
    /// Largest ephemeral message, bytes.
    pub const MESSAGE_MAX: usize = 1024 * 1024 - 16 * 1024;
    /// Longest subject or pattern, bytes.
    pub const SUBJECT_MAX: usize = 255;
    /// Chunks in one call of `append_output`.
    pub const OUTPUT_CHUNKS_MAX: usize = 256;
    /// Bytes of output in one call of `append_output`.
    pub const OUTPUT_APPEND_MAX: usize = 4 * 1024 * 1024;
    /// Messages waiting for a slow subscriber; further ones are dropped, as messages may be.
    pub const SUBSCRIPTION_QUEUE: usize = 8192;
    /// Events handed to a tail at once.
    pub const TAIL_PAGE: usize = 512;

    const _: () = assert!(COMMIT_MAX < KV_VALUE_MAX && KV_VALUE_MAX < MESSAGE_MAX);
    const _: () = assert!(OUTPUT_CHUNK_MAX <= OUTPUT_APPEND_MAX);
}

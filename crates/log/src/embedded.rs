//! The log of one machine: a redb file for commits and values, one file per attempt for output,
//! one process. What it acknowledges is synced to disk. It never speaks to a network.
//!
//! ```text
//!  append, kv_put --queue--> writer thread: one transaction, one sync --> answers, ring, heads
//!  append_output  --queue--> output thread: write all, sync all        --> answers, durable ends
//!  tail  <-- ring in memory (live)  or  redb (behind)          read <-- redb
//! ```

mod backup;
mod frames;
mod outputs;
mod record;
mod ring;
mod store;
mod unindexed;
mod writer;

use crate::contract::{EventLog, KvStream, MessageStream, TailStream};
use crate::error::{LogError, Result};
use crate::hub::Hub;
use crate::key::{Key, Space};
use crate::limits::KV_VALUE_MAX;
use crate::local::{self, Buckets, KV_NOTES, KvNote};
use crate::output::{OutputChunk, OutputInfo, OutputKey, check_chunks};
use crate::subject::{check_bucket, check_kv_key};
use crate::types::{Commit, Description, Expect, KvEntry, Recorded, Rev, Usage};
use async_trait::async_trait;
use bytes::Bytes;
use outputs::{Outputs, Request};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use store::Store;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use writer::{Disk, Op, Writer};

/// Operations waiting for the writer; more of them wait in their callers.
const QUEUE: usize = 4096;

/// How to open an embedded log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most bytes of commits and values; `None` is unlimited. The file itself is larger, up to
    /// about twice.
    pub quota: Option<u64>,
    /// Most bytes of output; `None` is unlimited.
    pub output_quota: Option<u64>,
    /// Free space on the disk below which nothing is accepted, bytes.
    pub min_free: u64,
    /// Memory for redb's page cache, bytes.
    pub cache_bytes: usize,
    /// How many commits the index on disk is behind. They are in memory, and about five times as many are read again at the next
    /// opening.
    pub index_behind: usize,
}

/// Room for what else writes to the disk while one transaction is under way.
const MIN_FREE: u64 = 16 * 1024 * 1024;

/// A page of the index holds about twenty tasks: with thousands at hand, neighbours are written together. Some megabytes.
const INDEX_BEHIND: usize = 16 * 1024;

impl Default for Options {
    fn default() -> Options {
        let cache_bytes = 64 * 1024 * 1024;
        Options {
            quota: None,
            output_quota: None,
            min_free: MIN_FREE,
            cache_bytes,
            index_behind: INDEX_BEHIND,
        }
    }
}

/// The log in a directory. Dropping it waits for what was queued, and frees the directory as soon
/// as its tails are gone too.
pub struct EmbeddedLog {
    directory: PathBuf,
    options: Options,
    store: Arc<Store>,
    outputs: Arc<Outputs>,
    heads: [watch::Receiver<Rev>; 3],
    notes: broadcast::Sender<KvNote>,
    hub: Hub,
    queues: Option<Queues>,
    threads: Vec<JoinHandle<()>>,
}

struct Queues {
    writer: mpsc::Sender<writer::Job>,
    outputs: mpsc::Sender<outputs::Job>,
}

impl EmbeddedLog {
    /// Opens or creates the log in `directory`. Blocks; after a crash it may take seconds.
    ///
    /// # Errors
    /// `Locked` when another process has it, `Refused` for another format, `Corrupt`, `Backend`.
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<EmbeddedLog> {
        let directory = directory.as_ref().to_owned();
        std::fs::create_dir_all(&directory)
            .map_err(|e| LogError::Backend(format!("{}: {e}", directory.display())))?;
        let opened = store::open(&directory.join("log.redb"), &options)?;
        let outputs = Arc::new(Outputs::open(directory.join("outputs"), options.output_quota)?);
        sync_directory(&directory)?;
        if let Some(parent) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_directory(parent)?;
        }
        let (writer_tx, jobs) = mpsc::channel(QUEUE);
        let (outputs_tx, output_jobs) = mpsc::channel(QUEUE);
        let senders = opened.heads.map(watch::Sender::new);
        let heads = senders.each_ref().map(watch::Sender::subscribe);
        let notes = broadcast::Sender::new(KV_NOTES);
        let writer = Writer {
            store: opened.store.clone(),
            jobs,
            heads: senders,
            notes: notes.clone(),
            rev: opened.rev,
            quota: options.quota,
            disk: Disk::new(&directory, options.min_free),
        };
        let shared = outputs.clone();
        let threads = vec![
            spawn("log-writer", move || writer.run())?,
            spawn("log-outputs", move || outputs::run(&shared, output_jobs))?,
        ];
        Ok(EmbeddedLog {
            directory,
            options,
            store: opened.store,
            outputs,
            heads,
            notes,
            hub: Hub::default(),
            queues: Some(Queues { writer: writer_tx, outputs: outputs_tx }),
            threads,
        })
    }

    /// Copies the log, as it is at one moment, into a new directory while it is in use. Output is
    /// copied afterwards, so that all output the copied commits speak of is there.
    ///
    /// # Errors
    /// `Refused` when the directory is not empty; `Backend`, `Corrupt`.
    pub async fn backup(&self, to: impl AsRef<Path>) -> Result<()> {
        let (store, from) = (self.store.clone(), self.directory.clone());
        let to = to.as_ref().to_owned();
        blocking(move || backup::copy(&store, &from, &to)).await
    }

    async fn submit(&self, op: Op) -> Result<Rev> {
        self.store.check()?;
        let (answer, verdict) = oneshot::channel();
        let queues = self.queues.as_ref().ok_or(LogError::Closed)?;
        let ended = |()| self.store.why_ended();
        queues.writer.send(writer::Job { op, answer }).await.map_err(|_| ended(()))?;
        verdict.await.map_err(|_| ended(()))?
    }

    async fn submit_output(&self, key: &OutputKey, request: Request) -> Result<u64> {
        let (answer, verdict) = oneshot::channel();
        let queues = self.queues.as_ref().ok_or(LogError::Closed)?;
        let job = outputs::Job { key: key.clone(), request, answer };
        queues.outputs.send(job).await.map_err(|_| LogError::Closed)?;
        verdict.await.map_err(|_| LogError::Closed)?
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        drop(self.queues.take());
        for thread in self.threads.drain(..) {
            // A panic there has been reported already.
            drop(thread.join());
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(LogError::backend)
}

fn sync_directory(directory: &Path) -> Result<()> {
    let sync = || std::fs::File::open(directory)?.sync_all();
    sync().map_err(|e| LogError::Backend(format!("{}: {e}", directory.display())))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(LogError::backend)?
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn shards(&self) -> u32 {
        1
    }

    fn describe(&self) -> Description {
        Description {
            backend: "embedded",
            acknowledged_means: "it is synced to this machine's disk".into(),
            location: self.directory.display().to_string(),
        }
    }

    async fn health(&self) -> Result<()> {
        self.store.check()?;
        self.outputs.check()
    }

    async fn usage(&self) -> Result<Usage> {
        Ok(Usage {
            bytes: self.store.bytes.load(Ordering::Relaxed),
            quota: self.options.quota,
            output_bytes: self.outputs.bytes.load(Ordering::Relaxed),
            output_quota: self.options.output_quota,
        })
    }

    async fn append(&self, key: &Key, expect: Expect, commit: Commit) -> Result<Rev> {
        commit.check()?;
        let key = Arc::new(key.clone());
        self.submit(Op::Append { key, expect, commit, replace: false }).await
    }

    // Reading one aggregate is a few pages from the cache: a hop to another thread costs more.
    async fn read(&self, key: &Key, from: Rev) -> Result<Vec<Recorded>> {
        self.store.read(key, from, usize::MAX)
    }

    async fn read_page(&self, key: &Key, from: Rev, max: usize) -> Result<Vec<Recorded>> {
        self.store.read(key, from, max.max(1))
    }

    async fn last(&self, key: &Key) -> Result<Option<Recorded>> {
        self.store.last(key)
    }

    async fn compact(&self, key: &Key, at: Rev, summary: Commit) -> Result<Rev> {
        summary.check()?;
        let (key, expect) = (Arc::new(key.clone()), Expect::At(at));
        self.submit(Op::Append { key, expect, commit: summary, replace: true }).await
    }

    async fn tail(&self, space: Space, shard: u32, after: Rev) -> Result<TailStream> {
        local::check_shard(space, shard, 1)?;
        let head = self.heads[space.index()].clone();
        Ok(local::tail(self.store.clone(), space, shard, after, head))
    }

    async fn head(&self, space: Space, shard: u32) -> Result<Rev> {
        local::check_shard(space, shard, 1)?;
        Ok(*self.heads[space.index()].borrow())
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>> {
        check_bucket(bucket)?;
        check_kv_key(key)?;
        self.store.get(bucket, key)
    }

    async fn kv_put(&self, bucket: &str, key: &str, expect: Expect, value: Bytes) -> Result<Rev> {
        check_bucket(bucket)?;
        check_kv_key(key)?;
        LogError::check_size("a value", value.len(), KV_VALUE_MAX)?;
        let (bucket, key) = (bucket.into(), key.into());
        self.submit(Op::Value { bucket, key, expect, value: Some(value) }).await
    }

    async fn kv_delete(&self, bucket: &str, key: &str, expect: Expect) -> Result<()> {
        check_bucket(bucket)?;
        check_kv_key(key)?;
        let (bucket, key) = (bucket.into(), key.into());
        self.submit(Op::Value { bucket, key, expect, value: None }).await.map(|_| ())
    }

    async fn kv_watch(&self, bucket: &str) -> Result<KvStream> {
        check_bucket(bucket)?;
        local::kv_watch(self.store.clone(), bucket, self.notes.subscribe())
    }

    async fn publish(&self, subject: &str, body: Bytes) -> Result<()> {
        self.hub.publish(subject, &body)
    }

    async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes> {
        self.hub.request(subject, body, timeout).await
    }

    async fn subscribe(&self, pattern: &str) -> Result<MessageStream> {
        self.hub.subscribe(pattern)
    }

    async fn append_output(&self, key: &OutputKey, chunks: Vec<OutputChunk>) -> Result<u64> {
        check_chunks(&chunks)?;
        self.submit_output(key, Request::Append(chunks)).await
    }

    async fn output_end(&self, key: &OutputKey) -> Result<u64> {
        let (outputs, key) = (self.outputs.clone(), key.clone());
        blocking(move || outputs.end(&key)).await
    }

    async fn read_output(
        &self,
        key: &OutputKey,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>> {
        let (outputs, key) = (self.outputs.clone(), key.clone());
        blocking(move || outputs.read(&key, from, max_bytes)).await
    }

    async fn watch_output(&self, key: &OutputKey) -> Result<watch::Receiver<u64>> {
        let (outputs, key) = (self.outputs.clone(), key.clone());
        blocking(move || outputs.watch(&key)).await
    }

    async fn list_outputs(&self) -> Result<Vec<OutputInfo>> {
        let outputs = self.outputs.clone();
        blocking(move || outputs.list()).await
    }

    async fn remove_output(&self, key: &OutputKey) -> Result<()> {
        self.submit_output(key, Request::Remove).await.map(|_| ())
    }
}

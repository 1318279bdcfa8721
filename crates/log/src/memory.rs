//! A log in memory, for tests and simulations: the semantics of the others, nothing durable. Time
//! comes from a function, so that a simulation decides it.

use crate::contract::{EventLog, KvStream, MessageStream, TailStream};
use crate::error::{LogError, Result};
use crate::hub::Hub;
use crate::key::{Key, Space};
use crate::limits::{KV_VALUE_MAX, TAIL_PAGE};
use crate::local::{self, Buckets, KV_NOTES, KvNote, Pages};
use crate::output::{OutputChunk, OutputInfo, OutputKey, check_chunks, fresh};
use crate::subject::{check_bucket, check_kv_key};
use crate::types::{Commit, Description, Expect, KvEntry, Recorded, Rev, Usage};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// A log that lives as long as the value. Clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    inner: Arc<Inner>,
}

struct Inner {
    shards: u32,
    clock: Clock,
    state: Mutex<State>,
    hub: Hub,
    notes: broadcast::Sender<KvNote>,
}

struct State {
    rev: Rev,
    commits: [BTreeMap<Rev, Recorded>; 3],
    aggregates: BTreeMap<Key, Vec<Rev>>,
    /// Head of each shard of each space.
    heads: Vec<Vec<watch::Sender<Rev>>>,
    kv: BTreeMap<(String, String), KvEntry>,
    outputs: BTreeMap<OutputKey, Output>,
}

struct Output {
    chunks: Vec<OutputChunk>,
    end: watch::Sender<u64>,
    modified_ms: u64,
}

impl MemoryLog {
    /// An empty log with the system's clock.
    #[must_use]
    pub fn new(shards: u32) -> MemoryLog {
        MemoryLog::with_clock(shards, local::wall_clock_ms)
    }

    /// An empty log whose time, milliseconds since 1970, is what `clock` says.
    #[must_use]
    pub fn with_clock(shards: u32, clock: impl Fn() -> u64 + Send + Sync + 'static) -> MemoryLog {
        let shards = shards.clamp(1, crate::key::PARTITIONS);
        let heads = Space::ALL
            .map(|space| (0..space.shards(shards)).map(|_| watch::Sender::new(0)).collect());
        let state = State {
            rev: 0,
            commits: Default::default(),
            aggregates: BTreeMap::new(),
            heads: heads.into(),
            kv: BTreeMap::new(),
            outputs: BTreeMap::new(),
        };
        let inner = Inner {
            shards,
            clock: Box::new(clock),
            state: Mutex::new(state),
            hub: Hub::default(),
            notes: broadcast::Sender::new(KV_NOTES),
        };
        MemoryLog { inner: Arc::new(inner) }
    }

    fn put(&self, key: &Key, expect: Expect, commit: Commit, replace: bool) -> Result<Rev> {
        commit.check()?;
        let at_ms = (self.inner.clock)();
        let shard = key.shard(self.inner.shards) as usize;
        let mut guard = self.inner.lock();
        let state = &mut *guard;
        let space = key.space().index();
        let revs = state.aggregates.entry(key.clone()).or_default();
        let last = revs.last().copied();
        let behind_fence = match expect {
            Expect::Absent => revs.first().copied(),
            Expect::At(rev) => revs.iter().copied().find(|r| *r > rev),
            Expect::Any => last,
        };
        let landed = behind_fence
            .filter(|rev| state.commits[space].get(rev).is_some_and(|r| r.commit.id == commit.id));
        if let Some(rev) = landed {
            return Ok(rev);
        }
        let holds = match expect {
            Expect::Absent => last.is_none(),
            Expect::At(rev) => last == Some(rev),
            Expect::Any => true,
        };
        if !holds {
            if revs.is_empty() {
                state.aggregates.remove(key);
            }
            return Err(LogError::Conflict);
        }
        state.rev += 1;
        let rev = state.rev;
        if replace {
            for old in revs.drain(..) {
                state.commits[space].remove(&old);
            }
        }
        revs.push(rev);
        let recorded = Recorded { key: Arc::new(key.clone()), rev, at_ms, commit };
        state.commits[space].insert(rev, recorded);
        state.heads[space][shard].send_replace(rev);
        Ok(rev)
    }

    fn set(&self, bucket: &str, key: &str, expect: Expect, value: Option<Bytes>) -> Result<Rev> {
        check_bucket(bucket)?;
        check_kv_key(key)?;
        let mut state = self.inner.lock();
        let name = (bucket.to_owned(), key.to_owned());
        let now = state.kv.get(&name).map(|e| e.rev);
        let holds = match expect {
            Expect::Absent => now.is_none(),
            Expect::At(rev) => now == Some(rev),
            Expect::Any => true,
        };
        if !holds {
            return Err(LogError::Conflict);
        }
        state.rev += 1;
        let rev = state.rev;
        match value {
            Some(value) => state.kv.insert(name, KvEntry { rev, value }),
            None => state.kv.remove(&name),
        };
        // Nobody watching is not an error.
        drop(self.inner.notes.send(KvNote { bucket: bucket.into(), key: key.into() }));
        Ok(rev)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn output(&mut self, key: &OutputKey) -> &mut Output {
        self.outputs.entry(key.clone()).or_insert_with(|| Output {
            chunks: Vec::new(),
            end: watch::Sender::new(0),
            modified_ms: 0,
        })
    }
}

#[async_trait]
impl Pages for Inner {
    async fn page(self: Arc<Self>, space: Space, shard: u32, after: Rev) -> Result<Vec<Recorded>> {
        let state = self.lock();
        let commits = state.commits[space.index()].range(after.saturating_add(1)..);
        let of_shard = commits.filter(|(_, r)| r.key.shard(self.shards) == shard);
        Ok(of_shard.take(TAIL_PAGE).map(|(_, r)| r.clone()).collect())
    }

    fn ended(&self) -> LogError {
        LogError::Closed
    }
}

impl Buckets for Inner {
    fn get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>> {
        Ok(self.lock().kv.get(&(bucket.to_owned(), key.to_owned())).cloned())
    }

    fn entries(&self, bucket: &str) -> Result<BTreeMap<String, KvEntry>> {
        let state = self.lock();
        let entries = state.kv.iter().filter(|((b, _), _)| b == bucket);
        Ok(entries.map(|((_, key), entry)| (key.clone(), entry.clone())).collect())
    }

    fn ended(&self) -> LogError {
        LogError::Closed
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn shards(&self) -> u32 {
        self.inner.shards
    }

    fn describe(&self) -> Description {
        Description {
            backend: "memory",
            acknowledged_means: "it is in this process's memory and gone when that ends".into(),
            location: "memory".into(),
        }
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }

    async fn usage(&self) -> Result<Usage> {
        let state = self.inner.lock();
        let commits = state.commits.iter().flat_map(BTreeMap::values);
        let bytes = commits.map(|r| r.commit.body.len()).sum::<usize>()
            + state.kv.values().map(|e| e.value.len()).sum::<usize>();
        let output_bytes = state.outputs.values().map(|o| *o.end.borrow()).sum();
        Ok(Usage { bytes: bytes as u64, output_bytes, ..Usage::default() })
    }

    async fn append(&self, key: &Key, expect: Expect, commit: Commit) -> Result<Rev> {
        self.put(key, expect, commit, false)
    }

    async fn read(&self, key: &Key, from: Rev) -> Result<Vec<Recorded>> {
        let state = self.inner.lock();
        let revs = state.aggregates.get(key).into_iter().flatten().filter(|r| **r >= from);
        let commits = &state.commits[key.space().index()];
        Ok(revs.filter_map(|rev| commits.get(rev).cloned()).collect())
    }

    async fn read_page(&self, key: &Key, from: Rev, max: usize) -> Result<Vec<Recorded>> {
        let mut all = self.read(key, from).await?;
        all.truncate(max.max(1));
        Ok(all)
    }

    async fn last(&self, key: &Key) -> Result<Option<Recorded>> {
        Ok(self.read(key, 0).await?.pop())
    }

    async fn compact(&self, key: &Key, at: Rev, summary: Commit) -> Result<Rev> {
        self.put(key, Expect::At(at), summary, true)
    }

    async fn tail(&self, space: Space, shard: u32, after: Rev) -> Result<TailStream> {
        local::check_shard(space, shard, self.inner.shards)?;
        let head = self.inner.lock().heads[space.index()][shard as usize].subscribe();
        Ok(local::tail(self.inner.clone(), space, shard, after, head))
    }

    async fn head(&self, space: Space, shard: u32) -> Result<Rev> {
        local::check_shard(space, shard, self.inner.shards)?;
        Ok(*self.inner.lock().heads[space.index()][shard as usize].borrow())
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>> {
        check_bucket(bucket)?;
        check_kv_key(key)?;
        self.inner.get(bucket, key)
    }

    async fn kv_put(&self, bucket: &str, key: &str, expect: Expect, value: Bytes) -> Result<Rev> {
        LogError::check_size("a value", value.len(), KV_VALUE_MAX)?;
        self.set(bucket, key, expect, Some(value))
    }

    async fn kv_delete(&self, bucket: &str, key: &str, expect: Expect) -> Result<()> {
        self.set(bucket, key, expect, None).map(|_| ())
    }

    async fn kv_watch(&self, bucket: &str) -> Result<KvStream> {
        check_bucket(bucket)?;
        local::kv_watch(self.inner.clone(), bucket, self.inner.notes.subscribe())
    }

    async fn publish(&self, subject: &str, body: Bytes) -> Result<()> {
        self.inner.hub.publish(subject, &body)
    }

    async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes> {
        self.inner.hub.request(subject, body, timeout).await
    }

    async fn subscribe(&self, pattern: &str) -> Result<MessageStream> {
        self.inner.hub.subscribe(pattern)
    }

    async fn append_output(&self, key: &OutputKey, chunks: Vec<OutputChunk>) -> Result<u64> {
        check_chunks(&chunks)?;
        let now = (self.inner.clock)();
        let mut state = self.inner.lock();
        let output = state.output(key);
        let end = *output.end.borrow();
        let new = fresh(end, &chunks)?;
        let Some(last) = new.last() else { return Ok(end) };
        let end = last.end();
        output.chunks.extend(new);
        output.modified_ms = now;
        output.end.send_replace(end);
        Ok(end)
    }

    async fn output_end(&self, key: &OutputKey) -> Result<u64> {
        Ok(self.inner.lock().outputs.get(key).map_or(0, |o| *o.end.borrow()))
    }

    async fn read_output(
        &self,
        key: &OutputKey,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>> {
        let state = self.inner.lock();
        let chunks = state.outputs.get(key).map_or(&[][..], |o| &o.chunks);
        let first = chunks.partition_point(|c| c.end() <= from);
        let (mut out, mut bytes) = (Vec::new(), 0);
        for chunk in &chunks[first..] {
            if bytes >= max_bytes && !out.is_empty() {
                break;
            }
            bytes += chunk.data.len();
            out.extend(chunk.starting_at(from));
        }
        Ok(out)
    }

    async fn watch_output(&self, key: &OutputKey) -> Result<watch::Receiver<u64>> {
        Ok(self.inner.lock().output(key).end.subscribe())
    }

    async fn list_outputs(&self) -> Result<Vec<OutputInfo>> {
        let state = self.inner.lock();
        let present = state.outputs.iter().filter(|(_, o)| !o.chunks.is_empty());
        Ok(present
            .map(|(key, o)| OutputInfo {
                key: key.clone(),
                size: *o.end.borrow(),
                modified_ms: o.modified_ms,
            })
            .collect())
    }

    async fn remove_output(&self, key: &OutputKey) -> Result<()> {
        if let Some(output) = self.inner.lock().outputs.get_mut(key) {
            output.chunks.clear();
            output.end.send_replace(0);
        }
        Ok(())
    }
}

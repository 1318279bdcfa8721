//! What the backends inside one process share: tails over pages of commits, and watches of
//! buckets. It keeps positions, never data.

use crate::contract::{KvStream, TailStream};
use crate::error::{LogError, Result};
use crate::key::Space;
use crate::types::{KvChange, KvEntry, Recorded, Rev, Tail};
use async_trait::async_trait;
use futures::StreamExt;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{broadcast, watch};

/// Where a tail finds commits.
#[async_trait]
pub(crate) trait Pages: Send + Sync + 'static {
    /// Up to a page of commits after `after`, oldest first. Empty: nothing up to the head that
    /// was visible when the call began.
    async fn page(self: Arc<Self>, space: Space, shard: u32, after: Rev) -> Result<Vec<Recorded>>;

    /// Why the head will not move any more.
    fn ended(&self) -> LogError;
}

struct TailState<P> {
    pages: Arc<P>,
    space: Space,
    shard: u32,
    at: Rev,
    /// The head when the tail began: behind it, the tail has caught up.
    target: Rev,
    caught_up: bool,
    buffer: VecDeque<Recorded>,
    head: watch::Receiver<Rev>,
}

/// A tail that reads pages when the head moves.
pub(crate) fn tail<P: Pages>(
    pages: Arc<P>,
    space: Space,
    shard: u32,
    after: Rev,
    head: watch::Receiver<Rev>,
) -> TailStream {
    let target = *head.borrow();
    let state = TailState {
        pages,
        space,
        shard,
        at: after,
        target,
        caught_up: false,
        buffer: VecDeque::new(),
        head,
    };
    futures::stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Ok(item) => Some((Ok(item), Some(state))),
            Err(e) => Some((Err(e), None)),
        }
    })
    .boxed()
}

impl<P: Pages> TailState<P> {
    async fn next(&mut self) -> Result<Tail> {
        loop {
            let past_target = self.buffer.front().is_some_and(|r| r.rev > self.target);
            if past_target && !self.caught_up {
                self.caught_up = true;
                return Ok(Tail::CaughtUp);
            }
            if let Some(next) = self.buffer.pop_front() {
                self.at = next.rev;
                return Ok(Tail::Event(next));
            }
            let head = *self.head.borrow_and_update();
            if self.at < head {
                let page = self.pages.clone().page(self.space, self.shard, self.at).await?;
                self.buffer = page.into();
                if self.buffer.is_empty() {
                    self.at = head;
                }
            } else if !self.caught_up {
                self.caught_up = true;
                return Ok(Tail::CaughtUp);
            } else if self.head.changed().await.is_err() {
                return Err(self.pages.ended());
            }
        }
    }
}

/// Where a watch finds the present values.
pub(crate) trait Buckets: Send + Sync + 'static {
    fn get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>>;
    fn entries(&self, bucket: &str) -> Result<BTreeMap<String, KvEntry>>;
    fn ended(&self) -> LogError;
}

/// Says that a key changed; the watch then looks, so values are never queued.
#[derive(Clone, Debug)]
pub(crate) struct KvNote {
    pub(crate) bucket: Arc<str>,
    pub(crate) key: Arc<str>,
}

/// Notes waiting for a slow watch; one that falls further behind compares the whole bucket.
pub(crate) const KV_NOTES: usize = 1024;

struct WatchState<B> {
    source: Arc<B>,
    bucket: String,
    notes: broadcast::Receiver<KvNote>,
    known: BTreeMap<String, Rev>,
    buffer: VecDeque<KvChange>,
}

/// A watch that looks up what the notes name. `notes` must have been subscribed to before.
pub(crate) fn kv_watch<B: Buckets>(
    source: Arc<B>,
    bucket: &str,
    notes: broadcast::Receiver<KvNote>,
) -> Result<KvStream> {
    let mut state = WatchState {
        source,
        bucket: bucket.to_owned(),
        notes,
        known: BTreeMap::new(),
        buffer: VecDeque::new(),
    };
    state.compare()?;
    state.buffer.push_back(KvChange::CaughtUp);
    Ok(futures::stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Ok(change) => Some((Ok(change), Some(state))),
            Err(e) => Some((Err(e), None)),
        }
    })
    .boxed())
}

impl<B: Buckets> WatchState<B> {
    async fn next(&mut self) -> Result<KvChange> {
        loop {
            if let Some(change) = self.buffer.pop_front() {
                return Ok(change);
            }
            match self.notes.recv().await {
                Ok(note) if *note.bucket == *self.bucket => {
                    let entry = self.source.get(&self.bucket, &note.key)?;
                    self.see(note.key.to_string(), entry);
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.compare()?,
                Err(broadcast::error::RecvError::Closed) => return Err(self.source.ended()),
            }
        }
    }

    fn see(&mut self, key: String, entry: Option<KvEntry>) {
        match entry {
            Some(entry) => {
                if self.known.insert(key.clone(), entry.rev) != Some(entry.rev) {
                    self.buffer.push_back(KvChange::Put { key, entry });
                }
            }
            None => {
                if self.known.remove(&key).is_some() {
                    self.buffer.push_back(KvChange::Delete { key });
                }
            }
        }
    }

    fn compare(&mut self) -> Result<()> {
        let entries = self.source.entries(&self.bucket)?;
        let gone: Vec<String> =
            self.known.keys().filter(|k| !entries.contains_key(*k)).cloned().collect();
        for key in gone {
            self.see(key, None);
        }
        for (key, entry) in entries {
            self.see(key, Some(entry));
        }
        Ok(())
    }
}

/// Milliseconds since 1970 by the system's clock.
pub(crate) fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A shard that does not exist is a mistake of the caller.
pub(crate) fn check_shard(space: Space, shard: u32, shards: u32) -> Result<()> {
    if shard < space.shards(shards) {
        Ok(())
    } else {
        Err(LogError::bad_name("shard", &shard.to_string()))
    }
}

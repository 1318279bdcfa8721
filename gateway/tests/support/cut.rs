//! A gateway that is cut off from the others' messages while its appends still land: the worst that an absence can be.

use bytes::Bytes;
use cortex_log::{
    Commit, Description, EventLog, Expect, Key, KvEntry, KvStream, LogError, Message,
    MessageStream, OutputChunk, OutputInfo, OutputKey, Recorded, Rev, Space, TailStream, Usage,
};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::async_trait;

type Result<T> = std::result::Result<T, LogError>;

/// See the module.
pub(crate) struct Cut {
    inner: Arc<dyn EventLog>,
    off: watch::Sender<bool>,
}

impl Cut {
    pub(crate) fn new(inner: Arc<dyn EventLog>) -> Arc<Cut> {
        Arc::new(Cut { inner, off: watch::channel(false).0 })
    }

    /// Cuts it off, or joins it again.
    pub(crate) fn set(&self, off: bool) {
        self.off.send_replace(off);
    }

    fn is_off(&self) -> bool {
        *self.off.borrow()
    }
}

#[async_trait]
impl EventLog for Cut {
    fn shards(&self) -> u32 {
        self.inner.shards()
    }
    fn describe(&self) -> Description {
        self.inner.describe()
    }
    async fn health(&self) -> Result<()> {
        self.inner.health().await
    }
    async fn usage(&self) -> Result<Usage> {
        self.inner.usage().await
    }
    async fn append(&self, key: &Key, expect: Expect, commit: Commit) -> Result<Rev> {
        self.inner.append(key, expect, commit).await
    }
    async fn read(&self, key: &Key, from: Rev) -> Result<Vec<Recorded>> {
        self.inner.read(key, from).await
    }
    async fn read_page(&self, key: &Key, from: Rev, max: usize) -> Result<Vec<Recorded>> {
        self.inner.read_page(key, from, max).await
    }
    async fn last(&self, key: &Key) -> Result<Option<Recorded>> {
        self.inner.last(key).await
    }
    async fn compact(&self, key: &Key, at: Rev, summary: Commit) -> Result<Rev> {
        self.inner.compact(key, at, summary).await
    }
    async fn tail(&self, space: Space, shard: u32, after: Rev) -> Result<TailStream> {
        self.inner.tail(space, shard, after).await
    }
    async fn head(&self, space: Space, shard: u32) -> Result<Rev> {
        self.inner.head(space, shard).await
    }
    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>> {
        self.inner.kv_get(bucket, key).await
    }
    async fn kv_put(&self, bucket: &str, key: &str, expect: Expect, value: Bytes) -> Result<Rev> {
        self.inner.kv_put(bucket, key, expect, value).await
    }
    async fn kv_delete(&self, bucket: &str, key: &str, expect: Expect) -> Result<()> {
        self.inner.kv_delete(bucket, key, expect).await
    }
    /// Changes come when it is joined again.
    async fn kv_watch(&self, bucket: &str) -> Result<KvStream> {
        let off = self.off.subscribe();
        let changes = self.inner.kv_watch(bucket).await?;
        Ok(changes
            .then(move |change| {
                let mut off = off.clone();
                async move {
                    drop(off.wait_for(|off| !off).await);
                    change
                }
            })
            .boxed())
    }
    async fn publish(&self, subject: &str, body: Bytes) -> Result<()> {
        if self.is_off() { Ok(()) } else { self.inner.publish(subject, body).await }
    }
    async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes> {
        if self.is_off() {
            return Err(LogError::NoResponders);
        }
        self.inner.request(subject, body, timeout).await
    }
    /// Messages that come meanwhile are lost.
    async fn subscribe(&self, pattern: &str) -> Result<MessageStream> {
        let off = self.off.subscribe();
        let messages = self.inner.subscribe(pattern).await?;
        Ok(messages.filter(move |_: &Message| std::future::ready(!*off.borrow())).boxed())
    }
    async fn append_output(&self, key: &OutputKey, chunks: Vec<OutputChunk>) -> Result<u64> {
        self.inner.append_output(key, chunks).await
    }
    async fn output_end(&self, key: &OutputKey) -> Result<u64> {
        self.inner.output_end(key).await
    }
    async fn read_output(
        &self,
        key: &OutputKey,
        from: u64,
        max: usize,
    ) -> Result<Vec<OutputChunk>> {
        self.inner.read_output(key, from, max).await
    }
    async fn watch_output(&self, key: &OutputKey) -> Result<watch::Receiver<u64>> {
        self.inner.watch_output(key).await
    }
    async fn list_outputs(&self) -> Result<Vec<OutputInfo>> {
        self.inner.list_outputs().await
    }
    async fn remove_output(&self, key: &OutputKey) -> Result<()> {
        self.inner.remove_output(key).await
    }
}

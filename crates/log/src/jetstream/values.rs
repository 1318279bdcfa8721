//! Buckets of values, laid out as NATS key-value buckets, so that the `nats` tool reads them. The
//! writes go through the same fenced publish as commits.

use super::JetStreamLog;
use super::api::{Api, Which};
use super::append::Publish;
use super::follow::{Follow, Followed};
use crate::contract::KvStream;
use crate::error::{LogError, Result};
use crate::types::{CommitId, Expect, KvChange, KvEntry, Rev};
use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OPERATION: &str = "KV-Operation";

struct Names {
    stream: String,
    subject: String,
}

fn names(bucket: &str, key: &str) -> Names {
    Names { stream: format!("KV_{bucket}"), subject: format!("$KV.{bucket}.{key}") }
}

fn config(bucket: &str, replicas: usize) -> Value {
    json!({
        "name": format!("KV_{bucket}"), "subjects": [format!("$KV.{bucket}.>")],
        "storage": "file", "num_replicas": replicas, "retention": "limits", "discard": "new",
        "max_msgs": -1, "max_msgs_per_subject": 1, "max_age": 0, "max_consumers": -1,
        "allow_direct": true, "allow_rollup_hdrs": true, "deny_delete": true,
        "deny_purge": false, "no_ack": false, "sealed": false,
    })
}

fn is_marker(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some_and(|op| op.as_str() != "PUT")
}

impl JetStreamLog {
    /// Makes the bucket once per process.
    async fn bucket(&self, bucket: &str) -> Result<()> {
        if !self.buckets.lock().await.contains(bucket) {
            let asked = config(bucket, self.options.replicas);
            super::server::ensure(&self.api, &asked, None).await?;
            self.buckets.lock().await.insert(bucket.to_owned());
        }
        Ok(())
    }

    async fn stored(&self, names: &Names) -> Result<Option<StreamMessage>> {
        self.api.get(&names.stream, Which::Last(&names.subject)).await
    }

    pub(super) async fn value(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>> {
        self.bucket(bucket).await?;
        let stored = self.stored(&names(bucket, key)).await?;
        let present = stored.filter(|m| !is_marker(&m.headers));
        Ok(present.map(|m| KvEntry { rev: m.sequence, value: m.payload }))
    }

    /// Sets a value, or deletes it when there is none.
    pub(super) async fn set_value(
        &self,
        bucket: &str,
        key: &str,
        expect: Expect,
        value: Option<Bytes>,
    ) -> Result<Rev> {
        self.bucket(bucket).await?;
        let names = names(bucket, key);
        let fence = match expect {
            Expect::At(rev) => Some(rev),
            Expect::Any => None,
            // A deleted key is absent, but its subject is not empty.
            Expect::Absent => match self.stored(&names).await? {
                None => Some(0),
                Some(m) if is_marker(&m.headers) => Some(m.sequence),
                Some(_) => return Err(LogError::Conflict),
            },
        };
        let mut headers = HeaderMap::new();
        if value.is_none() {
            headers.insert(OPERATION, "DEL");
        }
        let publish = Publish {
            stream: &names.stream,
            subject: &names.subject,
            fence,
            id: CommitId::generate(),
            headers,
            body: value.unwrap_or_default(),
        };
        self.api.publish(&publish).await
    }

    pub(super) async fn watch_values(&self, bucket: &str) -> Result<KvStream> {
        self.bucket(bucket).await?;
        let stream = format!("KV_{bucket}");
        let target = last_present(&self.api, &stream).await?;
        let follow = Follow::new(self.api.clone(), stream, 0, target, true);
        let prefix = format!("$KV.{bucket}.");
        let state = (follow, prefix, BTreeSet::new());
        Ok(futures::stream::unfold(state, |(mut follow, prefix, mut known)| async move {
            loop {
                let message = match follow.next().await {
                    Followed::CaughtUp => {
                        return Some((Ok(KvChange::CaughtUp), (follow, prefix, known)));
                    }
                    Followed::Message(message) => message,
                };
                let Some(key) = message.subject.strip_prefix(&*prefix) else { continue };
                let key = key.to_owned();
                let marker = message.headers.as_ref().is_some_and(is_marker);
                let change = if marker {
                    // Deletions of what the watcher never saw are no news.
                    if !known.remove(&key) {
                        continue;
                    }
                    KvChange::Delete { key }
                } else {
                    known.insert(key.clone());
                    let entry = KvEntry { rev: follow.at, value: message.payload.clone() };
                    KvChange::Put { key, entry }
                };
                return Some((Ok(change), (follow, prefix, known)));
            }
        })
        .boxed())
    }
}

/// Where a tail has caught up: the last sequence, or 0 when nothing is left to be read.
pub(super) async fn last_present(api: &Api, stream: &str) -> Result<u64> {
    let info = api.call(&format!("STREAM.INFO.{stream}"), &json!({})).await;
    let info = info.map_err(|e| e.about(stream))?;
    let state = &info["state"];
    let empty = state["messages"].as_u64() == Some(0);
    Ok(if empty { 0 } else { state["last_seq"].as_u64().unwrap_or_default() })
}

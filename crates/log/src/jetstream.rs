//! The log of a cluster: NATS JetStream. Fences are the server's own, per subject; nothing here
//! holds state that matters. It refuses servers and streams that could lose what they acknowledged.
//!
//! ```text
//!  append   --publish with fence, again until known--> CX_T_<s> CX_A_<s> CX_R   (append)
//!  read, last  <--the leader's answer-------------------------'                 (api)
//!  tail     <--a consumer in memory, made anew when silent----'                 (follow)
//!  kv_*     <--> KV_<bucket>                                                    (values)
//!  *_output <--> CX_O_<s>, wake-ups on cxr.o.>                                  (outputs)
//!  publish, request, subscribe  <--> core NATS
//! ```

mod api;
mod append;
mod follow;
mod outputs;
mod server;
mod values;

use crate::contract::{EventLog, KvStream, MessageStream, TailStream};
use crate::error::{LogError, Result};
use crate::key::{Key, PARTITIONS, Space};
use crate::limits::{KV_VALUE_MAX, MESSAGE_MAX, SUBSCRIPTION_QUEUE};
use crate::local::check_shard;
use crate::output::{OutputChunk, OutputInfo, OutputKey, check_chunks};
use crate::subject::{check_bucket, check_kv_key, check_pattern, check_subject};
use crate::types::{
    Commit, CommitId, Description, Expect, KvEntry, Message, Recorded, Rev, Tail, Usage,
};
use api::{Api, Which};
use append::Publish;
use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, ServerAddr};
use async_trait::async_trait;
use bytes::Bytes;
use follow::{Follow, Followed};
use futures::StreamExt;
use serde_json::json;
use server::{Verdict, stream_name};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};

const KIND: &str = "Cx-Type";
const COUNTER: &str = "Cx-N";

/// How to open a log in JetStream.
#[derive(Clone, Debug)]
pub struct Options {
    /// Streams per space, chosen when the cluster is set up and never changed: 1, 4 or 16.
    pub shards: u32,
    /// Copies of each stream: 3 in production, 1 for a single server.
    pub replicas: usize,
    /// Quota of each new stream, bytes. Streams that exist keep theirs.
    pub quota: Option<u64>,
    /// How long connecting and setting up may take in all.
    pub patience: Duration,
    /// How long an append or a read is tried in all.
    pub deadline: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            shards: 4,
            replicas: 3,
            quota: None,
            patience: Duration::from_secs(30),
            deadline: Duration::from_secs(15),
        }
    }
}

/// A log in JetStream. Clones share the connection.
#[derive(Clone)]
pub struct JetStreamLog {
    api: Api,
    options: Arc<Options>,
    location: Arc<str>,
    /// Buckets that were made or checked already.
    buckets: Arc<Mutex<BTreeSet<String>>>,
    remembered: Arc<Mutex<outputs::Remembered>>,
}

impl JetStreamLog {
    /// Connects to `nats://host:port[,host:port..]`, checks the server and its streams, and makes
    /// those that are missing.
    ///
    /// # Errors
    /// `Refused` names what is unsafe; `Backend` and `Timeout` when there is no connection.
    pub async fn open(url: &str, options: Options) -> Result<JetStreamLog> {
        let shards = options.shards;
        if !shards.is_power_of_two() || shards > PARTITIONS {
            return Err(LogError::bad_name("number of shards", &shards.to_string()));
        }
        let client = connect(url, options.patience).await?;
        let version = client.server_info().version;
        match server::judge_version(&version, options.replicas > 1) {
            Verdict::Fine => {}
            Verdict::Warn(words) => tracing::warn!("{words}"),
            Verdict::Refuse(words) => return Err(LogError::Refused(words)),
        }
        let api = Api {
            jetstream: async_nats::jetstream::new(client.clone()),
            client,
            replicated: options.replicas > 1,
            deadline: options.deadline,
        };
        let patient = Api { deadline: options.patience, ..api.clone() };
        for asked in server::streams(shards, options.replicas) {
            server::ensure(&patient, &asked, options.quota).await?;
        }
        Ok(JetStreamLog {
            api,
            options: Arc::new(options),
            location: without_secrets(url).into(),
            buckets: Arc::default(),
            remembered: Arc::default(),
        })
    }

    fn stream(&self, key: &Key) -> String {
        stream_name(key.space(), key.shard(self.options.shards))
    }

    async fn put(&self, key: &Key, fence: u64, commit: &Commit, replace: bool) -> Result<Rev> {
        let mut headers = HeaderMap::new();
        headers.insert(KIND, &*commit.kind);
        headers.insert(COUNTER, commit.n.to_string().as_str());
        if replace {
            headers.insert("Nats-Rollup", "sub");
        }
        let publish = Publish {
            stream: &self.stream(key),
            subject: &key.subject(),
            fence: Some(fence),
            id: commit.id,
            headers,
            body: commit.body.clone(),
        };
        self.api.publish(&publish).await
    }

    async fn message(&self, key: &Key, which: Which<'_>) -> Result<Option<Recorded>> {
        let found = self.api.get(&self.stream(key), which).await?;
        found
            .map(|m| {
                let at_ms = unix_ms(m.time.unix_timestamp_nanos());
                recorded(&m.subject, m.sequence, at_ms, Some(&m.headers), m.payload)
            })
            .transpose()
    }
}

async fn connect(url: &str, patience: Duration) -> Result<Client> {
    let servers = url.split(',').map(|s| s.trim().parse::<ServerAddr>());
    let servers: Vec<ServerAddr> = servers
        .collect::<std::io::Result<_>>()
        .map_err(|e| LogError::Refused(format!("{}: {e}", without_secrets(url))))?;
    let started = Instant::now();
    loop {
        let options = async_nats::ConnectOptions::new()
            .name("cortex")
            .connection_timeout(Duration::from_secs(5))
            .request_timeout(Some(Duration::from_secs(3)))
            .subscription_capacity(SUBSCRIPTION_QUEUE)
            .event_callback(|event| async move { tracing::info!(%event, "nats") });
        match options.connect(servers.clone()).await {
            Ok(client) => return Ok(client),
            Err(e) if started.elapsed() > patience => {
                return Err(LogError::Backend(format!("{}: {e}", without_secrets(url))));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// The address without user and password.
fn without_secrets(url: &str) -> String {
    let one = |server: &str| match (server.find("://"), server.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}{}", &server[..scheme + 3], &server[at + 1..])
        }
        (None, Some(at)) => server[at + 1..].to_owned(),
        (_, None) | (Some(_), Some(_)) => server.to_owned(),
    };
    url.split(',').map(one).collect::<Vec<_>>().join(",")
}

fn unix_ms(nanos: i128) -> u64 {
    u64::try_from(nanos / 1_000_000).unwrap_or_default()
}

fn recorded(
    subject: &str,
    rev: Rev,
    at_ms: u64,
    headers: Option<&HeaderMap>,
    body: Bytes,
) -> Result<Recorded> {
    let text = |name: &str| headers.and_then(|h| h.get(name)).map(|v| v.as_str());
    let parse = || {
        let key = Arc::new(Key::parse(subject)?);
        let id = CommitId::parse(text(append::ID)?).ok()?;
        let commit = Commit { id, kind: text(KIND)?.into(), n: text(COUNTER)?.parse().ok()?, body };
        Some(Recorded { key, rev, at_ms, commit })
    };
    parse().ok_or_else(|| LogError::Corrupt(format!("message {rev} on {subject} is no commit")))
}

#[async_trait]
impl EventLog for JetStreamLog {
    fn shards(&self) -> u32 {
        self.options.shards
    }

    fn describe(&self) -> Description {
        let acknowledged_means = match self.options.replicas {
            0 | 1 => "one NATS server has it; it is on disk as that server's sync_interval says",
            _ => "a majority of NATS servers has it, each synced as its sync_interval says",
        };
        Description {
            backend: "jetstream",
            acknowledged_means: acknowledged_means.into(),
            location: self.location.to_string(),
        }
    }

    async fn health(&self) -> Result<()> {
        if self.api.client.connection_state() != State::Connected {
            return Err(LogError::Backend("not connected to NATS".into()));
        }
        let quick = Api { deadline: Duration::ZERO, ..self.api.clone() };
        let name = stream_name(Space::Task, 0);
        let info = quick.call(&format!("STREAM.INFO.{name}"), &json!({})).await;
        info.map(|_| ()).map_err(|e| e.about(&name))
    }

    async fn usage(&self) -> Result<Usage> {
        let (mut sum, mut fullest) = (0, None::<(u64, u64)>);
        let (mut output_bytes, mut output_quota) = (0, Some(0));
        for asked in server::streams(self.options.shards, self.options.replicas) {
            let name = asked["name"].as_str().unwrap_or_default();
            let info = self.api.call(&format!("STREAM.INFO.{name}"), &json!({})).await;
            let info = info.map_err(|e| e.about(name))?;
            let bytes = info["state"]["bytes"].as_u64().unwrap_or_default();
            let quota = info["config"]["max_bytes"].as_u64();
            if name.starts_with("CX_O") {
                output_bytes += bytes;
                output_quota = output_quota.zip(quota).map(|(a, b)| a + b);
                continue;
            }
            sum += bytes;
            // One full stream is enough to stop tasks.
            let fuller = |(b, q): (u64, u64), quota: u64| {
                u128::from(bytes) * u128::from(q) > u128::from(b) * u128::from(quota)
            };
            if let Some(quota) = quota
                && fullest.is_none_or(|f| fuller(f, quota))
            {
                fullest = Some((bytes, quota));
            }
        }
        let (bytes, quota) = fullest.map_or((sum, None), |(bytes, quota)| (bytes, Some(quota)));
        Ok(Usage { bytes, quota, output_bytes, output_quota })
    }

    async fn append(&self, key: &Key, expect: Expect, commit: Commit) -> Result<Rev> {
        commit.check()?;
        match expect {
            Expect::Absent => self.put(key, 0, &commit, false).await,
            Expect::At(rev) => self.put(key, rev, &commit, false).await,
            // Still fenced, so that a doubtful publish cannot land twice.
            Expect::Any => loop {
                let last = self.last(key).await?;
                let fence = match last {
                    Some(last) if last.commit.id == commit.id => return Ok(last.rev),
                    Some(last) => last.rev,
                    None => 0,
                };
                match self.put(key, fence, &commit, false).await {
                    Err(LogError::Conflict) => {}
                    other => return other,
                }
            },
        }
    }

    async fn read(&self, key: &Key, from: Rev) -> Result<Vec<Recorded>> {
        self.read_page(key, from, usize::MAX).await
    }

    async fn read_page(&self, key: &Key, from: Rev, max: usize) -> Result<Vec<Recorded>> {
        let (subject, mut out, mut at) = (key.subject(), Vec::new(), from);
        while let Some(next) = self.message(key, Which::Next(&subject, at)).await? {
            at = next.rev + 1;
            out.push(next);
            if out.len() >= max {
                break;
            }
        }
        Ok(out)
    }

    async fn last(&self, key: &Key) -> Result<Option<Recorded>> {
        self.message(key, Which::Last(&key.subject())).await
    }

    async fn compact(&self, key: &Key, at: Rev, summary: Commit) -> Result<Rev> {
        summary.check()?;
        self.put(key, at, &summary, true).await
    }

    async fn tail(&self, space: Space, shard: u32, after: Rev) -> Result<TailStream> {
        check_shard(space, shard, self.options.shards)?;
        let stream = stream_name(space, shard);
        let target = values::last_present(&self.api, &stream).await?;
        let follow = Follow::new(self.api.clone(), stream, after, target, false);
        Ok(futures::stream::unfold(Some(follow), |follow| async move {
            let mut follow = follow?;
            let item = match follow.next().await {
                Followed::CaughtUp => Ok(Tail::CaughtUp),
                Followed::Message(m) => event(&m),
            };
            let follow = item.is_ok().then_some(follow);
            Some((item, follow))
        })
        .boxed())
    }

    async fn head(&self, space: Space, shard: u32) -> Result<Rev> {
        check_shard(space, shard, self.options.shards)?;
        let stream = stream_name(space, shard);
        let info = self.api.call(&format!("STREAM.INFO.{stream}"), &json!({})).await;
        let info = info.map_err(|e| e.about(&stream))?;
        Ok(info["state"]["last_seq"].as_u64().unwrap_or_default())
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>> {
        check_bucket(bucket)?;
        check_kv_key(key)?;
        self.value(bucket, key).await
    }

    async fn kv_put(&self, bucket: &str, key: &str, expect: Expect, value: Bytes) -> Result<Rev> {
        check_bucket(bucket)?;
        check_kv_key(key)?;
        LogError::check_size("a value", value.len(), KV_VALUE_MAX)?;
        self.set_value(bucket, key, expect, Some(value)).await
    }

    async fn kv_delete(&self, bucket: &str, key: &str, expect: Expect) -> Result<()> {
        check_bucket(bucket)?;
        check_kv_key(key)?;
        self.set_value(bucket, key, expect, None).await.map(|_| ())
    }

    async fn kv_watch(&self, bucket: &str) -> Result<KvStream> {
        check_bucket(bucket)?;
        self.watch_values(bucket).await
    }

    async fn publish(&self, subject: &str, body: Bytes) -> Result<()> {
        check_subject(subject)?;
        LogError::check_size("a message", body.len(), MESSAGE_MAX)?;
        self.api.client.publish(subject.to_owned(), body).await.map_err(LogError::backend)
    }

    async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes> {
        check_subject(subject)?;
        LogError::check_size("a message", body.len(), MESSAGE_MAX)?;
        let request = async_nats::Request::new().payload(body).timeout(Some(timeout));
        let answer = self.api.client.send_request(subject.to_owned(), request).await;
        answer.map(|m| m.payload).map_err(|e| match e.kind() {
            RequestErrorKind::NoResponders => LogError::NoResponders,
            RequestErrorKind::TimedOut => LogError::Timeout,
            RequestErrorKind::InvalidSubject => LogError::bad_name("subject", subject),
            RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::Other => LogError::backend(e),
        })
    }

    async fn subscribe(&self, pattern: &str) -> Result<MessageStream> {
        check_pattern(pattern)?;
        let messages = self.api.client.subscribe(pattern.to_owned()).await;
        let messages = messages.map_err(LogError::backend)?;
        self.api.client.flush().await.map_err(LogError::backend)?;
        Ok(messages
            .map(|m| Message {
                subject: m.subject.to_string(),
                reply: m.reply.map(|r| r.to_string()),
                body: m.payload,
            })
            .boxed())
    }

    async fn append_output(&self, key: &OutputKey, chunks: Vec<OutputChunk>) -> Result<u64> {
        check_chunks(&chunks)?;
        self.add_output(key, &chunks).await
    }

    async fn output_end(&self, key: &OutputKey) -> Result<u64> {
        self.end_offset(key).await
    }

    async fn read_output(
        &self,
        key: &OutputKey,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>> {
        self.output_from(key, from, max_bytes).await
    }

    async fn watch_output(&self, key: &OutputKey) -> Result<watch::Receiver<u64>> {
        self.follow_end(key).await
    }

    async fn list_outputs(&self) -> Result<Vec<OutputInfo>> {
        self.all_outputs().await
    }

    async fn remove_output(&self, key: &OutputKey) -> Result<()> {
        self.drop_output(key).await
    }
}

fn event(message: &async_nats::jetstream::Message) -> Result<Tail> {
    let info = message.info().map_err(LogError::backend)?;
    let at_ms = unix_ms(info.published.unix_timestamp_nanos());
    let (headers, body) = (message.headers.as_ref(), message.payload.clone());
    recorded(&message.subject, info.stream_sequence, at_ms, headers, body).map(Tail::Event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("nats://h:4222", "nats://h:4222"),
            ("nats://u:p@h:4222,nats://u:p@i:4222", "nats://h:4222,nats://i:4222"),
            ("u:p@h", "h"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}

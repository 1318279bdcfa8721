//! Output in streams: a message holds one or more frames and says in headers where they begin and
//! end. Each message is appended behind the one before it by a fence, so there is never a gap and
//! never a byte twice, whoever sends.

use super::JetStreamLog;
use super::api::Which;
use super::append::Publish;
use super::server::output_stream;
use super::unix_ms;
use crate::error::{LogError, Result};
use crate::frame::{decode_frame, encode_frame};
use crate::output::{OutputChunk, OutputInfo, OutputKey, fresh};
use crate::types::CommitId;
use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;

const OFFSET: &str = "Cx-Off";
const END: &str = "Cx-End";
/// Bytes of frames in one message; one chunk more still fits the server's limit.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Outputs whose end or reading place is remembered.
const REMEMBERED: usize = 4096;
/// How often a watcher looks for itself, should a wake-up have been lost.
const REFRESH: Duration = Duration::from_secs(5);

/// The last message of an output.
#[derive(Clone, Copy, Default)]
pub(super) struct End {
    sequence: u64,
    offset: u64,
}

/// What this process knows about outputs; losing it costs a few reads.
#[derive(Default)]
pub(super) struct Remembered {
    ends: HashMap<OutputKey, End>,
    /// Where a reader stopped: offset and sequence of the message that holds it.
    places: HashMap<OutputKey, End>,
}

fn remember(map: &mut HashMap<OutputKey, End>, key: &OutputKey, end: End) {
    if map.len() >= REMEMBERED {
        map.clear();
    }
    map.insert(key.clone(), end);
}

fn number(headers: &HeaderMap, name: &str) -> Result<u64> {
    let value = headers.get(name).and_then(|v| v.as_str().parse().ok());
    value.ok_or_else(|| LogError::Corrupt(format!("output without {name}")))
}

impl JetStreamLog {
    fn output_stream(&self, key: &OutputKey) -> String {
        output_stream(key.vp() % self.options.shards)
    }

    pub(super) async fn stored_end(&self, key: &OutputKey) -> Result<End> {
        let subject = key.subject();
        let last = self.api.get(&self.output_stream(key), Which::Last(&subject)).await?;
        let Some(message) = last else { return Ok(End::default()) };
        Ok(End { sequence: message.sequence, offset: number(&message.headers, END)? })
    }

    pub(super) async fn end_offset(&self, key: &OutputKey) -> Result<u64> {
        Ok(self.stored_end(key).await?.offset)
    }

    pub(super) async fn add_output(&self, key: &OutputKey, chunks: &[OutputChunk]) -> Result<u64> {
        let known = self.remembered.lock().await.ends.get(key).copied();
        let mut end = match known {
            Some(end) => end,
            None => self.stored_end(key).await?,
        };
        loop {
            match self.add_behind(key, &mut end, chunks).await {
                // Another gateway was faster, or what was remembered is gone.
                Err(LogError::Conflict) => end = self.stored_end(key).await?,
                Err(LogError::OutputGap { .. })
                    if known.is_some_and(|k| k.sequence == end.sequence) =>
                {
                    let stored = self.stored_end(key).await?;
                    if stored.sequence == end.sequence {
                        return Err(LogError::OutputGap { expected: stored.offset });
                    }
                    end = stored;
                }
                other => {
                    if other.is_ok() {
                        remember(&mut self.remembered.lock().await.ends, key, end);
                    }
                    return other.map(|()| end.offset);
                }
            }
        }
    }

    async fn add_behind(
        &self,
        key: &OutputKey,
        end: &mut End,
        chunks: &[OutputChunk],
    ) -> Result<()> {
        let new = fresh(end.offset, chunks)?;
        let (mut body, mut first) = (Vec::new(), end.offset);
        for (i, chunk) in new.iter().enumerate() {
            encode_frame(chunk, &mut body);
            if body.len() < MESSAGE_BYTES && i + 1 < new.len() {
                continue;
            }
            let body = Bytes::from(std::mem::take(&mut body));
            let sequence = self.add_message(key, end.sequence, first, chunk.end(), body).await?;
            *end = End { sequence, offset: chunk.end() };
            first = chunk.end();
        }
        Ok(())
    }

    async fn add_message(
        &self,
        key: &OutputKey,
        fence: u64,
        from: u64,
        to: u64,
        body: Bytes,
    ) -> Result<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(OFFSET, from.to_string().as_str());
        headers.insert(END, to.to_string().as_str());
        let publish = Publish {
            stream: &self.output_stream(key),
            subject: &key.subject(),
            fence: Some(fence),
            id: CommitId::generate(),
            headers,
            body,
        };
        self.api.publish(&publish).await
    }

    pub(super) async fn output_from(
        &self,
        key: &OutputKey,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>> {
        let (stream, subject) = (self.output_stream(key), key.subject());
        let place = self.remembered.lock().await.places.get(key).copied();
        let mut sequence = match place {
            Some(place) if place.offset == from => place.sequence,
            Some(_) | None => self.find(&stream, &subject, from).await?,
        };
        let (mut out, mut bytes, mut at) = (Vec::new(), 0, from);
        while bytes < max_bytes || out.is_empty() {
            let Some(message) = self.api.get(&stream, Which::Next(&subject, sequence)).await?
            else {
                break;
            };
            let mut rest = message.payload;
            while !rest.is_empty() && (bytes < max_bytes || out.is_empty()) {
                let damaged = || LogError::Corrupt(format!("output {key} at {at}"));
                let (chunk, behind) = decode_frame(&rest).ok_or_else(damaged)?;
                rest = behind;
                if let Some(part) = chunk.starting_at(at) {
                    bytes += part.data.len();
                    at = part.end();
                    out.push(part);
                }
            }
            sequence = message.sequence + u64::from(rest.is_empty());
        }
        if !out.is_empty() {
            let place = End { sequence, offset: at };
            remember(&mut self.remembered.lock().await.places, key, place);
        }
        Ok(out)
    }

    /// Sequence of the message that holds an offset, by halving: messages of a subject lie in the
    /// order of their offsets.
    async fn find(&self, stream: &str, subject: &str, offset: u64) -> Result<u64> {
        let Some(first) = self.api.get(stream, Which::Next(subject, 1)).await? else {
            return Ok(1);
        };
        let last = self.api.get(stream, Which::Last(subject)).await?;
        let (mut low, mut high) = (first.sequence, last.map_or(first.sequence, |m| m.sequence));
        if number(&first.headers, END)? > offset {
            return Ok(low);
        }
        // The wanted message is above `low` and not above `high`, if it exists.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.api.get(stream, Which::Next(subject, middle)).await? {
                Some(m) if m.sequence <= high && number(&m.headers, END)? <= offset => {
                    low = m.sequence;
                }
                Some(_) | None => high = middle,
            }
        }
        Ok(low + 1)
    }

    pub(super) async fn follow_end(&self, key: &OutputKey) -> Result<watch::Receiver<u64>> {
        let subject = key.subject().replacen("cx.", "cxr.", 1);
        let mut hints = self.api.client.subscribe(subject).await.map_err(LogError::backend)?;
        self.api.client.flush().await.map_err(LogError::backend)?;
        let (sender, receiver) = watch::channel(self.end_offset(key).await?);
        let (log, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            loop {
                let end = tokio::select! {
                    () = sender.closed() => return,
                    hint = hints.next() => match hint {
                        Some(hint) => hint.headers.as_ref().and_then(|h| number(h, END).ok()),
                        None => return,
                    },
                    () = tokio::time::sleep(REFRESH) => log.end_offset(&key).await.ok(),
                };
                if let Some(end) = end {
                    sender.send_if_modified(|old| std::mem::replace(old, end) != end);
                }
            }
        });
        Ok(receiver)
    }

    pub(super) async fn all_outputs(&self) -> Result<Vec<OutputInfo>> {
        let mut out = Vec::new();
        for shard in 0..self.options.shards {
            let stream = output_stream(shard);
            for subject in self.subjects_of(&stream).await? {
                let Some(key) = OutputKey::parse(&subject) else { continue };
                let last = self.api.get(&stream, Which::Last(&subject)).await?;
                out.extend(last.map(|m| info(key, &m)).transpose()?);
            }
        }
        Ok(out)
    }

    async fn subjects_of(&self, stream: &str) -> Result<Vec<String>> {
        let mut out: Vec<String> = Vec::new();
        loop {
            let page = json!({"subjects_filter": "cx.o.>", "offset": out.len()});
            let info = self.api.call(&format!("STREAM.INFO.{stream}"), &page).await;
            let info = info.map_err(|e| e.about(stream))?;
            let Some(subjects) = info["state"]["subjects"].as_object() else { return Ok(out) };
            let total = info["total"].as_u64().unwrap_or_default();
            out.extend(subjects.keys().cloned());
            if subjects.is_empty() || out.len() as u64 >= total {
                return Ok(out);
            }
        }
    }

    pub(super) async fn drop_output(&self, key: &OutputKey) -> Result<()> {
        let stream = self.output_stream(key);
        let call = format!("STREAM.PURGE.{stream}");
        let purged = self.api.call(&call, &json!({"filter": key.subject()})).await;
        let mut remembered = self.remembered.lock().await;
        remembered.ends.remove(key);
        remembered.places.remove(key);
        purged.map(|_| ()).map_err(|e| e.about(&stream))
    }
}

fn info(key: OutputKey, last: &StreamMessage) -> Result<OutputInfo> {
    let modified_ms = unix_ms(last.time.unix_timestamp_nanos());
    Ok(OutputInfo { key, size: number(&last.headers, END)?, modified_ms })
}

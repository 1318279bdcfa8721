//! Messages of a stream in order, without a gap, for ever. A consumer in the server's memory feeds
//! it; when that is lost or silent for a moment it is made again behind the last message.
//!
//! The client's own ordered consumer is not used: its heartbeat of 15 s makes it blind for half a
//! minute after its server died, and one that is made again before its first message begins anew.

use super::api::{Api, PAUSE, TRY};
use crate::error::{LogError, Result};
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::StreamExt;
use std::time::Duration;

/// What the server promises to be heard from in.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest life of one request for more.
const EXPIRES: Duration = Duration::from_secs(20);
/// Messages on their way to a reader.
const BATCH: usize = 256;
/// When the server forgets a consumer that nobody asks.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

pub(super) enum Followed {
    Message(Box<Message>),
    CaughtUp,
}

pub(super) struct Follow {
    pub(super) api: Api,
    pub(super) stream: String,
    /// The last sequence that was yielded or is not wanted.
    pub(super) at: u64,
    /// Begin with the last message of each subject.
    pub(super) latest_only: bool,
    /// The leader's head when following began: behind it, one has caught up. What a consumer says
    /// is pending does not count: it may sit on a replica that lags.
    pub(super) target: u64,
    caught_up: bool,
    held: Option<Box<Message>>,
    source: Option<Source>,
}

struct Source {
    messages: pull::Stream,
    /// Counts what this consumer delivered: a difference is a gap.
    delivered: u64,
}

impl Follow {
    pub(super) fn new(api: Api, stream: String, at: u64, target: u64, latest_only: bool) -> Follow {
        Follow { api, stream, at, latest_only, target, caught_up: false, held: None, source: None }
    }

    pub(super) async fn next(&mut self) -> Followed {
        loop {
            if !self.caught_up && self.at >= self.target && self.held.is_none() {
                self.caught_up = true;
                return Followed::CaughtUp;
            }
            if let Some(message) = self.held.take() {
                return Followed::Message(message);
            }
            match self.receive().await {
                Ok((message, sequence)) => {
                    self.at = sequence;
                    if !self.caught_up && sequence > self.target {
                        self.caught_up = true;
                        self.held = Some(message);
                        return Followed::CaughtUp;
                    }
                    return Followed::Message(message);
                }
                Err(e) => {
                    tracing::debug!(stream = self.stream, error = %e, "a tail begins again");
                    self.source = None;
                    tokio::time::sleep(PAUSE * 2).await;
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<(Box<Message>, u64)> {
        let source = match &mut self.source {
            Some(source) => source,
            empty @ None => {
                let made = open(&self.api, &self.stream, self.at, self.latest_only).await?;
                empty.insert(made)
            }
        };
        let next = tokio::time::timeout(EXPIRES + HEARTBEAT * 5, source.messages.next()).await;
        let message = match next {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(e))) => return Err(LogError::backend(e)),
            Ok(None) | Err(_) => return Err(LogError::Timeout),
        };
        let info = message.info().map_err(LogError::backend)?;
        let (sequence, consumer_sequence) = (info.stream_sequence, info.consumer_sequence);
        source.delivered += 1;
        if consumer_sequence != source.delivered || sequence <= self.at {
            return Err(LogError::Backend("a gap in what the server sent".into()));
        }
        Ok((Box::new(message), sequence))
    }
}

async fn open(api: &Api, stream: &str, at: u64, latest_only: bool) -> Result<Source> {
    let deliver_policy = if latest_only && at == 0 {
        DeliverPolicy::LastPerSubject
    } else {
        DeliverPolicy::ByStartSequence { start_sequence: at + 1 }
    };
    let config = pull::Config {
        deliver_policy,
        filter_subject: if latest_only { ">".into() } else { String::new() },
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: FORGOTTEN_AFTER,
        ..pull::Config::default()
    };
    let made = api.jetstream.create_consumer_on_stream(config, stream);
    let consumer = tokio::time::timeout(TRY * 2, made).await.map_err(|_| LogError::Timeout)?;
    let consumer = consumer.map_err(LogError::backend)?;
    let messages = consumer
        .stream()
        .heartbeat(HEARTBEAT)
        .expires(EXPIRES)
        .max_messages_per_batch(BATCH)
        .messages()
        .await
        .map_err(LogError::backend)?;
    Ok(Source { messages, delivered: 0 })
}

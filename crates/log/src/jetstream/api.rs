//! Calls of the JetStream API and reads of single messages, with retries while the log has no
//! leader. It knows messages, not what is in them.

use crate::error::{LogError, Result};
use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, LastRawMessageErrorKind};
use async_nats::jetstream::{self};
use bytes::Bytes;
use serde_json::Value;
use std::time::{Duration, Instant};

/// One try of anything; a lost leader is noticed no later.
pub(super) const TRY: Duration = Duration::from_millis(1_500);
/// Pause before something is tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: async_nats::Client,
    pub(super) jetstream: jetstream::Context,
    /// With one replica any answer is current; with more only the leader's is.
    pub(super) replicated: bool,
    /// How long something is tried in all.
    pub(super) deadline: Duration,
}

/// Why an API call failed.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The server's own error.
    Refused { code: u64, words: String },
    /// No answer, or one that cannot be read.
    Unanswered,
}

impl ApiError {
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, ApiError::Refused { code: 10059 | 10014, .. })
    }

    pub(super) fn about(&self, what: &str) -> LogError {
        match self {
            ApiError::Refused { code, words } => {
                LogError::Backend(format!("{what}: {words} ({code})"))
            }
            ApiError::Unanswered => LogError::Timeout,
        }
    }
}

/// Which message of a stream.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    /// The subject's last.
    Last(&'a str),
    /// The subject's first at or after a sequence.
    Next(&'a str, u64),
}

impl Api {
    /// One call, repeated while nobody answers.
    pub(super) async fn call(
        &self,
        subject: &str,
        body: &Value,
    ) -> std::result::Result<Value, ApiError> {
        let started = Instant::now();
        loop {
            match self.call_once(subject, body).await {
                // 10008: no leader yet; 10004, 10005: not enough peers yet.
                Err(
                    ApiError::Unanswered | ApiError::Refused { code: 10008 | 10004 | 10005, .. },
                ) if started.elapsed() < self.deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn call_once(&self, subject: &str, body: &Value) -> std::result::Result<Value, ApiError> {
        let subject = format!("$JS.API.{subject}");
        let answer = self.client.request(subject, Bytes::from(body.to_string()));
        let answer = match tokio::time::timeout(TRY * 2, answer).await {
            Ok(Ok(message)) => serde_json::from_slice::<Value>(&message.payload).ok(),
            Ok(Err(_)) | Err(_) => None,
        };
        let answer = answer.ok_or(ApiError::Unanswered)?;
        match refusal(&answer) {
            Some(refused) => Err(refused),
            None => Ok(answer),
        }
    }

    /// A message, or that there is none.
    pub(super) async fn get(
        &self,
        stream: &str,
        which: Which<'_>,
    ) -> Result<Option<StreamMessage>> {
        let started = Instant::now();
        loop {
            let one = async {
                if self.replicated {
                    self.get_from_leader(stream, which).await
                } else {
                    self.get_directly(stream, which).await
                }
            };
            match tokio::time::timeout(TRY, one).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(e)) if started.elapsed() > self.deadline => return Err(e),
                Err(_) if started.elapsed() > self.deadline => return Err(LogError::Timeout),
                Ok(Err(_)) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn get_from_leader(
        &self,
        stream: &str,
        which: Which<'_>,
    ) -> Result<Option<StreamMessage>> {
        let stream = self.jetstream.get_stream_no_info(stream).await.map_err(LogError::backend)?;
        let found = match which {
            Which::Last(subject) => stream.get_last_raw_message_by_subject(subject).await,
            Which::Next(subject, from) => {
                stream.get_first_raw_message_by_subject(subject, from.max(1)).await
            }
        };
        match found {
            Ok(message) => Ok(Some(message)),
            Err(e) if e.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(e) => Err(LogError::backend(e)),
        }
    }

    async fn get_directly(&self, stream: &str, which: Which<'_>) -> Result<Option<StreamMessage>> {
        let stream = self.jetstream.get_stream_no_info(stream).await.map_err(LogError::backend)?;
        let found = match which {
            Which::Last(subject) => stream.direct_get_last_for_subject(subject).await,
            Which::Next(subject, from) => {
                stream.direct_get_next_for_subject(subject, Some(from.max(1))).await
            }
        };
        match found {
            Ok(message) => Ok(Some(message)),
            Err(e) if e.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(e) => Err(LogError::backend(e)),
        }
    }

    /// Publishes to a stream once and returns the acknowledgement or the refusal.
    pub(super) async fn publish_once(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> std::result::Result<u64, ApiError> {
        let sent = self.client.request_with_headers(subject.to_owned(), headers, body);
        let answer = match tokio::time::timeout(TRY, sent).await {
            Ok(Ok(message)) => serde_json::from_slice::<Value>(&message.payload).ok(),
            Ok(Err(e)) if e.kind() == RequestErrorKind::MaxPayloadExceeded => {
                let words = "message too large".to_owned();
                return Err(ApiError::Refused { code: 10054, words });
            }
            Ok(Err(_)) | Err(_) => None,
        };
        let answer = answer.ok_or(ApiError::Unanswered)?;
        match refusal(&answer) {
            Some(refused) => Err(refused),
            None => answer["seq"].as_u64().ok_or(ApiError::Unanswered),
        }
    }
}

fn refusal(answer: &Value) -> Option<ApiError> {
    let error = answer.get("error")?;
    Some(ApiError::Refused {
        code: error["err_code"].as_u64().unwrap_or_default(),
        words: error["description"].as_str().unwrap_or("refused").to_owned(),
    })
}

//! Publishing with a fence, until it is known whether it landed. Everything durable in JetStream is
//! written here.

use super::api::{Api, ApiError, PAUSE, Which};
use crate::error::{LogError, Result};
use crate::types::CommitId;
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Identity of what was published; how a doubtful publish is found again.
pub(super) const ID: &str = "Cx-Id";
const FENCE: &str = "Nats-Expected-Last-Subject-Sequence";

/// Something to publish.
pub(super) struct Publish<'a> {
    pub(super) stream: &'a str,
    pub(super) subject: &'a str,
    /// The subject's last sequence, 0 for none; `None` is no fence.
    pub(super) fence: Option<u64>,
    pub(super) id: CommitId,
    /// Without identity and fence, which are added.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

enum Resolved {
    Landed(u64),
    Lost,
    /// The fence holds as far as one can see: what conflicts is still on its way.
    InFlight,
}

impl Api {
    /// Publishes. The same fence goes with every try, so at most one lands.
    pub(super) async fn publish(&self, p: &Publish<'_>) -> Result<u64> {
        let mut headers = p.headers.clone();
        headers.insert(ID, p.id.to_string().as_str());
        if let Some(fence) = p.fence {
            headers.insert(FENCE, HeaderValue::from(fence));
        }
        let (started, mut doubt) = (Instant::now(), false);
        loop {
            let refused = match self.publish_once(p.subject, headers.clone(), p.body.clone()).await
            {
                Ok(sequence) => return Ok(sequence),
                Err(ApiError::Refused { code, words }) => Some((code, words)),
                Err(ApiError::Unanswered) => None,
            };
            match refused {
                // A mismatch: somebody was first, perhaps an earlier try of ours.
                Some((10071, _)) => match self.resolve(p).await? {
                    Resolved::Landed(sequence) => return Ok(sequence),
                    Resolved::Lost => return Err(LogError::Conflict),
                    Resolved::InFlight => tokio::time::sleep(PAUSE / 2).await,
                },
                // Another proposal on this subject is in flight: no verdict, soon again.
                Some((10164, _)) => tokio::time::sleep(Duration::from_millis(2)).await,
                Some((10054, _)) => {
                    let (size, limit) = (p.body.len(), crate::limits::COMMIT_MAX);
                    return Err(LogError::TooLarge { what: "a message", size, limit });
                }
                Some((10077 | 10047 | 10023, _)) if !doubt => return Err(LogError::Full),
                Some((code, words)) => {
                    tracing::debug!(code, words, subject = p.subject, "publish refused, again");
                    doubt = true;
                    tokio::time::sleep(PAUSE).await;
                }
                None => {
                    doubt = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if started.elapsed() > self.deadline {
                return Err(LogError::Unknown);
            }
        }
    }

    /// Who stands behind the fence: what conflicts with us, or we ourselves.
    async fn resolve(&self, p: &Publish<'_>) -> Result<Resolved> {
        let Some(fence) = p.fence else { return Ok(Resolved::InFlight) };
        let behind = self.get(p.stream, Which::Next(p.subject, fence + 1)).await?;
        if let Some(message) = behind {
            let ours = message.headers.get(ID).is_some_and(|id| id.as_str() == p.id.to_string());
            return Ok(if ours { Resolved::Landed(message.sequence) } else { Resolved::Lost });
        }
        let last = self.get(p.stream, Which::Last(p.subject)).await?;
        let fence_holds = last.map_or(0, |m| m.sequence) == fence;
        Ok(if fence_holds { Resolved::InFlight } else { Resolved::Lost })
    }
}

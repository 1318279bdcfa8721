//! Offers on their way through one connection: from a scheduler's message to the agent, and from its claim to the fenced
//! append of `Started`. The append decides; everything here only carries.

use super::Shared;
use crate::tasks::Tasks;
use cortex_log::{Expect, LogError, Message, Rev};
use cortex_model::event::RefusedOffer;
use cortex_model::proto as pb;
use cortex_model::{AttemptKey, Commit, Fault, NodeId, UnixMillis};
use cortex_scheduler_core::decide::Offered;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a doubtful `Started` is resolved before the connection is given up instead.
const DOUBT_MAX: Duration = Duration::from_secs(20);

/// An offer the agent has not answered, or whose claim is being appended.
pub(super) struct Waiting {
    /// Where the scheduler waits.
    pub(super) message: Message,
    /// Which scheduler.
    pub(super) scheduler: String,
    /// The attempt.
    pub(super) attempt: u32,
    /// What else the scheduler said; the task itself is with the agent.
    pub(super) offer: pb::DispatchOffer,
    /// When it came.
    pub(super) since: tokio::time::Instant,
}

impl Waiting {
    /// What the scheduler's message says that is recorded with the start.
    ///
    /// # Errors
    /// When it holds what cannot be recorded.
    pub(super) fn offered(&self) -> Result<Offered, Fault> {
        let refused = |r: &pb::RefusedOffer| {
            Ok(RefusedOffer {
                node: NodeId::parse(&r.node)?,
                why: r.why.clone(),
                at: UnixMillis(r.at_ms),
            })
        };
        Ok(Offered {
            attempt: self.attempt,
            next_n: self.offer.next_n,
            by: self.scheduler.clone(),
            at: UnixMillis(self.offer.offered_at_ms),
            reason: self.offer.reason.clone(),
            refused: self.offer.refused.iter().map(refused).collect::<Result<_, Fault>>()?,
        })
    }
}

/// Appends `Started` at the revision that was offered, and asks again while it is not known whether it landed.
///
/// # Errors
/// `Conflict` when the offer was stale; anything doubtful when even asking again did not settle it.
pub(super) async fn append(
    tasks: &Tasks,
    key: &AttemptKey,
    fence: Rev,
    commit: &Commit,
) -> Result<Rev, LogError> {
    let record = Tasks::record(commit);
    let begun = tokio::time::Instant::now();
    loop {
        match tasks.append_record(&key.task, Expect::At(fence), record.clone()).await {
            Err(LogError::Unknown | LogError::Timeout | LogError::Backend(_))
                if begun.elapsed() < DOUBT_MAX =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            settled => return settled,
        }
    }
}

/// Answers a scheduler; one that does not wait any more is no loss.
pub(super) async fn reply(shared: Arc<Shared>, to: Message, body: pb::dispatch_reply::Body) {
    let reply = pb::DispatchReply { body: Some(body) };
    if let Err(e) = shared.log.reply(&to, reply.encode_to_vec().into()).await {
        tracing::debug!(error = %e, "a scheduler's message was not answered");
    }
}

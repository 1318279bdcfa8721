//! What the scheduler wants done. Nothing here has happened yet: an offer may be refused, an append may lose its race.

use crate::nodes::NodeKey;
use cortex_model::event::RefusedOffer;
use cortex_model::ids::SessionId;
use cortex_model::{Actor, Commit, TaskKey, TaskSpec, UnixMillis};
use std::sync::Arc;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposal {
    /// Offer a task to a node; tell the answer with `offer_answered`.
    Offer(Box<OfferProposal>),
    /// Append at this revision; tell the result with `appended`.
    Append {
        /// The task.
        task: TaskKey,
        /// Its revision.
        expect: u64,
        /// The commit.
        commit: Commit,
    },
    /// Ask a node what it knows of an attempt; tell the answer with `query_answered`.
    Query {
        /// The task.
        task: TaskKey,
        /// The attempt.
        attempt: u32,
        /// The node.
        node: NodeKey,
        /// Its connection.
        session: SessionId,
    },
    /// Tell a node to stop an attempt; the outcome is the answer.
    Cancel {
        /// The task.
        task: TaskKey,
        /// The attempt.
        attempt: u32,
        /// The node.
        node: NodeKey,
        /// Its connection.
        session: SessionId,
        /// Why.
        reason: String,
    },
}

/// An offer with everything the gateway needs.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferProposal {
    /// The task.
    pub task: TaskKey,
    /// Under which key it was submitted.
    pub idempotency_key: String,
    /// The attempt this would be.
    pub attempt: u32,
    /// The revision the claim must meet.
    pub fence: u64,
    /// Position of the commit that `Started` would be.
    pub next_n: u64,
    /// What to do.
    pub spec: Arc<TaskSpec>,
    /// Who asked.
    pub actor: Actor,
    /// End of patience.
    pub deadline_at: Option<UnixMillis>,
    /// To whom.
    pub node: NodeKey,
    /// Its connection.
    pub session: SessionId,
    /// When.
    pub offered_at: UnixMillis,
    /// Why this node, for people.
    pub reason: String,
    /// Offers before that were not taken.
    pub refused: Vec<RefusedOffer>,
}

/// How an offer was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The node claims; the log will tell whether it got it.
    Claimed,
    /// It does not want it now, for this reason.
    Busy(String),
    /// It saw this attempt before: it must not be offered it again.
    Known,
    /// The connection is gone.
    Gone,
    /// Nobody answered in time.
    Timeout,
}

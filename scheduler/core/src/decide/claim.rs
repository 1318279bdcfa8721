//! What a node's claim turns an offer into.

use cortex_model::event::{RefusedOffer, Started};
use cortex_model::ids::SessionId;
use cortex_model::limits::REFUSALS_KEPT;
use cortex_model::{Commit, Event, Incarnation, NodeId, UnixMillis};

/// What the offer said that must be recorded with the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The attempt that was offered.
    pub attempt: u32,
    /// Position that the commit will have in the task's history.
    pub next_n: u64,
    /// Scheduler that offered.
    pub by: String,
    /// When.
    pub at: UnixMillis,
    /// Why this node, for people.
    pub reason: String,
    /// Offers of this attempt that were not taken before, oldest first.
    pub refused: Vec<RefusedOffer>,
}

/// Who claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The node.
    pub node: NodeId,
    /// Life of its journal.
    pub incarnation: Incarnation,
    /// Its session.
    pub session: SessionId,
    /// The gateway that holds the session.
    pub gateway: String,
}

/// The commit by which a claim becomes real. It must be appended exactly at the fence that the offer named: that append, not
/// this function, decides whether the node may start.
#[must_use]
pub fn started(offer: Offered, claimant: Claimant, now: UnixMillis) -> Commit {
    let mut refused = offer.refused;
    refused.truncate(REFUSALS_KEPT);
    let started = Started {
        attempt: offer.attempt,
        node: claimant.node,
        incarnation: claimant.incarnation,
        session: claimant.session,
        offered_by: offer.by,
        offered_at: offer.at,
        reason: offer.reason,
        refused,
        at: now,
        gateway: claimant.gateway,
    };
    Commit { n: offer.next_n, events: vec![Event::Started(Box::new(started))] }
}

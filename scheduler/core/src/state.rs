//! What the scheduler knows: open tasks as the log tells them, and beside each what is only remembered here (offers,
//! questions, pauses) and can be lost. Data only; `apply` and `propose` change it.

use crate::task::{TaskView, Violation};
use cortex_model::event::RefusedOffer;
use cortex_model::ids::SessionId;
use cortex_model::{Incarnation, NodeFacts, NodeId, Requirement, UnixMillis};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) type TaskIx = u32;
pub(crate) type NodeIx = u32;
pub(crate) type ClassIx = u32;
pub(crate) type GroupIx = u32;
pub(crate) type WsIx = u32;

/// Order in a queue: highest priority first, then oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) negated_priority: i32,
    pub(crate) submitted_at: UnixMillis,
    pub(crate) task: TaskIx,
}

/// An open task.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) view: TaskView,
    pub(crate) shard: u32,
    /// Its history is impossible: nothing is done with it any more.
    pub(crate) broken: Option<Violation>,
    pub(crate) ws: WsIx,
    /// Set from the first time it waits in a queue until it is no longer pending.
    pub(crate) class: Option<ClassIx>,
    pub(crate) queued: bool,
    pub(crate) timer: Option<UnixMillis>,
    pub(crate) live: Live,
}

/// What is remembered of a task beside its history.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) offer: Option<OpenOffer>,
    pub(crate) refused: Vec<RefusedOffer>,
    /// Not offered before; grows with refusals that concern the task.
    pub(crate) hold_until: Option<UnixMillis>,
    pub(crate) holds: u32,
    /// The pause that its last release ordered is over.
    pub(crate) ripe: bool,
    /// An append was proposed; until then its result is awaited.
    pub(crate) append_until: Option<UnixMillis>,
    /// When the node is asked about the attempt; none when it has confirmed it.
    pub(crate) query_at: Option<UnixMillis>,
    /// The question that is open.
    pub(crate) query: Option<u64>,
    pub(crate) cancel_at: UnixMillis,
    /// The node said that it does not run the attempt any more.
    pub(crate) stopped: bool,
    /// Since when the node is there but cannot account for the attempt.
    pub(crate) unaccounted: Option<UnixMillis>,
}

#[derive(Clone, Debug)]
pub(crate) struct OpenOffer {
    pub(crate) id: u64,
    pub(crate) node: NodeIx,
    pub(crate) expires: UnixMillis,
    pub(crate) claimed: bool,
}

/// A node, connected or remembered.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) ws: WsIx,
    pub(crate) id: NodeId,
    pub(crate) facts: Arc<NodeFacts>,
    /// Set while it is connected.
    pub(crate) online: Option<Online>,
    pub(crate) gone_at: Option<UnixMillis>,
    pub(crate) slots: u32,
    /// Slots taken by what this scheduler does not know of.
    pub(crate) foreign: u32,
    /// Largest size of the journal's present life that was seen.
    pub(crate) journal_seen: u64,
    /// Attempts that run there as far as the log says.
    pub(crate) running: BTreeSet<TaskIx>,
    /// Those of the present session: they hold slots.
    pub(crate) used: u32,
    /// Own offers without `Started`.
    pub(crate) offers: u32,
    pub(crate) cooling: Option<Cooling>,
    pub(crate) refusals: u32,
    /// Number of the last offer to it; the one that waits longest goes first among equals.
    pub(crate) last_offer: u64,
    pub(crate) group: Option<GroupIx>,
    /// Where it stands among its group's available nodes.
    pub(crate) placed: Option<Rank>,
}

/// Order among nodes: least loaded (per mille), then longest without an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) load: u32,
    pub(crate) last_offer: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Online {
    pub(crate) session: SessionId,
    pub(crate) incarnation: Incarnation,
    pub(crate) generation: u64,
    pub(crate) gateway: Arc<str>,
    pub(crate) connected_at: UnixMillis,
    /// When this scheduler learned of it.
    pub(crate) seen_at: UnixMillis,
}

#[derive(Clone, Debug)]
pub(crate) struct Cooling {
    pub(crate) until: UnixMillis,
    /// It only lacked a slot: the next one that comes free ends the pause.
    pub(crate) full: bool,
    pub(crate) why: String,
}

/// Tasks with the same needs.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) ws: WsIx,
    pub(crate) key: ClassKey,
    pub(crate) needs: Vec<Requirement>,
    pub(crate) queue: BTreeSet<Place>,
    /// Pending tasks of this class, queued or not.
    pub(crate) tasks: usize,
    /// No node is available; the next one that is wakes it.
    pub(crate) stalled: bool,
    /// Its place among the workspace's ready classes.
    pub(crate) ready: Option<Place>,
    /// Groups of nodes that have what it needs. Unused when pinned.
    pub(crate) groups: BTreeSet<GroupIx>,
    /// The first available node of each of those groups, if it has one.
    pub(crate) heads: BTreeSet<(Rank, NodeIx)>,
    /// Order in which idle classes are forgotten.
    pub(crate) idle_since: Option<u64>,
}

/// Requirements in canonical text, and the pinned node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassKey {
    pub(crate) needs: Vec<String>,
    pub(crate) node: Option<NodeId>,
}

/// Nodes that meet the needs of exactly the same classes.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) signature: Vec<ClassIx>,
    pub(crate) members: BTreeSet<NodeIx>,
    pub(crate) available: BTreeSet<(Rank, NodeIx)>,
    /// The first of these, as its classes know it.
    pub(crate) head: Option<(Rank, NodeIx)>,
}

/// A tenant.
#[derive(Debug, Default)]
pub(crate) struct Ws {
    pub(crate) nodes: BTreeMap<NodeId, NodeIx>,
    pub(crate) away: BTreeSet<(UnixMillis, NodeIx)>,
    pub(crate) classes: BTreeMap<ClassKey, ClassIx>,
    pub(crate) pinned: BTreeMap<NodeId, BTreeSet<ClassIx>>,
    pub(crate) idle: BTreeSet<(u64, ClassIx)>,
    pub(crate) groups: BTreeMap<Vec<ClassIx>, GroupIx>,
    /// Classes with work and, as far as is known, a node for it.
    pub(crate) ready: BTreeSet<(Place, ClassIx)>,
}

impl Node {
    pub(crate) fn new(ws: WsIx, id: NodeId) -> Node {
        Node {
            ws,
            id,
            facts: Arc::default(),
            online: None,
            gone_at: None,
            slots: 0,
            foreign: 0,
            journal_seen: 0,
            running: BTreeSet::new(),
            used: 0,
            offers: 0,
            cooling: None,
            refusals: 0,
            last_offer: 0,
            group: None,
            placed: None,
        }
    }

    /// Whether it is connected and this is its session.
    pub(crate) fn in_session(&self, session: &SessionId) -> bool {
        self.online.as_ref().is_some_and(|o| o.session == *session)
    }

    /// Slots that can be offered.
    pub(crate) fn free(&self) -> u32 {
        self.slots
            .saturating_sub(self.used)
            .saturating_sub(self.offers)
            .saturating_sub(self.foreign)
    }

    /// Where it should stand among available nodes; none if it cannot take anything now.
    pub(crate) fn rank(&self) -> Option<Rank> {
        let free = self.free();
        if self.online.is_none() || self.cooling.is_some() || free == 0 {
            return None;
        }
        let load = 1000 - (u64::from(free) * 1000 / u64::from(self.slots.max(1))).min(1000);
        Some(Rank { load: u32::try_from(load).unwrap_or(1000), last_offer: self.last_offer })
    }

    /// The node said how many slots are free: what cannot be explained by what is known here is somebody else's.
    pub(crate) fn reported_free(&mut self, free: u32) {
        let taken = self.slots.saturating_sub(free);
        self.foreign = taken.saturating_sub(self.used).saturating_sub(self.offers);
    }
}

//! The scheduler fold: what the log says of all open tasks, which nodes are there, and what follows. State changes only in
//! [`Scheduler::apply`]; presence, open offers and pauses are an overlay that may be lost at any time without harm, because
//! every proposal is checked again by a fenced append. It does no I/O and never waits.
//!
//! ```text
//!   commits of the log --apply--> tasks --+                       +--> Offer   to a node's gateway
//!   presence  --node_up, node_gone------> +--propose(now)-------> +--> Append  fenced, to the log
//!   answers   --offer_answered, ...-----> +   next_wakeup()       +--> Query, Cancel  to a node
//! ```

use crate::slab::Slab;
use crate::state::{Class, Entry, Group, Node, NodeIx, TaskIx, Ws, WsIx};
use crate::task::{TaskView, Violation};
use cortex_model::event::RefusedOffer;
use cortex_model::ids::SessionId;
use cortex_model::{
    Actor, Commit, Incarnation, NodeFacts, NodeId, TaskKey, TaskSpec, UnixMillis, Workspace,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A commit as the log recorded it.
#[derive(Clone, Debug)]
pub struct RecordedCommit {
    /// Shard of the task.
    pub shard: u32,
    /// Which task.
    pub task: TaskKey,
    /// Its revision.
    pub revision: u64,
    /// The log's clock.
    pub at: UnixMillis,
    /// What happened.
    pub commit: Commit,
}

/// A connected node as its gateway announces it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Owner.
    pub workspace: Workspace,
    /// The node.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// Life of its journal.
    pub incarnation: Incarnation,
    /// Connection of the session; a higher one wins.
    pub generation: u64,
    /// Gateway that holds the connection.
    pub gateway: Arc<str>,
    /// Since when.
    pub connected_at: UnixMillis,
    /// Slots in all.
    pub slots: u32,
    /// Free ones, as last reported.
    pub slots_free: u32,
    /// Size of its journal, as last reported.
    pub journal_size: u64,
    /// What it can do.
    pub facts: Arc<NodeFacts>,
}

/// Why a node did not take an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No free slot.
    NoSlot,
    /// It saw this attempt before.
    KnownAttempt,
    /// It is going away.
    Leaving,
    /// It takes no work at all at present.
    Unable,
}

/// What became of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferAnswer {
    /// The node claims; `Started` is being appended.
    Claimed {
        /// Free slots after the claim.
        slots_free: u32,
    },
    /// The node does not take it.
    Busy {
        /// Why.
        reason: Refusal,
        /// Free slots.
        slots_free: u32,
        /// In words; may be empty.
        why: String,
    },
    /// No gateway holds this session.
    Gone,
    /// Nobody answered in time.
    Timeout,
}

/// What a node knows of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Neither claim nor intent.
    Unknown,
    /// Claimed, waits for its go.
    Claiming,
    /// Running, or ended and the outcome is on its way.
    Known,
    /// Its outcome was acknowledged.
    Done,
}

/// What became of a proposed append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResult {
    /// Durable; the log will show it.
    Ok,
    /// Somebody else was first; the log will show what.
    Conflict,
    /// Nobody knows, or it failed.
    Unknown,
}

/// What the scheduler wants done. Nothing here is a promise: a lost or doubled proposal does no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposal {
    /// Offer a task to a node.
    Offer(Box<Offer>),
    /// Append at exactly this revision.
    Append {
        /// To which task.
        task: TaskKey,
        /// The fence.
        expect: u64,
        /// What.
        commit: Commit,
    },
    /// Ask the node of a running attempt what it knows of it.
    Query {
        /// Comes back with the answer.
        id: u64,
        /// Where and what.
        to: AttemptAt,
    },
    /// Ask the node of a running attempt to end it.
    Cancel {
        /// Comes back with the answer.
        id: u64,
        /// Where and what.
        to: AttemptAt,
        /// Why, for people.
        reason: String,
    },
}

/// An attempt and the session through which its node is reached now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptAt {
    /// The task.
    pub task: TaskKey,
    /// The attempt.
    pub attempt: u32,
    /// The node.
    pub node: NodeId,
    /// Its present session.
    pub session: SessionId,
}

/// An offer, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Comes back with the answer; unique among schedulers if their seeds differ.
    pub id: u64,
    /// Where and what.
    pub to: AttemptAt,
    /// The revision the claim must meet.
    pub fence: u64,
    /// Position that `Started` will have in the task's history.
    pub next_n: u64,
    /// What to do.
    pub spec: Arc<TaskSpec>,
    /// Who asked.
    pub actor: Actor,
    /// Under which key.
    pub idempotency_key: String,
    /// End of patience.
    pub deadline_at: Option<UnixMillis>,
    /// When it is offered.
    pub offered_at: UnixMillis,
    /// Why this node, for people.
    pub reason: String,
    /// Earlier offers of this attempt that were not taken.
    pub refused: Vec<RefusedOffer>,
}

/// Work counted, to see that it does not grow with the number of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Placements decided, with or without a node.
    pub decisions: u64,
    /// Nodes looked at for them.
    pub examined: u64,
}

/// The fold and its overlay. See the module's page.
#[derive(Debug, Default)]
pub struct Scheduler {
    pub(crate) tasks: Slab<Entry>,
    pub(crate) by_key: HashMap<TaskKey, TaskIx>,
    pub(crate) broken: BTreeMap<TaskKey, Violation>,
    pub(crate) nodes: Slab<Node>,
    pub(crate) classes: Slab<Class>,
    pub(crate) groups: Slab<Group>,
    pub(crate) ws: Slab<Ws>,
    pub(crate) ws_by_name: BTreeMap<Workspace, WsIx>,
    /// Workspaces with ready classes; they take turns.
    pub(crate) ready: BTreeSet<WsIx>,
    pub(crate) turn: WsIx,
    pub(crate) timers: BTreeSet<(UnixMillis, TaskIx)>,
    pub(crate) node_timers: BTreeSet<(UnixMillis, NodeIx)>,
    pub(crate) owned: BTreeSet<u32>,
    /// Since when presence is complete; silence before that means nothing.
    pub(crate) listening_since: Option<UnixMillis>,
    pub(crate) offers: HashMap<u64, TaskIx>,
    pub(crate) queries: HashMap<u64, TaskIx>,
    pub(crate) outbox: Vec<Proposal>,
    pub(crate) ids: u64,
    pub(crate) counters: Counters,
}

impl Scheduler {
    /// An empty scheduler that owns nothing. `seed` keeps the ids of its offers apart from those of other schedulers.
    #[must_use]
    pub fn new(seed: u32) -> Scheduler {
        Scheduler { ids: u64::from(seed) << 32, ..Scheduler::default() }
    }

    /// From now on it proposes for the tasks of these shards and no others.
    pub fn owns(&mut self, shards: BTreeSet<u32>) {
        if self.owned == shards {
            return;
        }
        self.owned = shards;
        for ix in self.tasks.indices() {
            let owned = self.tasks.get(ix).is_some_and(|e| self.owned.contains(&e.shard));
            if !owned && let Some(node) = self.drop_offer(ix) {
                self.reindex(node);
            }
            self.refresh(ix);
        }
    }

    /// Whether it is an open task that this scheduler proposes for.
    #[must_use]
    pub fn owns_task(&self, key: &TaskKey) -> bool {
        let entry = self.by_key.get(key).and_then(|ix| self.tasks.get(*ix));
        entry.is_some_and(|e| self.owned.contains(&e.shard))
    }

    /// All gateways were heard: from now on, a node that is not there is away.
    pub fn presence_complete(&mut self, now: UnixMillis) {
        if self.listening_since.is_none() {
            self.listening_since = Some(now);
            for ix in self.tasks.indices() {
                self.refresh(ix);
            }
        }
    }

    /// When [`Scheduler::propose`] should be called again, if nothing happens before. In the past when there is work now.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<UnixMillis> {
        if !self.outbox.is_empty() || !self.ready.is_empty() {
            return Some(UnixMillis(0));
        }
        let task = self.timers.first().map(|(at, _)| *at);
        let node = self.node_timers.first().map(|(at, _)| *at);
        task.into_iter().chain(node).min()
    }

    /// An open task, as the log tells it.
    #[must_use]
    pub fn task(&self, key: &TaskKey) -> Option<&TaskView> {
        self.by_key.get(key).and_then(|ix| self.tasks.get(*ix)).map(|e| &e.view)
    }

    /// Open tasks.
    #[must_use]
    pub fn open_tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Tasks whose history is impossible and with which nothing is done any more, with the reason.
    pub fn quarantined(&self) -> impl Iterator<Item = (&TaskKey, &Violation)> {
        self.broken.iter()
    }

    /// Work counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }
}

//! What the scheduler knows of nodes: who is there, with what, and how many slots are free. All of it is presence: it can
//! be lost at any time and costs nothing but time.

use cortex_model::ids::SessionId;
use cortex_model::{Incarnation, NodeFacts, NodeId, TaskKey, UnixMillis, Workspace};
use std::collections::{BTreeMap, BTreeSet};

/// A node within its workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey {
    /// Owner.
    pub workspace: Workspace,
    /// Name.
    pub node: NodeId,
}

/// A connected node, as its gateway announced it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// Which node.
    pub key: NodeKey,
    /// Its connection.
    pub session: SessionId,
    /// Life of its journal.
    pub incarnation: Incarnation,
    /// What it can do.
    pub facts: NodeFacts,
    /// Slots in all.
    pub slots: u32,
    /// Largest size of its journal that was seen.
    pub journal_size: u64,
}

/// A node and what is going on there.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) view: NodeView,
    /// Offers without an answer.
    pub(crate) offered: BTreeSet<TaskKey>,
    /// Attempts that run there, by the log.
    pub(crate) running: BTreeSet<TaskKey>,
    /// Nothing is offered before; grows while it refuses.
    pub(crate) rest_until: UnixMillis,
    pub(crate) refusals: u32,
}

impl Node {
    /// Slots that are neither used nor promised.
    pub(crate) fn free(&self) -> u32 {
        let used = self.offered.len() + self.running.len();
        self.view.slots.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }
}

/// Nodes that were connected once and are not now.
#[derive(Clone, Debug)]
pub(crate) struct Absent {
    pub(crate) since: UnixMillis,
    pub(crate) facts: NodeFacts,
    pub(crate) incarnation: Incarnation,
    pub(crate) journal_size: u64,
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub(crate) present: BTreeMap<NodeKey, Node>,
    pub(crate) absent: BTreeMap<NodeKey, Absent>,
    /// Attempts that run on a node, also on one that is not there.
    pub(crate) running: BTreeMap<NodeKey, BTreeSet<TaskKey>>,
}

impl Nodes {
    pub(crate) fn started(&mut self, node: &NodeKey, task: &TaskKey) {
        self.running.entry(node.clone()).or_default().insert(task.clone());
        if let Some(n) = self.present.get_mut(node) {
            n.running.insert(task.clone());
            n.offered.remove(task);
        }
    }

    pub(crate) fn stopped(&mut self, node: &NodeKey, task: &TaskKey) {
        if let Some(all) = self.running.get_mut(node) {
            all.remove(task);
            if all.is_empty() {
                self.running.remove(node);
            }
        }
        if let Some(n) = self.present.get_mut(node) {
            n.running.remove(task);
        }
    }

    /// The largest journal size seen of a node's life.
    pub(crate) fn journal_seen(&self, node: &NodeKey, incarnation: &Incarnation) -> u64 {
        match (self.present.get(node), self.absent.get(node)) {
            (Some(n), _) if n.view.incarnation == *incarnation => n.view.journal_size,
            (_, Some(a)) if a.incarnation == *incarnation => a.journal_size,
            _ => 0,
        }
    }
}

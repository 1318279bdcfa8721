//! The fold of all tasks a scheduler follows. What the log says changes state in [`Scheduler::apply`] and nowhere else; what
//! nodes, gateways and clocks say is an overlay that may be lost at any time. The scheduler proposes; it never acts.

use crate::nodes::{Absent, Node, NodeKey, NodeView, Nodes};
use crate::proposal::{Answer, Proposal};
use crate::queue::{ClassKey, Position, Queue};
use crate::task::TaskView;
use crate::timers::Timers;
use cortex_model::event::RefusedOffer;
use cortex_model::ids::SessionId;
use cortex_model::limits::{REFUSALS_KEPT, REOFFER_AFTER_MS};
use cortex_model::{Commit, Event, NodeFacts, TaskKey, TaskState, UnixMillis};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Longest rest of a node that keeps refusing, milliseconds.
const REST_MAX_MS: u64 = 5_000;
/// Nodes that are not connected are remembered up to this number, for explanations and journal sizes.
const ABSENT_MAX: usize = 100_000;
/// Groups of tasks kept although nobody waits in them.
const CLASSES_KEPT: usize = 10_000;

/// A commit of a task, as the log has it.
#[derive(Clone, Debug)]
pub struct RecordedCommit {
    /// The task.
    pub task: TaskKey,
    /// Shard it came from.
    pub shard: u32,
    /// Its revision.
    pub rev: u64,
    /// Log's clock.
    pub at: UnixMillis,
    /// What happened.
    pub commit: Commit,
}

/// A task that is not over, with what is going on about it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) view: TaskView,
    pub(crate) shard: u32,
    pub(crate) class: ClassKey,
    /// Stands in the queue.
    pub(crate) queued: bool,
    /// Offered to this node, since then.
    pub(crate) offer: Option<(NodeKey, UnixMillis)>,
    pub(crate) refusals: Vec<RefusedOffer>,
    /// An append was proposed and its result did not show yet.
    pub(crate) appending: bool,
    /// The node said on this connection that it knows the attempt.
    pub(crate) known_in: Option<SessionId>,
    /// Next question or reminder to the node.
    pub(crate) ask_at: UnixMillis,
    /// Since when its node has been missing.
    pub(crate) missing_since: Option<UnixMillis>,
    /// Why nothing is done with it any more.
    pub(crate) quarantine: Option<String>,
}

impl Entry {
    pub(crate) fn position(&self) -> Position {
        (Reverse(self.view.spec.priority), self.view.submitted_at.0, self.view.key.clone())
    }

    pub(crate) fn node(&self) -> Option<NodeKey> {
        let node = self.view.node()?.clone();
        Some(NodeKey { workspace: self.view.key.workspace.clone(), node })
    }
}

/// Counters, for metrics and for the promise that decisions stay cheap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Offers proposed.
    pub offers: u64,
    /// Nodes looked at to find those offers' nodes, and once for each group of tasks that is new.
    pub nodes_examined: u64,
    /// Commits that broke an invariant.
    pub violations: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Scheduler {
    pub(crate) tasks: HashMap<TaskKey, Entry>,
    pub(crate) nodes: Nodes,
    pub(crate) queue: Queue,
    pub(crate) timers: Timers,
    /// Nodes that rest, and until when.
    pub(crate) resting: BTreeSet<(UnixMillis, NodeKey)>,
    /// Tasks to look at with the next proposal.
    pub(crate) dirty: BTreeSet<TaskKey>,
    pub(crate) owned: BTreeSet<u32>,
    pub(crate) applied: BTreeMap<u32, u64>,
    /// What it did.
    pub counters: Counters,
}

impl Scheduler {
    /// An empty scheduler that owns nothing.
    #[must_use]
    pub fn new() -> Scheduler {
        Scheduler::default()
    }

    /// Shards whose tasks this scheduler dispatches from now on. It follows all of them.
    pub fn own(&mut self, shards: BTreeSet<u32>) {
        if shards == self.owned {
            return;
        }
        self.owned = shards;
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        for key in keys {
            self.unqueue(&key);
            self.dirty.insert(key);
        }
    }

    /// Applies the next commit of a shard.
    pub fn apply(&mut self, r: &RecordedCommit) {
        self.applied.insert(r.shard, r.rev);
        let first = r.commit.events.first();
        let begins = matches!(first, Some(Event::Submitted(_) | Event::Archived(_)));
        let Some(before) = self.tasks.remove(&r.task) else {
            if begins {
                self.begin(r);
            }
            // Otherwise the task is over: what comes later changes nothing here.
            return;
        };
        self.detach(&before);
        let mut view = Some(before.view.clone());
        let applied = TaskView::apply(&mut view, &r.task, r.rev, r.at, &r.commit);
        let mut entry = before;
        if let Some(view) = view {
            entry.view = view;
        }
        entry.appending = false;
        if let Err(v) = applied {
            self.counters.violations += 1;
            entry.quarantine = Some(v.to_string());
        }
        if entry.view.state == TaskState::Running {
            entry.offer = None;
            entry.refusals.clear();
            entry.known_in = None;
            entry.missing_since = None;
        }
        self.keep(entry);
    }

    fn begin(&mut self, r: &RecordedCommit) {
        let mut view = None;
        if let Err(v) = TaskView::apply(&mut view, &r.task, r.rev, r.at, &r.commit) {
            self.counters.violations += 1;
            debug_assert!(
                view.is_none(),
                "a first commit that breaks an invariant leaves nothing: {v}"
            );
            return;
        }
        let Some(view) = view else { return };
        let class = ClassKey::of(&r.task, &view.spec);
        self.keep(Entry {
            view,
            shard: r.shard,
            class,
            queued: false,
            offer: None,
            refusals: Vec::new(),
            appending: false,
            known_in: None,
            ask_at: UnixMillis(0),
            missing_since: None,
            quarantine: None,
        });
    }

    /// Takes a task out of every index, before it changes.
    fn detach(&mut self, entry: &Entry) {
        let key = &entry.view.key;
        if entry.queued {
            self.queue.remove(&entry.class, &entry.position());
        }
        if let Some((node, _)) = &entry.offer {
            self.free_offer(node, key);
        }
        if let (TaskState::Running, Some(node)) = (entry.view.state, entry.node()) {
            self.nodes.stopped(&node, key);
            self.place(&node);
        }
    }

    /// Puts a task back after it changed, if it is not over.
    fn keep(&mut self, mut entry: Entry) {
        let key = entry.view.key.clone();
        entry.queued = false;
        entry.offer = None;
        if entry.view.state.is_over() {
            self.timers.set(&key, None);
            self.dirty.remove(&key);
            return;
        }
        if let (TaskState::Running, Some(node)) = (entry.view.state, entry.node()) {
            self.nodes.started(&node, &key);
            self.place(&node);
        }
        self.tasks.insert(key.clone(), entry);
        self.dirty.insert(key);
    }

    /// A node is connected, or said something new about itself.
    pub fn node_up(&mut self, view: NodeView) {
        let key = view.key.clone();
        let absent = self.nodes.absent.remove(&key);
        let running = self.nodes.running.get(&key).cloned().unwrap_or_default();
        self.dirty.extend(running.iter().cloned());
        let before = self.nodes.present.remove(&key);
        let seen = match (&before, absent) {
            (Some(n), _) if n.view.incarnation == view.incarnation => n.view.journal_size,
            (_, Some(a)) if a.incarnation == view.incarnation => a.journal_size,
            _ => 0,
        };
        let same_session = before.as_ref().is_some_and(|n| n.view.session == view.session);
        let same_facts = before.as_ref().is_some_and(|n| n.view.facts == view.facts);
        let facts = view.facts.clone();
        let mut node = Node {
            offered: before.as_ref().map(|n| n.offered.clone()).unwrap_or_default(),
            running,
            rest_until: UnixMillis(0),
            refusals: 0,
            view: NodeView { journal_size: view.journal_size.max(seen), ..view },
        };
        if let Some(n) = before.filter(|_| same_session) {
            node.rest_until = n.rest_until;
            node.refusals = n.refusals;
        }
        self.nodes.present.insert(key.clone(), node);
        if !same_facts {
            self.index_node(&key, &facts);
        }
        self.place(&key);
    }

    /// A connection ended. A newer one of the same node stays.
    pub fn node_gone(&mut self, key: &NodeKey, session: &SessionId, now: UnixMillis) {
        if self.nodes.present.get(key).is_none_or(|n| n.view.session != *session) {
            return;
        }
        let Some(node) = self.nodes.present.remove(key) else { return };
        for class in self.queue.of_node.remove(key).unwrap_or_default() {
            if let Some(c) = self.queue.classes.get_mut(&class) {
                c.place(key, None);
                c.eligible.remove(key);
            }
            self.queue.refresh(&class);
        }
        self.dirty.extend(node.running.iter().chain(&node.offered).cloned());
        for task in &node.offered {
            if let Some(entry) = self.tasks.get_mut(task) {
                entry.offer = None;
            }
        }
        let absent = Absent {
            since: now,
            facts: node.view.facts,
            incarnation: node.view.incarnation,
            journal_size: node.view.journal_size,
        };
        self.nodes.absent.insert(key.clone(), absent);
        while self.nodes.absent.len() > ABSENT_MAX {
            self.nodes.absent.pop_first();
        }
    }

    /// A node that was connected once, as the bucket of nodes remembers it. What is connected now is not changed.
    pub fn node_known(&mut self, view: NodeView, now: UnixMillis) {
        if self.nodes.present.contains_key(&view.key) || self.nodes.absent.len() >= ABSENT_MAX {
            return;
        }
        let NodeView { key, facts, incarnation, journal_size, .. } = view;
        self.nodes.absent.entry(key).or_insert(Absent {
            since: now,
            facts,
            incarnation,
            journal_size,
        });
    }

    /// How an offer was answered. An answer nobody waits for any more is ignored.
    pub fn offer_answered(
        &mut self,
        task: &TaskKey,
        node: &NodeKey,
        answer: Answer,
        now: UnixMillis,
    ) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if entry.offer.as_ref().is_none_or(|(n, _)| n != node) {
            return;
        }
        self.dirty.insert(task.clone());
        let why = match answer {
            // The log will show Started. If it does not, the task is looked at again in time.
            Answer::Claimed => {
                if let Some(n) = self.nodes.present.get_mut(node) {
                    n.refusals = 0;
                }
                return;
            }
            Answer::Busy(why) => why,
            Answer::Known => "it has seen this attempt before".to_owned(),
            Answer::Gone => "its connection was gone".to_owned(),
            Answer::Timeout => "it did not answer".to_owned(),
        };
        entry.offer = None;
        if entry.refusals.len() == REFUSALS_KEPT {
            entry.refusals.remove(0);
        }
        entry.refusals.push(RefusedOffer { node: node.node.clone(), why, at: now });
        self.free_offer(node, task);
        self.rest(node, now);
    }

    /// The result of a proposed append: true when it is in the log (the tail will show it), false when it lost or its fate is not known.
    pub fn appended(&mut self, task: &TaskKey, stored: bool, now: UnixMillis) {
        if let Some(entry) = self.tasks.get_mut(task).filter(|_| !stored) {
            entry.appending = false;
            entry.ask_at = now + REOFFER_AFTER_MS;
            self.timers.set(task, Some(now + REOFFER_AFTER_MS));
        }
    }

    /// Everything to do now, at most `most` proposals; call again at once if that many came.
    pub fn propose(&mut self, now: UnixMillis, most: usize) -> Vec<Proposal> {
        let mut out = Vec::new();
        self.wake_nodes(now);
        while let Some(task) = self.timers.pop(now) {
            self.dirty.insert(task);
        }
        while out.len() < most {
            let Some(task) = self.dirty.pop_first() else { break };
            self.look(&task, now, &mut out);
        }
        while out.len() < most {
            let Some(offer) = self.next_offer(now) else { break };
            out.push(Proposal::Offer(Box::new(offer)));
        }
        self.queue.forget_idle(CLASSES_KEPT);
        out
    }

    /// When `propose` has something to do again, if nothing else happens before.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<UnixMillis> {
        let resting = self.resting.first().map(|(at, _)| *at);
        let due = if self.dirty.is_empty() { None } else { Some(UnixMillis(0)) };
        [self.timers.next(), resting, due].into_iter().flatten().min()
    }

    /// The last revision applied of each shard.
    #[must_use]
    pub fn applied(&self) -> &BTreeMap<u32, u64> {
        &self.applied
    }

    /// A task that is not over.
    #[must_use]
    pub fn task(&self, key: &TaskKey) -> Option<&TaskView> {
        self.tasks.get(key).map(|e| &e.view)
    }

    /// Tasks that are not over.
    #[must_use]
    pub fn open_tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Nodes that are connected.
    #[must_use]
    pub fn nodes_present(&self) -> usize {
        self.nodes.present.len()
    }

    pub(crate) fn unqueue(&mut self, key: &TaskKey) {
        let Some(entry) = self.tasks.get_mut(key).filter(|e| e.queued) else { return };
        entry.queued = false;
        let (class, position) = (entry.class.clone(), entry.position());
        self.queue.remove(&class, &position);
    }

    pub(crate) fn enqueue(&mut self, key: &TaskKey) {
        let Some(entry) = self.tasks.get_mut(key).filter(|e| !e.queued) else { return };
        entry.queued = true;
        let (class, position) = (entry.class.clone(), entry.position());
        if self.queue.add(&class, position) {
            self.index_class(&class);
        }
    }

    /// Looks once for a group of tasks that is new at the node it is pinned to, or at every node.
    fn index_class(&mut self, class: &ClassKey) {
        let workspace = class.workspace.clone();
        let pinned = class.node.clone();
        let from = NodeKey { workspace, node: pinned.clone().unwrap_or_else(first_node) };
        let examined = &mut self.counters.nodes_examined;
        let keys: Vec<NodeKey> = self
            .nodes
            .present
            .range(from..)
            .take_while(|(k, _)| k.workspace == class.workspace)
            .take_while(|(k, _)| pinned.as_ref().is_none_or(|p| *p == k.node))
            .inspect(|_| *examined += 1)
            .filter(|(k, n)| class.lacks(&k.node, &n.view.facts).is_empty())
            .map(|(k, _)| k.clone())
            .collect();
        for key in keys {
            self.admit(class, &key);
            self.place(&key);
        }
    }

    /// Looks at every group once for a node that is new or changed.
    fn index_node(&mut self, key: &NodeKey, facts: &NodeFacts) {
        let classes: Vec<ClassKey> =
            self.queue.classes.keys().filter(|c| c.workspace == key.workspace).cloned().collect();
        for class in classes {
            if class.lacks(&key.node, facts).is_empty() {
                self.admit(&class, key);
            } else if let Some(c) = self.queue.classes.get_mut(&class) {
                c.place(key, None);
                c.eligible.remove(key);
                if let Some(of) = self.queue.of_node.get_mut(key) {
                    of.remove(&class);
                }
                self.queue.refresh(&class);
            }
        }
    }

    fn admit(&mut self, class: &ClassKey, node: &NodeKey) {
        if let Some(c) = self.queue.classes.get_mut(class) {
            c.eligible.entry(node.clone()).or_insert(None);
            self.queue.of_node.entry(node.clone()).or_default().insert(class.clone());
        }
    }

    /// Puts a node where it belongs in every group after its load changed.
    pub(crate) fn place(&mut self, key: &NodeKey) {
        let load = self.nodes.present.get(key).and_then(|n| {
            let resting = n.rest_until > UnixMillis(0);
            let free = n.free();
            (free > 0 && !resting).then(|| 1000 - free * 1000 / n.view.slots.max(1))
        });
        let classes: Vec<ClassKey> =
            self.queue.of_node.get(key).into_iter().flatten().cloned().collect();
        for class in classes {
            if let Some(c) = self.queue.classes.get_mut(&class) {
                c.place(key, load);
            }
            self.queue.refresh(&class);
        }
    }

    fn free_offer(&mut self, node: &NodeKey, task: &TaskKey) {
        if let Some(n) = self.nodes.present.get_mut(node) {
            n.offered.remove(task);
        }
        self.place(node);
    }

    fn rest(&mut self, node: &NodeKey, now: UnixMillis) {
        let Some(n) = self.nodes.present.get_mut(node) else { return };
        self.resting.remove(&(n.rest_until, node.clone()));
        n.rest_until = now + (REOFFER_AFTER_MS << n.refusals.min(8)).min(REST_MAX_MS);
        n.refusals += 1;
        self.resting.insert((n.rest_until, node.clone()));
        self.place(node);
    }

    fn wake_nodes(&mut self, now: UnixMillis) {
        while let Some((at, node)) = self.resting.first().cloned() {
            if at > now {
                return;
            }
            self.resting.pop_first();
            if let Some(n) = self.nodes.present.get_mut(&node).filter(|n| n.rest_until == at) {
                n.rest_until = UnixMillis(0);
            }
            self.place(&node);
        }
    }
}

/// Sorts before every other node name: '-' is the least character of a token.
fn first_node() -> cortex_model::NodeId {
    #[expect(clippy::expect_used, reason = "the literal is a token")]
    cortex_model::NodeId::parse("-").expect("a token")
}

//! Why a task is not running, and what would change that, in words for people.

use crate::placing::meets;
use crate::scheduler::Scheduler;
use crate::state::{Class, ClassKey, Entry, Node, TaskIx};
use cortex_model::limits::EXPLAIN_NODES_MAX;
use cortex_model::{NodeId, Requirement, TaskKey, TaskState, UnixMillis};
use std::collections::BTreeSet;

/// The answer to "why is this not running?".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// One sentence.
    pub summary: String,
    /// What would change it.
    pub suggestions: Vec<String>,
    /// Nodes of the workspace, the closest first, at most [`EXPLAIN_NODES_MAX`].
    pub nodes: Vec<NodeVerdict>,
    /// Nodes beyond those.
    pub more_nodes: u64,
    /// Tasks with the same needs that go first.
    pub queued_ahead: u64,
}

/// What one node has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeVerdict {
    /// The node.
    pub node: NodeId,
    /// It has what the task needs.
    pub eligible: bool,
    /// It is connected.
    pub online: bool,
    /// What it lacks, or why it cannot take the task now.
    pub lacks: Vec<String>,
}

impl Scheduler {
    /// Explains an open task; none when it is not one.
    #[must_use]
    pub fn explain(&self, key: &TaskKey, now: UnixMillis) -> Option<Explanation> {
        if let Some(violation) = self.broken.get(key) {
            return Some(Explanation {
                summary: format!(
                    "its history is inconsistent, so nothing is done with it: {violation}"
                ),
                suggestions: vec!["look at its history and report this".to_owned()],
                ..Explanation::default()
            });
        }
        let ix = self.by_key.get(key).copied()?;
        let entry = self.tasks.get(ix)?;
        Some(match entry.view.state {
            TaskState::Pending => self.explain_pending(ix, entry, now),
            TaskState::Running => self.explain_running(entry, now),
            TaskState::Indeterminate => Explanation {
                summary: format!("nobody knows how it ended: {}", entry.view.evidence),
                suggestions: vec![
                    "look at its effects, then settle it with 'cortex task resolve'".to_owned(),
                    "if its node comes back with a report, that settles it".to_owned(),
                ],
                ..Explanation::default()
            },
            TaskState::Succeeded
            | TaskState::Failed
            | TaskState::Cancelled
            | TaskState::Denied
            | TaskState::Expired => Explanation {
                summary: format!("it is over: {}", entry.view.state.name()),
                ..Explanation::default()
            },
        })
    }

    fn explain_running(&self, entry: &Entry, now: UnixMillis) -> Explanation {
        let v = &entry.view;
        let name = v.node().map_or("a node", NodeId::as_str);
        let since = v.started.as_ref().map_or(0, |s| now.since(s.at)) / 1000;
        let mut e = Explanation::default();
        let node = self.node_of(entry);
        if node.is_some_and(|n| n.online.is_some()) {
            e.summary = format!("it runs on {name} since {since} s");
            if let Some(asked) = &v.asking {
                let waits = now.since(asked.at) / 1000;
                e.summary = format!("it waits for the owner of {name}, since {waits} s");
                e.suggestions.push(format!(
                    "on {name}: cortex-agent consent show {}, then allow or deny",
                    asked.question
                ));
            } else if !self.accounts_for(entry, node) {
                e.summary = format!("it started on {name}, which does not know of it");
            }
        } else {
            e.summary = format!("it started on {name} {since} s ago, and {name} is not connected");
            e.suggestions.push(format!("bring {name} back: its journal knows what happened"));
        }
        if v.cancel_requested {
            e.summary.push_str("; its cancellation was requested and waits for the node's proof");
        }
        e
    }

    fn explain_pending(&self, ix: TaskIx, entry: &Entry, now: UnixMillis) -> Explanation {
        let class = self.class_like(entry);
        let mut nodes = self.verdicts(&class, now);
        let all = nodes.len();
        let eligible = nodes.iter().filter(|v| v.eligible).count();
        let ready = nodes.iter().filter(|v| v.eligible && v.lacks.is_empty()).count();
        let queued_ahead = self.queued_ahead(ix, entry);
        let mut e = Explanation { queued_ahead, ..Explanation::default() };
        let live = &entry.live;
        if let Some(offer) = &live.offer {
            let name = self.nodes.get(offer.node).map_or("a node", |n| n.id.as_str());
            let how = if offer.claimed { "claimed by" } else { "being offered to" };
            e.summary = format!("it is {how} {name}");
        } else if let Some(at) = entry.view.retry_at.filter(|at| *at > now && !live.ripe) {
            let seconds = at.since(now).div_ceil(1000);
            e.summary = format!("attempt {} waits for {seconds} s more", entry.view.attempt + 1);
        } else if eligible == 0 {
            e.summary = lacking(&class, all);
            e.suggestions = remedies(&class, &nodes);
        } else if ready == 0 {
            e.summary = "every node that has what it needs is away or busy".to_owned();
            e.suggestions.push("it starts as soon as one of them is free".to_owned());
        } else if queued_ahead > 0 {
            e.summary = format!("{queued_ahead} tasks with the same needs go first");
        } else {
            e.summary = "it is about to be offered".to_owned();
        }
        e.more_nodes = all.saturating_sub(EXPLAIN_NODES_MAX) as u64;
        nodes.truncate(EXPLAIN_NODES_MAX);
        e.nodes = nodes;
        e
    }

    /// The task's class, also when it is not in it at present.
    fn class_like(&self, entry: &Entry) -> Class {
        let spec = &entry.view.spec;
        let key = ClassKey { needs: spec.requirements(), node: spec.node.clone() };
        let needs = key.needs.iter().filter_map(|n| Requirement::parse(n).ok()).collect();
        Class {
            ws: entry.ws,
            key,
            needs,
            queue: BTreeSet::new(),
            tasks: 0,
            stalled: false,
            ready: None,
            groups: BTreeSet::new(),
            heads: BTreeSet::new(),
            idle_since: None,
        }
    }

    fn verdicts(&self, class: &Class, now: UnixMillis) -> Vec<NodeVerdict> {
        let Some(ws) = self.ws.get(class.ws) else { return Vec::new() };
        let nodes = ws.nodes.values().filter_map(|ix| self.nodes.get(*ix));
        let known = nodes.filter(|n| n.online.is_some() || !n.facts.labels.is_empty());
        let mut verdicts: Vec<NodeVerdict> = known.map(|n| verdict(class, n, now)).collect();
        verdicts.sort_by_key(|v| (!v.eligible, !v.online, v.lacks.len(), v.node.clone()));
        verdicts
    }

    fn queued_ahead(&self, ix: TaskIx, entry: &Entry) -> u64 {
        let Some(class) = entry.class.and_then(|c| self.classes.get(c)) else { return 0 };
        let own = crate::placing::place(ix, &entry.view);
        class.queue.range(..own).count() as u64
    }
}

fn verdict(class: &Class, node: &Node, now: UnixMillis) -> NodeVerdict {
    let mut lacks: Vec<String> =
        class.needs.iter().filter_map(|need| node.facts.meets(need).err()).collect();
    if class.key.node.as_ref().is_some_and(|id| *id != node.id) {
        lacks.push("the task is pinned to another node".to_owned());
    }
    let eligible = lacks.is_empty();
    debug_assert!(!eligible || meets(class, node));
    let online = node.online.is_some();
    if !online {
        let since = node.gone_at.map(|at| format!(" since {} s", now.since(at) / 1000));
        lacks.push(format!("is not connected{}", since.unwrap_or_default()));
    } else if let Some(cooling) = &node.cooling {
        lacks.push(format!("refused an offer just now: {}", cooling.why));
    } else if node.free() == 0 {
        lacks.push(format!("has none of its {} slots free", node.slots));
    }
    NodeVerdict { node: node.id.clone(), eligible, online, lacks }
}

fn lacking(class: &Class, nodes: usize) -> String {
    match &class.key.node {
        Some(pinned) => {
            format!("node {pinned}, which it is pinned to, is not known or lacks what it needs")
        }
        None if nodes == 0 => "no node of this workspace is connected".to_owned(),
        None => format!("none of {nodes} nodes has all it needs: {}", class.key.needs.join(", ")),
    }
}

fn remedies(class: &Class, nodes: &[NodeVerdict]) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(pinned) = &class.key.node {
        out.push(format!("connect node {pinned}"));
    }
    if nodes.is_empty() && class.key.node.is_none() {
        out.push("connect a node; the task waits for it".to_owned());
    }
    if let Some(closest) = nodes.first().filter(|_| class.key.node.is_none()) {
        out.push(format!("the closest is {}: {}", closest.node, closest.lacks.join("; ")));
    }
    out
}

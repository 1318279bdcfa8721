//! Waiting tasks, grouped by what they need, and for each group the nodes that could take one. A decision looks at the head of
//! a group and at its least loaded node, so its cost hardly grows with the number of nodes or tasks.

use crate::nodes::NodeKey;
use cortex_model::{NodeFacts, NodeId, Requirement, TaskKey, TaskSpec, Workspace};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a group of tasks needs: owner, pinned node, requirements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassKey {
    pub(crate) workspace: Workspace,
    pub(crate) node: Option<NodeId>,
    pub(crate) requirements: Vec<String>,
}

impl ClassKey {
    pub(crate) fn of(task: &TaskKey, spec: &TaskSpec) -> ClassKey {
        ClassKey {
            workspace: task.workspace.clone(),
            node: spec.node.clone(),
            requirements: spec.requirements(),
        }
    }

    /// What a node lacks for this class; empty when it could take its tasks.
    pub(crate) fn lacks(&self, node: &NodeId, facts: &NodeFacts) -> Vec<String> {
        let mut lacks = Vec::new();
        if let Some(pinned) = self.node.as_ref().filter(|p| *p != node) {
            lacks.push(format!("the task is pinned to {pinned}"));
        }
        for text in &self.requirements {
            match Requirement::parse(text) {
                Ok(r) => lacks.extend(facts.meets(&r).err()),
                Err(f) => lacks.push(f.message),
            }
        }
        lacks
    }
}

/// Order within a class: priority, then age.
pub(crate) type Position = (Reverse<i32>, u64, TaskKey);

/// A group of waiting tasks and the nodes that could take them.
#[derive(Debug, Default)]
pub(crate) struct Class {
    pub(crate) waiting: BTreeSet<Position>,
    /// Eligible nodes with a free slot: least relative load first.
    pub(crate) ready: BTreeSet<(u32, NodeKey)>,
    /// Load under which each eligible node stands in `ready`; `None` while it is not ready.
    pub(crate) eligible: HashMap<NodeKey, Option<u32>>,
}

impl Class {
    /// Puts a node where its load says; `None` takes it out of the ready ones.
    pub(crate) fn place(&mut self, node: &NodeKey, load: Option<u32>) {
        let Some(stands) = self.eligible.get_mut(node) else { return };
        if *stands == load {
            return;
        }
        if let Some(old) = stands.take() {
            self.ready.remove(&(old, node.clone()));
        }
        if let Some(new) = load {
            self.ready.insert((new, node.clone()));
        }
        *stands = load;
    }
}

/// Classes, and turns of workspaces.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) classes: BTreeMap<ClassKey, Class>,
    /// Classes that have a waiting task and a ready node, by workspace.
    pub(crate) matched: BTreeMap<Workspace, BTreeSet<(Reverse<i32>, u64, ClassKey)>>,
    /// Where each class stands in `matched`.
    stands: HashMap<ClassKey, (Reverse<i32>, u64)>,
    /// The workspace that was served last; the next one is the one after it.
    last_served: Option<Workspace>,
    /// Classes that a node is eligible for.
    pub(crate) of_node: HashMap<NodeKey, BTreeSet<ClassKey>>,
    /// Classes that were left when idle ones were last looked for.
    left: usize,
}

impl Queue {
    /// Updates where a class stands after its tasks or nodes changed.
    pub(crate) fn refresh(&mut self, key: &ClassKey) {
        let now = self
            .classes
            .get(key)
            .filter(|c| !c.ready.is_empty())
            .and_then(|c| c.waiting.first().map(|(priority, age, _)| (*priority, *age)));
        let before = self.stands.get(key).copied();
        if now == before {
            return;
        }
        let all = self.matched.entry(key.workspace.clone()).or_default();
        if let Some((priority, age)) = before {
            all.remove(&(priority, age, key.clone()));
            self.stands.remove(key);
        }
        if let Some((priority, age)) = now {
            all.insert((priority, age, key.clone()));
            self.stands.insert(key.clone(), (priority, age));
        }
        if all.is_empty() {
            self.matched.remove(&key.workspace);
        }
    }

    /// The class to serve next: the best of each workspace, and workspaces of the same best priority in turn, so that one
    /// with many tasks cannot starve one with few.
    pub(crate) fn next(&mut self) -> Option<ClassKey> {
        use std::ops::Bound::{Excluded, Unbounded};
        let best = self.matched.values().filter_map(|s| s.first()).map(|(p, _, _)| *p).min()?;
        let of = |s: &BTreeSet<(Reverse<i32>, u64, ClassKey)>| {
            s.first().filter(|(p, _, _)| *p == best).map(|(_, _, k)| k.clone())
        };
        let after = self.last_served.clone();
        let later = after.as_ref().and_then(|w| {
            self.matched.range::<Workspace, _>((Excluded(w), Unbounded)).find_map(|(_, s)| of(s))
        });
        let class = later.or_else(|| self.matched.values().find_map(of))?;
        self.last_served = Some(class.workspace.clone());
        Some(class)
    }

    /// Adds a waiting task. True when its class is new: then every node must be looked at once.
    pub(crate) fn add(&mut self, class: &ClassKey, position: Position) -> bool {
        let new = !self.classes.contains_key(class);
        self.classes.entry(class.clone()).or_default().waiting.insert(position);
        self.refresh(class);
        new
    }

    pub(crate) fn remove(&mut self, class: &ClassKey, position: &Position) {
        let Some(c) = self.classes.get_mut(class) else { return };
        c.waiting.remove(position);
        self.refresh(class);
    }

    /// A class nobody waits in is forgotten together with its index, unless it may be needed at once again. Looked for only
    /// when their number has doubled, so that many classes in use cost nothing.
    pub(crate) fn forget_idle(&mut self, most: usize) {
        if self.classes.len() <= most.max(2 * self.left) {
            return;
        }
        let idle: Vec<ClassKey> = self
            .classes
            .iter()
            .filter(|(_, c)| c.waiting.is_empty())
            .map(|(k, _)| k.clone())
            .collect();
        for key in idle {
            if let Some(class) = self.classes.remove(&key) {
                for node in class.eligible.keys() {
                    if let Some(of) = self.of_node.get_mut(node) {
                        of.remove(&key);
                    }
                }
            }
        }
        self.left = self.classes.len();
    }
}

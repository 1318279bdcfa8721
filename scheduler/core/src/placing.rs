//! The index that finds a node for a task without looking at all of them. Tasks with the same needs form a class, nodes that
//! meet the same classes form a group, and each group keeps its available nodes in order of load: a node stands in one order
//! only, however many classes it serves. Classes know the first node of each of their groups, and a decision takes the first
//! of those.

use crate::scheduler::Scheduler;
use crate::state::{Class, ClassIx, ClassKey, GroupIx, Node, NodeIx, Place, Rank, TaskIx, WsIx};
use cortex_model::Requirement;
use cortex_model::limits::IDLE_CLASSES_KEPT;
use std::collections::BTreeSet;

impl Scheduler {
    /// Puts a task where offers are made from.
    pub(crate) fn enqueue(&mut self, ix: TaskIx) {
        let Some(class_ix) = self.join_class(ix) else { return };
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        if entry.queued {
            return;
        }
        entry.queued = true;
        let place = place(ix, &entry.view);
        if let Some(class) = self.classes.get_mut(class_ix) {
            class.queue.insert(place);
        }
        self.reready(class_ix);
    }

    /// Takes a task from its queue; it stays in its class.
    pub(crate) fn unqueue(&mut self, ix: TaskIx) {
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        if !entry.queued {
            return;
        }
        entry.queued = false;
        let place = place(ix, &entry.view);
        let Some(class_ix) = entry.class else { return };
        if let Some(class) = self.classes.get_mut(class_ix) {
            class.queue.remove(&place);
        }
        self.reready(class_ix);
    }

    fn join_class(&mut self, ix: TaskIx) -> Option<ClassIx> {
        let entry = self.tasks.get(ix)?;
        if let Some(class) = entry.class {
            return Some(class);
        }
        let (ws, spec) = (entry.ws, entry.view.spec.clone());
        let key = ClassKey { needs: spec.requirements(), node: spec.node.clone() };
        let class_ix = match self.ws.get(ws)?.classes.get(&key) {
            Some(class) => *class,
            None => self.make_class(ws, key),
        };
        let class = self.classes.get_mut(class_ix)?;
        class.tasks += 1;
        if let (Some(since), Some(w)) = (class.idle_since.take(), self.ws.get_mut(ws)) {
            w.idle.remove(&(since, class_ix));
        }
        self.tasks.get_mut(ix)?.class = Some(class_ix);
        Some(class_ix)
    }

    /// The task is not pending any more.
    pub(crate) fn leave_class(&mut self, ix: TaskIx) {
        let Some(class_ix) = self.tasks.get_mut(ix).and_then(|e| e.class.take()) else { return };
        let since = self.next_id();
        let Some(class) = self.classes.get_mut(class_ix) else { return };
        class.tasks -= 1;
        if class.tasks > 0 {
            return;
        }
        class.idle_since = Some(since);
        let (ws, pinned) = (class.ws, class.key.node.is_some());
        let Some(w) = self.ws.get_mut(ws) else { return };
        w.idle.insert((since, class_ix));
        if pinned {
            self.drop_class(class_ix);
        } else if w.idle.len() > IDLE_CLASSES_KEPT
            && let Some((_, oldest)) = w.idle.first().copied()
        {
            self.drop_class(oldest);
        }
    }

    fn make_class(&mut self, ws: WsIx, key: ClassKey) -> ClassIx {
        let needs = key.needs.iter().filter_map(|n| Requirement::parse(n).ok()).collect();
        let pinned = key.node.clone();
        let class = Class {
            ws,
            key: key.clone(),
            needs,
            queue: BTreeSet::new(),
            tasks: 0,
            stalled: false,
            ready: None,
            groups: BTreeSet::new(),
            heads: BTreeSet::new(),
            idle_since: None,
        };
        let ix = self.classes.insert(class);
        let Some(w) = self.ws.get_mut(ws) else { return ix };
        w.classes.insert(key, ix);
        match pinned {
            Some(node) => {
                w.pinned.entry(node).or_default().insert(ix);
            }
            None => self.split_groups(ws, ix),
        }
        ix
    }

    fn drop_class(&mut self, ix: ClassIx) {
        let Some(class) = self.classes.remove(ix) else { return };
        let Some(w) = self.ws.get_mut(class.ws) else { return };
        w.classes.remove(&class.key);
        if let Some(since) = class.idle_since {
            w.idle.remove(&(since, ix));
        }
        match &class.key.node {
            Some(node) => {
                let of_node = w.pinned.get_mut(node);
                if of_node.is_some_and(|c| c.remove(&ix) && c.is_empty()) {
                    w.pinned.remove(node);
                }
            }
            None => self.merge_groups(class.ws, ix, &class.groups),
        }
    }

    /// Brings a node's place in its group's order up to date, and wakes the classes that waited for it.
    pub(crate) fn reindex(&mut self, ix: NodeIx) {
        let Some(node) = self.nodes.get_mut(ix) else { return };
        if node.online.is_none() {
            return self.ungroup(ix);
        }
        let rank: Option<Rank> = node.rank();
        let Some(group_ix) = node.group else { return };
        if rank == node.placed {
            return;
        }
        let before = std::mem::replace(&mut node.placed, rank);
        let Some(group) = self.groups.get_mut(group_ix) else { return };
        if let Some(rank) = before {
            group.available.remove(&(rank, ix));
        }
        if let Some(rank) = rank {
            group.available.insert((rank, ix));
        }
        self.rehead(group_ix);
        if rank.is_some() && before.is_none() {
            self.wake(ix, group_ix);
        }
    }

    fn wake(&mut self, ix: NodeIx, group: GroupIx) {
        let Some(node) = self.nodes.get(ix) else { return };
        let mut classes = self.groups.get(group).map(|g| g.signature.clone()).unwrap_or_default();
        let pinned = self.ws.get(node.ws).and_then(|w| w.pinned.get(&node.id));
        classes.extend(pinned.into_iter().flatten());
        for class_ix in classes {
            if let Some(class) = self.classes.get_mut(class_ix)
                && class.stalled
            {
                class.stalled = false;
                self.reready(class_ix);
            }
        }
    }

    /// No node can take this class now; the next one that becomes available wakes it.
    pub(crate) fn stall(&mut self, ix: ClassIx) {
        if let Some(class) = self.classes.get_mut(ix) {
            class.stalled = true;
        }
        self.reready(ix);
    }

    /// Brings a class's place among the ready ones up to date.
    fn reready(&mut self, ix: ClassIx) {
        let Some(class) = self.classes.get_mut(ix) else { return };
        let head = class.queue.first().copied().filter(|_| !class.stalled);
        let before = std::mem::replace(&mut class.ready, head);
        if before == head {
            return;
        }
        let ws = class.ws;
        let Some(w) = self.ws.get_mut(ws) else { return };
        if let Some(place) = before {
            w.ready.remove(&(place, ix));
        }
        if let Some(place) = head {
            w.ready.insert((place, ix));
        }
        if w.ready.is_empty() {
            self.ready.remove(&ws);
        } else {
            self.ready.insert(ws);
        }
    }

    /// The best available node for a class.
    pub(crate) fn pick(&mut self, ix: ClassIx) -> Option<NodeIx> {
        let class = self.classes.get(ix)?;
        self.counters.decisions += 1;
        if let Some(id) = &class.key.node {
            self.counters.examined += 1;
            let node_ix = self.ws.get(class.ws)?.nodes.get(id).copied()?;
            let node = self.nodes.get(node_ix)?;
            return (node.placed.is_some() && meets(class, node)).then_some(node_ix);
        }
        self.counters.examined += 1;
        class.heads.first().map(|(_, node)| *node)
    }
}

pub(crate) fn place(ix: TaskIx, v: &crate::task::TaskView) -> Place {
    Place { negated_priority: -v.spec.priority, submitted_at: v.submitted_at, task: ix }
}

pub(crate) fn meets(class: &Class, node: &Node) -> bool {
    class.needs.iter().all(|need| node.facts.meets(need).is_ok())
}

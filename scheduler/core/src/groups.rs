//! Groups of nodes: which nodes serve exactly the same classes. Changed only when a node's facts or the set of classes
//! change, never by load.

use crate::placing::meets;
use crate::scheduler::Scheduler;
use crate::state::{ClassIx, Group, GroupIx, NodeIx, WsIx};
use std::collections::BTreeSet;

impl Scheduler {
    /// Puts a node into the group of those that meet the same classes.
    pub(crate) fn regroup(&mut self, ix: NodeIx) {
        let Some(node) = self.nodes.get(ix) else { return };
        let ws = node.ws;
        if node.online.is_none() {
            return self.ungroup(ix);
        }
        let Some(w) = self.ws.get(ws) else { return };
        let mut signature: Vec<ClassIx> = w
            .classes
            .iter()
            .filter(|(key, _)| key.node.is_none())
            .filter(|(_, class)| self.classes.get(**class).is_some_and(|c| meets(c, node)))
            .map(|(_, class)| *class)
            .collect();
        signature.sort_unstable();
        self.join_group(ix, ws, signature);
    }

    fn join_group(&mut self, ix: NodeIx, ws: WsIx, signature: Vec<ClassIx>) {
        let known = self.ws.get(ws).and_then(|w| w.groups.get(&signature)).copied();
        let present = self.nodes.get(ix).and_then(|n| n.group);
        if known.is_some() && known == present {
            return;
        }
        self.ungroup(ix);
        let group_ix = known.unwrap_or_else(|| self.make_group(ws, signature));
        if let Some(group) = self.groups.get_mut(group_ix) {
            group.members.insert(ix);
        }
        if let Some(node) = self.nodes.get_mut(ix) {
            node.group = Some(group_ix);
        }
        self.reindex(ix);
    }

    fn make_group(&mut self, ws: WsIx, signature: Vec<ClassIx>) -> GroupIx {
        let group = Group { signature: signature.clone(), ..Group::default() };
        let ix = self.groups.insert(group);
        for class in &signature {
            if let Some(class) = self.classes.get_mut(*class) {
                class.groups.insert(ix);
            }
        }
        if let Some(w) = self.ws.get_mut(ws) {
            w.groups.insert(signature, ix);
        }
        ix
    }

    /// Takes a node out of its group.
    pub(crate) fn ungroup(&mut self, ix: NodeIx) {
        let Some(node) = self.nodes.get_mut(ix) else { return };
        let (ws, placed) = (node.ws, node.placed.take());
        let Some(group_ix) = node.group.take() else { return };
        let Some(group) = self.groups.get_mut(group_ix) else { return };
        if let Some(rank) = placed {
            group.available.remove(&(rank, ix));
        }
        group.members.remove(&ix);
        let empty = group.members.is_empty();
        self.rehead(group_ix);
        if !empty {
            return;
        }
        let Some(group) = self.groups.remove(group_ix) else { return };
        for class in &group.signature {
            if let Some(class) = self.classes.get_mut(*class) {
                class.groups.remove(&group_ix);
            }
        }
        if let Some(w) = self.ws.get_mut(ws) {
            w.groups.remove(&group.signature);
        }
    }

    /// A class came: the members of each group that meet it part from those that do not.
    pub(crate) fn split_groups(&mut self, ws: WsIx, class_ix: ClassIx) {
        let groups: Vec<GroupIx> =
            self.ws.get(ws).map(|w| w.groups.values().copied().collect()).unwrap_or_default();
        for group_ix in groups {
            let Some(class) = self.classes.get(class_ix) else { return };
            let Some(group) = self.groups.get(group_ix) else { continue };
            let fit = |ix: &&NodeIx| self.nodes.get(**ix).is_some_and(|n| meets(class, n));
            let fitting: Vec<NodeIx> = group.members.iter().filter(fit).copied().collect();
            let mut signature = group.signature.clone();
            signature.push(class_ix);
            signature.sort_unstable();
            if fitting.len() == group.members.len() {
                self.rename_group(ws, group_ix, signature);
                continue;
            }
            for ix in fitting {
                self.join_group(ix, ws, signature.clone());
            }
        }
    }

    /// A class went: groups that differed by nothing else become one.
    pub(crate) fn merge_groups(&mut self, ws: WsIx, class: ClassIx, groups: &BTreeSet<GroupIx>) {
        for group_ix in groups {
            let Some(group) = self.groups.get(*group_ix) else { continue };
            let signature: Vec<ClassIx> =
                group.signature.iter().copied().filter(|c| *c != class).collect();
            let members = group.members.clone();
            if self.ws.get(ws).is_some_and(|w| w.groups.contains_key(&signature)) {
                for ix in members {
                    self.join_group(ix, ws, signature.clone());
                }
            } else {
                self.rename_group(ws, *group_ix, signature);
            }
        }
    }

    /// Tells the group's classes which of its nodes comes first now.
    pub(crate) fn rehead(&mut self, group_ix: GroupIx) {
        let Some(group) = self.groups.get_mut(group_ix) else { return };
        let head = group.available.first().copied();
        let before = std::mem::replace(&mut group.head, head);
        if before == head {
            return;
        }
        for class in &group.signature {
            let Some(class) = self.classes.get_mut(*class) else { continue };
            if let Some(before) = before {
                class.heads.remove(&before);
            }
            class.heads.extend(head);
        }
    }

    fn rename_group(&mut self, ws: WsIx, group_ix: GroupIx, signature: Vec<ClassIx>) {
        let Some(group) = self.groups.get_mut(group_ix) else { return };
        let before = std::mem::replace(&mut group.signature, signature.clone());
        let head = group.head;
        for class in &signature {
            if let Some(class) = self.classes.get_mut(*class) {
                class.groups.insert(group_ix);
                class.heads.extend(head);
            }
        }
        if let Some(w) = self.ws.get_mut(ws) {
            w.groups.remove(&before);
            w.groups.insert(signature, group_ix);
        }
    }
}

//! Presence: which nodes are there. A hint for offers, never evidence about an attempt.

use crate::scheduler::{NodeView, Scheduler};
use crate::state::{Node, NodeIx, Online, WsIx};
use cortex_model::ids::SessionId;
use cortex_model::limits::AWAY_NODES_KEPT;
use cortex_model::{NodeId, UnixMillis, Workspace};

impl Scheduler {
    /// A node is there, or what its gateway says of it changed. Of two connections of one session the later one holds, of
    /// two sessions the one that connected later.
    pub fn node_up(&mut self, view: NodeView, now: UnixMillis) {
        let ws = self.workspace(&view.workspace);
        let ix = self.node_record(ws, &view.node);
        let Some(node) = self.nodes.get_mut(ix) else { return };
        let mut reconnected = true;
        if let Some(have) = &node.online {
            let same = have.session == view.session;
            let older = if same {
                view.generation < have.generation
            } else {
                view.connected_at < have.connected_at
            };
            // What one gateway says comes in order; only between two must it be compared.
            let older = older && view.gateway != have.gateway;
            if older {
                return;
            }
            reconnected = !same || have.generation != view.generation;
        }
        let facts_changed = node.group.is_none() || node.facts != view.facts;
        let same_journal = node.online.as_ref().is_some_and(|o| o.incarnation == view.incarnation);
        node.journal_seen = if same_journal { node.journal_seen } else { 0 }.max(view.journal_size);
        let was_away = node.gone_at.take();
        let seen_at = match &node.online {
            Some(have) if !reconnected => have.seen_at,
            Some(_) | None => now,
        };
        node.facts = view.facts;
        node.slots = view.slots;
        node.online = Some(Online {
            session: view.session,
            incarnation: view.incarnation,
            generation: view.generation,
            gateway: view.gateway,
            connected_at: view.connected_at,
            seen_at,
        });
        if reconnected {
            node.cooling = None;
            node.refusals = 0;
        } else if view.slots_free > 0 {
            node.cooling.take_if(|c| c.full);
        }
        if let (Some(at), Some(w)) = (was_away, self.ws.get_mut(ws)) {
            w.away.remove(&(at, ix));
        }
        if reconnected {
            self.recount(ix);
        }
        if let Some(node) = self.nodes.get_mut(ix) {
            node.reported_free(view.slots_free);
        }
        if facts_changed {
            self.regroup(ix);
        }
        self.reindex(ix);
        if reconnected {
            self.node_moved(ix, Some(now));
        }
    }

    /// A node that was connected once, as it was remembered elsewhere: for explanations. What is connected is not changed.
    pub fn node_known(&mut self, view: NodeView, now: UnixMillis) {
        let ws = self.workspace(&view.workspace);
        let ix = self.node_record(ws, &view.node);
        let Some(node) = self.nodes.get_mut(ix) else { return };
        if node.online.is_some() || node.gone_at.is_some() {
            return;
        }
        node.facts = view.facts;
        node.slots = view.slots;
        node.gone_at = Some(now);
        self.remember_away(ws, ix, now);
    }

    /// A gateway lost a node's session. Only the gateway that holds the present connection can say so.
    pub fn node_gone(
        &mut self,
        workspace: &Workspace,
        node: &NodeId,
        session: &SessionId,
        gateway: &str,
        now: UnixMillis,
    ) {
        let Some(ws) = self.ws_by_name.get(workspace).copied() else { return };
        let Some(ix) = self.ws.get(ws).and_then(|w| w.nodes.get(node)).copied() else { return };
        let Some(n) = self.nodes.get_mut(ix) else { return };
        let holds = |o: &Online| o.session == *session && *o.gateway == *gateway;
        if n.online.take_if(|o| holds(o)).is_none() {
            return;
        }
        n.gone_at = Some(now);
        n.cooling = None;
        n.foreign = 0;
        self.recount(ix);
        self.reindex(ix);
        self.node_moved(ix, None);
        self.remember_away(ws, ix, now);
    }

    /// How many nodes are connected in a workspace.
    #[must_use]
    pub fn nodes_online(&self, workspace: &Workspace) -> usize {
        let Some(ws) = self.ws_by_name.get(workspace).and_then(|ix| self.ws.get(*ix)) else {
            return 0;
        };
        let online = |ix: &&NodeIx| self.nodes.get(**ix).is_some_and(|n| n.online.is_some());
        ws.nodes.values().filter(online).count()
    }

    /// The record of a node, made when it is first named.
    pub(crate) fn node_record(&mut self, ws: WsIx, id: &NodeId) -> NodeIx {
        if let Some(ix) = self.ws.get(ws).and_then(|w| w.nodes.get(id)) {
            return *ix;
        }
        let ix = self.nodes.insert(Node::new(ws, id.clone()));
        if let Some(w) = self.ws.get_mut(ws) {
            w.nodes.insert(id.clone(), ix);
        }
        ix
    }

    /// Counts the attempts that hold slots: those of the present session.
    pub(crate) fn recount(&mut self, ix: NodeIx) {
        let Some(node) = self.nodes.get(ix) else { return };
        let used = node.online.as_ref().map_or(0, |online| {
            let holds = |t: &&u32| {
                let started = self.tasks.get(**t).and_then(|e| e.view.started.as_ref());
                started.is_some_and(|s| s.session == online.session)
            };
            node.running.iter().filter(holds).count()
        });
        if let Some(node) = self.nodes.get_mut(ix) {
            node.used = u32::try_from(used).unwrap_or(u32::MAX);
        }
    }

    /// The node came or went: its attempts are asked for, or their patience begins.
    fn node_moved(&mut self, ix: NodeIx, ask_at: Option<UnixMillis>) {
        let Some(node) = self.nodes.get(ix) else { return };
        for task in node.running.clone() {
            if let (Some(at), Some(entry)) = (ask_at, self.tasks.get_mut(task)) {
                entry.live.query_at = Some(at);
                entry.live.unaccounted = None;
            }
            self.refresh(task);
        }
    }

    fn remember_away(&mut self, ws: WsIx, ix: NodeIx, now: UnixMillis) {
        let Some(w) = self.ws.get_mut(ws) else { return };
        w.away.insert((now, ix));
        if w.away.len() > AWAY_NODES_KEPT
            && let Some((_, oldest)) = w.away.pop_first()
        {
            self.forget_node_if_idle(oldest);
        }
    }

    /// A node that is not connected, not remembered and runs nothing leaves no trace.
    pub(crate) fn forget_node_if_idle(&mut self, ix: NodeIx) {
        let Some(n) = self.nodes.get(ix) else { return };
        let away = self.ws.get(n.ws).map(|w| &w.away);
        let remembered = n.gone_at.is_some_and(|at| away.is_some_and(|a| a.contains(&(at, ix))));
        if n.online.is_some() || remembered || !n.running.is_empty() || n.offers > 0 {
            return;
        }
        self.ungroup(ix);
        let Some(n) = self.nodes.remove(ix) else { return };
        if let Some(w) = self.ws.get_mut(n.ws) {
            w.nodes.remove(&n.id);
        }
    }
}

//! Which nodes are connected where, from what gateways announce: numbered deltas, heartbeats that say how many there were,
//! snapshots after a gap. It keeps no truth: all of it can be asked for again.

use cortex_model::UnixMillis;
use cortex_model::ids::SessionId;
use cortex_model::proto as pb;
use cortex_model::wire::agent::facts;
use cortex_model::{Fault, Incarnation, NodeId, Workspace};
use cortex_scheduler_core::NodeView;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Silence after which a gateway is not there, nor are its tunnels.
const SILENT: Duration = Duration::from_secs(3);

/// A node within its workspace.
pub(crate) type NodeKey = (Workspace, NodeId);

/// What the core must be told.
#[derive(Debug)]
pub(crate) enum Change {
    Up(NodeView),
    Gone { node: NodeKey, session: SessionId, gateway: Arc<str> },
}

struct Gateway {
    name: Arc<str>,
    epoch: String,
    version: u64,
    nodes: HashMap<NodeKey, NodeView>,
    heard: Instant,
    /// A snapshot was asked for at this time.
    asked: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Presence {
    gateways: BTreeMap<String, Gateway>,
}

impl Presence {
    /// A heartbeat; true when a snapshot of that gateway is needed.
    pub(crate) fn heartbeat(&mut self, hb: &pb::PresenceHeartbeat, now: Instant) -> bool {
        self.continues(&hb.gateway, &hb.epoch, hb.version, now)
    }

    /// A delta; `None` when a snapshot of that gateway is needed instead.
    pub(crate) fn delta(&mut self, d: &pb::PresenceDelta, now: Instant) -> Option<Vec<Change>> {
        let fits = self
            .gateways
            .get(&d.gateway)
            .is_some_and(|g| g.epoch == d.epoch && g.version + 1 == d.version);
        if !fits {
            // An older delta that a snapshot contained already needs nothing.
            let old = self
                .gateways
                .get(&d.gateway)
                .is_some_and(|g| g.epoch == d.epoch && d.version <= g.version);
            return (old || !self.ask(&d.gateway, now)).then(Vec::new);
        }
        let gateway = self.gateways.get_mut(&d.gateway)?;
        gateway.version = d.version;
        gateway.heard = now;
        let mut out = Vec::new();
        for gone in &d.gone {
            if let Ok((key, session)) = gone_key(gone)
                && gateway.nodes.get(&key).is_some_and(|v| v.session == session)
            {
                gateway.nodes.remove(&key);
                out.push(gateway.gone(key, session));
            }
        }
        out.extend(gateway.up(&d.changed));
        self.add_others(&mut out);
        Some(out)
    }

    /// A node that one gateway lost may be connected to another, whose announcement seemed the older one when it came.
    fn add_others(&self, changes: &mut Vec<Change>) {
        let mut others = Vec::new();
        for change in changes.iter() {
            if let Change::Gone { node, .. } = change {
                let held = self.gateways.values().filter_map(|g| g.nodes.get(node));
                others.extend(held.cloned().map(Change::Up));
            }
        }
        changes.append(&mut others);
    }

    /// A whole snapshot, all its pages together. One that is older than what is known changes nothing.
    pub(crate) fn snapshot(&mut self, s: &pb::PresenceSnapshot, now: Instant) -> Vec<Change> {
        let known = self.gateways.get(&s.gateway);
        if known.is_some_and(|g| g.epoch == s.epoch && g.version > s.version) {
            return Vec::new();
        }
        let before = self.gateways.remove(&s.gateway).map(|g| g.nodes).unwrap_or_default();
        let mut gateway = Gateway {
            name: s.gateway.as_str().into(),
            epoch: s.epoch.clone(),
            version: s.version,
            nodes: HashMap::new(),
            heard: now,
            asked: None,
        };
        let up = gateway.up(&s.nodes);
        let mut out: Vec<Change> = before
            .into_iter()
            .filter(|(k, old)| gateway.nodes.get(k).is_none_or(|v| v.session != old.session))
            .map(|(k, old)| gateway.gone(k, old.session))
            .collect();
        out.extend(up);
        self.gateways.insert(s.gateway.clone(), gateway);
        self.add_others(&mut out);
        out
    }

    /// Gateways that have been silent for too long are gone, with their nodes.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let mut out = Vec::new();
        self.gateways.retain(|_, g| {
            let lives = now.duration_since(g.heard) < SILENT;
            if !lives {
                let nodes = std::mem::take(&mut g.nodes);
                out.extend(nodes.into_iter().map(|(k, v)| g.gone(k, v.session)));
            }
            lives
        });
        self.add_others(&mut out);
        out
    }

    fn continues(&mut self, gateway: &str, epoch: &str, version: u64, now: Instant) -> bool {
        if let Some(g) = self.gateways.get_mut(gateway) {
            g.heard = now;
            // One delta may be on its way behind the heartbeat's back; a real gap shows with the next one.
            if g.epoch == epoch && g.version == version {
                return false;
            }
        }
        self.ask(gateway, now)
    }

    /// Whether to ask for a snapshot now: not while one is on its way.
    fn ask(&mut self, gateway: &str, now: Instant) -> bool {
        let g = self.gateways.entry(gateway.to_owned()).or_insert_with(|| Gateway {
            name: gateway.into(),
            epoch: String::new(),
            version: 0,
            nodes: HashMap::new(),
            heard: now,
            asked: None,
        });
        let waiting = g.asked.is_some_and(|at| now.duration_since(at) < Duration::from_secs(1));
        if !waiting {
            g.asked = Some(now);
        }
        !waiting
    }
}

impl Gateway {
    fn gone(&self, node: NodeKey, session: SessionId) -> Change {
        Change::Gone { node, session, gateway: self.name.clone() }
    }

    fn up(&mut self, nodes: &[pb::NodePresence]) -> Vec<Change> {
        let mut out = Vec::new();
        for p in nodes {
            match node_view(p, &self.name) {
                Ok(view) => {
                    let key = (view.workspace.clone(), view.node.clone());
                    self.nodes.insert(key, view.clone());
                    out.push(Change::Up(view));
                }
                Err(fault) => {
                    tracing::warn!(node = p.node, error = %fault, "a node's presence cannot be read")
                }
            }
        }
        out
    }
}

/// A node's presence as the core wants it.
///
/// # Errors
/// When a name in it is not one.
pub(crate) fn node_view(p: &pb::NodePresence, gateway: &Arc<str>) -> Result<NodeView, Fault> {
    Ok(NodeView {
        workspace: Workspace::parse(&p.workspace)?,
        node: NodeId::parse(&p.node)?,
        session: SessionId::parse(&p.session)?,
        incarnation: Incarnation::parse(&p.incarnation)?,
        generation: p.generation,
        gateway: gateway.clone(),
        connected_at: UnixMillis(p.connected_at_ms),
        slots: p.slots,
        slots_free: p.slots_free,
        journal_size: p.journal.as_ref().map_or(0, |j| j.size),
        facts: Arc::new(facts(&p.node, p.manifest.as_ref())),
    })
}

fn gone_key(g: &pb::NodeGone) -> Result<(NodeKey, SessionId), Fault> {
    let key = (Workspace::parse(&g.workspace)?, NodeId::parse(&g.node)?);
    Ok((key, SessionId::parse(&g.session)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, session: &str) -> pb::NodePresence {
        pb::NodePresence {
            workspace: "w".into(),
            node: name.into(),
            session: session.into(),
            incarnation: "i".into(),
            slots: 2,
            ..Default::default()
        }
    }

    fn snapshot(version: u64, nodes: Vec<pb::NodePresence>) -> pb::PresenceSnapshot {
        pb::PresenceSnapshot {
            gateway: "g".into(),
            epoch: "e".into(),
            version,
            nodes,
            next_after: String::new(),
        }
    }

    fn delta(version: u64, changed: Vec<pb::NodePresence>) -> pb::PresenceDelta {
        pb::PresenceDelta { gateway: "g".into(), epoch: "e".into(), version, changed, gone: vec![] }
    }

    fn names(changes: &[Change]) -> Vec<String> {
        let name = |c: &Change| match c {
            Change::Up(v) => format!("+{}", v.node),
            Change::Gone { node, .. } => format!("-{}", node.1),
        };
        changes.iter().map(name).collect()
    }

    #[test]
    fn a_gap_asks_for_a_snapshot_once_and_the_snapshot_replaces_what_was_known() {
        let t0 = Instant::now();
        let mut p = Presence::default();
        assert!(p.delta(&delta(1, vec![node("a", "s")]), t0).is_none());
        assert!(
            p.delta(&delta(2, vec![]), t0).is_some_and(|c| c.is_empty()),
            "a snapshot is on its way"
        );
        let both = snapshot(2, vec![node("a", "s"), node("b", "s")]);
        assert_eq!(names(&p.snapshot(&both, t0)), ["+a", "+b"]);
        assert!(
            p.delta(&delta(2, vec![]), t0).is_some_and(|c| c.is_empty()),
            "contained in the snapshot"
        );
        assert_eq!(names(&p.delta(&delta(3, vec![node("c", "s")]), t0).unwrap()), ["+c"]);
        assert!(p.delta(&delta(5, vec![]), t0).is_none(), "4 is missing");
        assert_eq!(
            names(
                &p.snapshot(
                    &snapshot(5, vec![node("a", "s2"), node("b", "s"), node("c", "s")]),
                    t0
                )
            ),
            ["-a", "+a", "+b", "+c", "+a"]
        );
    }

    #[test]
    fn a_heartbeat_of_another_epoch_or_version_asks() {
        let t0 = Instant::now();
        let mut p = Presence::default();
        p.snapshot(&snapshot(4, vec![]), t0);
        let hb = |epoch: &str, version| pb::PresenceHeartbeat {
            gateway: "g".into(),
            epoch: epoch.into(),
            version,
            nodes: 0,
        };
        assert!(!p.heartbeat(&hb("e", 4), t0));
        assert!(p.heartbeat(&hb("e", 5), t0));
        p.snapshot(&snapshot(5, vec![]), t0);
        assert!(p.heartbeat(&hb("other", 5), t0));
    }

    #[test]
    fn a_node_that_one_gateway_lost_and_another_has_is_there() {
        let t0 = Instant::now();
        let mut p = Presence::default();
        p.snapshot(&snapshot(1, vec![node("a", "s1")]), t0);
        let elsewhere =
            pb::PresenceSnapshot { gateway: "h".into(), ..snapshot(1, vec![node("a", "s2")]) };
        assert_eq!(names(&p.snapshot(&elsewhere, t0)), ["+a"]);
        assert_eq!(names(&p.snapshot(&snapshot(2, vec![]), t0)), ["-a", "+a"]);
    }

    #[test]
    fn a_snapshot_that_was_overtaken_changes_nothing() {
        let t0 = Instant::now();
        let mut p = Presence::default();
        p.snapshot(&snapshot(4, vec![node("a", "s")]), t0);
        assert!(p.snapshot(&snapshot(3, vec![]), t0).is_empty());
        assert_eq!(names(&p.delta(&delta(5, vec![node("b", "s")]), t0).unwrap()), ["+b"]);
    }

    #[test]
    fn a_silent_gateway_takes_its_nodes_with_it() {
        let t0 = Instant::now();
        let mut p = Presence::default();
        p.snapshot(&snapshot(1, vec![node("a", "s")]), t0);
        assert!(p.expire(t0 + Duration::from_millis(2900)).is_empty());
        assert_eq!(names(&p.expire(t0 + SILENT)), ["-a"]);
    }
}

//! Who is at the other end of a connection, and what it says of itself. It trusts the layer that let the call in for the
//! workspace, and nothing else.

use super::Shared;
use super::connection::{Connection, Done, Peer};
use crate::audit::Standing;
use crate::nodes::NODES_BUCKET;
use cortex_log::{LogError, MessageStream};
use cortex_model::ids::SessionId;
use cortex_model::proto as pb;
use cortex_model::registry::Record;
use cortex_model::{Code, Fault, Incarnation, NodeId};
use futures::FutureExt;
use prost::Message as _;

impl Connection {
    pub(super) fn hello(&mut self, hello: pb::Hello) {
        match self.peer_of(hello) {
            Ok(peer) => {
                let subject = format!("cx.n.{}.{}.{}", self.workspace, peer.node, peer.session);
                let shared = self.shared.clone();
                let key = format!("{}.{}", self.workspace, peer.node);
                let incarnation = peer.incarnation.to_string();
                self.peer = Some(peer);
                self.work.push(async move { Done::Known(look_up(&shared, &subject, &key, &incarnation).await) }.boxed());
            }
            Err(fault) => self.end.refuse((&fault).into(), 0),
        }
    }

    pub(super) fn peer_of(&self, h: pb::Hello) -> Result<Peer, Fault> {
        let node = NodeId::parse(&h.node)?;
        let certified = self.principal.certificate().map(|c| &c.name.node);
        if certified != Some(&node) {
            let text = format!("the hello is {node}'s, the certificate is not");
            return Err(Fault::new(Code::NotBound, text));
        }
        let incarnation = Incarnation::parse(&h.incarnation)?;
        // A connection counts as a session of its own: after a reconnect the scheduler asks what became of claims.
        let session = SessionId::parse(&format!("{}-{}", h.session, h.generation))?;
        let superseded =
            self.shared.take_over(self.workspace.as_str(), node.as_str(), session.as_str());
        let now = crate::clock::now().0;
        let presence = pb::NodePresence {
            workspace: self.workspace.to_string(),
            node: node.to_string(),
            session: session.to_string(),
            incarnation: incarnation.to_string(),
            generation: h.generation,
            slots: h.slots,
            slots_free: h.slots_free,
            manifest: h.manifest.map(|m| self.labelled(m, &node)),
            journal: h.journal,
            agent_version: h.agent_version,
            connected_at_ms: now,
            last_seen_ms: now,
        };
        let announced_free = presence.slots_free;
        let audit_standing = 0;
        Ok(Peer {
            node,
            incarnation,
            session,
            presence,
            superseded,
            announced_free,
            audit_standing,
        })
    }

    /// Labels that the join token gave the node win over its own.
    fn labelled(&self, mut manifest: pb::Manifest, node: &NodeId) -> pb::Manifest {
        let entry = self.shared.registry.node(self.workspace.as_str(), node.as_str());
        if let Some(Record::Node(record)) = entry.as_ref().map(|e| e.record.as_ref()) {
            manifest.labels.extend(record.labels.clone());
        }
        manifest
    }

    /// Welcomes the agent once offers for it are listened to.
    pub(super) fn known(&mut self, known: Result<LookedUp, Fault>) {
        let Some(peer) = &mut self.peer else { return };
        match known {
            Ok(LookedUp { requests, journal_seen, standing }) => {
                let journal = peer.presence.journal.get_or_insert_default();
                if journal.size < journal_seen {
                    tracing::error!(node = %peer.node, has = journal.size, seen = journal_seen,
                        "the node's journal is shorter than it was: it was rolled back or its disk lost data");
                    // Its word that something never started is not taken until it has grown again.
                    journal.size = journal_seen;
                }
                peer.audit_standing = standing.borrow().standing;
                self.stands(standing);
                let Some(presence) = self.announced() else { return };
                self.requests = Some(requests);
                let now = self.shared.tick();
                if self.end.accept(self.workspace.as_str(), now, crate::clock::now()) {
                    tracing::info!(node = %presence.node, session = %presence.session, agent = presence.agent_version, "tunnel up");
                    self.shared.nodes.changed(presence.clone());
                    let shared = self.shared.clone();
                    self.work.push(
                        async move {
                            shared.nodes.remember(&presence).await;
                            Done::Replied
                        }
                        .boxed(),
                    );
                }
            }
            Err(fault) => self.end.refuse((&fault).into(), 0),
        }
    }

    pub(super) fn heartbeat(&mut self, beat: pb::AgentHeartbeat) {
        let Some(peer) = &mut self.peer else { return };
        let p = &mut peer.presence;
        p.last_seen_ms = crate::clock::now().0;
        if let Some(head) = beat.journal
            && p.journal.as_ref().is_none_or(|j| j.size < head.size)
        {
            p.journal = Some(head);
        }
        let (before, after) = (peer.announced_free, beat.slots_free);
        let step = (beat.slots / 4).max(1);
        let told =
            p.slots == beat.slots && (before == 0) == (after == 0) && before.abs_diff(after) < step;
        p.slots = beat.slots;
        p.slots_free = beat.slots_free;
        if !told {
            self.announce(|_| {});
        }
    }

    pub(super) fn announce(&mut self, change: impl FnOnce(&mut pb::NodePresence)) {
        let Some(peer) = &mut self.peer else { return };
        change(&mut peer.presence);
        peer.announced_free = peer.presence.slots_free;
        if let Some(presence) = self.announced() {
            self.shared.nodes.changed(presence);
        }
    }

    /// The node as schedulers may see it: one that its audit bars has no slots.
    fn announced(&self) -> Option<pb::NodePresence> {
        let mut presence = self.peer.as_ref()?.presence.clone();
        if self.relay.barred().is_some() {
            (presence.slots, presence.slots_free) = (0, 0);
        }
        Some(presence)
    }
}

/// What is known of a node before it is welcomed.
pub(super) struct LookedUp {
    requests: MessageStream,
    /// How long its journal was when last seen.
    journal_seen: u64,
    standing: Standing,
}

/// Listens for offers and looks up how long the node's journal has been.
async fn look_up(
    shared: &Shared,
    subject: &str,
    key: &str,
    incarnation: &str,
) -> Result<LookedUp, Fault> {
    let fault = |e: LogError| crate::status::log_fault(&e);
    let requests = shared.log.subscribe(subject).await.map_err(fault)?;
    let known = shared.log.kv_get(NODES_BUCKET, key).await.map_err(fault)?;
    let known = known.and_then(|e| pb::NodePresence::decode(e.value).ok());
    let same_life = known.filter(|p| p.incarnation == incarnation);
    let journal_seen = same_life.and_then(|p| p.journal).map_or(0, |j| j.size);
    let (workspace, node) = key.split_once('.').unwrap_or_default();
    let standing = shared.audits.standing(workspace, node).await.map_err(fault)?;
    Ok(LookedUp { requests, journal_seen, standing })
}

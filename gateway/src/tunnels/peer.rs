//! Who is at the other end of a connection, and what it says of itself. It trusts the layer that let the call in for the
//! workspace, and nothing else.

use super::connection::{Connection, Done, Peer};
use super::{Shared, Taken};
use crate::audit::Standing;
use crate::nodes::NODES_BUCKET;
use cortex_log::{LogError, MessageStream};
use cortex_model::ids::SessionId;
use cortex_model::proto as pb;
use cortex_model::registry::{CloneSuspected, Record};
use cortex_model::{Code, Fault, Incarnation, NodeId};
use cortex_tunnel::Rival;
use futures::FutureExt;
use prost::Message as _;
use std::sync::Arc;

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

    pub(super) fn peer_of(&mut self, h: pb::Hello) -> Result<Peer, Fault> {
        let node = NodeId::parse(&h.node)?;
        let certified = self.principal.certificate().map(|c| &c.name.node);
        if certified != Some(&node) {
            let text = format!("the hello is {node}'s, the certificate is not");
            return Err(Fault::new(Code::NotBound, text));
        }
        let incarnation = Incarnation::parse(&h.incarnation)?;
        // A connection counts as a session of its own: after a reconnect the scheduler asks what became of claims.
        let session = SessionId::parse(&format!("{}-{}", h.session, h.generation))?;
        let rival = Rival {
            session: h.session.clone(),
            generation: h.generation,
            incarnation: h.incarnation.clone(),
            address: self.principal.address().to_string(),
        };
        let workspace = self.workspace.as_str();
        let taken = self.shared.take_over(workspace, node.as_str(), session.as_str(), rival);
        let Taken { superseded, clone } = taken?;
        if let Some(both) = clone {
            self.suspect(&node, &both);
        }
        let now = crate::clock::now().0;
        let mut presence = pb::NodePresence {
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
        Ok(Peer {
            node,
            incarnation,
            session,
            slots: presence.slots,
            slots_free: presence.slots_free,
            journal: presence.journal.take().unwrap_or_default(),
            last_seen_ms: now,
            leaving: false,
            audit_standing: 0,
            barred: false,
            told: Arc::new(presence),
            superseded,
        })
    }

    /// Records that the node's key is probably on two machines.
    fn suspect(&mut self, node: &NodeId, both: &[Rival; 2]) {
        let [a, b] = both;
        tracing::error!(%node, addresses = ?[&a.address, &b.address],
            "two sessions of this node throw each other out: its key is probably on two machines");
        let suspected = CloneSuspected {
            addresses: both.iter().map(|rival| rival.address.clone()).collect(),
            incarnations: both.iter().map(|rival| rival.incarnation.clone()).collect(),
            at: crate::clock::now(),
            gateway: self.shared.config.name.clone(),
        };
        let (shared, workspace, node) = (self.shared.clone(), self.workspace.clone(), node.clone());
        self.work.push(
            async move {
                if let Err(fault) = shared.registry.suspect(&workspace, &node, suspected).await {
                    tracing::warn!(%node, error = %fault, "the suspicion was not recorded");
                }
                Done::Replied
            }
            .boxed(),
        );
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
                if peer.journal.size < journal_seen {
                    tracing::error!(node = %peer.node, has = peer.journal.size, seen = journal_seen,
                        "the node's journal is shorter than it was: it was rolled back or its disk lost data");
                    // Its word that something never started is not taken until it has grown again.
                    peer.journal.size = journal_seen;
                }
                peer.audit_standing = standing.borrow().standing;
                self.stands(standing);
                let barred = self.relay.barred().is_some();
                let Some(peer) = &mut self.peer else { return };
                peer.barred = barred;
                self.requests = Some(requests);
                let now = self.shared.tick();
                if self.end.accept(self.workspace.as_str(), now, crate::clock::now()) {
                    let presence = peer.tell();
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
        peer.last_seen_ms = crate::clock::now().0;
        if let Some(head) = beat.journal
            && peer.journal.size < head.size
        {
            peer.journal = head;
        }
        if peer.leaving {
            return;
        }
        (peer.slots, peer.slots_free) = (beat.slots, beat.slots_free);
        if peer.barred {
            return;
        }
        let (before, after) = (peer.told.slots_free, beat.slots_free);
        let step = (beat.slots / 4).max(1);
        let told = peer.told.slots == beat.slots
            && (before == 0) == (after == 0)
            && before.abs_diff(after) < step;
        if !told {
            self.shared.nodes.changed(peer.tell());
        }
    }

    /// The node takes no more work, whatever its heartbeats say.
    pub(super) fn leaving(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        (peer.slots, peer.slots_free, peer.leaving) = (0, 0, true);
        self.shared.nodes.changed(peer.tell());
    }

    /// Tells everybody how the node stands now.
    pub(super) fn announce(&mut self) {
        let barred = self.relay.barred().is_some();
        let Some(peer) = &mut self.peer else { return };
        peer.barred = barred;
        self.shared.nodes.changed(peer.tell());
    }
}

impl Peer {
    /// What is true of the node now, to be told to everybody: one that its audit bars has no slots.
    pub(super) fn tell(&mut self) -> Arc<pb::NodePresence> {
        let (slots, slots_free) = if self.barred { (0, 0) } else { (self.slots, self.slots_free) };
        self.told = Arc::new(pb::NodePresence {
            slots,
            slots_free,
            journal: Some(self.journal.clone()),
            last_seen_ms: self.last_seen_ms,
            ..(*self.told).clone()
        });
        self.told.clone()
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

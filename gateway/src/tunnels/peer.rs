//! Who is at the other end of a connection, and what it says of itself. It trusts the layer that let the call in for the
//! workspace, and nothing else.

use super::Shared;
use super::connection::{Connection, Done, Peer};
use super::seats::Taken;
use crate::audit::Standing;
use cortex_log::{LogError, MessageStream};
use cortex_model::ids::SessionId;
use cortex_model::proto as pb;
use cortex_model::registry::{CloneSuspected, Record};
use cortex_model::{Code, Fault, Incarnation, NodeId};
use cortex_tunnel::Rival;
use futures::FutureExt;
use std::sync::Arc;

impl Connection {
    pub(super) fn hello(&mut self, hello: pb::Hello) {
        match self.peer_of(hello) {
            Ok((mut peer, rival)) => {
                let (shared, presence) = (self.shared.clone(), peer.tell());
                let (key, id) = (peer.seat.key.clone(), peer.seat.id);
                self.peer = Some(peer);
                self.work.push(
                    async move {
                        let known = look_up(&shared, &key, id, &presence, rival).await;
                        Done::Known(Box::new(known))
                    }
                    .boxed(),
                );
            }
            Err(fault) => self.end.refuse((&fault).into(), 0),
        }
    }

    fn peer_of(&mut self, h: pb::Hello) -> Result<(Peer, Rival), Fault> {
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
        let seat = self.shared.seats.enter(&format!("{}.{node}", self.workspace));
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
            seat: None,
        };
        let peer = Peer {
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
            seat,
            taken: None,
        };
        Ok((peer, rival))
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

    /// Welcomes the agent once it has its node's seat and offers for it are listened to.
    pub(super) fn known(&mut self, known: Result<LookedUp, Fault>) {
        let LookedUp { requests, taken, standing } = match known {
            Ok(known) => known,
            Err(fault) => return self.end.refuse((&fault).into(), 0),
        };
        let Some(peer) = &mut self.peer else { return };
        if peer.journal.size < taken.journal.size {
            tracing::error!(node = %peer.node, has = peer.journal.size, seen = taken.journal.size,
                "the node's journal is shorter than it was: it was rolled back or its disk lost data");
        }
        peer.journal = taken.journal.clone();
        peer.audit_standing = standing.borrow().standing;
        let (node, clone) = (peer.node.clone(), taken.clone.clone());
        peer.taken = Some(taken);
        if let Some(both) = clone {
            self.suspect(&node, &both);
        }
        self.stands(standing);
        let barred = self.relay.barred().is_some();
        let Some(peer) = &mut self.peer else { return };
        peer.barred = barred;
        self.requests = Some(requests);
        let now = self.shared.tick();
        if self.end.accept(self.workspace.as_str(), now, crate::clock::now()) {
            let presence = peer.tell();
            tracing::info!(node = %presence.node, session = %presence.session, agent = presence.agent_version, "tunnel up");
            self.shared.nodes.changed(presence);
            // Before any offer: what was taken away holds for all that comes on this connection.
            self.narrow();
            self.ask_to_renew();
        }
    }

    /// Tells the node what is taken away from what its owner allows, unless it was told that already.
    pub(super) fn narrow(&mut self) {
        let Some(peer) = self.peer.as_ref().filter(|_| self.end.is_up()) else { return };
        let held = self.shared.registry.narrowing(self.workspace.as_str(), peer.node.as_str());
        let Some(held) = held.filter(|held| held.revision > self.narrowed) else { return };
        self.narrowed = held.revision;
        let pb::Narrowing { revision, text, .. } = held;
        self.end.narrow(pb::Narrowing { revision, text, ..pb::Narrowing::default() });
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
    taken: Taken,
    standing: Standing,
}

/// Takes the node's seat, listens for offers and looks up how its audit stands.
async fn look_up(
    shared: &Shared,
    key: &str,
    id: u64,
    presence: &pb::NodePresence,
    rival: Rival,
) -> Result<LookedUp, Fault> {
    let fault = |e: LogError| crate::status::log_fault(&e);
    let (workspace, node) = (presence.workspace.as_str(), presence.node.as_str());
    let subject = format!("cx.n.{workspace}.{node}.{}", presence.session);
    let (taken, requests, standing) = tokio::join!(
        shared.seats.take(key, id, presence, rival),
        shared.log.subscribe(&subject),
        shared.audits.standing(workspace, node),
    );
    Ok(LookedUp {
        requests: requests.map_err(fault)?,
        standing: standing.map_err(fault)?,
        taken: taken?,
    })
}

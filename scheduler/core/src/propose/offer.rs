//! Which task goes to which node: workspaces take turns, within one the highest priority and then the oldest task goes first,
//! to the least loaded node that has what it needs.

use crate::scheduler::{AttemptAt, Offer, Scheduler};
use crate::state::{NodeIx, OpenOffer, TaskIx, WsIx};
use cortex_model::UnixMillis;
use cortex_model::limits::OFFER_TIMEOUT_MS;

impl Scheduler {
    /// The workspace whose turn it is among those with work.
    pub(crate) fn next_turn(&mut self) -> Option<WsIx> {
        let after = self.ready.range(self.turn + 1..).next();
        let next = after.or_else(|| self.ready.first()).copied()?;
        self.turn = next;
        Some(next)
    }

    /// The workspace's next offer. None when its best class has no node, which is then out of the way.
    pub(crate) fn offer_for(&mut self, ws: WsIx, now: UnixMillis) -> Option<Offer> {
        let (place, class) = self.ws.get(ws)?.ready.first().copied()?;
        let Some(node) = self.pick(class) else {
            self.stall(class);
            return None;
        };
        self.make_offer(place.task, node, now)
    }

    fn make_offer(&mut self, ix: TaskIx, node_ix: NodeIx, now: UnixMillis) -> Option<Offer> {
        let id = self.next_id();
        let node = self.nodes.get_mut(node_ix)?;
        let reason = format!("{} of {} slots free", node.free(), node.slots);
        let session = node.online.as_ref()?.session.clone();
        node.offers += 1;
        node.last_offer = id;
        let node_id = node.id.clone();
        let entry = self.tasks.get_mut(ix)?;
        let expires = now + OFFER_TIMEOUT_MS;
        entry.live.offer = Some(OpenOffer { id, node: node_ix, expires, claimed: false });
        let v = &entry.view;
        let to = AttemptAt { task: v.key.clone(), attempt: v.attempt + 1, node: node_id, session };
        let offer = Offer {
            id,
            to,
            fence: v.revision,
            next_n: v.n + 1,
            spec: v.spec.clone(),
            actor: v.actor.clone(),
            idempotency_key: v.idempotency_key.clone(),
            deadline_at: v.deadline_at,
            offered_at: now,
            reason,
            refused: entry.live.refused.clone(),
        };
        self.offers.insert(id, ix);
        self.reindex(node_ix);
        self.refresh(ix);
        Some(offer)
    }
}

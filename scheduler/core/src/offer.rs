//! Which waiting task goes to which node. Constant work per decision: the best waiting task of the group whose turn it is,
//! and the least loaded node of that group.

use crate::proposal::OfferProposal;
use crate::scheduler::Scheduler;
use cortex_model::UnixMillis;
use cortex_model::limits::OFFER_TIMEOUT_MS;

impl Scheduler {
    pub(crate) fn next_offer(&mut self, now: UnixMillis) -> Option<OfferProposal> {
        let class_key = self.queue.next()?;
        let class = self.queue.classes.get_mut(&class_key)?;
        let (_, _, task) = class.waiting.pop_first()?;
        let (load, node) = class.ready.first()?.clone();
        let alternatives = class.ready.len() - 1;
        self.counters.offers += 1;
        self.counters.nodes_examined += 1;
        self.queue.refresh(&class_key);

        let present = self.nodes.present.get_mut(&node)?;
        present.offered.insert(task.clone());
        let (session, free) = (present.view.session.clone(), present.free());
        self.place(&node);

        let entry = self.tasks.get_mut(&task)?;
        entry.queued = false;
        entry.offer = Some((node.clone(), now));
        let offer = OfferProposal {
            task: task.clone(),
            idempotency_key: entry.view.idempotency_key.clone(),
            attempt: entry.view.attempt + 1,
            fence: entry.view.revision,
            next_n: entry.view.n + 1,
            spec: entry.view.spec.clone(),
            actor: entry.view.actor.clone(),
            deadline_at: entry.view.deadline_at,
            node,
            session,
            offered_at: now,
            reason: format!(
                "meets {}; least loaded ({} % used, {free} slots left, {alternatives} other nodes ready)",
                entry.class.requirements.join(", "),
                load / 10,
            ),
            refused: entry.refusals.clone(),
        };
        // If the claim's Started never shows, the task is looked at again then.
        self.timers.set(&task, Some(now + 2 * OFFER_TIMEOUT_MS));
        Some(offer)
    }
}

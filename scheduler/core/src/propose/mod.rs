//! What follows from what is known: offers, fenced appends, questions.

mod offer;
mod timer;

use crate::scheduler::{Proposal, Scheduler};
use crate::state::TaskIx;
use cortex_model::limits::{APPEND_TIMEOUT_MS, PROPOSALS_MAX};
use cortex_model::{Commit, Event, UnixMillis};

impl Scheduler {
    /// What should be done now, at most [`PROPOSALS_MAX`] things; [`Scheduler::next_wakeup`] says if there is more.
    pub fn propose(&mut self, now: UnixMillis) -> Vec<Proposal> {
        self.nodes_due(now);
        let mut out = std::mem::take(&mut self.outbox);
        while out.len() < PROPOSALS_MAX {
            let Some((at, ix)) = self.timers.first().copied() else { break };
            if at > now {
                break;
            }
            self.task_due(ix, now);
            out.append(&mut self.outbox);
        }
        while out.len() < PROPOSALS_MAX {
            let Some(ws) = self.next_turn() else { break };
            if let Some(offer) = self.offer_for(ws, now) {
                out.push(Proposal::Offer(Box::new(offer)));
            }
        }
        out
    }

    fn nodes_due(&mut self, now: UnixMillis) {
        while let Some((at, ix)) = self.node_timers.first().copied() {
            if at > now {
                break;
            }
            self.node_timers.pop_first();
            let Some(node) = self.nodes.get_mut(ix) else { continue };
            // The node may cool for another reason by now, or be another one.
            if node.cooling.take_if(|c| c.until <= now).is_some_and(|c| c.full) {
                node.foreign = 0;
            }
            self.reindex(ix);
        }
    }

    /// Proposes an append to a task at the revision that was folded, and waits for its effect.
    pub(crate) fn append(&mut self, ix: TaskIx, event: Event, now: UnixMillis) {
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        entry.live.append_until = Some(now + APPEND_TIMEOUT_MS);
        let commit = Commit { n: entry.view.n + 1, events: vec![event] };
        let (task, expect) = (entry.view.key.clone(), entry.view.revision);
        self.outbox.push(Proposal::Append { task, expect, commit });
        self.refresh(ix);
    }
}

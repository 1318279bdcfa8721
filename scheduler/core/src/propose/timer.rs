//! What is due for one task: retries, deadlines, silence, questions, cancels. Every timer is an absolute point that follows
//! from events or from the overlay, so that another scheduler comes to the same.

use crate::decide;
use crate::scheduler::{AttemptAt, Proposal, Scheduler};
use crate::state::{Entry, TaskIx};
use cortex_model::limits::QUERY_EVERY_MS;
use cortex_model::{TaskState, UnixMillis};

impl Scheduler {
    /// Does what is due. Its timer is later afterwards, or gone.
    pub(crate) fn task_due(&mut self, ix: TaskIx, now: UnixMillis) {
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        entry.live.append_until.take_if(|until| *until <= now);
        if entry.live.append_until.is_none() {
            match entry.view.state {
                TaskState::Pending => self.pending_due(ix, now),
                TaskState::Running => self.running_due_now(ix, now),
                TaskState::Indeterminate => {
                    if let Some(to) = self.tasks.get(ix).and_then(|e| self.reachable(e)) {
                        self.stop_if_wanted(ix, to, now);
                    }
                }
                TaskState::Succeeded
                | TaskState::Failed
                | TaskState::Cancelled
                | TaskState::Denied
                | TaskState::Expired => {}
            }
        }
        self.refresh(ix);
    }

    fn pending_due(&mut self, ix: TaskIx, now: UnixMillis) {
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        if let Some(event) = decide::deadline_passed(&entry.view, now) {
            return self.append(ix, event, now);
        }
        entry.live.hold_until.take_if(|until| *until <= now);
        entry.live.ripe |= entry.view.retry_at.is_some_and(|at| at <= now);
        let expired = entry.live.offer.as_ref().filter(|o| o.expires <= now);
        match expired.map(|o| o.claimed) {
            Some(true) => self.not_taken(ix, "claimed it, but its start was never recorded", now),
            Some(false) => self.not_taken(ix, "did not answer in time", now),
            None => {}
        }
    }

    fn running_due_now(&mut self, ix: TaskIx, now: UnixMillis) {
        let Some(entry) = self.tasks.get(ix) else { return };
        let node = self.node_of(entry);
        let accounted = self.accounts_for(entry, node);
        let event = decide::run_overdue(&entry.view, accounted, now).or_else(|| {
            let since = self.silent_since(entry, node).filter(|_| !accounted)?;
            let silent = decide::node_silent(&entry.view, since, now);
            silent.or_else(|| decide::cancel_unheard(&entry.view, since, now))
        });
        if let Some(event) = event {
            return self.append(ix, event, now);
        }
        let Some(to) = self.reachable(entry) else { return };
        if entry.live.query_at.is_some_and(|at| at <= now) {
            self.ask(ix, to.clone(), now);
        }
        self.stop_if_wanted(ix, to, now);
    }

    /// Where the attempt's node is reached, if it is connected.
    fn reachable(&self, entry: &Entry) -> Option<AttemptAt> {
        let node = self.node_of(entry)?;
        let session = node.online.as_ref()?.session.clone();
        let (task, attempt) = (entry.view.key.clone(), entry.view.attempt);
        Some(AttemptAt { task, attempt, node: node.id.clone(), session })
    }

    fn ask(&mut self, ix: TaskIx, to: AttemptAt, now: UnixMillis) {
        let id = self.next_id();
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        entry.live.query_at = Some(now + QUERY_EVERY_MS);
        if let Some(old) = entry.live.query.replace(id) {
            self.queries.remove(&old);
        }
        self.queries.insert(id, ix);
        self.outbox.push(Proposal::Query { id, to });
    }

    fn stop_if_wanted(&mut self, ix: TaskIx, to: AttemptAt, now: UnixMillis) {
        let id = self.next_id();
        let Some(entry) = self.tasks.get_mut(ix) else { return };
        let v = &entry.view;
        let late = v.deadline_at.is_some_and(|d| d <= now);
        if !(v.cancel_requested || late) || entry.live.cancel_at > now {
            return;
        }
        let reason =
            if v.cancel_requested { "cancel requested" } else { "the task's deadline passed" };
        entry.live.cancel_at = now + QUERY_EVERY_MS;
        self.outbox.push(Proposal::Cancel { id, to, reason: reason.to_owned() });
    }
}

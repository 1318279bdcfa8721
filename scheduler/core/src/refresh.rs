//! Where a task belongs now: in a queue, and when to look at it again. A function of its state and the overlay, called after
//! every change, so that no change needs to know what follows from it.

use crate::decide;
use crate::scheduler::Scheduler;
use crate::state::{Entry, Node, TaskIx};
use cortex_model::{RetryOn, TaskState, UnixMillis};

impl Scheduler {
    /// Brings queue and timer of a task in line with its state.
    pub(crate) fn refresh(&mut self, ix: TaskIx) {
        let Some(entry) = self.tasks.get(ix) else { return };
        let active = entry.broken.is_none() && self.owned.contains(&entry.shard);
        let pending = entry.view.state == TaskState::Pending;
        let waits = active && pending && is_waiting(entry);
        let timer = if active { self.due(entry) } else { None };
        let before = entry.timer;
        if waits {
            self.enqueue(ix);
        } else {
            self.unqueue(ix);
        }
        if !pending || !active {
            self.leave_class(ix);
        }
        if before != timer {
            if let Some(at) = before {
                self.timers.remove(&(at, ix));
            }
            if let Some(at) = timer {
                self.timers.insert((at, ix));
            }
            if let Some(entry) = self.tasks.get_mut(ix) {
                entry.timer = timer;
            }
        }
    }

    fn due(&self, entry: &Entry) -> Option<UnixMillis> {
        if let Some(until) = entry.live.append_until {
            return Some(until);
        }
        match entry.view.state {
            TaskState::Pending => pending_due(entry),
            TaskState::Running => self.running_due(entry),
            TaskState::Indeterminate => {
                let online = self.node_of(entry).is_some_and(|n| n.online.is_some());
                let wanted = entry.view.concerns_node() && !entry.live.stopped && online;
                wanted.then_some(entry.live.cancel_at)
            }
            TaskState::Succeeded
            | TaskState::Failed
            | TaskState::Cancelled
            | TaskState::Denied
            | TaskState::Expired => None,
        }
    }

    fn running_due(&self, entry: &Entry) -> Option<UnixMillis> {
        let v = &entry.view;
        let node = self.node_of(entry);
        let mut due: Vec<UnixMillis> = Vec::new();
        if !self.accounts_for(entry, node) {
            due.extend(decide::run_due(v));
            let given_up = v.spec.retries(RetryOn::Lost) && v.attempts_left();
            if given_up || v.cancel_requested {
                due.extend(self.silent_since(entry, node).map(|s| s + v.spec.node_lost_grace()));
            }
        }
        if node.is_some_and(|n| n.online.is_some()) {
            due.extend(entry.live.query_at);
            if v.cancel_requested {
                due.push(entry.live.cancel_at);
            } else {
                due.extend(v.deadline_at.map(|d| d.max(entry.live.cancel_at)));
            }
        }
        due.into_iter().min()
    }

    /// The record of the node that a task runs on.
    pub(crate) fn node_of(&self, entry: &Entry) -> Option<&Node> {
        let ix = self.ws.get(entry.ws)?.nodes.get(entry.view.node()?)?;
        self.nodes.get(*ix)
    }

    /// Whether somebody is there who can still say how the attempt ends: the same life of the journal, and it did not say that
    /// it cannot.
    pub(crate) fn accounts_for(&self, entry: &Entry, node: Option<&Node>) -> bool {
        let online = node.and_then(|n| n.online.as_ref());
        let started = entry.view.started.as_ref();
        let same = online.zip(started).is_some_and(|(o, s)| o.incarnation == s.incarnation);
        same && entry.live.unaccounted.is_none()
    }

    /// Since when nobody can; none while it is too early to know.
    pub(crate) fn silent_since(&self, entry: &Entry, node: Option<&Node>) -> Option<UnixMillis> {
        let listening = self.listening_since?;
        let started = entry.view.started.as_ref()?;
        let online = node.and_then(|n| n.online.as_ref());
        let since = match (entry.live.unaccounted, online, node.and_then(|n| n.gone_at)) {
            (Some(at), _, _) => at,
            (None, Some(other_life), _) => other_life.seen_at,
            (None, None, Some(gone)) => gone,
            (None, None, None) => listening,
        };
        Some(since.max(started.at))
    }
}

fn is_waiting(entry: &Entry) -> bool {
    let live = &entry.live;
    let paused = entry.view.retry_at.is_some() && !live.ripe;
    live.offer.is_none() && live.append_until.is_none() && live.hold_until.is_none() && !paused
}

fn pending_due(entry: &Entry) -> Option<UnixMillis> {
    let live = &entry.live;
    let offer = live.offer.as_ref().map(|o| o.expires);
    let retry = entry.view.retry_at.filter(|_| !live.ripe);
    [entry.view.deadline_at, offer, live.hold_until, retry].into_iter().flatten().min()
}

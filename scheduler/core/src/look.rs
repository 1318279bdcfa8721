//! What one task needs now: to be queued, asked about, cancelled, released or ended. Called for every task that changed and
//! for every timer that struck; every branch leaves a timer behind if time alone would change the answer.

use crate::decide::{self, Answered};
use crate::nodes::NodeKey;
use crate::proposal::Proposal;
use crate::scheduler::{Entry, Scheduler};
use cortex_model::limits::{OFFER_TIMEOUT_MS, QUERY_EVERY_MS};
use cortex_model::{Commit, Event, Incarnation, TaskKey, TaskState, UnixMillis};

/// A claim whose `Started` does not show after this long is forgotten and the task offered again, milliseconds.
const CLAIM_SHOWS_MS: u64 = 2 * OFFER_TIMEOUT_MS;

impl Scheduler {
    pub(crate) fn look(&mut self, key: &TaskKey, now: UnixMillis, out: &mut Vec<Proposal>) {
        let Some(entry) = self.tasks.get(key) else { return };
        if entry.quarantine.is_some() || entry.appending || !self.owned.contains(&entry.shard) {
            return;
        }
        match entry.view.state {
            TaskState::Pending => self.look_pending(key, now, out),
            TaskState::Running => self.look_running(key, now, out),
            // Nothing but a report or an operator changes it.
            TaskState::Indeterminate => {}
            TaskState::Succeeded
            | TaskState::Failed
            | TaskState::Cancelled
            | TaskState::Denied
            | TaskState::Expired => {}
        }
    }

    fn look_pending(&mut self, key: &TaskKey, now: UnixMillis, out: &mut Vec<Proposal>) {
        let Some(entry) = self.tasks.get_mut(key) else { return };
        if let Some(event) = decide::deadline_passed(&entry.view, now) {
            out.push(append(entry, event));
            self.unqueue(key);
            return;
        }
        if let Some((node, since)) = entry.offer.clone() {
            if now >= since + CLAIM_SHOWS_MS {
                entry.offer = None;
                if let Some(n) = self.nodes.present.get_mut(&node) {
                    n.offered.remove(key);
                }
                self.place(&node);
            } else {
                let deadline = entry.view.deadline_at;
                let due =
                    deadline.map_or(since + CLAIM_SHOWS_MS, |d| d.min(since + CLAIM_SHOWS_MS));
                self.timers.set(key, Some(due));
                return;
            }
        }
        let Some(entry) = self.tasks.get(key) else { return };
        let deadline = entry.view.deadline_at;
        match entry.view.retry_at.filter(|t| *t > now) {
            Some(later) => self.timers.set(key, Some(deadline.map_or(later, |d| d.min(later)))),
            None => {
                self.timers.set(key, deadline);
                self.enqueue(key);
            }
        }
    }

    fn look_running(&mut self, key: &TaskKey, now: UnixMillis, out: &mut Vec<Proposal>) {
        let Some(entry) = self.tasks.get_mut(key) else { return };
        let (Some(node), Some(started)) = (entry.node(), entry.view.started.clone()) else {
            return;
        };
        let Some(present) = self.nodes.present.get(&node) else {
            let since = self.nodes.absent.get(&node).map(|a| a.since);
            let since = *entry.missing_since.get_or_insert(since.unwrap_or(now));
            return self.look_missing(key, since, now, out);
        };
        entry.missing_since = None;
        let session = present.view.session.clone();
        let known = session == started.session || entry.known_in.as_ref() == Some(&session);
        let deadline = entry.view.deadline_at;
        let past = deadline.is_some_and(|d| now >= d);
        let wanted = !known || entry.view.cancel_requested || past;
        if !wanted {
            self.timers.set(key, deadline);
            return;
        }
        if now < entry.ask_at {
            self.timers.set(key, Some(entry.ask_at));
            return;
        }
        entry.ask_at = now + QUERY_EVERY_MS;
        let (task, attempt) = (key.clone(), entry.view.attempt);
        out.push(if known {
            let reason = if entry.view.cancel_requested {
                "cancelled on request"
            } else {
                "its deadline passed"
            };
            Proposal::Cancel { task, attempt, node, session, reason: reason.to_owned() }
        } else {
            Proposal::Query { task, attempt, node, session }
        });
        self.timers.set(key, Some(now + QUERY_EVERY_MS));
    }

    /// The node is not connected anywhere.
    fn look_missing(
        &mut self,
        key: &TaskKey,
        since: UnixMillis,
        now: UnixMillis,
        out: &mut Vec<Proposal>,
    ) {
        let Some(entry) = self.tasks.get_mut(key) else { return };
        let event = decide::node_silent(&entry.view, since, now)
            .or_else(|| decide::run_overdue(&entry.view, false, now));
        if let Some(event) = event {
            out.push(append(entry, event));
            return;
        }
        let silent = since + entry.view.spec.node_lost_grace();
        let may_repeat = entry.view.spec.safe_to_repeat && now < silent;
        let overdue = decide::run_due(&entry.view).filter(|t| *t > now);
        let next = [may_repeat.then_some(silent), overdue].into_iter().flatten().min();
        self.timers.set(key, next);
    }

    /// What a node answered about an attempt.
    pub fn query_answered(
        &mut self,
        task: &TaskKey,
        attempt: u32,
        answer: &QueryAnswer,
        now: UnixMillis,
    ) -> Option<Proposal> {
        let node = self.tasks.get(task)?.node()?;
        let seen = self.nodes.journal_seen(&node, &answer.incarnation);
        let entry = self.tasks.get_mut(task)?;
        if entry.view.attempt != attempt
            || entry.view.state != TaskState::Running
            || entry.appending
        {
            return None;
        }
        match answer.phase {
            Phase::Known => {
                entry.known_in = self.nodes.present.get(&node).map(|n| n.view.session.clone());
                entry.ask_at = now;
                self.dirty.insert(task.clone());
                None
            }
            Phase::Claiming => None,
            Phase::Unknown => {
                let word = Answered {
                    unknown: true,
                    incarnation: answer.incarnation.clone(),
                    journal_size: answer.journal_size,
                    journal_seen: seen,
                };
                let event = decide::not_started(&entry.view, &word, now)?;
                Some(append(entry, event))
            }
        }
    }
}

/// A node's answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryAnswer {
    /// What it knows.
    pub phase: Phase,
    /// Life of its journal.
    pub incarnation: Incarnation,
    /// Size of that journal.
    pub journal_size: u64,
}

/// What a node knows of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    Unknown,
    /// It waits for its go.
    Claiming,
    /// It ran, runs, or has reported.
    Known,
}

fn append(entry: &mut Entry, event: Event) -> Proposal {
    entry.appending = true;
    Proposal::Append {
        task: entry.view.key.clone(),
        expect: entry.view.revision,
        commit: Commit { n: entry.view.n + 1, events: vec![event] },
    }
}

/// For callers that name a node by its parts.
impl From<(&cortex_model::Workspace, &cortex_model::NodeId)> for NodeKey {
    fn from((workspace, node): (&cortex_model::Workspace, &cortex_model::NodeId)) -> NodeKey {
        NodeKey { workspace: workspace.clone(), node: node.clone() }
    }
}

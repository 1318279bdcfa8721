//! What time and silence mean for a task. Every timer is an absolute point derived from events, so that any scheduler
//! comes to the same decision.

use super::wish::ended;
use crate::task::TaskView;
use cortex_model::event::{AttemptReleased, OutcomeUnknown};
use cortex_model::limits::RUN_DEADLINE_GRACE_MS;
use cortex_model::{
    Ending, Event, Incarnation, NodeId, ReleaseReason, RetryOn, TaskState, UnixMillis,
};

/// What a node answered when it was asked about an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// It holds neither a claim nor a journal entry for it.
    pub unknown: bool,
    /// Life of the journal that says so.
    pub incarnation: Incarnation,
    /// Size of that journal.
    pub journal_size: u64,
    /// Largest size of that journal any gateway has seen.
    pub journal_seen: u64,
}

/// The attempt never began: released only on the word of the very journal that would hold its intent, and only if that
/// journal was not rolled back.
#[must_use]
pub fn not_started(v: &TaskView, answer: &Answered, now: UnixMillis) -> Option<Event> {
    let started = v.started.as_ref()?;
    let same_life = started.incarnation == answer.incarnation;
    let complete = answer.journal_size >= answer.journal_seen;
    if v.state != TaskState::Running || !answer.unknown || !same_life || !complete {
        return None;
    }
    if v.cancel_requested {
        return Some(ended(
            v.attempt,
            Ending::Cancelled { never_started: true, survivors: 0 },
            now,
        ));
    }
    Some(released(
        v,
        ReleaseReason::NotStarted,
        now,
        now,
        "the node's journal holds no intent for it".to_owned(),
    ))
}

/// The node of a safe-to-repeat attempt has been silent since `silent_since`: given up after the task's grace.
#[must_use]
pub fn node_silent(v: &TaskView, silent_since: UnixMillis, now: UnixMillis) -> Option<Event> {
    let due = v.state == TaskState::Running && now >= silent_since + v.spec.node_lost_grace();
    if !due || !v.spec.retries(RetryOn::Lost) || !v.attempts_left() || v.cancel_requested {
        return None;
    }
    let retry_at = now + v.spec.backoff_ms(v.attempt + 1);
    let evidence = format!("the node was silent for {} ms", now.since(silent_since));
    Some(released(v, ReleaseReason::NodeLost, retry_at, now, evidence))
}

/// An attempt was to be cancelled, but its node has been silent since `silent_since`: whoever waits for the proof is told after
/// the task's grace that there is none. Should the node come back, it is still told to stop.
#[must_use]
pub fn cancel_unheard(v: &TaskView, silent_since: UnixMillis, now: UnixMillis) -> Option<Event> {
    let due = v.state == TaskState::Running && now >= silent_since + v.spec.node_lost_grace();
    if !due || !v.cancel_requested {
        return None;
    }
    let silent = now.since(silent_since);
    Some(Event::OutcomeUnknown(Box::new(OutcomeUnknown {
        attempt: v.attempt,
        evidence: format!(
            "it was to be cancelled, but its node has been silent for {silent} ms: whether it still runs is not known"
        ),
        at: now,
        outcome: None,
    })))
}

/// When a silent node's attempt stops being plausible: its run timeout and a grace for the report are over. One that waits for
/// the owner of its node has started nothing and may wait for as long as its task lives.
#[must_use]
pub fn run_due(v: &TaskView) -> Option<UnixMillis> {
    let waits = v.state != TaskState::Running || v.asking.is_some();
    let started = v.started.as_ref().filter(|_| !waits)?;
    Some(started.at + v.spec.run_timeout() + RUN_DEADLINE_GRACE_MS)
}

/// The run is overdue and its node is not there to tell: nobody can account for the attempt.
#[must_use]
pub fn run_overdue(v: &TaskView, node_present: bool, now: UnixMillis) -> Option<Event> {
    if node_present || run_due(v).is_none_or(|due| now < due) {
        return None;
    }
    Some(Event::OutcomeUnknown(Box::new(OutcomeUnknown {
        attempt: v.attempt,
        evidence:
            "the node did not report within the run timeout and its grace, and is not connected"
                .to_owned(),
        at: now,
        outcome: None,
    })))
}

/// The attempt's node was taken out for good, so that nobody will ever tell how it ended. What is safe to repeat is left to
/// [`node_silent`]; everything else is said openly at once.
#[must_use]
pub fn node_ended(v: &TaskView, node: &NodeId, why: &str, now: UnixMillis) -> Vec<Event> {
    let there = v.state == TaskState::Running && v.node() == Some(node);
    let repeats = v.spec.retries(RetryOn::Lost) && v.attempts_left() && !v.cancel_requested;
    if !there || repeats {
        return Vec::new();
    }
    let evidence = why.to_owned();
    let unknown = OutcomeUnknown { attempt: v.attempt, evidence, at: now, outcome: None };
    vec![Event::OutcomeUnknown(Box::new(unknown))]
}

/// The task's own deadline passed while it was waiting.
#[must_use]
pub fn deadline_passed(v: &TaskView, now: UnixMillis) -> Option<Event> {
    let due = v.deadline_at.is_some_and(|d| now >= d);
    (due && v.state == TaskState::Pending)
        .then(|| ended(0, Ending::Expired { never_started: !v.began() }, now))
}

fn released(
    v: &TaskView,
    reason: ReleaseReason,
    retry_at: UnixMillis,
    now: UnixMillis,
    evidence: String,
) -> Event {
    Event::AttemptReleased(Box::new(AttemptReleased {
        attempt: v.attempt,
        reason,
        retry_at,
        outcome: None,
        evidence,
        at: now,
    }))
}

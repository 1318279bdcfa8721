//! What a node's report of an attempt means for the task.

use crate::task::TaskView;
use cortex_model::event::{AttemptReleased, Finished, LateOutcome, OutcomeUnknown};
use cortex_model::limits::LATE_REPORTS_MAX;
use cortex_model::{Ending, Event, NodeId, Outcome, ReleaseReason, RetryOn, TaskState, UnixMillis};

/// What to do with a report.
#[derive(Clone, Debug, PartialEq)]
pub enum OutcomeDecision {
    /// It is the task's: append this.
    Append(Vec<Event>),
    /// It is recorded already, or nothing can come of it: acknowledge it.
    AlreadyKnown,
    /// It came too late to matter: append this for the record.
    Late(Vec<Event>),
    /// Nothing to record: the attempt was never that node's, or too much was said about it already. Acknowledge it.
    NotHeard,
    /// The history as read does not have the attempt yet: it is older than the report. Read again; acknowledge nothing.
    Behind,
}

/// Decides a report. Only the current attempt can end the task; whatever else is said about an older one is recorded as late.
#[must_use]
pub fn outcome(
    v: &TaskView,
    node: &NodeId,
    attempt: u32,
    o: &Outcome,
    now: UnixMillis,
) -> OutcomeDecision {
    let ours = attempt == v.attempt && v.node() == Some(node);
    match v.state {
        TaskState::Running | TaskState::Indeterminate if ours => {
            if v.state == TaskState::Indeterminate && is_uncertain(o) {
                return OutcomeDecision::AlreadyKnown;
            }
            OutcomeDecision::Append(vec![end(v, o, now)])
        }
        TaskState::Pending
        | TaskState::Running
        | TaskState::Indeterminate
        | TaskState::Succeeded
        | TaskState::Failed
        | TaskState::Cancelled
        | TaskState::Denied
        | TaskState::Expired => late(v, node, attempt, o, now),
    }
}

fn is_uncertain(o: &Outcome) -> bool {
    matches!(o.ending, Ending::Interrupted { .. })
}

fn late(
    v: &TaskView,
    node: &NodeId,
    attempt: u32,
    o: &Outcome,
    now: UnixMillis,
) -> OutcomeDecision {
    if attempt > v.attempt {
        return OutcomeDecision::Behind;
    }
    let recorded = v.outcome_of(attempt).is_some_and(|r| same(r, o))
        || v.late.contains(&(attempt, o.journal_seq));
    if attempt == 0 || recorded {
        return OutcomeDecision::AlreadyKnown;
    }
    // A journal has one outcome per attempt. Whoever tells many stories must not fill the log with them.
    let told = v.late.range((attempt, 0)..=(attempt, u64::MAX)).count();
    if v.node_of(attempt) != Some(node) || told >= LATE_REPORTS_MAX {
        return OutcomeDecision::NotHeard;
    }
    let late = LateOutcome { attempt, outcome: o.clone(), node: node.clone(), at: now };
    OutcomeDecision::Late(vec![Event::LateOutcome(Box::new(late))])
}

/// The same report, seen twice: the journal entry it names is the same.
fn same(a: &Outcome, b: &Outcome) -> bool {
    a.journal_seq == b.journal_seq && a.output == b.output
}

fn end(v: &TaskView, o: &Outcome, now: UnixMillis) -> Event {
    let more = v.attempts_left() && !v.cancel_requested && !past(v, now);
    let release = |reason| {
        Event::AttemptReleased(Box::new(AttemptReleased {
            attempt: v.attempt,
            reason,
            retry_at: now + v.spec.backoff_ms(v.attempt + 1),
            outcome: Some(o.clone()),
            evidence: String::new(),
            at: now,
        }))
    };
    let failed = matches!(o.ending, Ending::Signaled { .. })
        || matches!(o.ending, Ending::Exited { code } if code != 0);
    match &o.ending {
        Ending::Interrupted { .. } if more && v.spec.retries(RetryOn::Lost) => {
            release(ReleaseReason::Interrupted)
        }
        // How far it got is not known, and a wish to cancel does not change that.
        Ending::Interrupted { found } => Event::OutcomeUnknown(Box::new(OutcomeUnknown {
            attempt: v.attempt,
            evidence: format!("the node was interrupted while it ran: {found}"),
            at: now,
            outcome: Some(o.clone()),
        })),
        Ending::Timeout { .. } if more && v.spec.retries(RetryOn::Timeout) => {
            release(ReleaseReason::TimedOut)
        }
        Ending::Exited { .. } | Ending::Signaled { .. }
            if failed && more && v.spec.retries(RetryOn::Exit) =>
        {
            release(ReleaseReason::Exited)
        }
        Ending::Cancelled { .. } if past(v, now) && !v.cancel_requested => {
            // Nobody asked: the deadline did.
            let ending = Ending::Expired { never_started: false };
            let outcome = Outcome { ending, ..o.clone() };
            Event::Finished(Box::new(Finished { attempt: v.attempt, outcome, at: now }))
        }
        Ending::Exited { .. }
        | Ending::Signaled { .. }
        | Ending::SpawnFailed(_)
        | Ending::Timeout { .. }
        | Ending::Cancelled { .. }
        | Ending::Denied { .. }
        | Ending::Expired { .. } => {
            Event::Finished(Box::new(Finished { attempt: v.attempt, outcome: o.clone(), at: now }))
        }
    }
}

fn past(v: &TaskView, now: UnixMillis) -> bool {
    v.deadline_at.is_some_and(|d| now >= d)
}

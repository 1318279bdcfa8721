//! What clients wish: submit, cancel, resolve.

use crate::task::TaskView;
use cortex_model::event::{AttemptReleased, CancelRequested, Finished, Resolved, Submitted};
use cortex_model::request;
use cortex_model::{
    Actor, Code, Commit, Ending, Event, Fault, Outcome, ReleaseReason, ResolveAs, TaskSpec,
    TaskState, UnixMillis,
};

/// A task that somebody wants.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// What.
    pub spec: TaskSpec,
    /// Under which key.
    pub idempotency_key: String,
    /// Who.
    pub actor: Actor,
    /// When.
    pub now: UnixMillis,
}

/// What to do with a submit.
#[derive(Clone, Debug, PartialEq)]
pub enum Submit {
    /// Append this where nothing is.
    Create(Commit),
    /// It is there already: the same request.
    Same,
    /// The key stands for another request.
    Conflict(Fault),
}

/// Decides a submit: the same key and request is the same task, for ever.
#[must_use]
pub fn submit(existing: Option<&TaskView>, new: &NewTask) -> Submit {
    let hash = request::hash(&new.spec);
    let Some(old) = existing else {
        let submitted = Submitted {
            spec: new.spec.clone(),
            idempotency_key: new.idempotency_key.clone(),
            request_hash: hash,
            request_version: request::REQUEST_VERSION,
            actor: new.actor.clone(),
            at: new.now,
        };
        return Submit::Create(Commit {
            n: 1,
            events: vec![Event::Submitted(Box::new(submitted))],
        });
    };
    if old.request_version == request::REQUEST_VERSION && old.request_hash == hash {
        return Submit::Same;
    }
    let differences = request::difference(&old.spec, &new.spec);
    if differences.is_empty() {
        return Submit::Same;
    }
    Submit::Conflict(Fault::new(
        Code::KeyConflict,
        format!(
            "the key {:?} stands for task {} with another request; {}",
            new.idempotency_key,
            old.key.task,
            differences.join("; ")
        ),
    ))
}

/// Decides a cancel. A pending task ends at once; a running one ends when its node has proven it. Asking twice changes nothing.
///
/// # Errors
/// `CX-0203` when the task is over otherwise than by cancellation.
pub fn cancel(
    v: &TaskView,
    actor: &Actor,
    reason: &str,
    now: UnixMillis,
) -> Result<Vec<Event>, Fault> {
    if v.state == TaskState::Cancelled || (v.cancel_requested && !v.state.is_over()) {
        return Ok(Vec::new());
    }
    if v.state.is_over() {
        return Err(Fault::new(
            Code::TaskOver,
            format!("task {} is {}", v.key.task, v.state.name()),
        ));
    }
    let wish = CancelRequested { actor: actor.clone(), reason: reason.to_owned(), at: now };
    let mut events = vec![Event::CancelRequested(wish)];
    if v.state == TaskState::Pending {
        let ending = Ending::Cancelled { never_started: !v.began(), survivors: 0 };
        events.push(ended(0, ending, now));
    }
    Ok(events)
}

/// Decides an operator's word about an INDETERMINATE task.
///
/// # Errors
/// `CX-0204` when it is not INDETERMINATE.
pub fn resolve(
    v: &TaskView,
    resolve_as: ResolveAs,
    actor: &Actor,
    reason: &str,
    now: UnixMillis,
) -> Result<Vec<Event>, Fault> {
    if v.state != TaskState::Indeterminate {
        let why = format!("task {} is {}", v.key.task, v.state.name());
        return Err(Fault::new(Code::NotIndeterminate, why));
    }
    let word = Resolved { resolve_as, reason: reason.to_owned(), actor: actor.clone(), at: now };
    let mut events = vec![Event::Resolved(word)];
    if resolve_as == ResolveAs::Retry {
        events.push(Event::AttemptReleased(Box::new(AttemptReleased {
            attempt: v.attempt,
            reason: ReleaseReason::Resolved,
            retry_at: now,
            outcome: None,
            evidence: reason.to_owned(),
            at: now,
        })));
    }
    Ok(events)
}

/// `Finished` without a run.
pub(super) fn ended(attempt: u32, ending: Ending, now: UnixMillis) -> Event {
    Event::Finished(Box::new(Finished { attempt, outcome: Outcome::without_run(ending), at: now }))
}

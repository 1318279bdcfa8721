//! `event.proto` to and from the model, and the bytes of a commit.

use super::task;
use crate::error::{Code, Fault};
use crate::event::*;
use crate::ids::{Incarnation, NodeId, SessionId};
use crate::proto as pb;
use crate::time::UnixMillis;
use bytes::Bytes;
use pb::event::Kind;
use prost::Message;

fn malformed(what: &str) -> Fault {
    Fault::new(Code::Malformed, format!("stored event: {what} is missing or has an unknown value"))
}

/// The bytes of a commit, as stored.
#[must_use]
pub fn encode_commit(c: &Commit) -> Bytes {
    commit_to_wire(c).encode_to_vec().into()
}

/// A commit as a message, for histories.
#[must_use]
pub fn commit_to_wire(c: &Commit) -> pb::Commit {
    let events = c.events.iter().map(|e| pb::Event { kind: Some(to_wire(e)) }).collect();
    pb::Commit { n: c.n, events }
}

/// Reads stored bytes.
///
/// # Errors
/// `CX-0101` when the bytes are not a commit or hold an event this version does not know.
pub fn decode_commit(bytes: Bytes) -> Result<Commit, Fault> {
    let p = pb::Commit::decode(bytes).map_err(|e| malformed(&format!("the commit ({e})")))?;
    if p.events.is_empty() || p.n == 0 {
        return Err(malformed("commit.events"));
    }
    let one = |e: pb::Event| e.kind.ok_or_else(|| malformed("event.kind")).and_then(from_wire);
    Ok(Commit { n: p.n, events: p.events.into_iter().map(one).collect::<Result<_, _>>()? })
}

fn from_wire(k: Kind) -> Result<Event, Fault> {
    Ok(match k {
        Kind::Submitted(p) => Event::Submitted(Box::new(submitted(p)?)),
        Kind::Started(p) => Event::Started(Box::new(started(p)?)),
        Kind::AttemptReleased(p) => Event::AttemptReleased(Box::new(AttemptReleased {
            attempt: p.attempt,
            reason: release_reason(p.reason)?,
            retry_at: UnixMillis(p.retry_at_ms),
            outcome: p.outcome.map(task::outcome).transpose()?,
            evidence: p.evidence,
            at: UnixMillis(p.at_ms),
        })),
        Kind::CancelRequested(p) => Event::CancelRequested(CancelRequested {
            actor: task::actor(p.actor)?,
            reason: p.reason,
            at: UnixMillis(p.at_ms),
        }),
        Kind::Finished(p) => Event::Finished(Box::new(Finished {
            attempt: p.attempt,
            outcome: task::outcome(p.outcome.ok_or_else(|| malformed("finished.outcome"))?)?,
            at: UnixMillis(p.at_ms),
        })),
        Kind::OutcomeUnknown(p) => Event::OutcomeUnknown(Box::new(OutcomeUnknown {
            attempt: p.attempt,
            evidence: p.evidence,
            at: UnixMillis(p.at_ms),
            outcome: p.outcome.map(task::outcome).transpose()?,
        })),
        Kind::LateOutcome(p) => Event::LateOutcome(Box::new(LateOutcome {
            attempt: p.attempt,
            outcome: task::outcome(p.outcome.ok_or_else(|| malformed("late_outcome.outcome"))?)?,
            node: NodeId::parse(&p.node)?,
            at: UnixMillis(p.at_ms),
        })),
        Kind::Resolved(p) => Event::Resolved(Resolved {
            resolve_as: resolve_as(p.r#as)?,
            reason: p.reason,
            actor: task::actor(p.actor)?,
            at: UnixMillis(p.at_ms),
        }),
        Kind::Archived(p) => Event::Archived(Box::new(Archived {
            state: state(p.state)?,
            submitted: submitted(p.submitted.ok_or_else(|| malformed("archived.submitted"))?)?,
            outcome: p.outcome.map(task::outcome).transpose()?,
            attempts: p.attempts,
            commits: p.commits,
            at: UnixMillis(p.at_ms),
            reference: p.reference,
        })),
        Kind::ConsentAsked(p) => Event::ConsentAsked(Box::new(ConsentAsked {
            attempt: p.attempt,
            node: NodeId::parse(&p.node)?,
            question: p.question,
            rule: p.rule,
            classes: p.classes,
            asked_at: UnixMillis(p.asked_at_ms),
            until: Some(p.until_ms).filter(|at| *at > 0).map(UnixMillis),
            at: UnixMillis(p.at_ms),
        })),
        Kind::ConsentAnswered(p) => Event::ConsentAnswered(ConsentAnswered {
            attempt: p.attempt,
            node: NodeId::parse(&p.node)?,
            question: p.question,
            answer: consent_answer(p.answer)?
                .ok_or_else(|| malformed("consent_answered.answer"))?,
            answered_at: UnixMillis(p.answered_at_ms),
            at: UnixMillis(p.at_ms),
        }),
    })
}

/// Reads what came of a question; none while it waits.
///
/// # Errors
/// `CX-0101` for an unknown value.
pub fn consent_answer(v: i32) -> Result<Option<ConsentAnswer>, Fault> {
    use pb::ConsentAnswer as A;
    Ok(match A::try_from(v) {
        Ok(A::Unspecified) => None,
        Ok(A::Allowed) => Some(ConsentAnswer::Allowed),
        Ok(A::Refused) => Some(ConsentAnswer::Refused),
        Ok(A::Expired) => Some(ConsentAnswer::Expired),
        Ok(A::Withdrawn) => Some(ConsentAnswer::Withdrawn),
        Err(_) => return Err(malformed("consent answer")),
    })
}

impl From<ConsentAnswer> for pb::ConsentAnswer {
    fn from(answer: ConsentAnswer) -> pb::ConsentAnswer {
        match answer {
            ConsentAnswer::Allowed => pb::ConsentAnswer::Allowed,
            ConsentAnswer::Refused => pb::ConsentAnswer::Refused,
            ConsentAnswer::Expired => pb::ConsentAnswer::Expired,
            ConsentAnswer::Withdrawn => pb::ConsentAnswer::Withdrawn,
        }
    }
}

impl From<&ConsentAsked> for pb::ConsentAsked {
    fn from(a: &ConsentAsked) -> pb::ConsentAsked {
        pb::ConsentAsked {
            attempt: a.attempt,
            node: a.node.to_string(),
            question: a.question,
            rule: a.rule.clone(),
            classes: a.classes.clone(),
            asked_at_ms: a.asked_at.0,
            until_ms: a.until.map_or(0, |at| at.0),
            at_ms: a.at.0,
        }
    }
}

fn submitted(p: pb::Submitted) -> Result<Submitted, Fault> {
    Ok(Submitted {
        spec: task::spec(p.spec.ok_or_else(|| malformed("submitted.spec"))?)?,
        idempotency_key: p.idempotency_key,
        request_hash: p.request_hash,
        request_version: p.request_version,
        actor: task::actor(p.actor)?,
        at: UnixMillis(p.at_ms),
    })
}

fn started(p: pb::Started) -> Result<Started, Fault> {
    let refused = |r: pb::RefusedOffer| {
        Ok(RefusedOffer { node: NodeId::parse(&r.node)?, why: r.why, at: UnixMillis(r.at_ms) })
    };
    Ok(Started {
        attempt: p.attempt,
        node: NodeId::parse(&p.node)?,
        incarnation: Incarnation::parse(&p.incarnation)?,
        session: SessionId::parse(&p.session)?,
        offered_by: p.offered_by,
        offered_at: UnixMillis(p.offered_at_ms),
        reason: p.reason,
        refused: p.refused.into_iter().map(refused).collect::<Result<_, Fault>>()?,
        at: UnixMillis(p.at_ms),
        gateway: p.gateway,
    })
}

fn release_reason(v: i32) -> Result<ReleaseReason, Fault> {
    use pb::ReleaseReason as R;
    Ok(match R::try_from(v) {
        Ok(R::NotStarted) => ReleaseReason::NotStarted,
        Ok(R::Interrupted) => ReleaseReason::Interrupted,
        Ok(R::NodeLost) => ReleaseReason::NodeLost,
        Ok(R::TimedOut) => ReleaseReason::TimedOut,
        Ok(R::Exited) => ReleaseReason::Exited,
        Ok(R::Resolved) => ReleaseReason::Resolved,
        Ok(R::Unspecified) | Err(_) => return Err(malformed("attempt_released.reason")),
    })
}

/// Reads how to resolve.
///
/// # Errors
/// `CX-0101` for an unknown value.
pub fn resolve_as(v: i32) -> Result<ResolveAs, Fault> {
    use pb::ResolveAs as R;
    Ok(match R::try_from(v) {
        Ok(R::Succeeded) => ResolveAs::Succeeded,
        Ok(R::Failed) => ResolveAs::Failed,
        Ok(R::Retry) => ResolveAs::Retry,
        Ok(R::Unspecified) | Err(_) => return Err(malformed("resolve_as")),
    })
}

/// Reads a state.
///
/// # Errors
/// `CX-0101` for an unknown value.
pub fn state(v: i32) -> Result<TaskState, Fault> {
    use pb::TaskState as S;
    Ok(match S::try_from(v) {
        Ok(S::Pending) => TaskState::Pending,
        Ok(S::Running) => TaskState::Running,
        Ok(S::Indeterminate) => TaskState::Indeterminate,
        Ok(S::Succeeded) => TaskState::Succeeded,
        Ok(S::Failed) => TaskState::Failed,
        Ok(S::Cancelled) => TaskState::Cancelled,
        Ok(S::Denied) => TaskState::Denied,
        Ok(S::Expired) => TaskState::Expired,
        Ok(S::Unspecified) | Err(_) => return Err(malformed("state")),
    })
}

impl From<TaskState> for pb::TaskState {
    fn from(s: TaskState) -> pb::TaskState {
        match s {
            TaskState::Pending => pb::TaskState::Pending,
            TaskState::Running => pb::TaskState::Running,
            TaskState::Indeterminate => pb::TaskState::Indeterminate,
            TaskState::Succeeded => pb::TaskState::Succeeded,
            TaskState::Failed => pb::TaskState::Failed,
            TaskState::Cancelled => pb::TaskState::Cancelled,
            TaskState::Denied => pb::TaskState::Denied,
            TaskState::Expired => pb::TaskState::Expired,
        }
    }
}

fn to_wire(e: &Event) -> Kind {
    match e {
        Event::Submitted(s) => Kind::Submitted(submitted_to_wire(s)),
        Event::Started(s) => Kind::Started(started_to_wire(s)),
        Event::AttemptReleased(r) => Kind::AttemptReleased(pb::AttemptReleased {
            attempt: r.attempt,
            reason: release_to_wire(r.reason).into(),
            retry_at_ms: r.retry_at.0,
            outcome: r.outcome.as_ref().map(Into::into),
            evidence: r.evidence.clone(),
            at_ms: r.at.0,
        }),
        Event::CancelRequested(c) => Kind::CancelRequested(pb::CancelRequested {
            actor: Some((&c.actor).into()),
            reason: c.reason.clone(),
            at_ms: c.at.0,
        }),
        Event::Finished(f) => Kind::Finished(pb::Finished {
            attempt: f.attempt,
            outcome: Some((&f.outcome).into()),
            at_ms: f.at.0,
        }),
        Event::OutcomeUnknown(u) => Kind::OutcomeUnknown(pb::OutcomeUnknown {
            attempt: u.attempt,
            evidence: u.evidence.clone(),
            at_ms: u.at.0,
            outcome: u.outcome.as_ref().map(Into::into),
        }),
        Event::LateOutcome(l) => Kind::LateOutcome(pb::LateOutcome {
            attempt: l.attempt,
            outcome: Some((&l.outcome).into()),
            node: l.node.to_string(),
            at_ms: l.at.0,
        }),
        Event::ConsentAsked(a) => Kind::ConsentAsked((&**a).into()),
        Event::ConsentAnswered(a) => Kind::ConsentAnswered(pb::ConsentAnswered {
            attempt: a.attempt,
            node: a.node.to_string(),
            question: a.question,
            answer: pb::ConsentAnswer::from(a.answer).into(),
            answered_at_ms: a.answered_at.0,
            at_ms: a.at.0,
        }),
        Event::Resolved(r) => Kind::Resolved(pb::Resolved {
            r#as: resolve_to_wire(r.resolve_as).into(),
            reason: r.reason.clone(),
            actor: Some((&r.actor).into()),
            at_ms: r.at.0,
        }),
        Event::Archived(a) => Kind::Archived(pb::Archived {
            submitted: Some(submitted_to_wire(&a.submitted)),
            state: pb::TaskState::from(a.state).into(),
            outcome: a.outcome.as_ref().map(Into::into),
            attempts: a.attempts,
            commits: a.commits,
            at_ms: a.at.0,
            reference: a.reference.clone(),
        }),
    }
}

fn submitted_to_wire(s: &Submitted) -> pb::Submitted {
    pb::Submitted {
        spec: Some((&s.spec).into()),
        idempotency_key: s.idempotency_key.clone(),
        request_hash: s.request_hash.clone(),
        request_version: s.request_version,
        actor: Some((&s.actor).into()),
        at_ms: s.at.0,
    }
}

fn started_to_wire(s: &Started) -> pb::Started {
    let refused = |r: &RefusedOffer| pb::RefusedOffer {
        node: r.node.to_string(),
        why: r.why.clone(),
        at_ms: r.at.0,
    };
    pb::Started {
        attempt: s.attempt,
        node: s.node.to_string(),
        incarnation: s.incarnation.to_string(),
        session: s.session.to_string(),
        offered_by: s.offered_by.clone(),
        offered_at_ms: s.offered_at.0,
        reason: s.reason.clone(),
        refused: s.refused.iter().map(refused).collect(),
        at_ms: s.at.0,
        gateway: s.gateway.clone(),
    }
}

fn release_to_wire(r: ReleaseReason) -> pb::ReleaseReason {
    match r {
        ReleaseReason::NotStarted => pb::ReleaseReason::NotStarted,
        ReleaseReason::Interrupted => pb::ReleaseReason::Interrupted,
        ReleaseReason::NodeLost => pb::ReleaseReason::NodeLost,
        ReleaseReason::TimedOut => pb::ReleaseReason::TimedOut,
        ReleaseReason::Exited => pb::ReleaseReason::Exited,
        ReleaseReason::Resolved => pb::ReleaseReason::Resolved,
    }
}

fn resolve_to_wire(r: ResolveAs) -> pb::ResolveAs {
    match r {
        ResolveAs::Succeeded => pb::ResolveAs::Succeeded,
        ResolveAs::Failed => pb::ResolveAs::Failed,
        ResolveAs::Retry => pb::ResolveAs::Retry,
    }
}

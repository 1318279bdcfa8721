//! A task's history as JSON: commits with their events.

use super::task::{Actor, Outcome, Spec, known, state_name};
use super::{hex, text, time};
use cortex_model::proto as pb;
use pb::event::Kind;
use serde::Serialize;

/// One commit: events appended together, and the state after them.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryEntry {
    pub(crate) revision: u64,
    pub(crate) n: u64,
    pub(crate) commit_id: String,
    pub(crate) at_ms: u64,
    pub(crate) state: String,
    pub(crate) events: Vec<Event>,
}

impl From<&pb::HistoryEntry> for HistoryEntry {
    fn from(h: &pb::HistoryEntry) -> HistoryEntry {
        let commit = h.commit.clone().unwrap_or_default();
        HistoryEntry {
            revision: h.revision,
            n: commit.n,
            commit_id: h.commit_id.clone(),
            at_ms: h.at_ms,
            state: state_name(h.state),
            events: commit.events.iter().map(|e| e.kind.as_ref().into()).collect(),
        }
    }
}

/// One thing that happened; `event` names it as the log does.
#[derive(Debug, Serialize)]
#[serde(tag = "event")]
pub(crate) enum Event {
    Submitted {
        spec: Option<Spec>,
        idempotency_key: String,
        request_hash: String,
        request_version: u32,
        actor: Option<Actor>,
        at_ms: u64,
    },
    Started {
        attempt: u32,
        node: String,
        incarnation: String,
        session: String,
        gateway: String,
        offered_by: String,
        offered_at_ms: u64,
        reason: String,
        refused: Vec<Refused>,
        at_ms: u64,
    },
    AttemptReleased {
        attempt: u32,
        reason: String,
        retry_at_ms: Option<u64>,
        outcome: Option<Outcome>,
        evidence: String,
        at_ms: u64,
    },
    CancelRequested {
        actor: Option<Actor>,
        reason: String,
        at_ms: u64,
    },
    Finished {
        attempt: u32,
        outcome: Option<Outcome>,
        at_ms: u64,
    },
    OutcomeUnknown {
        attempt: u32,
        evidence: String,
        outcome: Option<Outcome>,
        at_ms: u64,
    },
    LateOutcome {
        attempt: u32,
        outcome: Option<Outcome>,
        node: String,
        at_ms: u64,
    },
    Resolved {
        r#as: String,
        reason: String,
        actor: Option<Actor>,
        at_ms: u64,
    },
    Archived {
        state: String,
        outcome: Option<Outcome>,
        attempts: u32,
        commits: u64,
        reference: Option<String>,
        at_ms: u64,
    },
    ConsentAsked {
        attempt: u32,
        node: String,
        question: u64,
        rule: Option<String>,
        classes: Vec<String>,
        asked_at_ms: u64,
        until_ms: Option<u64>,
        at_ms: u64,
    },
    ConsentAnswered {
        attempt: u32,
        node: String,
        question: u64,
        answer: String,
        answered_at_ms: u64,
        at_ms: u64,
    },
    /// Written by a newer version.
    Unknown,
}

/// An offer that was not taken.
#[derive(Debug, Serialize)]
pub(crate) struct Refused {
    pub(crate) node: String,
    pub(crate) why: String,
    pub(crate) at_ms: u64,
}

impl From<Option<&Kind>> for Event {
    fn from(kind: Option<&Kind>) -> Event {
        let Some(kind) = kind else { return Event::Unknown };
        match kind {
            Kind::Submitted(s) => submitted(s),
            Kind::Started(s) => started(s),
            Kind::AttemptReleased(r) => Event::AttemptReleased {
                attempt: r.attempt,
                reason: release_reason(r.reason),
                retry_at_ms: time(r.retry_at_ms),
                outcome: outcome(r.outcome.as_ref()),
                evidence: r.evidence.clone(),
                at_ms: r.at_ms,
            },
            Kind::CancelRequested(c) => Event::CancelRequested {
                actor: c.actor.as_ref().map(Into::into),
                reason: c.reason.clone(),
                at_ms: c.at_ms,
            },
            Kind::Finished(f) => Event::Finished {
                attempt: f.attempt,
                outcome: outcome(f.outcome.as_ref()),
                at_ms: f.at_ms,
            },
            Kind::OutcomeUnknown(u) => Event::OutcomeUnknown {
                attempt: u.attempt,
                evidence: u.evidence.clone(),
                outcome: outcome(u.outcome.as_ref()),
                at_ms: u.at_ms,
            },
            Kind::LateOutcome(l) => Event::LateOutcome {
                attempt: l.attempt,
                outcome: outcome(l.outcome.as_ref()),
                node: l.node.clone(),
                at_ms: l.at_ms,
            },
            Kind::Resolved(r) => Event::Resolved {
                r#as: resolve_as(r.r#as),
                reason: r.reason.clone(),
                actor: r.actor.as_ref().map(Into::into),
                at_ms: r.at_ms,
            },
            Kind::ConsentAsked(a) => Event::ConsentAsked {
                attempt: a.attempt,
                node: a.node.clone(),
                question: a.question,
                rule: text(&a.rule),
                classes: a.classes.clone(),
                asked_at_ms: a.asked_at_ms,
                until_ms: time(a.until_ms),
                at_ms: a.at_ms,
            },
            Kind::ConsentAnswered(a) => Event::ConsentAnswered {
                attempt: a.attempt,
                node: a.node.clone(),
                question: a.question,
                answer: consent_answer(a.answer),
                answered_at_ms: a.answered_at_ms,
                at_ms: a.at_ms,
            },
            Kind::Archived(a) => Event::Archived {
                state: state_name(a.state),
                outcome: outcome(a.outcome.as_ref()),
                attempts: a.attempts,
                commits: a.commits,
                reference: text(&a.reference),
                at_ms: a.at_ms,
            },
        }
    }
}

fn submitted(s: &pb::Submitted) -> Event {
    Event::Submitted {
        spec: s.spec.as_ref().map(Into::into),
        idempotency_key: s.idempotency_key.clone(),
        request_hash: hex(&s.request_hash),
        request_version: s.request_version,
        actor: s.actor.as_ref().map(Into::into),
        at_ms: s.at_ms,
    }
}

fn started(s: &pb::Started) -> Event {
    let refused =
        |r: &pb::RefusedOffer| Refused { node: r.node.clone(), why: r.why.clone(), at_ms: r.at_ms };
    Event::Started {
        attempt: s.attempt,
        node: s.node.clone(),
        incarnation: s.incarnation.clone(),
        session: s.session.clone(),
        gateway: s.gateway.clone(),
        offered_by: s.offered_by.clone(),
        offered_at_ms: s.offered_at_ms,
        reason: s.reason.clone(),
        refused: s.refused.iter().map(refused).collect(),
        at_ms: s.at_ms,
    }
}

fn outcome(o: Option<&pb::Outcome>) -> Option<Outcome> {
    o.map(Into::into)
}

/// What came of a question to the owner, in lower case.
pub(crate) fn consent_answer(answer: i32) -> String {
    known::<pb::ConsentAnswer>(answer, |a| a.as_str_name(), "CONSENT_ANSWER_")
}

/// Why an attempt was released, in lower case.
pub(crate) fn release_reason(reason: i32) -> String {
    known::<pb::ReleaseReason>(reason, |r| r.as_str_name(), "RELEASE_REASON_")
}

/// As what a task was resolved, in lower case.
pub(crate) fn resolve_as(r#as: i32) -> String {
    known::<pb::ResolveAs>(r#as, |r| r.as_str_name(), "RESOLVE_AS_")
}

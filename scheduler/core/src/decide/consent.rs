//! What a node tells about its owner's consent, and whether that is news.

use crate::task::TaskView;
use cortex_model::event::{ConsentAnswered, ConsentAsked};
use cortex_model::limits::CONSENT_QUESTIONS_MAX;
use cortex_model::{ConsentAnswer, Event, NodeId, TaskState, UnixMillis};

/// How an attempt stands with the owner of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentStanding {
    /// The attempt.
    pub attempt: u32,
    /// Number of the question on the node.
    pub question: u64,
    /// The rule that asks.
    pub rule: String,
    /// What strict mode sees in it.
    pub classes: Vec<String>,
    /// Node's clock.
    pub asked_at: UnixMillis,
    /// When no answer becomes a no.
    pub until: Option<UnixMillis>,
    /// What came of it and when, by the node's clock; none while it waits.
    pub answer: Option<(ConsentAnswer, UnixMillis)>,
}

/// What to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentDecision {
    /// Append this.
    Append(Vec<Event>),
    /// It is recorded, or nobody wants it: acknowledge it.
    NoNews,
    /// The history as read does not have the attempt yet: read again.
    Behind,
}

/// Decides about a report. Of an attempt that is over or not the node's own nothing is recorded.
#[must_use]
pub fn consent(
    v: &TaskView,
    node: &NodeId,
    told: &ConsentStanding,
    now: UnixMillis,
) -> ConsentDecision {
    if told.attempt > v.attempt {
        return ConsentDecision::Behind;
    }
    let ours = told.attempt == v.attempt && v.node() == Some(node);
    if !ours || v.state != TaskState::Running || told.question <= v.asked.1 {
        return ConsentDecision::NoNews;
    }
    let known = v.asking.as_ref().is_some_and(|asked| asked.question == told.question);
    let mut events = Vec::new();
    if !known {
        // Whoever asks without end must not fill the log.
        if v.asked.0 >= CONSENT_QUESTIONS_MAX {
            return ConsentDecision::NoNews;
        }
        events.push(Event::ConsentAsked(Box::new(ConsentAsked {
            attempt: told.attempt,
            node: node.clone(),
            question: told.question,
            rule: told.rule.clone(),
            classes: told.classes.clone(),
            asked_at: told.asked_at,
            until: told.until,
            at: now,
        })));
    }
    if let Some((answer, answered_at)) = told.answer {
        events.push(Event::ConsentAnswered(ConsentAnswered {
            attempt: told.attempt,
            node: node.clone(),
            question: told.question,
            answer,
            answered_at,
            at: now,
        }));
    }
    if events.is_empty() { ConsentDecision::NoNews } else { ConsentDecision::Append(events) }
}

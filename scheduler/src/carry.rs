//! Carries one proposal out and brings back what came of it. No decision is made here.

use bytes::Bytes;
use cortex_log::{CommitId, EventLog, Expect, Key, LogError, Space};
use cortex_model::limits::OFFER_TIMEOUT_MS;
use cortex_model::proto as pb;
use cortex_model::{Commit, Event, Incarnation, TaskKey, wire};
use cortex_scheduler_core::{
    AppendResult, AttemptAt, Offer, OfferAnswer, Phase, Proposal, Refusal,
};
use pb::dispatch_reply::Body as Reply;
use pb::dispatch_request::Body as Ask;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// What came of a proposal.
pub(crate) enum Outcome {
    Offered {
        id: u64,
        answer: OfferAnswer,
    },
    Appended {
        task: TaskKey,
        result: AppendResult,
    },
    Queried {
        id: u64,
        phase: Phase,
        incarnation: Incarnation,
        journal_size: u64,
    },
    Cancelled {
        task: TaskKey,
        phase: Phase,
    },
    /// Nobody answered; the core asks again by itself.
    Nothing,
}

/// Carries out a proposal.
pub(crate) async fn carry(log: Arc<dyn EventLog>, me: Arc<str>, p: Proposal) -> Outcome {
    match p {
        Proposal::Offer(offer) => {
            let ask = Ask::Offer(offer_message(&offer));
            let reply = request(log.as_ref(), &me, &offer.to, ask).await;
            Outcome::Offered { id: offer.id, answer: answer(reply) }
        }
        Proposal::Append { task, expect, commit } => {
            let result = append(log.as_ref(), &task, expect, &commit).await;
            Outcome::Appended { task, result }
        }
        Proposal::Query { id, to } => {
            let query = pb::Query {
                query_id: 0,
                workspace: to.task.workspace.to_string(),
                task_id: to.task.task.to_string(),
                attempt: to.attempt,
            };
            match request(log.as_ref(), &me, &to, Ask::Query(query)).await {
                Ok(Reply::QueryAnswer(a)) => queried(id, &a).unwrap_or(Outcome::Nothing),
                _ => Outcome::Nothing,
            }
        }
        Proposal::Cancel { to, reason, .. } => {
            let cancel = pb::Cancel {
                workspace: to.task.workspace.to_string(),
                task_id: to.task.task.to_string(),
                attempt: to.attempt,
                reason,
                query_id: 0,
            };
            match request(log.as_ref(), &me, &to, Ask::Cancel(cancel)).await {
                Ok(Reply::CancelAnswer(a)) => match phase(a.phase) {
                    Some(phase) => Outcome::Cancelled { task: to.task, phase },
                    None => Outcome::Nothing,
                },
                _ => Outcome::Nothing,
            }
        }
    }
}

async fn request(
    log: &dyn EventLog,
    me: &str,
    to: &AttemptAt,
    body: Ask,
) -> Result<Reply, LogError> {
    let subject = format!("cx.n.{}.{}.{}", to.task.workspace, to.node, to.session);
    ask(log, me, &subject, body).await
}

async fn ask(log: &dyn EventLog, me: &str, subject: &str, body: Ask) -> Result<Reply, LogError> {
    let request = pb::DispatchRequest { scheduler: me.to_owned(), body: Some(body) };
    let bytes = Bytes::from(request.encode_to_vec());
    let reply = log.request(subject, bytes, Duration::from_millis(OFFER_TIMEOUT_MS)).await?;
    let reply = pb::DispatchReply::decode(reply).map_err(|e| LogError::Backend(e.to_string()))?;
    reply.body.ok_or(LogError::Timeout)
}

fn offer_message(o: &Offer) -> pb::DispatchOffer {
    let refused = |r: &cortex_model::event::RefusedOffer| pb::RefusedOffer {
        node: r.node.to_string(),
        why: r.why.clone(),
        at_ms: r.at.0,
    };
    let spec = o.spec.as_ref();
    pb::DispatchOffer {
        offer: Some(pb::Offer {
            workspace: o.to.task.workspace.to_string(),
            task_id: o.to.task.task.to_string(),
            idempotency_key: o.idempotency_key.clone(),
            attempt: o.to.attempt,
            fence: o.fence,
            spec: Some(spec.into()),
            actor: Some((&o.actor).into()),
            capability_required: spec.requirements(),
            deadline_at_ms: o.deadline_at.map_or(0, |d| d.0),
            run_timeout_ms: spec.run_timeout(),
            output_limit_bytes: spec.output_limit(),
            offer_id: 0,
            // The gateway knows the newest checkpoint of the node that it holds.
            audit_floor: String::new(),
        }),
        offered_at_ms: o.offered_at.0,
        reason: o.reason.clone(),
        refused: o.refused.iter().map(refused).collect(),
        next_n: o.next_n,
    }
}

fn answer(reply: Result<Reply, LogError>) -> OfferAnswer {
    match reply {
        Ok(Reply::Claim(c)) => OfferAnswer::Claimed { slots_free: c.slots_free },
        Ok(Reply::Busy(b)) => {
            let reason = match pb::BusyReason::try_from(b.reason) {
                Ok(pb::BusyReason::NoSlot) => Refusal::NoSlot,
                Ok(pb::BusyReason::KnownAttempt) => Refusal::KnownAttempt,
                Ok(pb::BusyReason::Leaving) => Refusal::Leaving,
                Ok(pb::BusyReason::Unable | pb::BusyReason::Unspecified) | Err(_) => {
                    Refusal::Unable
                }
            };
            let why = b.error.map(|e| format!("{}: {}", e.code, e.message)).unwrap_or_default();
            OfferAnswer::Busy { reason, slots_free: b.slots_free, why }
        }
        Ok(Reply::Gone(_)) | Err(LogError::NoResponders) => OfferAnswer::Gone,
        Ok(Reply::QueryAnswer(_) | Reply::CancelAnswer(_) | Reply::Terminal(_)) | Err(_) => {
            OfferAnswer::Timeout
        }
    }
}

fn phase(wire: i32) -> Option<Phase> {
    match pb::AttemptPhase::try_from(wire) {
        Ok(pb::AttemptPhase::Unknown) => Some(Phase::Unknown),
        Ok(pb::AttemptPhase::Claiming) => Some(Phase::Claiming),
        Ok(pb::AttemptPhase::Known) => Some(Phase::Known),
        Ok(pb::AttemptPhase::Done) => Some(Phase::Done),
        Ok(pb::AttemptPhase::Unspecified) | Err(_) => None,
    }
}

fn queried(id: u64, a: &pb::QueryAnswer) -> Option<Outcome> {
    Some(Outcome::Queried {
        id,
        phase: phase(a.phase)?,
        incarnation: Incarnation::parse(&a.incarnation).ok()?,
        journal_size: a.journal.as_ref().map_or(0, |j| j.size),
    })
}

async fn append(log: &dyn EventLog, task: &TaskKey, expect: u64, commit: &Commit) -> AppendResult {
    let Ok(key) = Key::new(Space::Task, task.workspace.as_str(), task.task.as_str()) else {
        return AppendResult::Conflict;
    };
    let record = cortex_log::Commit {
        id: CommitId::generate(),
        kind: commit.events.iter().map(Event::name).collect::<Vec<_>>().join(",").into(),
        n: commit.n,
        body: wire::encode_commit(commit),
    };
    match log.append(&key, Expect::At(expect), record).await {
        Ok(_) => AppendResult::Ok,
        Err(LogError::Conflict) => AppendResult::Conflict,
        Err(e) => {
            tracing::warn!(%task, error = %e, "an event was not stored; it is decided again");
            AppendResult::Unknown
        }
    }
}

//! Carries one proposal out and brings back what came of it. No decision is made here.

use bytes::Bytes;
use cortex_log::{CommitId, EventLog, Expect, Key, LogError, Space};
use cortex_model::limits::OFFER_TIMEOUT_MS;
use cortex_model::proto as pb;
use cortex_model::{Commit, Event, Incarnation, TaskKey, wire};
use cortex_scheduler_core::{Answer, NodeKey, OfferProposal, Phase, Proposal, QueryAnswer};
use pb::dispatch_reply::Body as Reply;
use pb::dispatch_request::Body as Ask;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// What came of a proposal.
pub(crate) enum Outcome {
    Offered { task: TaskKey, node: NodeKey, answer: Answer },
    Appended { task: TaskKey, stored: bool },
    Queried { task: TaskKey, attempt: u32, answer: Option<QueryAnswer> },
    Told,
}

/// Carries out a proposal.
pub(crate) async fn carry(log: Arc<dyn EventLog>, me: Arc<str>, p: Proposal) -> Outcome {
    match p {
        Proposal::Offer(offer) => {
            let subject = subject(&offer.node, offer.session.as_str());
            let reply = ask(log.as_ref(), &me, &subject, Ask::Offer(offer_message(&offer))).await;
            let answer = answer(reply);
            let OfferProposal { task, node, .. } = *offer;
            Outcome::Offered { task, node, answer }
        }
        Proposal::Append { task, expect, commit } => {
            let stored = append(log.as_ref(), &task, expect, &commit).await;
            Outcome::Appended { task, stored }
        }
        Proposal::Query { task, attempt, node, session } => {
            let query = pb::Query {
                query_id: 0,
                workspace: task.workspace.to_string(),
                task_id: task.task.to_string(),
                attempt,
            };
            let reply =
                ask(log.as_ref(), &me, &subject(&node, session.as_str()), Ask::Query(query)).await;
            let answer = match reply {
                Ok(Reply::QueryAnswer(a)) => query_answer(&a),
                _ => None,
            };
            Outcome::Queried { task, attempt, answer }
        }
        Proposal::Cancel { task, attempt, node, session, reason } => {
            let cancel = pb::Cancel {
                workspace: task.workspace.to_string(),
                task_id: task.task.to_string(),
                attempt,
                reason,
                query_id: 0,
            };
            let told =
                ask(log.as_ref(), &me, &subject(&node, session.as_str()), Ask::Cancel(cancel))
                    .await;
            if let Err(e) = told {
                tracing::debug!(%task, error = %e, "a cancellation was not passed on; it is tried again");
            }
            Outcome::Told
        }
    }
}

fn subject(node: &NodeKey, session: &str) -> String {
    format!("cx.n.{}.{}.{session}", node.workspace, node.node)
}

async fn ask(log: &dyn EventLog, me: &str, subject: &str, body: Ask) -> Result<Reply, LogError> {
    let request = pb::DispatchRequest { scheduler: me.to_owned(), body: Some(body) };
    let bytes = Bytes::from(request.encode_to_vec());
    let reply = log.request(subject, bytes, Duration::from_millis(OFFER_TIMEOUT_MS)).await?;
    let reply = pb::DispatchReply::decode(reply).map_err(|e| LogError::Backend(e.to_string()))?;
    reply.body.ok_or(LogError::Timeout)
}

fn offer_message(o: &OfferProposal) -> pb::DispatchOffer {
    let refused = |r: &cortex_model::event::RefusedOffer| pb::RefusedOffer {
        node: r.node.to_string(),
        why: r.why.clone(),
        at_ms: r.at.0,
    };
    let spec = o.spec.as_ref();
    pb::DispatchOffer {
        offer: Some(pb::Offer {
            workspace: o.task.workspace.to_string(),
            task_id: o.task.task.to_string(),
            idempotency_key: o.idempotency_key.clone(),
            attempt: o.attempt,
            fence: o.fence,
            spec: Some(spec.into()),
            actor: Some((&o.actor).into()),
            capability_required: spec.requirements(),
            deadline_at_ms: o.deadline_at.map_or(0, |d| d.0),
            run_timeout_ms: spec.run_timeout(),
            output_limit_bytes: spec.output_limit(),
            offer_id: 0,
        }),
        offered_at_ms: o.offered_at.0,
        reason: o.reason.clone(),
        refused: o.refused.iter().map(refused).collect(),
        next_n: o.next_n,
    }
}

fn answer(reply: Result<Reply, LogError>) -> Answer {
    match reply {
        Ok(Reply::Claim(_)) => Answer::Claimed,
        Ok(Reply::Busy(b)) => {
            let why = b.error.map(|e| format!("{}: {}", e.code, e.message));
            match pb::BusyReason::try_from(b.reason) {
                Ok(pb::BusyReason::KnownAttempt) => Answer::Known,
                Ok(pb::BusyReason::NoSlot) => Answer::Busy("no free slot".to_owned()),
                Ok(pb::BusyReason::Leaving) => Answer::Busy("it is going away".to_owned()),
                Ok(pb::BusyReason::Unable | pb::BusyReason::Unspecified) | Err(_) => {
                    Answer::Busy(why.unwrap_or_else(|| "it takes no work at present".to_owned()))
                }
            }
        }
        Ok(Reply::Gone(_)) | Err(LogError::NoResponders) => Answer::Gone,
        Ok(Reply::QueryAnswer(_) | Reply::CancelAnswer(_)) | Err(_) => Answer::Timeout,
    }
}

fn query_answer(a: &pb::QueryAnswer) -> Option<QueryAnswer> {
    let phase = match pb::AttemptPhase::try_from(a.phase) {
        Ok(pb::AttemptPhase::Unknown) => Phase::Unknown,
        Ok(pb::AttemptPhase::Claiming) => Phase::Claiming,
        Ok(pb::AttemptPhase::Known | pb::AttemptPhase::Done) => Phase::Known,
        Ok(pb::AttemptPhase::Unspecified) | Err(_) => return None,
    };
    Some(QueryAnswer {
        phase,
        incarnation: Incarnation::parse(&a.incarnation).ok()?,
        journal_size: a.journal.as_ref().map_or(0, |j| j.size),
    })
}

async fn append(log: &dyn EventLog, task: &TaskKey, expect: u64, commit: &Commit) -> bool {
    let Ok(key) = Key::new(Space::Task, task.workspace.as_str(), task.task.as_str()) else {
        return false;
    };
    let record = cortex_log::Commit {
        id: CommitId::generate(),
        kind: commit.events.iter().map(Event::name).collect::<Vec<_>>().join(",").into(),
        n: commit.n,
        body: wire::encode_commit(commit),
    };
    match log.append(&key, Expect::At(expect), record).await {
        Ok(_) => true,
        Err(LogError::Conflict) => false,
        Err(e) => {
            tracing::warn!(%task, error = %e, "an event was not stored; it is decided again");
            false
        }
    }
}

//! Brings what nodes report into the log. A report is acknowledged only when it is durable there, or when the
//! log shows that it will never be wanted.

use crate::status::log_fault;
use crate::tasks::Tasks;
use cortex_log::{Expect, LogError};
use cortex_model::proto as pb;
use cortex_model::{AttemptKey, Code, Commit, Fault, NodeId, Outcome, UnixMillis, wire};
use cortex_scheduler_core::TaskView;
use cortex_scheduler_core::decide::{self, ConsentDecision, ConsentStanding, OutcomeDecision};
use std::sync::Arc;

/// How often an outcome is decided anew because somebody else was faster.
const TRIES: usize = 16;

/// Stores an outcome.
///
/// # Errors
/// When the log does not take it; the node keeps it and says it again.
pub(crate) async fn outcome(
    tasks: &Tasks,
    node: &NodeId,
    attempt: &AttemptKey,
    outcome: &Outcome,
) -> Result<(), Fault> {
    let mut view = tasks.projection.get(&attempt.task).filter(|v| knows(v, attempt));
    for _ in 0..TRIES {
        let Some(v) = view else {
            view = tasks.load(&attempt.task).await?.map(Arc::new);
            if view.is_none() {
                // A read may lag behind: not seeing the task is no reason to let the node forget how it ended.
                return Err(not_shown());
            }
            continue;
        };
        let events = match decide::outcome(&v, node, attempt.attempt, outcome, crate::clock::now())
        {
            OutcomeDecision::AlreadyKnown => return Ok(()),
            OutcomeDecision::NotHeard => {
                tracing::warn!(%attempt, %node, "a node reports of an attempt that is not its own; dropped");
                metrics::counter!("cortex_reports_not_heard_total").increment(1);
                return Ok(());
            }
            OutcomeDecision::Behind => {
                view = None;
                continue;
            }
            OutcomeDecision::Append(events) | OutcomeDecision::Late(events) => events,
        };
        let commit = Commit { n: v.n + 1, events };
        match tasks.append(&attempt.task, Expect::At(v.revision), &commit).await {
            Ok(_) => {
                metrics::counter!("cortex_outcomes_total").increment(1);
                return Ok(());
            }
            Err(LogError::Conflict) => view = None,
            Err(e) => return Err(log_fault(&e)),
        }
    }
    Err(log_fault(&LogError::Conflict))
}

/// Stores how an attempt stands with the owner of its node.
///
/// # Errors
/// When it cannot be read, or the log does not take it; the node says it again.
pub(crate) async fn consent(
    tasks: &Tasks,
    node: &NodeId,
    attempt: &AttemptKey,
    report: &pb::ConsentReport,
) -> Result<(), Fault> {
    let told = standing(report)?;
    let mut view = tasks.projection.get(&attempt.task).filter(|v| knows(v, attempt));
    for _ in 0..TRIES {
        let Some(v) = view else {
            view = tasks.load(&attempt.task).await?.map(Arc::new);
            if view.as_ref().is_none_or(|v| !knows(v, attempt)) {
                return Err(not_shown());
            }
            continue;
        };
        let events = match decide::consent(&v, node, &told, crate::clock::now()) {
            ConsentDecision::Append(events) => events,
            ConsentDecision::NoNews => return Ok(()),
            ConsentDecision::Behind => return Err(not_shown()),
        };
        let commit = Commit { n: v.n + 1, events };
        match tasks.append(&attempt.task, Expect::At(v.revision), &commit).await {
            Ok(_) => return Ok(()),
            Err(LogError::Conflict) => view = None,
            Err(e) => return Err(log_fault(&e)),
        }
    }
    Err(log_fault(&LogError::Conflict))
}

fn standing(report: &pb::ConsentReport) -> Result<ConsentStanding, Fault> {
    let answer = wire::event::consent_answer(report.answer)?;
    Ok(ConsentStanding {
        attempt: report.attempt,
        question: report.question,
        rule: report.rule.clone(),
        classes: report.classes.clone(),
        asked_at: UnixMillis(report.asked_at_ms),
        until: Some(report.until_ms).filter(|at| *at > 0).map(UnixMillis),
        answer: answer.map(|answer| (answer, UnixMillis(report.answered_at_ms))),
    })
}

/// Whether the log gave an attempt to this node: nobody else may store output for it.
///
/// # Errors
/// When the log cannot be read, or does not show the attempt (yet): a read may lag, so that proves nothing.
pub(crate) async fn is_of(
    tasks: &Tasks,
    node: &NodeId,
    attempt: &AttemptKey,
) -> Result<bool, Fault> {
    let known = tasks.projection.get(&attempt.task).filter(|v| knows(v, attempt));
    let view = match known {
        Some(view) => Some(view),
        None => tasks.load(&attempt.task).await?.map(Arc::new),
    };
    match view.filter(|v| knows(v, attempt)) {
        Some(v) => Ok(v.node_of(attempt.attempt) == Some(node)),
        None => Err(not_shown()),
    }
}

fn not_shown() -> Fault {
    Fault::new(Code::LogUnavailable, "the log does not show the attempt")
}

/// Whether the read model has seen this attempt start. It may lag; then the log is asked.
fn knows(v: &TaskView, attempt: &AttemptKey) -> bool {
    v.attempt >= attempt.attempt
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_log::MemoryLog;
    use cortex_model::event::{AttemptReleased, Started};
    use cortex_model::ids::SessionId;
    use cortex_model::{
        Action, Actor, ActorKind, Ending, Event, Incarnation, ReleaseReason, TaskId, TaskKey,
        TaskSpec, UnixMillis, Workspace,
    };
    use cortex_scheduler_core::decide::{NewTask, Submit};

    const AT: UnixMillis = UnixMillis(1);

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn spec() -> TaskSpec {
        TaskSpec {
            action: Action::Echo { payload: b"x".to_vec() },
            require: Default::default(),
            node: None,
            priority: 0,
            safe_to_repeat: true,
            retry: Default::default(),
            run_timeout_ms: 0,
            deadline_ms: 0,
            node_lost_grace_ms: 0,
            output_limit_bytes: 0,
            labels: Default::default(),
            locks: Vec::new(),
            lock_timeout_ms: 0,
        }
    }

    fn started(attempt: u32, on: &str) -> Event {
        Event::Started(Box::new(Started {
            attempt,
            node: node(on),
            incarnation: Incarnation::parse("0123456789abcdef0123456789abcdef").unwrap(),
            session: SessionId::parse("s").unwrap(),
            offered_by: String::new(),
            offered_at: AT,
            reason: String::new(),
            refused: Vec::new(),
            at: AT,
            gateway: String::new(),
        }))
    }

    fn lost(attempt: u32) -> Event {
        Event::AttemptReleased(Box::new(AttemptReleased {
            attempt,
            reason: ReleaseReason::NodeLost,
            retry_at: AT,
            outcome: None,
            evidence: String::new(),
            at: AT,
        }))
    }

    /// A task whose first attempt `a` lost and whose second one runs on `b`.
    async fn tasks(key: &TaskKey) -> Tasks {
        let tasks = Tasks::new(Arc::new(MemoryLog::new(1)), 9);
        let actor = Actor {
            kind: ActorKind::Program,
            id: "test".into(),
            model: String::new(),
            on_behalf_of: String::new(),
        };
        let new = NewTask { spec: spec(), idempotency_key: "k".into(), actor, now: AT };
        let Submit::Create(commit) = decide::submit(None, &new) else { panic!("it is new") };
        tasks.create(key, commit).await.unwrap();
        for event in [started(1, "a"), lost(1), started(2, "b")] {
            tasks.change(key, |_| Ok(vec![event.clone()])).await.unwrap();
        }
        tasks
    }

    fn key(attempt: u32) -> AttemptKey {
        let task = TaskId::parse("t").unwrap();
        AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt }
    }

    #[tokio::test]
    async fn output_is_taken_only_from_the_node_that_the_log_gave_the_attempt_to() {
        let tasks = tasks(&key(1).task).await;
        for (on, attempt, own) in
            [("a", 1, true), ("b", 1, false), ("b", 2, true), ("a", 2, false), ("c", 1, false)]
        {
            assert_eq!(is_of(&tasks, &node(on), &key(attempt)).await, Ok(own), "{on} {attempt}");
        }
        let unseen = is_of(&tasks, &node("b"), &key(3)).await;
        assert!(unseen.is_err(), "not seeing an attempt proves nothing: {unseen:?}");
    }

    #[tokio::test]
    async fn an_outcome_is_not_acknowledged_while_the_log_does_not_show_its_task() {
        let tasks = tasks(&key(1).task).await;
        let done = Outcome::without_run(Ending::Exited { code: 0 });
        let mut unseen = key(1);
        unseen.task.task = TaskId::parse("unseen").unwrap();
        assert!(outcome(&tasks, &node("b"), &unseen, &done).await.is_err());
        assert!(outcome(&tasks, &node("b"), &key(3), &done).await.is_err());
        assert_eq!(outcome(&tasks, &node("b"), &key(2), &done).await, Ok(()));
    }

    #[tokio::test]
    async fn a_node_that_tells_of_another_ones_attempt_changes_nothing() {
        let tasks = tasks(&key(1).task).await;
        let done = Outcome::without_run(Ending::Exited { code: 0 });
        for (on, attempt) in [("a", 2), ("c", 2), ("b", 1), ("c", 1)] {
            assert_eq!(outcome(&tasks, &node(on), &key(attempt), &done).await, Ok(()));
        }
        assert_eq!(tasks.history(&key(1).task).await.unwrap().len(), 4);
        assert_eq!(outcome(&tasks, &node("a"), &key(1), &done).await, Ok(()));
        assert_eq!(tasks.history(&key(1).task).await.unwrap().len(), 5, "late, but its own");
    }
}

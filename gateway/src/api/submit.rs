//! SubmitTask: parse once, append at an empty subject, answer when durable.

use super::{Api, actor, principal};
use crate::projection::Projection;
use crate::tasks::Change;
use crate::view;
use cortex_model::ids::check_idempotency_key;
use cortex_model::limits::LOG_SUBMIT_STOP_PERCENT;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, TaskId, TaskKey, wire};
use cortex_scheduler_core::TaskView;
use cortex_scheduler_core::decide::{NewTask, Submit};
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;

/// The longest a submit may wait for the end of its task, milliseconds.
const WAIT_MAX_MS: u64 = 10 * 60 * 1000;

impl Api {
    pub(super) async fn submit(
        &self,
        request: Request<pb::SubmitTaskRequest>,
    ) -> Result<pb::SubmitTaskResponse, Fault> {
        let caller = principal(&request)?;
        let workspace = caller.workspace.clone();
        let r = request.into_inner();
        let new = NewTask {
            spec: wire::task::spec(r.spec.ok_or_else(missing_spec)?)?,
            idempotency_key: key_or_new(r.idempotency_key)?,
            actor: actor(&caller, r.actor)?,
            now: crate::clock::now(),
        };
        self.check_room()?;
        let key = TaskKey { task: TaskId::derive(&workspace, &new.idempotency_key), workspace };
        if r.wait_ms == 0 {
            let (view, created) = self.create(&key, new).await?;
            return Ok(pb::SubmitTaskResponse { task: Some(view::task(&view)), created });
        }
        let mut following = Following { of: &self.tasks.projection, key, changes: None };
        let changes = following.changes.insert(following.of.follow(&following.key));
        let (view, created) = self.create(&following.key, new).await?;
        let limit = Duration::from_millis(r.wait_ms.min(WAIT_MAX_MS));
        let view = self.wait_for_end(view, changes, limit).await;
        Ok(pb::SubmitTaskResponse { task: Some(view::task(&view)), created })
    }

    /// Appends `Submitted` or finds the task that is there already.
    async fn create(&self, key: &TaskKey, new: NewTask) -> Result<(Arc<TaskView>, bool), Fault> {
        if let Some(view) = self.tasks.projection.get(key) {
            return same_or_conflict(&view, &new).map(|()| (view, false));
        }
        let Submit::Create(commit) = cortex_scheduler_core::decide::submit(None, &new) else {
            return Err(Fault::new(Code::Internal, "a first submit was not a creation"));
        };
        match self.tasks.create(key, commit).await? {
            Some(view) => {
                metrics::counter!("cortex_tasks_submitted_total").increment(1);
                Ok((view, true))
            }
            None => {
                let view = self
                    .tasks
                    .load(key)
                    .await?
                    .ok_or_else(|| super::not_found(key.task.as_str()))?;
                same_or_conflict(&view, &new)?;
                Ok((Arc::new(view), false))
            }
        }
    }

    /// Pushes back before the log is so full that running tasks could not finish any more.
    fn check_room(&self) -> Result<(), Fault> {
        let percent = self.fullness.percent();
        if percent >= LOG_SUBMIT_STOP_PERCENT {
            let why = format!("the event log is at {percent} % of its quota");
            return Err(Fault::new(Code::LogNearlyFull, why));
        }
        Ok(())
    }

    async fn wait_for_end(
        &self,
        mut view: Arc<TaskView>,
        changes: &mut tokio::sync::broadcast::Receiver<Arc<Change>>,
        limit: Duration,
    ) -> Arc<TaskView> {
        let waiting = async {
            while !view.state.is_over() {
                match changes.recv().await {
                    Ok(change) => view = change.view.clone(),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(limit, waiting) => {}
            () = self.drain.cancelled() => {}
        }
        view
    }
}

/// Follows a task, and leaves nothing behind however the call ends, also when its client goes away.
struct Following<'a> {
    of: &'a Projection,
    key: TaskKey,
    changes: Option<tokio::sync::broadcast::Receiver<Arc<Change>>>,
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        drop(self.changes.take());
        self.of.unfollow(&self.key);
    }
}

fn missing_spec() -> Fault {
    Fault::new(Code::Malformed, "the request has no task specification")
}

fn key_or_new(key: String) -> Result<String, Fault> {
    if key.is_empty() {
        return Ok(uuid::Uuid::now_v7().to_string());
    }
    check_idempotency_key(&key)?;
    Ok(key)
}

fn same_or_conflict(view: &TaskView, new: &NewTask) -> Result<(), Fault> {
    match cortex_scheduler_core::decide::submit(Some(view), new) {
        Submit::Same => Ok(()),
        Submit::Conflict(fault) => Err(fault),
        Submit::Create(_) => {
            Err(Fault::new(Code::Internal, "an existing task was to be created again"))
        }
    }
}

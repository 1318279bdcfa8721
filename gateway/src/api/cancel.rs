//! CancelTask: records the wish; the node's proof comes as an outcome.

use super::{Api, actor, principal, task_key};
use crate::view;
use cortex_model::Fault;
use cortex_model::proto as pb;
use cortex_scheduler_core::decide;
use tonic::Request;

impl Api {
    pub(super) async fn cancel(
        &self,
        request: Request<pb::CancelTaskRequest>,
    ) -> Result<pb::CancelTaskResponse, Fault> {
        let caller = principal(&request)?;
        let workspace = caller.workspace.clone();
        let r = request.into_inner();
        let who = actor(&caller, r.actor)?;
        let key = task_key(workspace, &r.task_id)?;
        let reason = super::bounded(r.reason)?;
        let now = crate::clock::now();
        let view = self.tasks.change(&key, |v| decide::cancel(v, &who, &reason, now)).await?;
        Ok(pb::CancelTaskResponse { task: Some(view::task(&view)) })
    }
}

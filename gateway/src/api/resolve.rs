//! ResolveTask: an operator's word about an INDETERMINATE task.

use super::{Api, actor, principal, task_key};
use crate::view;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, wire};
use cortex_scheduler_core::decide;
use tonic::Request;

impl Api {
    pub(super) async fn resolve(
        &self,
        request: Request<pb::ResolveTaskRequest>,
    ) -> Result<pb::ResolveTaskResponse, Fault> {
        let caller = principal(&request)?;
        let workspace = caller.workspace.clone();
        let r = request.into_inner();
        let who = actor(&caller, r.actor)?;
        let resolve_as = wire::event::resolve_as(r.r#as)?;
        let key = task_key(workspace, &r.task_id)?;
        let reason = super::bounded(r.reason)?;
        if reason.trim().is_empty() {
            return Err(Fault::new(Code::Malformed, "settling a task needs a reason"));
        }
        let now = crate::clock::now();
        let view =
            self.tasks.change(&key, |v| decide::resolve(v, resolve_as, &who, &reason, now)).await?;
        Ok(pb::ResolveTaskResponse { task: Some(view::task(&view)) })
    }
}

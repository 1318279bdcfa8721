//! GetTask.

use super::{Api, not_found, task_key, workspace};
use crate::view;
use cortex_model::Fault;
use cortex_model::proto as pb;
use tonic::Request;

impl Api {
    pub(super) async fn get(
        &self,
        r: Request<pb::GetTaskRequest>,
    ) -> Result<pb::GetTaskResponse, Fault> {
        let workspace = workspace(&r)?;
        let id = r.into_inner().task_id;
        let key = task_key(workspace, &id)?;
        let view = self.tasks.current(&key).await?.ok_or_else(|| not_found(&id))?;
        Ok(pb::GetTaskResponse { task: Some(view::task(&view)) })
    }
}

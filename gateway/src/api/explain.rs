//! ExplainTask: asks the scheduler that owns the task, because nobody else may hold an opinion on it.

use super::{Api, not_found, task_key, workspace};
use bytes::Bytes;
use cortex_log::LogError;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use prost::Message;
use std::time::Duration;
use tonic::Request;

impl Api {
    pub(super) async fn explain(
        &self,
        r: Request<pb::ExplainTaskRequest>,
    ) -> Result<pb::ExplainTaskResponse, Fault> {
        let workspace = workspace(&r)?;
        let id = r.into_inner().task_id;
        let key = task_key(workspace, &id)?;
        let view = self.tasks.current(&key).await?.ok_or_else(|| not_found(&id))?;
        if view.state.is_over() {
            let summary = format!("the task is over: {}", view.state.name());
            return Ok(pb::ExplainTaskResponse { summary, ..Default::default() });
        }
        let ask = pb::ExplainRequest {
            workspace: key.workspace.to_string(),
            task_id: key.task.to_string(),
        };
        let bytes = Bytes::from(ask.encode_to_vec());
        match self.log.request("cx.s.explain", bytes, Duration::from_secs(2)).await {
            Ok(answer) => pb::ExplainTaskResponse::decode(answer).map_err(|e| {
                Fault::new(Code::Internal, format!("a scheduler's answer cannot be read: {e}"))
            }),
            Err(LogError::NoResponders) => Ok(words(
                "no scheduler is running, so nothing is dispatched",
                "start a scheduler ('cortex up' runs one)",
            )),
            Err(LogError::Timeout) => self.unanswered().await,
            Err(e) => Err(crate::status::log_fault(&e)),
        }
    }

    /// Each scheduler answers for its own tasks: some listen, but this one is nobody's yet. Or the question got nowhere.
    async fn unanswered(&self) -> Result<pb::ExplainTaskResponse, Fault> {
        self.log.health().await.map_err(|e| crate::status::log_fault(&e))?;
        Ok(words(
            "the task's scheduler does not answer; when it died, another takes over within seconds",
            "ask again; if it stays so, see what the schedulers log",
        ))
    }
}

fn words(summary: &str, suggestion: &str) -> pb::ExplainTaskResponse {
    pb::ExplainTaskResponse {
        summary: summary.to_owned(),
        suggestions: vec![suggestion.to_owned()],
        ..Default::default()
    }
}

//! TypeTerminal: carries what somebody types to the node that runs the task, and the node's answer back. It keeps nothing: who
//! types says it again until it is answered, and the node counts it once.

use super::{Api, actor, not_found, principal, task_key};
use cortex_log::LogError;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, TaskState, wire};
use cortex_scheduler_core::TaskView;
use prost::Message as _;
use std::time::Duration;
use tonic::Request;

/// How long the node may take to answer. It answers at once; a cut is noticed by its silence.
const PATIENCE: Duration = Duration::from_secs(5);

impl Api {
    pub(super) async fn type_terminal(
        &self,
        request: Request<pb::TypeTerminalRequest>,
    ) -> Result<pb::TypeTerminalResponse, Fault> {
        let caller = principal(&request)?;
        let workspace = caller.workspace.clone();
        let r = request.into_inner();
        wire::terminal::typed(&r)?;
        let who = actor(&caller, r.actor.clone())?;
        let key = task_key(workspace, &r.task_id)?;
        let view = self.tasks.current(&key).await?.ok_or_else(|| not_found(&r.task_id))?;
        if view.spec.terminal().is_none() {
            let why = format!("task {} was submitted without a terminal", key.task);
            return Err(Fault::new(Code::NoTerminal, why));
        }
        if view.state.is_over() {
            return Err(Fault::new(Code::TaskOver, format!("task {} is over", key.task)));
        }
        let nobody = pb::TypeTerminalResponse {
            standing: pb::TerminalStanding::None.into(),
            ..pb::TypeTerminalResponse::default()
        };
        let (Some(node), TaskState::Running) = (view.node(), view.state) else { return Ok(nobody) };
        let Some(session) = self.nodes.session(key.workspace.as_str(), node.as_str()) else {
            return Ok(nobody);
        };
        let subject = format!("cx.n.{}.{node}.{session}", key.workspace);
        let input = input(&view, r, (&who).into());
        let dispatch = pb::DispatchRequest {
            scheduler: String::new(),
            body: Some(pb::dispatch_request::Body::Terminal(input)),
        };
        let answer = self.log.request(&subject, dispatch.encode_to_vec().into(), PATIENCE).await;
        match answer.map(|bytes| pb::DispatchReply::decode(bytes).ok().and_then(|r| r.body)) {
            Ok(Some(pb::dispatch_reply::Body::Terminal(answer))) => Ok(pb::TypeTerminalResponse {
                standing: answer.standing,
                accepted: answer.accepted,
                holder: answer.holder,
            }),
            // The connection is gone, or going.
            Ok(_) | Err(LogError::NoResponders) => Ok(nobody),
            Err(error) => {
                let why = format!("node {node} does not answer: {error}");
                Err(Fault::new(Code::LogUnavailable, why))
            }
        }
    }
}

fn input(view: &TaskView, r: pb::TypeTerminalRequest, who: pb::Actor) -> pb::TerminalInput {
    pb::TerminalInput {
        query_id: 0,
        workspace: view.key.workspace.to_string(),
        task_id: view.key.task.to_string(),
        attempt: view.attempt,
        attachment: r.attachment,
        attach: r.attach,
        offset: r.offset,
        data: r.data,
        rows: r.rows,
        columns: r.columns,
        actor: Some(who),
    }
}

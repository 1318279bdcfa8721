//! What clients call: one file per call. It maps wire to model and back and never decides anything about a task itself.

mod access;
pub(crate) mod audit;
mod backup;
mod cancel;
mod explain;
mod get;
mod history;
mod info;
mod list;
mod node_identity;
mod nodes;
mod resolve;
mod submit;
mod terminal;
mod watch;

use crate::audit::Audits;
use crate::config::Config;
use crate::housekeeping::Fullness;
use crate::identity::{Identity, Principal};
use crate::nodes::Nodes;
use crate::registry::Registry;
use crate::status::status;
use crate::tasks::Tasks;
use crate::tls::Keys;
use cortex_log::EventLog;
use cortex_model::contract::v1::cortex_server::Cortex;
use cortex_model::proto as pb;
use cortex_model::{Actor, Code, Fault, TaskId, TaskKey, Workspace, role, wire};
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Copies the log into a new directory and says which. Only a log that lies in files has one.
pub type Backup = Arc<dyn Fn() -> BoxFuture<'static, Result<PathBuf, Fault>> + Send + Sync>;

/// Serves `cortex.v1.Cortex`.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) config: Arc<Config>,
    pub(crate) fullness: Arc<Fullness>,
    pub(crate) backup: Option<Backup>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) identity: Arc<Identity>,
    /// Cancelled when the gateway goes away: open watches end.
    pub(crate) drain: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

/// Who calls. The layer put it there; without it nothing is served.
fn principal<T>(request: &Request<T>) -> Result<Principal, Fault> {
    let none = || Fault::new(Code::Unauthenticated, "the call carries no principal");
    request.extensions().get::<Principal>().cloned().ok_or_else(none)
}

/// The workspace the caller may see.
fn workspace<T>(request: &Request<T>) -> Result<Workspace, Fault> {
    principal(request).map(|who| who.workspace)
}

/// Reads a task id; one that cannot exist is simply not found.
fn task_key(workspace: Workspace, id: &str) -> Result<TaskKey, Fault> {
    match TaskId::parse(id) {
        Ok(task) => Ok(TaskKey { workspace, task }),
        Err(_) => Err(not_found(id)),
    }
}

fn not_found(id: &str) -> Fault {
    let shown: String = id.chars().take(64).collect();
    Fault::new(Code::TaskNotFound, format!("there is no task {shown:?}"))
}

/// The author of a request: whoever holds the token, or whom they may name.
fn actor(who: &Principal, named: Option<pb::Actor>) -> Result<Actor, Fault> {
    let named = named.map(|p| wire::task::actor(Some(p))).transpose()?;
    role::author(who.role, &who.actor, named)
}

fn answer<T>(r: Result<T, Fault>) -> Answer<T> {
    r.map(Response::new).map_err(|f| status(&f))
}

#[tonic::async_trait]
impl Cortex for Api {
    type WatchTaskStream =
        Pin<Box<dyn futures::Stream<Item = Result<pb::WatchTaskResponse, Status>> + Send>>;

    async fn submit_task(
        &self,
        r: Request<pb::SubmitTaskRequest>,
    ) -> Answer<pb::SubmitTaskResponse> {
        answer(self.submit(r).await)
    }
    async fn get_task(&self, r: Request<pb::GetTaskRequest>) -> Answer<pb::GetTaskResponse> {
        answer(self.get(r).await)
    }
    async fn list_tasks(&self, r: Request<pb::ListTasksRequest>) -> Answer<pb::ListTasksResponse> {
        answer(self.list(&r))
    }
    async fn cancel_task(
        &self,
        r: Request<pb::CancelTaskRequest>,
    ) -> Answer<pb::CancelTaskResponse> {
        answer(self.cancel(r).await)
    }
    async fn resolve_task(
        &self,
        r: Request<pb::ResolveTaskRequest>,
    ) -> Answer<pb::ResolveTaskResponse> {
        answer(self.resolve(r).await)
    }
    async fn explain_task(
        &self,
        r: Request<pb::ExplainTaskRequest>,
    ) -> Answer<pb::ExplainTaskResponse> {
        answer(self.explain(r).await)
    }
    async fn get_task_history(
        &self,
        r: Request<pb::GetTaskHistoryRequest>,
    ) -> Answer<pb::GetTaskHistoryResponse> {
        answer(self.history(r).await)
    }
    async fn watch_task(&self, r: Request<pb::WatchTaskRequest>) -> Answer<Self::WatchTaskStream> {
        answer(self.watch(&r))
    }
    async fn type_terminal(
        &self,
        r: Request<pb::TypeTerminalRequest>,
    ) -> Answer<pb::TypeTerminalResponse> {
        answer(self.type_terminal(r).await)
    }
    async fn list_nodes(&self, r: Request<pb::ListNodesRequest>) -> Answer<pb::ListNodesResponse> {
        answer(self.list_nodes_page(r).await)
    }
    async fn get_node(&self, r: Request<pb::GetNodeRequest>) -> Answer<pb::GetNodeResponse> {
        answer(self.node(r).await)
    }
    async fn get_server_info(
        &self,
        r: Request<pb::GetServerInfoRequest>,
    ) -> Answer<pb::GetServerInfoResponse> {
        answer(self.info(&r))
    }
    async fn create_backup(
        &self,
        r: Request<pb::CreateBackupRequest>,
    ) -> Answer<pb::CreateBackupResponse> {
        answer(self.copy_log(r).await)
    }
}

/// Text that people wrote: at most 4 KiB.
fn bounded(text: String) -> Result<String, Fault> {
    const MOST: usize = 4096;
    if text.len() > MOST {
        return Err(Fault::new(
            Code::TooLarge,
            format!("a reason has at most {MOST} bytes, this one {}", text.len()),
        ));
    }
    Ok(text)
}

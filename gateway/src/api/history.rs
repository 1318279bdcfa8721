//! GetTaskHistory: the events as the log holds them.

use super::{Api, not_found, task_key, workspace};
use cortex_model::limits::{PAGE_DEFAULT, PAGE_MAX};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use tonic::Request;

impl Api {
    pub(super) async fn history(
        &self,
        request: Request<pb::GetTaskHistoryRequest>,
    ) -> Result<pb::GetTaskHistoryResponse, Fault> {
        let workspace = workspace(&request)?;
        let r = request.into_inner();
        let size = page_size(r.page_size)?;
        let key = task_key(workspace, &r.task_id)?;
        let all = self.tasks.history(&key).await?;
        if all.is_empty() {
            return Err(not_found(&r.task_id));
        }
        let mut entries: Vec<_> =
            all.into_iter().filter(|e| e.revision > r.after_revision).collect();
        let more = entries.len() > size;
        entries.truncate(size);
        let next = if more { entries.last().map_or(0, |e| e.revision) } else { 0 };
        Ok(pb::GetTaskHistoryResponse { entries, next_after_revision: next })
    }
}

/// Checks a page size; 0 asks for the default.
pub(super) fn page_size(asked: u32) -> Result<usize, Fault> {
    match asked {
        0 => Ok(PAGE_DEFAULT as usize),
        n if n <= PAGE_MAX => Ok(n as usize),
        n => Err(Fault::new(
            Code::BadPage,
            format!("a page has at most {PAGE_MAX} entries, {n} were asked for"),
        )),
    }
}

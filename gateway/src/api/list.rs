//! ListTasks: newest first, filtered, page by page, from the gateway's read model.

use super::{Api, history::page_size, workspace};
use crate::projection::Cursor;
use crate::view;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, TaskState, wire};
use cortex_scheduler_core::TaskView;
use std::collections::BTreeSet;
use tonic::Request;

struct Filter {
    states: BTreeSet<TaskState>,
    request: pb::ListTasksRequest,
}

impl Filter {
    fn new(request: pb::ListTasksRequest) -> Result<Filter, Fault> {
        let states =
            request.states.iter().map(|s| wire::event::state(*s)).collect::<Result<_, _>>()?;
        Ok(Filter { states, request })
    }

    fn accepts(&self, v: &TaskView) -> bool {
        let r = &self.request;
        let at = v.submitted_at.0;
        (self.states.is_empty() || self.states.contains(&v.state))
            && (r.node.is_empty() || v.node().is_some_and(|n| n.as_str() == r.node))
            && r.labels.iter().all(|(k, val)| v.spec.labels.get(k) == Some(val))
            && (r.submitted_after_ms == 0 || at > r.submitted_after_ms)
            && (r.submitted_before_ms == 0 || at < r.submitted_before_ms)
    }
}

impl Api {
    pub(super) fn list(
        &self,
        request: &Request<pb::ListTasksRequest>,
    ) -> Result<pb::ListTasksResponse, Fault> {
        let workspace = workspace(request)?;
        let r = request.get_ref().clone();
        let size = page_size(r.page_size)?;
        let after = if r.page_token.is_empty() { None } else { Some(cursor(&r.page_token)?) };
        let filter = Filter::new(r)?;
        let mut found =
            self.tasks.projection.list(&workspace, after, size + 1, |v| filter.accepts(v));
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = match found.last() {
            Some(last) if more => format!("{}.{}", last.submitted_at.0, last.key.task),
            _ => String::new(),
        };
        Ok(pb::ListTasksResponse {
            tasks: found.iter().map(|v| view::task(v)).collect(),
            next_page_token,
        })
    }
}

fn cursor(token: &str) -> Result<Cursor, Fault> {
    let bad = || Fault::new(Code::BadPage, "the page token cannot be read");
    let (at, task) = token.split_once('.').ok_or_else(bad)?;
    Ok(Cursor {
        submitted_at_ms: at.parse().map_err(|_| bad())?,
        task: cortex_model::TaskId::parse(task).map_err(|_| bad())?,
    })
}

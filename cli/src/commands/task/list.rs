//! `cortex task list`.

use crate::commands::Session;
use crate::error::CliError;
use crate::{duration, render, request, view, words};
use clap::{Args, ValueEnum};
use cortex_model::NodeId;
use cortex_model::limits::PAGE_MAX;
use cortex_model::proto as pb;
use std::time::{SystemTime, UNIX_EPOCH};

/// Flags of `task list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex task list
  cortex task list --state running,indeterminate --since 2h
  cortex task list --label team=web --limit 1000 --json")]
pub(crate) struct ListArgs {
    /// Only tasks in this state; separate or repeat for more
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<State>,
    /// Only tasks on this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only tasks with this label; repeat for more, all must match
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Only tasks submitted within this time
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    /// Only tasks submitted longer ago than this
    #[arg(long, value_name = "DURATION")]
    until: Option<String>,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where an earlier listing ended
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

/// States to choose from.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// Waits for a node
    Pending,
    /// Runs
    Running,
    /// Started, and nobody knows how it ended
    Indeterminate,
    /// Ended as hoped for
    Succeeded,
    /// Ended otherwise
    Failed,
    /// Stopped on request
    Cancelled,
    /// Not allowed by the node's owner
    Denied,
    /// Its deadline passed
    Expired,
}

impl State {
    fn wire(self) -> pb::TaskState {
        match self {
            State::Pending => pb::TaskState::Pending,
            State::Running => pb::TaskState::Running,
            State::Indeterminate => pb::TaskState::Indeterminate,
            State::Succeeded => pb::TaskState::Succeeded,
            State::Failed => pb::TaskState::Failed,
            State::Cancelled => pb::TaskState::Cancelled,
            State::Denied => pb::TaskState::Denied,
            State::Expired => pb::TaskState::Expired,
        }
    }
}

/// Prints the tasks.
pub(crate) async fn run(session: &Session, args: ListArgs) -> Result<(), CliError> {
    let now = now_ms();
    let ago = |d: &Option<String>| -> Result<u64, CliError> {
        Ok(d.as_deref().map(duration::parse).transpose()?.map_or(0, |ms| now.saturating_sub(ms)))
    };
    let mut request = pb::ListTasksRequest {
        states: args.state.iter().map(|s| s.wire().into()).collect(),
        node: args
            .node
            .as_deref()
            .map_or(Ok(String::new()), |n| NodeId::parse(n).map(|n| n.to_string()))?,
        labels: request::labels(&args.label)?,
        submitted_after_ms: ago(&args.since)?,
        submitted_before_ms: ago(&args.until)?,
        page_size: 0,
        page_token: args.page_token.unwrap_or_default(),
    };
    let client = session.connect().await?;
    let mut tasks: Vec<pb::Task> = Vec::new();
    let most = args.limit as usize;
    loop {
        // Never more than asked for: the token continues exactly after what is printed.
        request.page_size = PAGE_MAX.min(u32::try_from(most - tasks.len()).unwrap_or(PAGE_MAX));
        let page = client.list_tasks(request.clone()).await?;
        tasks.extend(page.tasks);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || tasks.len() >= most {
            break;
        }
    }
    print(session.json(), &tasks, &request.page_token, now)
}

fn print(json: bool, tasks: &[pb::Task], next: &str, now: u64) -> Result<(), CliError> {
    if json {
        let tasks: Vec<view::Task> = tasks.iter().map(Into::into).collect();
        return render::json(&serde_json::json!({ "tasks": tasks, "next_page_token": next }));
    }
    if tasks.is_empty() {
        return render::line("no tasks");
    }
    let rows = tasks.iter().map(|t| row(t, now)).collect();
    render::line(&render::table(&["TASK", "STATE", "NODE", "AGE", "WHAT"], rows))?;
    if !next.is_empty() {
        render::note(&format!("there are more: --page-token {next}, or a larger --limit"));
    }
    Ok(())
}

fn row(t: &pb::Task, now: u64) -> Vec<String> {
    vec![
        t.task_id.clone(),
        view::state_name(t.state),
        if t.node.is_empty() { "-".to_owned() } else { t.node.clone() },
        duration::show(now.saturating_sub(t.submitted_at_ms)),
        words::short(&words::action(t.spec.as_ref()), 60),
    ]
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_state_where_and_how_old() {
        let t = pb::Task {
            task_id: "t1".into(),
            state: pb::TaskState::Running.into(),
            node: "n1".into(),
            submitted_at_ms: 1_000,
            ..Default::default()
        };
        let row = row(&t, 91_000);
        assert_eq!(row[..4], ["t1", "running", "n1", "1m30s"]);
    }
}

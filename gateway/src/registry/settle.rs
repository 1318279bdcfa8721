//! What becomes of a node's open attempts when the node is taken out for good: nobody will ever hear of them, and that is said.
//! What is safe to repeat is left to the scheduler, which gives it to another node.

use super::EndedNode;
use crate::tasks::Tasks;
use cortex_model::registry::NodeRecord;
use cortex_model::{Fault, NodeId, TaskState, Workspace};
use cortex_scheduler_core::decide;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Open attempts looked at per node and pass.
const PAGE: usize = 10_000;
/// A claim that another gateway appended before it knew of the end is found by looking again.
const AGAIN_AFTER: Duration = Duration::from_secs(3);

/// Settles what the nodes that come in have left, until cancelled. Every gateway does; the fenced append lets one of them say it.
pub(crate) async fn settle(
    tasks: Arc<Tasks>,
    shards: u32,
    mut ended: mpsc::Receiver<EndedNode>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = tasks.projection.caught_up(shards) => {}
        () = stop.cancelled() => return,
    }
    let mut again = tokio::task::JoinSet::new();
    loop {
        let node = tokio::select! {
            node = ended.recv() => node,
            Some(node) = again.join_next() => node.ok(),
            () = stop.cancelled() => return,
        };
        let Some((node, first)) = node.map(into_pass) else { return };
        if let Err(fault) = pass(&tasks, &node).await {
            tracing::warn!(node = node.node, error = %fault, "a removed node's attempts are not settled yet");
        } else if !first {
            continue;
        }
        again.spawn(async move {
            tokio::time::sleep(AGAIN_AFTER).await;
            EndedNode { settled_once: true, ..node }
        });
    }
}

fn into_pass(node: EndedNode) -> (EndedNode, bool) {
    let first = !node.settled_once;
    (node, first)
}

async fn pass(tasks: &Tasks, ended: &EndedNode) -> Result<(), Fault> {
    let (workspace, node) = (Workspace::parse(&ended.workspace)?, NodeId::parse(&ended.node)?);
    let open = tasks.projection.list(&workspace, None, PAGE, |view| {
        view.state == TaskState::Running && view.node() == Some(&node)
    });
    let why = why(&ended.record);
    let now = crate::clock::now();
    for view in open {
        tasks.change(&view.key, |v| Ok(decide::node_ended(v, &node, &why, now))).await?;
    }
    Ok(())
}

fn why(record: &NodeRecord) -> String {
    let by = record.decided_by.as_ref().map_or("its owner", |actor| actor.id.as_str());
    let reason =
        if record.reason.is_empty() { String::new() } else { format!(": {}", record.reason) };
    format!(
        "the node was {} by {by}{reason}; it will not be heard of any more",
        record.standing.word()
    )
}

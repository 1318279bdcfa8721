//! Forgets outputs that are older than their retention or beyond the quota, oldest first. It never touches a task's events,
//! nor the output of a task that is not over.

use crate::tasks::Tasks;
use cortex_log::{EventLog, OutputInfo};
use cortex_model::{TaskId, TaskKey, Workspace};
use std::sync::Arc;
use std::time::Duration;

/// How long and how much output is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Age after which an output is removed.
    pub max_age: Duration,
    /// Bytes of all outputs together above which the oldest are removed.
    pub max_bytes: u64,
}

/// Which outputs to remove, given all of them and the time, Unix milliseconds. Pure.
fn expired(mut all: Vec<OutputInfo>, keep: Retention, now_ms: u64) -> Vec<OutputInfo> {
    all.sort_by_key(|o| o.modified_ms);
    let mut total: u64 = all.iter().map(|o| o.size).sum();
    let max_age = u64::try_from(keep.max_age.as_millis()).unwrap_or(u64::MAX);
    all.retain(|o| {
        let old = now_ms.saturating_sub(o.modified_ms) > max_age || total > keep.max_bytes;
        if old {
            total = total.saturating_sub(o.size);
        }
        old
    });
    all
}

/// Removes what retention no longer keeps; returns how many outputs went.
///
/// # Errors
/// When the log cannot list or remove outputs.
pub(crate) async fn sweep(
    log: &Arc<dyn EventLog>,
    tasks: &Tasks,
    keep: Retention,
) -> Result<usize, cortex_log::LogError> {
    let mut removed = 0;
    for o in expired(log.list_outputs().await?, keep, crate::clock::now().0) {
        if over(tasks, &o) {
            log.remove_output(&o.key).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether the read model says that the task is over, or does not know it any more.
fn over(tasks: &Tasks, o: &OutputInfo) -> bool {
    let (Ok(workspace), Ok(task)) = (Workspace::parse(o.key.ws()), TaskId::parse(o.key.task()))
    else {
        return false;
    };
    tasks.projection.get(&TaskKey { workspace, task }).is_none_or(|v| v.state.is_over())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_log::OutputKey;

    fn output(task: &str, bytes: u64, modified_ms: u64) -> OutputInfo {
        OutputInfo { key: OutputKey::new("w", task, 1).unwrap(), size: bytes, modified_ms }
    }

    #[test]
    fn the_old_go_and_then_the_oldest_until_the_rest_fits() {
        let keep = Retention { max_age: Duration::from_millis(100), max_bytes: 10 };
        let all = vec![
            output("new", 4, 990),
            output("old", 1, 100),
            output("big", 8, 950),
            output("mid", 3, 960),
        ];
        let gone: Vec<_> =
            expired(all, keep, 1000).into_iter().map(|o| o.key.task().to_owned()).collect();
        assert_eq!(gone, ["old", "big"]);
    }
}

//! The gateway's read model: what the log says about tasks, for listings and for those who watch. It is rebuilt
//! from the log at every start, may lag a moment, and never decides.

use crate::tasks::Change;
use cortex_log::{EventLog, LogError, Recorded, Space, Tail};
use cortex_model::{Commit, Fault, TaskId, TaskKey, UnixMillis, Workspace};
use cortex_scheduler_core::TaskView;
use futures::StreamExt;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Changes kept for a watcher that is slow; one that falls further behind reads the log again.
/// A task has three as a rule, and everybody who waits for one has a buffer of this size.
const CHANGES_KEPT: usize = 16;

/// Where a page of a listing begins: after this task.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    /// Submission time of the last task shown.
    pub submitted_at_ms: u64,
    /// The last task shown.
    pub task: TaskId,
}

type Order = BTreeSet<(Workspace, Reverse<u64>, TaskId)>;

#[derive(Default)]
struct Model {
    tasks: HashMap<TaskKey, Arc<TaskView>>,
    order: Order,
    /// Finished tasks, oldest first: these are forgotten when there are too many.
    finished: VecDeque<TaskKey>,
    watchers: HashMap<TaskKey, broadcast::Sender<Arc<Change>>>,
}

/// See the module.
pub(crate) struct Projection {
    model: Mutex<Model>,
    finished_kept: usize,
    caught_up: watch::Sender<usize>,
}

impl Projection {
    /// An empty read model that keeps this many finished tasks.
    #[must_use]
    pub(crate) fn new(finished_kept: usize) -> Projection {
        Projection { model: Mutex::default(), finished_kept, caught_up: watch::channel(0).0 }
    }

    /// The task, if it is known here.
    #[must_use]
    pub(crate) fn get(&self, key: &TaskKey) -> Option<Arc<TaskView>> {
        self.lock().tasks.get(key).cloned()
    }

    /// Changes of a task from now on.
    #[must_use]
    pub(crate) fn follow(&self, key: &TaskKey) -> broadcast::Receiver<Arc<Change>> {
        let mut model = self.lock();
        let sender = model.watchers.entry(key.clone());
        sender.or_insert_with(|| broadcast::channel(CHANGES_KEPT).0).subscribe()
    }

    /// Forgets the channel of a task that nobody follows any more.
    pub(crate) fn unfollow(&self, key: &TaskKey) {
        let mut model = self.lock();
        if model.watchers.get(key).is_some_and(|s| s.receiver_count() == 0) {
            model.watchers.remove(key);
        }
    }

    /// Up to `most` tasks of a workspace, newest first, after `cursor`.
    #[must_use]
    pub(crate) fn list(
        &self,
        workspace: &Workspace,
        cursor: Option<Cursor>,
        most: usize,
        accepts: impl Fn(&TaskView) -> bool,
    ) -> Vec<Arc<TaskView>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let model = self.lock();
        let start = match cursor {
            Some(c) => Excluded((workspace.clone(), Reverse(c.submitted_at_ms), c.task)),
            None => match TaskId::parse("-") {
                // '-' sorts before every other character of a token.
                Ok(first) => Excluded((workspace.clone(), Reverse(u64::MAX), first)),
                Err(_) => Unbounded,
            },
        };
        model
            .order
            .range((start, Unbounded))
            .take_while(|(w, _, _)| w == workspace)
            .filter_map(|(w, _, task)| {
                model.tasks.get(&TaskKey { workspace: w.clone(), task: task.clone() })
            })
            .filter(|v| accepts(v))
            .take(most)
            .cloned()
            .collect()
    }

    /// Number of tasks in a state that is not over.
    #[must_use]
    pub(crate) fn open_tasks(&self) -> usize {
        let model = self.lock();
        model.tasks.len() - model.finished.len()
    }

    /// Resolves when everything that was in the log at the start has been applied.
    pub(crate) async fn caught_up(&self, shards: u32) {
        let mut rx = self.caught_up.subscribe();
        let reached = rx.wait_for(|n| *n >= shards as usize).await;
        drop(reached);
    }

    /// Follows every shard of the log until cancelled.
    pub(crate) async fn run(&self, log: Arc<dyn EventLog>, stop: CancellationToken) {
        let shards = (0..log.shards()).map(|s| self.follow_shard(log.as_ref(), s, &stop));
        futures::future::join_all(shards).await;
    }

    async fn follow_shard(&self, log: &dyn EventLog, shard: u32, stop: &CancellationToken) {
        let mut after = 0;
        while !stop.is_cancelled() {
            let followed = tokio::select! {
                r = self.tail(log, shard, &mut after) => r,
                () = stop.cancelled() => return,
            };
            if let Err(e) = followed {
                tracing::warn!(shard, error = %e, "the log's tail broke off; following again");
            }
            tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn tail(&self, log: &dyn EventLog, shard: u32, after: &mut u64) -> Result<(), LogError> {
        let mut tail = log.tail(Space::Task, shard, *after).await?;
        while let Some(next) = tail.next().await {
            match next? {
                Tail::Event(r) => {
                    *after = r.rev;
                    self.apply(&r);
                }
                Tail::CaughtUp => self.caught_up.send_modify(|n| *n += 1),
            }
        }
        Ok(())
    }

    fn apply(&self, r: &Recorded) {
        let Some(key) = task_key(r) else {
            tracing::error!(subject = %r.key, "a record of the task space has no task's name");
            return;
        };
        let mut model = self.lock();
        let applied = crate::tasks::decode(r).and_then(|commit| {
            model.apply(&key, r, &commit, self.finished_kept).map(|view| (commit, view))
        });
        let (commit, view) = match applied {
            Ok(applied) => applied,
            Err(fault) => {
                tracing::error!(task = %key, revision = r.rev, error = %fault, "commit not applied");
                return;
            }
        };
        if let Some(watchers) = model.watchers.get(&key) {
            let at = UnixMillis(r.at_ms);
            let change = Change { revision: r.rev, id: r.commit.id, at, commit, view };
            if watchers.send(Arc::new(change)).is_err() {
                model.watchers.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        // A panic while the lock was held leaves data that is still a prefix of the log's story.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Model {
    /// Applies a commit and returns the task after it. It is changed in place unless somebody looks at it.
    fn apply(
        &mut self,
        key: &TaskKey,
        r: &Recorded,
        commit: &Commit,
        kept: usize,
    ) -> Result<Arc<TaskView>, Fault> {
        let at = UnixMillis(r.at_ms);
        let broken = |v| crate::tasks::quarantined(key, &v);
        let (view, was_over) = match self.tasks.get_mut(key) {
            Some(view) => {
                let was_over = view.state.is_over();
                Arc::make_mut(view).advance(r.rev, at, commit).map_err(broken)?;
                (view.clone(), was_over)
            }
            None => {
                let view = TaskView::begin(key, r.rev, at, commit).map_err(broken)?;
                let view = Arc::new(view);
                let submitted = Reverse(view.submitted_at.0);
                self.order.insert((key.workspace.clone(), submitted, key.task.clone()));
                self.tasks.insert(key.clone(), view.clone());
                (view, false)
            }
        };
        if view.state.is_over() && !was_over {
            self.finished.push_back(key.clone());
            self.forget(kept);
        }
        Ok(view)
    }

    /// Forgets the tasks that ended first, when there are too many.
    fn forget(&mut self, kept: usize) {
        while self.finished.len() > kept {
            let Some(old) = self.finished.pop_front() else { return };
            if let Some(v) = self.tasks.remove(&old) {
                self.order.remove(&(old.workspace, Reverse(v.submitted_at.0), old.task));
            }
        }
    }
}

fn task_key(r: &Recorded) -> Option<TaskKey> {
    let workspace = Workspace::parse(r.key.ws()).ok()?;
    Some(TaskKey { workspace, task: TaskId::parse(r.key.id()).ok()? })
}

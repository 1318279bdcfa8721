//! The gateway's way to the tasks in the log: read, decide (in the scheduler's core), append at the revision that
//! was read, and again if somebody else was faster. It holds no task state of its own.

use crate::projection::Projection;
use crate::status::log_fault;
use cortex_log::{CommitId, EventLog, Expect, Key, LogError, Recorded, Rev, Space};
use cortex_model::proto as pb;
use cortex_model::{Code, Commit, Event, Fault, TaskKey, UnixMillis, wire};
use cortex_scheduler_core::{TaskView, Violation};
use std::sync::Arc;

/// How often a change is decided anew because somebody else was faster, before the caller is told to retry.
const CHANGE_TRIES: usize = 16;

/// A commit as it became visible, with the task after it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Revision of the commit.
    pub revision: Rev,
    /// Commit id.
    pub id: CommitId,
    /// Log's clock.
    pub at: UnixMillis,
    /// What happened.
    pub commit: Commit,
    /// The task after it.
    pub view: Arc<TaskView>,
}

impl Change {
    /// The change as a line of a history.
    #[must_use]
    pub(crate) fn to_entry(&self) -> pb::HistoryEntry {
        pb::HistoryEntry {
            revision: self.revision,
            commit_id: self.id.to_string(),
            at_ms: self.at.0,
            commit: Some(wire::event::commit_to_wire(&self.commit)),
            state: pb::TaskState::from(self.view.state).into(),
        }
    }
}

/// See the module.
pub(crate) struct Tasks {
    log: Arc<dyn EventLog>,
    /// The read model.
    pub projection: Projection,
}

impl Tasks {
    /// Tasks of this log.
    #[must_use]
    pub(crate) fn new(log: Arc<dyn EventLog>, finished_kept: usize) -> Tasks {
        Tasks { log, projection: Projection::new(finished_kept) }
    }

    /// The task as the log has it now.
    ///
    /// # Errors
    /// When the log cannot be read or the history breaks an invariant (`CX-0902`).
    pub(crate) async fn load(&self, key: &TaskKey) -> Result<Option<TaskView>, Fault> {
        let mut view = None;
        for r in self.read(key).await? {
            fold(&mut view, key, &r)?;
        }
        Ok(view)
    }

    /// The task from the read model if it is there, else from the log. May lag a moment.
    ///
    /// # Errors
    /// As [`Tasks::load`].
    pub(crate) async fn current(&self, key: &TaskKey) -> Result<Option<Arc<TaskView>>, Fault> {
        match self.projection.get(key) {
            Some(v) => Ok(Some(v)),
            None => Ok(self.load(key).await?.map(Arc::new)),
        }
    }

    /// Every commit of a task, oldest first.
    ///
    /// # Errors
    /// As [`Tasks::load`].
    pub(crate) async fn history(&self, key: &TaskKey) -> Result<Vec<pb::HistoryEntry>, Fault> {
        Ok(self.changes(key).await?.iter().map(Change::to_entry).collect())
    }

    /// As [`Tasks::history`], with the task after each commit.
    ///
    /// # Errors
    /// As [`Tasks::load`].
    pub(crate) async fn changes(&self, key: &TaskKey) -> Result<Vec<Change>, Fault> {
        let mut view = None;
        let mut all = Vec::new();
        for r in self.read(key).await? {
            let commit = fold(&mut view, key, &r)?;
            if let Some(v) = &view {
                let view = Arc::new(v.clone());
                all.push(Change {
                    revision: r.rev,
                    id: r.commit.id,
                    at: UnixMillis(r.at_ms),
                    commit,
                    view,
                });
            }
        }
        Ok(all)
    }

    /// Appends the first commit of a task. `None` when the task exists already.
    ///
    /// # Errors
    /// When the log refuses or does not answer.
    pub(crate) async fn create(
        &self,
        key: &TaskKey,
        commit: Commit,
    ) -> Result<Option<Arc<TaskView>>, Fault> {
        match self.append(key, Expect::Absent, &commit).await {
            Ok(rev) => self.after(None, key, rev, &commit).map(Some),
            Err(LogError::Conflict) => Ok(None),
            Err(e) => Err(log_fault(&e)),
        }
    }

    /// Loads, decides and appends until it fits. An empty decision changes nothing.
    ///
    /// # Errors
    /// What `decide` refuses, `CX-0201` when there is no such task, or a failure of the log.
    pub(crate) async fn change(
        &self,
        key: &TaskKey,
        decide: impl Fn(&TaskView) -> Result<Vec<Event>, Fault>,
    ) -> Result<Arc<TaskView>, Fault> {
        let mut view = self.current(key).await?;
        for _ in 0..CHANGE_TRIES {
            let Some(v) = view else {
                return Err(Fault::new(
                    Code::TaskNotFound,
                    format!("there is no task {}", key.task),
                ));
            };
            let events = decide(&v)?;
            if events.is_empty() {
                return Ok(v);
            }
            let commit = Commit { n: v.n + 1, events };
            match self.append(key, Expect::At(v.revision), &commit).await {
                Ok(rev) => return self.after(Some((*v).clone()), key, rev, &commit),
                Err(LogError::Conflict) => view = self.load(key).await?.map(Arc::new),
                Err(e) => return Err(log_fault(&e)),
            }
        }
        Err(Fault::new(Code::LogUnavailable, "the task keeps changing; try again"))
    }

    /// Appends one commit at the revision its author saw.
    ///
    /// # Errors
    /// As the log says; `Conflict` when somebody else was faster.
    pub(crate) async fn append(
        &self,
        key: &TaskKey,
        expect: Expect,
        commit: &Commit,
    ) -> Result<Rev, LogError> {
        self.append_record(key, expect, Tasks::record(commit)).await
    }

    /// As [`Tasks::append`] for a record that was made before: appending the same record again is harmless.
    ///
    /// # Errors
    /// As [`Tasks::append`].
    pub(crate) async fn append_record(
        &self,
        key: &TaskKey,
        expect: Expect,
        record: cortex_log::Commit,
    ) -> Result<Rev, LogError> {
        self.log.append(&log_key(key)?, expect, record).await
    }

    /// A commit as the log stores it, with an id of its own.
    #[must_use]
    pub(crate) fn record(commit: &Commit) -> cortex_log::Commit {
        let kind = commit.events.iter().map(Event::name).collect::<Vec<_>>().join(",");
        cortex_log::Commit {
            id: CommitId::generate(),
            kind: kind.into(),
            n: commit.n,
            body: wire::encode_commit(commit),
        }
    }

    fn after(
        &self,
        before: Option<TaskView>,
        key: &TaskKey,
        rev: Rev,
        commit: &Commit,
    ) -> Result<Arc<TaskView>, Fault> {
        let mut view = before;
        apply(&mut view, key, rev, crate::clock::now(), commit)?;
        view.map(Arc::new).ok_or_else(|| Fault::new(Code::Internal, "a commit left no task behind"))
    }

    async fn read(&self, key: &TaskKey) -> Result<Vec<Recorded>, Fault> {
        let log_key = log_key(key).map_err(|e| log_fault(&e))?;
        self.log.read(&log_key, 0).await.map_err(|e| log_fault(&e))
    }
}

/// Reads a stored commit.
///
/// # Errors
/// When the bytes cannot be read.
pub(crate) fn decode(r: &Recorded) -> Result<Commit, Fault> {
    wire::decode_commit(r.commit.body.clone())
}

/// A history that cannot be, as a fault.
pub(crate) fn quarantined(key: &TaskKey, v: &Violation) -> Fault {
    Fault::new(Code::Quarantined, format!("task {}: {v}", key.task))
}

/// Decodes a stored commit and applies it.
fn fold(view: &mut Option<TaskView>, key: &TaskKey, r: &Recorded) -> Result<Commit, Fault> {
    let commit = decode(r)?;
    apply(view, key, r.rev, UnixMillis(r.at_ms), &commit)?;
    Ok(commit)
}

fn apply(
    view: &mut Option<TaskView>,
    key: &TaskKey,
    rev: Rev,
    at: UnixMillis,
    commit: &Commit,
) -> Result<(), Fault> {
    TaskView::apply(view, key, rev, at, commit).map_err(|v| quarantined(key, &v))
}

fn log_key(key: &TaskKey) -> Result<Key, LogError> {
    Key::new(Space::Task, key.workspace.as_str(), key.task.as_str())
}

//! Points in time at which a task must be looked at again, one per task, soonest first. Time itself comes from outside.

use cortex_model::{TaskKey, UnixMillis};
use std::collections::{BTreeSet, HashMap};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(UnixMillis, TaskKey)>,
    of_task: HashMap<TaskKey, UnixMillis>,
}

impl Timers {
    /// Sets, moves or (with `None`) removes the timer of a task.
    pub(crate) fn set(&mut self, task: &TaskKey, at: Option<UnixMillis>) {
        let before = self.of_task.get(task).copied();
        if before == at {
            return;
        }
        if let Some(old) = before {
            self.by_time.remove(&(old, task.clone()));
            self.of_task.remove(task);
        }
        if let Some(new) = at {
            self.by_time.insert((new, task.clone()));
            self.of_task.insert(task.clone(), new);
        }
    }

    /// The next task whose time has come; its timer is removed.
    pub(crate) fn pop(&mut self, now: UnixMillis) -> Option<TaskKey> {
        let (at, task) = self.by_time.first()?.clone();
        if at > now {
            return None;
        }
        self.set(&task, None);
        Some(task)
    }

    pub(crate) fn next(&self) -> Option<UnixMillis> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

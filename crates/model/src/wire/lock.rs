//! Locks of `task.proto` to the model: those that a task asks for, and those that an attempt held.

use crate::error::{Code, Fault};
use crate::limits::LOCKS_MAX;
use crate::proto as pb;
use crate::task::{HeldLock, PathLock};

pub(super) fn wanted(all: Vec<pb::PathLock>) -> Result<Vec<PathLock>, Fault> {
    if all.len() > LOCKS_MAX {
        return Err(too_many("the list of locks", all.len()));
    }
    let lock = |p: pb::PathLock| {
        super::file::path("lock.path", &p.path)?;
        Ok(PathLock { path: p.path, shared: p.shared })
    };
    all.into_iter().map(lock).collect()
}

pub(super) fn held(all: Vec<pb::HeldLock>) -> Result<Vec<HeldLock>, Fault> {
    if all.len() > LOCKS_MAX {
        return Err(too_many("outcome.locks", all.len()));
    }
    let lock = |p: pb::HeldLock| HeldLock { path: p.path, shared: p.shared, fence: p.fence };
    Ok(all.into_iter().map(lock).collect())
}

fn too_many(what: &str, is: usize) -> Fault {
    let message = format!("{what} has {is}, at most {LOCKS_MAX} are accepted");
    Fault::new(Code::TooLarge, message)
}

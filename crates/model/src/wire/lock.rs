//! Paths of `task.proto` to the model: locks that a task asks for, those that an attempt held, repositories that appeared.

use crate::error::{Code, Fault};
use crate::limits::{LOCKS_MAX, REPOSITORIES_BYTES_MAX, REPOSITORIES_MAX, REPOSITORY_GAPS_MAX};
use crate::proto as pb;
use crate::task::{HeldLock, NewRepositories, PathLock};

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

pub(super) fn repositories(p: pb::NewRepositories) -> Result<NewRepositories, Fault> {
    let bytes: usize = p.paths.iter().map(Vec::len).sum();
    let limits = [
        ("paths", p.paths.len(), REPOSITORIES_MAX),
        ("gaps", p.gaps.len(), REPOSITORY_GAPS_MAX),
        ("bytes of paths", bytes, REPOSITORIES_BYTES_MAX),
    ];
    match limits.iter().find(|(_, is, most)| is > most) {
        Some((what, is, most)) => {
            let message =
                format!("outcome.repositories has {is} {what}, at most {most} are accepted");
            Err(Fault::new(Code::TooLarge, message))
        }
        None => Ok(NewRepositories { paths: p.paths, gaps: p.gaps }),
    }
}

impl From<&NewRepositories> for pb::NewRepositories {
    fn from(r: &NewRepositories) -> pb::NewRepositories {
        pb::NewRepositories { paths: r.paths.clone(), gaps: r.gaps.clone() }
    }
}

fn too_many(what: &str, is: usize) -> Fault {
    let message = format!("{what} has {is}, at most {LOCKS_MAX} are accepted");
    Fault::new(Code::TooLarge, message)
}

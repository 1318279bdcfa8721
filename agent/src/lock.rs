//! The lock of a data directory: held by the agent that runs on it, so that other commands know. It never waits for ever.

use cortex_model::{Code, Fault};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

const NAME: &str = "agent.lock";

/// How long the lock of an agent that was killed may outlive it: a process that it was just starting holds a copy until it
/// has become the program.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "holding it is all")] File);

/// Takes the lock.
///
/// # Errors
/// `CX-0701` when another agent holds it.
pub(crate) async fn take(data_dir: &Path) -> Result<Lock, Fault> {
    let begun = tokio::time::Instant::now();
    loop {
        match try_take(data_dir)? {
            Ok(lock) => return Ok(lock),
            Err(pid) if begun.elapsed() >= AFTERMATH => {
                let message = format!("agent process {pid} already uses {}", data_dir.display());
                return Err(Fault::new(Code::DataDirLocked, message));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// The process that holds the lock.
pub(crate) fn holder(data_dir: &Path) -> Result<Option<u32>, Fault> {
    if !data_dir.join(NAME).exists() {
        return Ok(None);
    }
    try_take(data_dir).map(Result::err)
}

/// Waits until nobody holds the lock. The process that still does when patience ends.
pub(crate) async fn until_free(data_dir: &Path, patience: Duration) -> Result<Option<u32>, Fault> {
    let begun = tokio::time::Instant::now();
    loop {
        match holder(data_dir)? {
            Some(pid) if begun.elapsed() >= patience => return Ok(Some(pid)),
            Some(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            None => return Ok(None),
        }
    }
}

fn try_take(data_dir: &Path) -> Result<Result<Lock, u32>, Fault> {
    let path = data_dir.join(NAME);
    let failed =
        |err: io::Error| Fault::new(Code::AgentUnable, format!("{}: {err}", path.display()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            written.and_then(|()| file.rewind()).map_err(failed)?;
            Ok(Ok(Lock(file)))
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            Ok(Err(pid.trim().parse().unwrap_or(0)))
        }
        Err(TryLockError::Error(err)) => Err(failed(err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_held_by_one_and_says_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()).unwrap(), None);
        let lock = take(dir.path()).await.unwrap();
        assert_eq!(holder(dir.path()).unwrap(), Some(std::process::id()));
        assert_eq!(take(dir.path()).await.unwrap_err().code, Code::DataDirLocked);
        let waited = until_free(dir.path(), Duration::ZERO).await.unwrap();
        assert_eq!(waited, Some(std::process::id()));
        drop(lock);
        assert_eq!(until_free(dir.path(), Duration::ZERO).await.unwrap(), None);
        drop(take(dir.path()).await.unwrap());
    }
}

//! Locks of paths among the tasks of this agent: the table, who waits, and the numbers that outlive the agent. What a task
//! holds is given back when it is dropped, however its attempt ends; with the agent everything ends that could hold any.

use cortex_agent_core::locks::{Locks, Want};
use cortex_model::{AttemptKey, Code, Fault};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// See the module.
#[derive(Debug)]
pub(crate) struct LockTable {
    /// Where the numbers are kept.
    dir: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    locks: Locks,
    waiting: BTreeMap<AttemptKey, oneshot::Sender<()>>,
}

/// What an attempt holds or waits for.
#[derive(Debug)]
pub(crate) struct Held {
    table: Arc<LockTable>,
    key: AttemptKey,
}

impl LockTable {
    pub(crate) fn new(data_dir: &Path) -> Arc<Self> {
        Arc::new(Self { dir: data_dir.join("locks"), inner: Mutex::default() })
    }

    /// Takes locks. With a receiver they are held only when it resolves.
    pub(crate) fn take(
        self: &Arc<Self>,
        key: &AttemptKey,
        wants: Vec<Want>,
    ) -> (Held, Option<oneshot::Receiver<()>>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = if inner.locks.take(key, wants) {
            None
        } else {
            let (sender, receiver) = oneshot::channel();
            inner.waiting.insert(key.clone(), sender);
            Some(receiver)
        };
        (Held { table: Arc::clone(self), key: key.clone() }, waits)
    }

    /// The next number of a path, durable before it is given. Looks at the disk.
    ///
    /// # Errors
    /// It cannot be kept: then it must not be used.
    pub(crate) fn fence(&self, path: &Path) -> Result<u64, Fault> {
        let name = cortex_audit::leaf::hex(&Sha256::digest(path.as_os_str().as_bytes()));
        let at = self.dir.join(name);
        let failed = |err: std::io::Error| {
            Fault::new(Code::LockUnusable, format!("the lock of {}: {err}", path.display()))
        };
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        let last = match std::fs::read_to_string(&at) {
            Ok(text) => text.trim().parse::<u64>().map_err(|_| {
                failed(std::io::Error::new(ErrorKind::InvalidData, "its number cannot be read"))
            })?,
            Err(err) if err.kind() == ErrorKind::NotFound => 0,
            Err(err) => return Err(failed(err)),
        };
        let next = last.saturating_add(1);
        let new = at.with_extension("new");
        let written = File::create(&new).and_then(|mut file| {
            write!(file, "{next}")?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&new, &at)).map_err(failed)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(next)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.table.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting.remove(&self.key);
        for key in inner.locks.release(&self.key) {
            if let Some(waiting) = inner.waiting.remove(&key) {
                // Who has just given up gives them back itself.
                waiting.send(()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_and_outlive_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        let table = LockTable::new(dir.path());
        assert_eq!((table.fence(a), table.fence(a), table.fence(b)), (Ok(1), Ok(2), Ok(1)));
        let table = LockTable::new(dir.path());
        assert_eq!(table.fence(a), Ok(3));
        for file in std::fs::read_dir(dir.path().join("locks")).unwrap() {
            std::fs::write(file.unwrap().path(), "broken").unwrap();
        }
        assert_eq!(table.fence(a).unwrap_err().code, Code::LockUnusable);
    }
}

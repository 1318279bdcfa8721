//! The files of a journal as one thing that is read, written and synced. It is redb's own contract for storage, so
//! that tests can put the same crash under the store and the ahead files; in production each is a file.

use redb::{BackendError, StorageBackend};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// A file, or what stands for one.
#[derive(Clone, Debug)]
pub(crate) struct Backend(Arc<dyn StorageBackend>);

impl Backend {
    pub(crate) fn new(backend: impl StorageBackend) -> Self {
        Self(Arc::new(backend))
    }

    /// An existing file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::of(OpenOptions::new().read(true).write(true).open(path)?)
    }

    /// An existing file that will only be read.
    pub(crate) fn open_read_only(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        let backend = redb::backends::FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Self::new(backend))
    }

    /// All bytes of it.
    pub(crate) fn read_all(&self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.0.len()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.0.read(0, &mut bytes)?;
        Ok(bytes)
    }
}

type Edge = Bound<u64>;

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// After a failed sync nobody knows what the disk holds, whatever the reason was: it never counts as a full disk,
    /// which would be waited out.
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data().map_err(|err| io::Error::other(format!("a sync failed: {err}")))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

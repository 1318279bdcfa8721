//! Output of attempts: one append-only file each. One thread writes; everything that waits is
//! written first and synced together, and only then answered. Readers see durable bytes only.

use super::frames::FrameFile;
use crate::error::{LogError, Result};
use crate::local::wall_clock_ms;
use crate::output::{OutputChunk, OutputInfo, OutputKey, fresh};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::UNIX_EPOCH;
use tokio::sync::{mpsc, oneshot, watch};

/// Most requests answered by one round of syncs.
const BATCH: usize = 256;
/// Most bytes written in one round. With one request more it stays below what is checked at the
/// end of a file when it is opened.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Files kept open when nobody uses them.
const OPEN_MAX: usize = 512;

pub(super) enum Request {
    Append(Vec<OutputChunk>),
    Remove,
}

pub(super) struct Job {
    pub(super) key: OutputKey,
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<u64>>,
}

/// What readers and the writing thread share.
pub(super) struct Outputs {
    root: PathBuf,
    open: Mutex<HashMap<OutputKey, Arc<Entry>>>,
    pub(super) bytes: AtomicU64,
    pub(super) quota: Option<u64>,
    /// Set once, when a file could not be synced: what is durable is not known any more.
    failure: OnceLock<LogError>,
}

/// One attempt's file. The end that readers may see is the watched one.
struct Entry {
    file: Mutex<Option<FrameFile>>,
    durable: watch::Sender<u64>,
}

impl Outputs {
    pub(super) fn open(root: PathBuf, quota: Option<u64>) -> Result<Outputs> {
        fs::create_dir_all(&root).map_err(LogError::backend)?;
        let outputs = Outputs {
            root,
            open: Mutex::default(),
            bytes: AtomicU64::new(0),
            quota,
            failure: OnceLock::new(),
        };
        let found = outputs.list()?;
        // A killed process may have left names that are not durable yet.
        let workspaces: BTreeSet<&str> = found.iter().map(|o| o.key.ws()).collect();
        for ws in workspaces {
            super::sync_directory(&outputs.root.join(ws))?;
        }
        super::sync_directory(&outputs.root)?;
        let bytes = found.iter().map(|o| o.size).sum();
        outputs.bytes.store(bytes, Ordering::Relaxed);
        Ok(outputs)
    }

    pub(super) fn check(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |e| Err(e.clone()))
    }

    fn entry(&self, key: &OutputKey) -> Result<Arc<Entry>> {
        let mut open = lock(&self.open);
        if let Some(entry) = open.get(key) {
            return Ok(entry.clone());
        }
        if open.len() >= OPEN_MAX {
            open.retain(|_, e| Arc::strong_count(e) > 1 || e.durable.receiver_count() > 0);
        }
        // The map stays locked, so that a file is opened (and its end repaired) once.
        let file = FrameFile::open(&self.path(key))?;
        let durable = watch::Sender::new(file.as_ref().map_or(0, |f| f.end));
        let entry = Arc::new(Entry { file: Mutex::new(file), durable });
        open.insert(key.clone(), entry.clone());
        Ok(entry)
    }

    fn path(&self, key: &OutputKey) -> PathBuf {
        self.root.join(key.ws()).join(format!("{}.{}.out", key.task(), key.attempt()))
    }

    pub(super) fn end(&self, key: &OutputKey) -> Result<u64> {
        self.check()?;
        Ok(*self.entry(key)?.durable.borrow())
    }

    pub(super) fn watch(&self, key: &OutputKey) -> Result<watch::Receiver<u64>> {
        self.check()?;
        Ok(self.entry(key)?.durable.subscribe())
    }

    pub(super) fn read(&self, key: &OutputKey, from: u64, max: usize) -> Result<Vec<OutputChunk>> {
        self.check()?;
        let entry = self.entry(key)?;
        let end = *entry.durable.borrow();
        let reader = lock(&entry.file).as_ref().map(|f| f.reader(from));
        match reader {
            Some(reader) if from < end => reader.read(from, end, max),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<OutputInfo>> {
        let mut out = Vec::new();
        for ws in fs::read_dir(&self.root).map_err(LogError::backend)? {
            let ws = ws.map_err(LogError::backend)?;
            if !ws.file_type().map_err(LogError::backend)?.is_dir() {
                continue;
            }
            for file in fs::read_dir(ws.path()).map_err(LogError::backend)? {
                let file = file.map_err(LogError::backend)?;
                let Some(key) = parse_name(&ws.file_name(), &file.file_name()) else { continue };
                // Retention may have taken it since the directory was read.
                let Ok(meta) = file.metadata() else { continue };
                let since = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
                let modified_ms = since.map_or_else(wall_clock_ms, |d| d.as_millis() as u64);
                out.push(OutputInfo { key, size: meta.len(), modified_ms });
            }
        }
        Ok(out)
    }
}

fn parse_name(ws: &std::ffi::OsStr, file: &std::ffi::OsStr) -> Option<OutputKey> {
    let (task, attempt) = file.to_str()?.strip_suffix(".out")?.split_once('.')?;
    OutputKey::new(ws.to_str()?, task, attempt.parse().ok()?).ok()
}

/// Runs until every sender is gone. Blocks; gets a thread of its own.
pub(super) fn run(outputs: &Outputs, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let (mut round, mut bytes, mut count) = (Round::default(), 0, 0);
        let mut next = Some(first);
        while let Some(job) = next {
            if let Request::Append(chunks) = &job.request {
                bytes += chunks.iter().map(|c| c.data.len()).sum::<usize>();
            }
            count += 1;
            round.take(outputs, job);
            let full = count == BATCH || bytes > BATCH_BYTES;
            next = if full { None } else { jobs.try_recv().ok() };
        }
        round.finish(outputs);
    }
}

/// What one round has written and must sync before it answers.
#[derive(Default)]
struct Round {
    files: BTreeMap<OutputKey, Arc<Entry>>,
    directories: BTreeSet<PathBuf>,
    answers: Vec<(oneshot::Sender<Result<u64>>, Result<u64>)>,
}

impl Round {
    fn take(&mut self, outputs: &Outputs, job: Job) {
        let result = outputs.check().and_then(|()| match job.request {
            Request::Append(chunks) => self.append(outputs, &job.key, &chunks),
            Request::Remove => self.remove(outputs, &job.key),
        });
        self.answers.push((job.answer, result));
    }

    fn append(&mut self, o: &Outputs, key: &OutputKey, chunks: &[OutputChunk]) -> Result<u64> {
        let entry = o.entry(key)?;
        let mut file = lock(&entry.file);
        let end = file.as_ref().map_or(0, |f| f.end);
        let new = fresh(end, chunks)?;
        let size = new.iter().map(|c| c.data.len() as u64).sum::<u64>();
        let used = o.bytes.load(Ordering::Relaxed);
        if o.quota.is_some_and(|quota| used.saturating_add(size) > quota) {
            return Err(LogError::Full);
        }
        if !new.is_empty() {
            self.files.insert(key.clone(), entry.clone());
            let path = o.path(key);
            if file.is_none() {
                *file = Some(self.create(o, &path).map_err(write_error)?);
            }
        }
        let Some(file) = file.as_mut() else { return Ok(end) };
        if !new.is_empty() {
            let written = file.append(&new).map_err(write_error)?;
            o.bytes.fetch_add(written, Ordering::Relaxed);
        }
        Ok(file.end)
    }

    fn create(&mut self, outputs: &Outputs, path: &Path) -> io::Result<FrameFile> {
        let directory = path.parent().unwrap_or(&outputs.root);
        if !directory.exists() {
            fs::create_dir_all(directory)?;
            self.directories.insert(outputs.root.clone());
        }
        self.directories.insert(directory.to_owned());
        let file = FrameFile::create(path)?;
        outputs.bytes.fetch_add(file.len(), Ordering::Relaxed);
        Ok(file)
    }

    fn remove(&mut self, outputs: &Outputs, key: &OutputKey) -> Result<u64> {
        let entry = outputs.entry(key)?;
        let path = outputs.path(key);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(write_error(e)),
            Ok(()) => drop(self.directories.insert(path.parent().unwrap_or(&path).to_owned())),
            Err(_) => {}
        }
        if let Some(file) = lock(&entry.file).take() {
            outputs.bytes.fetch_sub(file.len(), Ordering::Relaxed);
        }
        self.files.insert(key.clone(), entry);
        Ok(0)
    }

    fn finish(self, outputs: &Outputs) {
        let synced = self.sync();
        if let Err(e) = &synced {
            tracing::error!(error = %e, "output cannot be synced; restart after repairing the cause");
            let e = LogError::Backend(format!("output could not be synced: {e}"));
            outputs.failure.get_or_init(|| e);
        } else {
            for entry in self.files.values() {
                let end = lock(&entry.file).as_ref().map_or(0, |f| f.end);
                entry.durable.send_if_modified(|old| std::mem::replace(old, end) != end);
            }
        }
        for (answer, result) in self.answers {
            // Whoever asked may have gone.
            drop(answer.send(outputs.check().and(result)));
        }
    }

    fn sync(&self) -> io::Result<()> {
        for entry in self.files.values() {
            let handle = lock(&entry.file).as_ref().map(FrameFile::handle);
            if let Some(file) = handle {
                file.sync_data()?;
            }
        }
        for directory in &self.directories {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// A full disk is an answer like a full quota: the file is as it was before.
fn write_error(e: io::Error) -> LogError {
    if super::store::is_full(&e) { LogError::DiskFull } else { LogError::backend(e) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

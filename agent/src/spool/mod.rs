//! Output of attempts on disk, until it is durable upstream. One append-only file per attempt holds
//! framed chunks of both streams in the order in which they were read; offsets count over both.
//!
//! Small output of a short run never becomes a file: it travels inside the outcome. Of output beyond the task's limit the
//! beginning and the end are kept, and what is missing between them is counted. Beyond the node's quota or the disk's
//! space nothing more is kept.

mod file;
mod frame;
mod tail;

use cortex_agent_core::mask::{Mask, MaskedStream};
use cortex_model::limits::{INLINE_OUTPUT_MAX, OUTPUT_CHUNK_MAX};
use cortex_model::task::OutputChunk;
use cortex_model::task::{OutputSummary, Stream};
use cortex_model::{AttemptKey, TaskId, TaskKey, Workspace};
use file::SpoolFile;
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tail::Tail;

/// The directory of all spools, with the bytes they use.
#[derive(Debug)]
pub struct SpoolDir {
    dir: PathBuf,
    quota: u64,
    /// Free space that is left to others, above all to the journal, bytes.
    reserve: u64,
    used: AtomicU64,
}

/// The output of one attempt.
#[derive(Debug)]
pub struct Spool {
    owner: Arc<SpoolDir>,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Option<SpoolFile>,
    /// Read from the process, not yet in the file; pieces of at most one chunk.
    pending: Vec<(Stream, Vec<u8>)>,
    pending_bytes: u64,
    limit: u64,
    /// Nothing is kept any more: the disk refused, or the quota is used up.
    broken: bool,
    kept: Kept,
    /// What came last of what is beyond the limit.
    tail: Tail,
    /// Take secret values out of the two streams.
    masks: Option<[MaskedStream; 2]>,
}

/// What is in the file, or goes into the outcome.
#[derive(Debug, Default)]
struct Kept {
    stdout: (Sha256, u64),
    stderr: (Sha256, u64),
    dropped: u64,
    /// Bytes of both streams before the place where bytes are missing.
    gap: (u64, u64),
}

/// What an attempt wrote, when it is over.
#[derive(Debug)]
pub struct Finished {
    /// Lengths and digests.
    pub summary: OutputSummary,
    /// All of it, when it is small and none of it was written to the file.
    pub inline: Vec<OutputChunk>,
}

impl SpoolDir {
    /// Opens the directory. `quota` bounds the bytes of all spools together; of the disk's free space `reserve`
    /// is never taken: output must not keep the journal from recording how an attempt ended.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(dir: &Path, quota: u64, reserve: u64) -> io::Result<Arc<Self>> {
        std::fs::create_dir_all(dir)?;
        Ok(Arc::new(Self { dir: dir.to_owned(), quota, reserve, used: AtomicU64::new(0) }))
    }

    /// Whether so much more would leave the reserve alone.
    fn check_space(&self, bytes: u64) -> io::Result<()> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= self.reserve.saturating_add(bytes) {
            return Ok(());
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Whether the quota is used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.quota
    }

    /// A spool for a new attempt, which keeps at most `limit` bytes. No file is made before it is needed.
    #[must_use]
    pub fn create(self: &Arc<Self>, key: &AttemptKey, limit: u64) -> Arc<Spool> {
        self.spool(key, limit, None, Kept::default())
    }

    /// Takes up the files that a former process left. A torn end is cut off.
    ///
    /// # Errors
    /// A file cannot be read or cut.
    pub fn recover(self: &Arc<Self>) -> io::Result<Vec<(AttemptKey, Arc<Spool>)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some(key) = entry.file_name().to_str().and_then(parse_name) else { continue };
            let mut kept = Kept::default();
            let file =
                SpoolFile::recover(&entry.path(), &mut |stream, data| kept.add(stream, data))?;
            self.used.fetch_add(file.len(), Ordering::Relaxed);
            found.push((key.clone(), self.spool(&key, u64::MAX, Some(file), kept)));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn spool(
        self: &Arc<Self>,
        key: &AttemptKey,
        limit: u64,
        file: Option<SpoolFile>,
        kept: Kept,
    ) -> Arc<Spool> {
        let inner = Inner {
            file,
            pending: Vec::new(),
            pending_bytes: 0,
            limit,
            broken: false,
            kept,
            tail: Tail::default(),
            masks: None,
        };
        let path = self.dir.join(name(key));
        Arc::new(Spool { owner: Arc::clone(self), path, inner: Mutex::new(inner) })
    }
}

impl Spool {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on secret values are taken out of what is written, before anything is kept.
    pub fn mask(&self, mask: &Mask) {
        self.lock().masks = Some([mask.stream(), mask.stream()]);
    }

    /// At most so much is kept, if that is less than it was made for.
    pub fn bound(&self, limit: u64) {
        let mut inner = self.lock();
        inner.limit = inner.limit.min(limit);
    }

    /// Takes what the process wrote. True: a whole chunk waits, call `flush`.
    pub fn append(&self, stream: Stream, data: &[u8]) -> bool {
        let mut inner = self.lock();
        let masked = inner.masks.as_mut().map(|masks| masks[at(stream)].push(data));
        self.keep(&mut inner, stream, masked.as_deref().unwrap_or(data))
    }

    fn keep(&self, inner: &mut Inner, stream: Stream, data: &[u8]) -> bool {
        let total = inner.kept.total() + inner.pending_bytes;
        // Bytes are missing in one place only.
        inner.broken |= self.owner.is_full();
        if inner.broken {
            inner.kept.dropped += inner.tail.push(stream, data, 0);
            return inner.pending_bytes >= OUTPUT_CHUNK_MAX as u64;
        }
        let share = tail::share(inner.limit);
        let room =
            if inner.tail.is_empty() { (inner.limit - share).saturating_sub(total) } else { 0 };
        let keep = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
        inner.kept.dropped += inner.tail.push(stream, &data[keep..], share);
        inner.put(stream, &data[..keep])
    }

    /// Whether something waits to be flushed.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.lock().pending_bytes > 0
    }

    /// Writes what waits into the file and says up to where output can be read. What the disk does not take
    /// is dropped and counted, like everything after it.
    pub fn flush(&self) -> u64 {
        let mut inner = self.lock();
        let pending = std::mem::take(&mut inner.pending);
        let bytes = std::mem::take(&mut inner.pending_bytes);
        if bytes == 0 {
            return inner.kept.total();
        }
        let before = inner.file.as_ref().map_or(0, SpoolFile::len);
        let written =
            self.owner.check_space(bytes).and_then(|()| inner.write(&self.path, &pending));
        match written {
            Ok(after) => {
                self.owner.used.fetch_add(after - before, Ordering::Relaxed);
                for (stream, data) in &pending {
                    inner.kept.add(*stream, data);
                }
            }
            Err(error) => {
                tracing::error!(%error, spool = %self.path.display(), "output cannot be kept");
                inner.broken = true;
                inner.kept.dropped += bytes;
                inner.kept.gap = (inner.kept.stdout.1, inner.kept.stderr.1);
            }
        }
        inner.kept.total()
    }

    /// The attempt is over: says what it wrote. Small output that was never flushed comes back in full;
    /// otherwise everything is in the file and `sync` must follow.
    pub fn finish(&self) -> Finished {
        let mut inner = self.lock();
        // What was held back because it began like a secret.
        if let Some(mut masks) = inner.masks.take() {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let held = masks[at(stream)].finish();
                self.keep(&mut inner, stream, &held);
            }
        }
        inner.close();
        let inline = inner.file.is_none() && inner.pending_bytes <= INLINE_OUTPUT_MAX as u64;
        if !inline {
            drop(inner);
            self.flush();
            return Finished { summary: self.summary(), inline: Vec::new() };
        }
        let pending = std::mem::take(&mut inner.pending);
        inner.pending_bytes = 0;
        let mut chunks = Vec::with_capacity(pending.len());
        for (stream, data) in pending {
            let offset = inner.kept.total();
            inner.kept.add(stream, &data);
            chunks.push(OutputChunk { stream, offset, data: data.into() });
        }
        drop(inner);
        Finished { summary: self.summary(), inline: chunks }
    }

    /// Lengths and digests of what is kept.
    #[must_use]
    pub fn summary(&self) -> OutputSummary {
        let inner = self.lock();
        let Kept { stdout, stderr, dropped, gap } = &inner.kept;
        OutputSummary {
            stdout_bytes: stdout.1,
            stderr_bytes: stderr.1,
            stdout_sha256: stdout.0.clone().finalize().to_vec(),
            stderr_sha256: stderr.0.clone().finalize().to_vec(),
            dropped_bytes: *dropped,
            lost_bytes: 0,
            gap_stdout: gap.0,
            gap_stderr: gap.1,
        }
    }

    /// Makes the file durable. Blocks; nothing to do when there is none.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&self) -> io::Result<()> {
        let handle = self.lock().file.as_ref().map(SpoolFile::handle);
        let Some(handle) = handle else { return Ok(()) };
        handle.sync_data()?;
        std::fs::File::open(&self.owner.dir)?.sync_all()
    }

    /// Up to where output can be read.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.lock().kept.total()
    }

    /// A chunk that begins at `offset`, of one stream, with 1 to `max` bytes. `None`: nothing is there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, offset: u64, max: usize) -> io::Result<Option<OutputChunk>> {
        match &mut self.lock().file {
            Some(file) => file.read(offset, max),
            None => Ok(None),
        }
    }

    /// Removes the file.
    pub fn remove(&self) {
        let Some(file) = self.lock().file.take() else { return };
        self.owner.used.fetch_sub(file.len(), Ordering::Relaxed);
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, spool = %self.path.display(), "a spool file stays behind");
        }
    }
}

impl Inner {
    /// Behind what waits, in pieces of at most one chunk. True: a whole chunk waits.
    fn put(&mut self, stream: Stream, data: &[u8]) -> bool {
        self.pending_bytes += data.len() as u64;
        let mut rest = data;
        while !rest.is_empty() {
            let fits = match self.pending.last() {
                Some((last, piece)) if *last == stream => OUTPUT_CHUNK_MAX - piece.len(),
                Some(_) | None => 0,
            };
            let (now, later) = rest.split_at(fits.min(rest.len()));
            match self.pending.last_mut() {
                Some((_, piece)) if fits > 0 => piece.extend_from_slice(now),
                Some(_) | None => self.pending.push((stream, Vec::new())),
            }
            rest = later;
        }
        self.pending_bytes >= OUTPUT_CHUNK_MAX as u64
    }

    /// Nothing more comes: the end of what was written goes behind its beginning.
    fn close(&mut self) {
        if self.kept.dropped > 0 && !self.broken {
            let of = |wanted: Stream| -> u64 {
                let waits = self.pending.iter().filter(|(stream, _)| *stream == wanted);
                waits.map(|(_, data)| data.len() as u64).sum()
            };
            self.kept.gap =
                (self.kept.stdout.1 + of(Stream::Stdout), self.kept.stderr.1 + of(Stream::Stderr));
        }
        for (stream, data) in std::mem::take(&mut self.tail).take() {
            self.put(stream, &data);
        }
    }

    /// Appends to the file and says how long it is.
    fn write(&mut self, path: &Path, pieces: &[(Stream, Vec<u8>)]) -> io::Result<u64> {
        let offset = self.kept.total();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(SpoolFile::create(path)?),
        };
        file.append(offset, pieces)
    }
}

impl Kept {
    fn add(&mut self, stream: Stream, data: &[u8]) {
        let (digest, bytes) = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        digest.update(data);
        *bytes += data.len() as u64;
    }

    fn total(&self) -> u64 {
        self.stdout.1 + self.stderr.1
    }
}

fn at(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// Identifiers have no dots, so a name is read back as it was written.
fn name(key: &AttemptKey) -> String {
    format!("{}.{}.{}.out", key.task.workspace, key.task.task, key.attempt)
}

fn parse_name(name: &str) -> Option<AttemptKey> {
    let mut parts = name.strip_suffix(".out")?.split('.');
    let workspace = Workspace::parse(parts.next()?).ok()?;
    let task = TaskId::parse(parts.next()?).ok()?;
    let attempt = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(AttemptKey { task: TaskKey { workspace, task }, attempt })
}

#[cfg(test)]
mod tests;

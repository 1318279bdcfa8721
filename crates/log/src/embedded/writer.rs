//! The only thread that writes the redb file. It takes everything that waits, checks each fence
//! inside one transaction, and answers when that one sync is done: many appends share it, and a
//! lone append never waits for company.

use super::record::{decode, encode, encode_value};
use super::store::{COMMITS, INDEX, META, Store, VALUES, space_byte};
use super::unindexed::Slice;
use crate::error::LogError;
use crate::key::{Key, Space};
use crate::local::{KvNote, wall_clock_ms};
use crate::types::{Commit, Expect, Recorded, Rev};
use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Most operations in one transaction.
const BATCH: usize = 1024;
/// Most bytes in one transaction, so that none of them waits long.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Pages that one operation may change in three trees, bytes.
const PAGES_PER_OP: usize = 32 * 1024;

pub(super) enum Op {
    Append { key: Arc<Key>, expect: Expect, commit: Commit, replace: bool },
    Value { bucket: Arc<str>, key: Arc<str>, expect: Expect, value: Option<Bytes> },
}

pub(super) struct Job {
    pub(super) op: Op,
    pub(super) answer: oneshot::Sender<crate::error::Result<Rev>>,
}

pub(super) struct Writer {
    pub(super) store: Arc<Store>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) heads: [watch::Sender<Rev>; 3],
    pub(super) notes: broadcast::Sender<KvNote>,
    pub(super) rev: Rev,
    pub(super) quota: Option<u64>,
    pub(super) disk: Disk,
}

/// The disk under the file. redb takes no more writes once one has failed, so a transaction only
/// begins when all of it will find room.
pub(super) struct Disk {
    directory: PathBuf,
    min_free: u64,
    /// Said already.
    was_full: bool,
}

impl Disk {
    pub(super) fn new(directory: &Path, min_free: u64) -> Disk {
        Disk { directory: directory.to_owned(), min_free, was_full: false }
    }

    /// Whether so many operations with so many bytes have room.
    fn has_room(&mut self, ops: usize, bytes: usize) -> bool {
        // A disk that cannot be asked is no reason to refuse.
        let Ok(stat) = rustix::fs::statvfs(&self.directory) else { return true };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        // Changed pages are written anew before the old ones are given back.
        let need = (2 * bytes + ops * PAGES_PER_OP) as u64;
        let full = free < self.min_free.saturating_add(need);
        if full && !self.was_full {
            tracing::error!(free, "the disk is full; nothing is accepted until there is space");
        } else if self.was_full && !full {
            tracing::info!(free, "the disk has space again");
        }
        self.was_full = full;
        !full
    }
}

type Stored<T> = std::result::Result<T, redb::Error>;
type Verdict = crate::error::Result<Rev>;

/// One transaction's tables and what it has done so far.
struct Batch<'t> {
    store: &'t Store,
    commits: Table<'t, (u8, u64), &'static [u8]>,
    index: Table<'t, (&'static str, u64), ()>,
    values: Table<'t, (&'static str, &'static str), &'static [u8]>,
    done: Done,
    quota: Option<u64>,
    now: u64,
}

/// What becomes visible when the transaction is durable.
#[derive(Default)]
struct Done {
    rev: Rev,
    bytes: u64,
    appended: Vec<Recorded>,
    removed: Vec<Compacted>,
    /// What the index got.
    slice: Option<Slice>,
    notes: Vec<KvNote>,
}

/// Commits that a summary replaced.
struct Compacted {
    space: Space,
    subject: String,
    revs: Vec<Rev>,
}

impl Writer {
    /// Runs until every sender is gone or the file fails.
    pub(super) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let (ops, answers, bytes) = self.gather(first);
            if !self.disk.has_room(ops.len(), bytes) {
                for answer in answers {
                    drop(answer.send(Err(LogError::DiskFull)));
                }
                continue;
            }
            let written = catch_unwind(AssertUnwindSafe(|| self.write(ops)));
            let written = written.unwrap_or_else(|_| Err("the storage engine panicked".into()));
            match written {
                Ok((verdicts, done)) => self.publish(verdicts, answers, done),
                Err(reason) => return self.fail(&reason, answers),
            }
        }
    }

    fn gather(&mut self, first: Job) -> (Vec<Op>, Vec<oneshot::Sender<Verdict>>, usize) {
        let (mut ops, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(job) = next {
            bytes += match &job.op {
                Op::Append { commit, .. } => commit.body.len(),
                Op::Value { value, .. } => value.as_ref().map_or(0, Bytes::len),
            };
            ops.push(job.op);
            answers.push(job.answer);
            let full = ops.len() == BATCH || bytes > BATCH_BYTES;
            next = if full { None } else { self.jobs.try_recv().ok() };
        }
        (ops, answers, bytes)
    }

    fn write(&self, ops: Vec<Op>) -> std::result::Result<(Vec<Verdict>, Done), String> {
        self.transaction(ops).map_err(|e| e.to_string())
    }

    fn transaction(&self, ops: Vec<Op>) -> Stored<(Vec<Verdict>, Done)> {
        let write = self.store.db.begin_write()?;
        let (verdicts, mut done) = self.apply(&write, ops)?;
        if done.rev == self.rev {
            write.abort()?;
            done.slice = None;
            return Ok((verdicts, done));
        }
        {
            let mut meta = write.open_table(META)?;
            meta.insert("rev", done.rev)?;
            meta.insert("bytes", done.bytes)?;
            if let Some(slice) = &done.slice {
                meta.insert("indexed", slice.indexed)?;
            }
        }
        write.commit()?;
        Ok((verdicts, done))
    }

    fn apply(&self, write: &WriteTransaction, ops: Vec<Op>) -> Stored<(Vec<Verdict>, Done)> {
        let bytes = self.store.bytes.load(Ordering::Relaxed);
        let mut batch = Batch {
            store: &self.store,
            commits: write.open_table(COMMITS)?,
            index: write.open_table(INDEX)?,
            values: write.open_table(VALUES)?,
            done: Done { rev: self.rev, bytes, ..Done::default() },
            quota: self.quota,
            now: wall_clock_ms(),
        };
        let mut verdicts = Vec::with_capacity(ops.len());
        for op in ops {
            verdicts.push(match op {
                Op::Append { key, expect, commit, replace } => {
                    batch.append(&key, expect, commit, replace)?
                }
                Op::Value { bucket, key, expect, value } => {
                    batch.set(&bucket, &key, expect, value)?
                }
            });
        }
        batch.write_index()?;
        Ok((verdicts, batch.done))
    }

    /// Everything is durable: show it. Answers go first, they are waited for.
    fn publish(
        &mut self,
        verdicts: Vec<Verdict>,
        answers: Vec<oneshot::Sender<Verdict>>,
        done: Done,
    ) {
        self.rev = done.rev;
        self.store.bytes.store(done.bytes, Ordering::Relaxed);
        let mut unindexed = self.store.unindexed();
        for gone in &done.removed {
            gone.revs.iter().for_each(|rev| unindexed.remove(&gone.subject, *rev));
        }
        if let Some(slice) = done.slice {
            unindexed.written(slice);
        }
        drop(unindexed);
        let mut heads = [None; 3];
        for recorded in done.appended {
            let space = recorded.key.space();
            heads[space.index()] = Some(recorded.rev);
            self.store.ring(space).push(recorded);
        }
        for gone in done.removed {
            self.store.ring(gone.space).remove(&gone.revs);
        }
        for (sender, rev) in self.heads.iter().zip(heads) {
            if let Some(rev) = rev {
                sender.send_replace(rev);
            }
        }
        for (answer, verdict) in answers.into_iter().zip(verdicts) {
            // Whoever asked may have gone.
            drop(answer.send(verdict));
        }
        for note in done.notes {
            drop(self.notes.send(note));
        }
    }

    fn fail(self, reason: &str, answers: Vec<oneshot::Sender<Verdict>>) {
        tracing::error!(
            reason,
            "the log file cannot be written; restart after repairing the cause"
        );
        let error = LogError::Backend(format!("the log file could not be written: {reason}"));
        let error = self.store.failure.get_or_init(|| error).clone();
        for answer in answers {
            drop(answer.send(Err(error.clone())));
        }
    }
}

impl Batch<'_> {
    fn append(
        &mut self,
        key: &Arc<Key>,
        expect: Expect,
        commit: Commit,
        replace: bool,
    ) -> Stored<Verdict> {
        let (subject, space) = (key.subject(), key.space());
        let last = self.neighbour(&subject, 0, true)?;
        let behind_fence = match expect {
            Expect::Absent if last.is_none() => None,
            Expect::Absent => self.neighbour(&subject, 0, false)?,
            Expect::At(rev) if last == Some(rev) => None,
            Expect::At(rev) => self.neighbour(&subject, rev.saturating_add(1), false)?,
            Expect::Any => last,
        };
        if let Some(rev) = behind_fence {
            match self.commit_at(space, rev)? {
                Ok(other) if other.commit.id == commit.id => return Ok(Ok(rev)),
                Ok(_) => {}
                Err(e) => return Ok(Err(e)),
            }
        }
        let holds = match expect {
            Expect::Absent => last.is_none(),
            Expect::At(rev) => last == Some(rev),
            Expect::Any => true,
        };
        if !holds {
            return Ok(Err(LogError::Conflict));
        }
        let rev = self.done.rev + 1;
        let stored = encode(rev, self.now, key, &commit);
        let old = if replace { self.history(&subject, space)? } else { (Vec::new(), 0) };
        let (old_revs, freed) = old;
        let size = (stored.len() + subject.len()) as u64;
        if !self.fits(size, freed) {
            return Ok(Err(LogError::Full));
        }
        for rev in &old_revs {
            // Maybe it is not there yet.
            self.index.remove((subject.as_str(), *rev))?;
            self.commits.remove((space_byte(space), *rev))?;
        }
        self.commits.insert((space_byte(space), rev), stored.as_slice())?;
        self.store.unindexed().insert(&subject, rev);
        self.account(rev, size, freed);
        if !old_revs.is_empty() {
            self.done.appended.retain(|r| r.key.space() != space || !old_revs.contains(&r.rev));
            self.done.removed.push(Compacted { space, subject, revs: old_revs });
        }
        self.done.appended.push(Recorded { key: key.clone(), rev, at_ms: self.now, commit });
        Ok(Ok(rev))
    }

    fn set(
        &mut self,
        bucket: &Arc<str>,
        key: &Arc<str>,
        expect: Expect,
        value: Option<Bytes>,
    ) -> Stored<Verdict> {
        let name = (&**bucket, &**key);
        let names = (bucket.len() + key.len()) as u64;
        let (now, freed) = match self.values.get(name)? {
            None => (None, 0),
            Some(stored) => {
                let stored = stored.value();
                let rev = stored.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
                (Some(rev), stored.len() as u64 + names)
            }
        };
        let holds = match expect {
            Expect::Absent => now.is_none(),
            Expect::At(rev) => now == Some(rev),
            Expect::Any => true,
        };
        if !holds {
            return Ok(Err(LogError::Conflict));
        }
        let rev = self.done.rev + 1;
        let mut size = 0;
        match value {
            Some(value) => {
                let stored = encode_value(bucket, key, rev, &value);
                size = stored.len() as u64 + names;
                if !self.fits(size, freed) {
                    return Ok(Err(LogError::Full));
                }
                self.values.insert(name, stored.as_slice())?;
            }
            None => drop(self.values.remove(name)?),
        }
        self.account(rev, size, freed);
        self.done.notes.push(KvNote { bucket: bucket.clone(), key: key.clone() });
        Ok(Ok(rev))
    }

    /// Brings the index on disk as much nearer as this transaction added.
    fn write_index(&mut self) -> Stored<()> {
        let slice = self.store.unindexed().slice(self.done.appended.len(), self.done.rev);
        for (subject, rev) in slice.iter().flat_map(|slice| &slice.entries) {
            if !self.is_gone(subject, *rev) {
                self.index.insert((subject.as_str(), *rev), ())?;
            }
        }
        self.done.slice = slice;
        Ok(())
    }

    /// Whether this transaction compacted it.
    fn is_gone(&self, subject: &str, rev: Rev) -> bool {
        self.done.removed.iter().any(|gone| gone.subject == subject && gone.revs.contains(&rev))
    }

    /// The aggregate's first or last revision from `from` on.
    fn neighbour(&self, subject: &str, from: Rev, last: bool) -> Stored<Option<Rev>> {
        let unindexed = self.store.unindexed();
        let rest = unindexed.of(subject).iter().copied();
        let mut rest = rest.filter(|rev| *rev >= from && !self.is_gone(subject, *rev));
        // What the index lacks is newer than what it has of the same aggregate.
        if last && let Some(rev) = rest.next_back() {
            return Ok(Some(rev));
        }
        let mut range = self.index.range((subject, from)..=(subject, u64::MAX))?;
        let found = if last { range.next_back() } else { range.next() };
        Ok(found.transpose()?.map(|(place, _)| place.value().1).or_else(|| rest.next()))
    }

    fn commit_at(&self, space: Space, rev: Rev) -> Stored<crate::error::Result<Recorded>> {
        Ok(match self.commits.get((space_byte(space), rev))? {
            Some(stored) => decode(space, rev, stored.value()),
            None => Err(LogError::Corrupt(format!("commit {rev} is listed but not there"))),
        })
    }

    /// The aggregate's revisions and the bytes they take.
    fn history(&self, subject: &str, space: Space) -> Stored<(Vec<Rev>, u64)> {
        let mut revs = Vec::new();
        for entry in self.index.range((subject, 0)..=(subject, u64::MAX))? {
            revs.push(entry?.0.value().1);
        }
        let unindexed = self.store.unindexed();
        let rest = unindexed.of(subject).iter().copied();
        revs.extend(rest.filter(|rev| !self.is_gone(subject, *rev)));
        drop(unindexed);
        let mut bytes = 0;
        for rev in &revs {
            let stored = self.commits.get((space_byte(space), *rev))?;
            bytes += stored.map_or(0, |s| s.value().len() + subject.len()) as u64;
        }
        Ok((revs, bytes))
    }

    /// What shrinks is always accepted, so that a full log can be emptied.
    fn fits(&self, size: u64, freed: u64) -> bool {
        let after = self.done.bytes.saturating_sub(freed).saturating_add(size);
        size <= freed || self.quota.is_none_or(|quota| after <= quota)
    }

    fn account(&mut self, rev: Rev, size: u64, freed: u64) {
        self.done.rev = rev;
        self.done.bytes = self.done.bytes.saturating_sub(freed).saturating_add(size);
    }
}

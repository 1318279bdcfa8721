//! What must hold before an intent is written: the files are still the ones that were opened, there is space for the
//! outcome too, nothing has stopped the journal, not too much waits for the mirror, and the log holds the checkpoint
//! that came with the dispatch.

use super::draft::IntentDraft;
use super::error::JournalError;
use super::shared::Shared;
use super::tables;
use crate::clock::unix_now;
use cortex_audit::{Head, SignedNote, VerifierKey};
use cortex_model::Code;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Looks at the surroundings of the journal for each group.
#[derive(Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    files: Vec<Watched>,
    dir: Option<PathBuf>,
    /// Free space that is left for what already runs, bytes.
    reserve: u64,
    free: u64,
}

/// A file that must stay where it is.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Gate {
    /// Watches the files of a journal in `dir`; without one, files that live in memory.
    pub(crate) fn new(
        shared: Arc<Shared>,
        dir: Option<&Path>,
        reserve: u64,
    ) -> std::io::Result<Self> {
        let mut files = Vec::new();
        for name in dir.map(|_| super::files::NAMES).unwrap_or_default() {
            let path = dir.unwrap_or(Path::new("")).join(name);
            let meta = std::fs::metadata(&path)?;
            files.push(Watched { path, device: meta.dev(), inode: meta.ino() });
        }
        let dir = dir.map(Path::to_owned);
        let free = u64::MAX;
        Ok(Self { shared, files, dir, reserve, free })
    }

    /// Looks at the disk. What is found counts for the requests of one group.
    pub(crate) fn look(&mut self) {
        let Some(dir) = &self.dir else { return };
        if let Ok(stat) = rustix::fs::statvfs(dir) {
            self.free = stat.f_bavail.saturating_mul(stat.f_frsize);
        }
        for file in &self.files {
            let there = std::fs::metadata(&file.path);
            let same = there.is_ok_and(|meta| {
                (meta.dev(), meta.ino()) == (file.device, file.inode) && meta.nlink() > 0
            });
            if !same {
                let path = file.path.display();
                self.shared.stop(JournalError::Blocked {
                    code: Code::JournalUnlinked,
                    why: format!("{path} was deleted or replaced while the agent had it open"),
                });
            }
        }
    }

    /// Free space at the last look, bytes.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free
    }

    /// Size of the newest checkpoint that the mirror has cosigned; 0 if none.
    pub(crate) fn cosigned(&self) -> u64 {
        self.shared.upstream().cosigned
    }

    /// Records that the mirror has not acknowledged.
    pub(crate) fn unacked(&self, size: u64) -> u64 {
        size.saturating_sub(self.cosigned())
    }

    /// How far this clock is ahead of the server's.
    pub(crate) fn skew_ms(&self) -> Option<i64> {
        self.shared.upstream().skew_ms
    }

    /// Whether an intent may be written. `room` bytes are left ahead beside what running attempts will need.
    pub(crate) fn admit(
        &mut self,
        draft: &IntentDraft,
        head: Head,
        room: usize,
    ) -> Result<(), JournalError> {
        if let Some(err) = self.shared.hindrance() {
            return Err(err);
        }
        if self.free < self.reserve {
            let (free, least) = (self.free, self.reserve);
            return Err(JournalError::full(format!("{free} bytes are free, {least} are needed")));
        }
        if room == 0 && self.free < self.reserve.saturating_mul(2) {
            return Err(JournalError::full("the outcomes of what runs need what is left"));
        }
        self.shared.upstream().require_few_unacked(head.size, unix_now().0 / 1_000)?;
        match &draft.floor {
            Some(floor) => hold(&self.shared, floor, head),
            None => Ok(()),
        }
    }
}

/// Whether the log holds the checkpoint that came with a dispatch. A contradiction stops the journal.
///
/// # Errors
/// It does not, or it cannot be told at present.
pub(crate) fn hold(shared: &Shared, floor: &SignedNote, head: Head) -> Result<(), JournalError> {
    if shared.holds_already(floor) {
        return Ok(());
    }
    let refused = |why| JournalError::Refused { code: Code::JournalFloor, why };
    match holds(shared, shared.key()?.verifier(), floor, head)? {
        Held::Yes => {
            shared.remember_held(floor);
            Ok(())
        }
        // The checkpoint of the log that this one follows is no floor for this one.
        Held::OtherLog if shared.follows(&floor.checkpoint().origin) => Ok(()),
        Held::OtherLog => {
            Err(refused(format!("the dispatch names the journal {}", floor.checkpoint().origin)))
        }
        Held::No(contradiction) => {
            shared.contradict(&contradiction);
            Err(refused(contradiction.why))
        }
    }
}

/// The log is not what its own key once signed.
#[derive(Clone, Debug)]
pub(crate) struct Contradiction {
    pub(crate) code: Code,
    pub(crate) why: String,
    pub(crate) note: String,
}

pub(crate) enum Held {
    Yes,
    OtherLog,
    No(Contradiction),
}

/// Compares a checkpoint with the log.
///
/// # Errors
/// It cannot be told at present, or the note is not signed by this journal's key.
pub(crate) fn holds(
    shared: &Shared,
    verifier: &VerifierKey,
    note: &SignedNote,
    head: Head,
) -> Result<Held, JournalError> {
    let checkpoint = note.checkpoint();
    if checkpoint.origin != verifier.name() {
        return Ok(Held::OtherLog);
    }
    note.verify_log(verifier).map_err(|err| JournalError::Refused {
        code: Code::JournalFloor,
        why: format!("the checkpoint of the dispatch is not this journal's: {err}"),
    })?;
    let (size, text) = (checkpoint.size, note.to_string());
    if size > head.size {
        let why = format!("it has {} records, and signed a checkpoint of {size}", head.size);
        return Ok(Held::No(Contradiction { code: Code::JournalRolledBack, why, note: text }));
    }
    if size > shared.progress().size {
        return Err(JournalError::full("the store is behind; try again"));
    }
    let root = match shared.root(size) {
        Some(root) => root,
        None => shared.read(|read| tables::edge(read, size))?.root(),
    };
    if root == checkpoint.root {
        return Ok(Held::Yes);
    }
    let why = format!("its first {size} records are not those of a checkpoint that its key signed");
    Ok(Held::No(Contradiction { code: Code::JournalForked, why, note: text }))
}

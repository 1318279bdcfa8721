//! What the journal's threads and their callers know together. Every lock is held for a moment, and but for that of the snapshot never
//! across I/O.

use super::error::JournalError;
use super::gate::Contradiction;
use super::tables;
use cortex_agent_core::Phase;
use cortex_audit::{Checkpoint, Hash, Head, Leaf, LogKey, SignedNote, VerifierKey};
use cortex_model::Code;
use redb::{Database, ReadTransaction, ReadableDatabase as _};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Roots that are remembered: more than batches can be under way.
const ROOTS: usize = 16;

/// What the newest groups say about an attempt, until the store says it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recent {
    pub(crate) state: u8,
    /// The group it came with.
    pub(crate) group: u64,
}

/// How far the store is.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Number of the newest group in the store.
    pub(crate) group: u64,
    /// Records in the store.
    pub(crate) size: u64,
    /// Leaf of the last of them.
    pub(crate) leaf: Leaf,
    /// The ahead file that is not in use can be used.
    pub(crate) spare: bool,
    /// The store waits for space; what it has not taken over stays in the ahead files.
    pub(crate) waits: Option<JournalError>,
}

/// What is known of the mirror.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upstream {
    /// Size of the newest checkpoint that it has cosigned; 0 if none.
    pub(crate) cosigned: u64,
    /// How far this clock is ahead of the server's, milliseconds.
    pub(crate) skew_ms: Option<i64>,
    /// When it did that, seconds since 1970 on the server's clock; 0 if never.
    pub(crate) cosigned_at_s: u64,
    /// Most records that may wait for it, and for how long its newest cosignature counts.
    pub(crate) patience: Patience,
    /// Its key, once it is pinned.
    pub(crate) mirror: Option<VerifierKey>,
    /// Why it takes nothing of this node.
    pub(crate) stop: Option<JournalError>,
}

/// How much of a difference between this clock and the server's counts, seconds.
const SKEW_BELIEVED_S: i64 = 3_600;

/// How long a journal goes on without the mirror. `None`: without end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// Records above the newest cosigned checkpoint.
    pub(crate) records: Option<u64>,
    /// Seconds since the newest cosignature.
    pub(crate) seconds: Option<u64>,
}

impl Upstream {
    /// `now_s` is this machine's clock, seconds since 1970. A copy of a node that runs where no server sees it ends its work here.
    pub(crate) fn require_few_unacked(&self, size: u64, now_s: u64) -> Result<(), JournalError> {
        // Without a mirror nothing waits for one.
        if self.mirror.is_none() {
            return Ok(());
        }
        let refused = |why| Err(JournalError::Refused { code: Code::JournalUnacked, why });
        let waiting = size.saturating_sub(self.cosigned);
        if let Some(most) = self.patience.records.filter(|most| waiting > *most) {
            return refused(format!("{waiting} records wait for the mirror, at most {most} may"));
        }
        // What a gateway says of the time is not signed.
        let skew_s = (self.skew_ms.unwrap_or(0) / 1_000).clamp(-SKEW_BELIEVED_S, SKEW_BELIEVED_S);
        let age = now_s.saturating_sub(self.cosigned_at_s).saturating_add_signed(-skew_s);
        match self.patience.seconds {
            // Before the first cosignature only their number counts.
            Some(most) if self.cosigned > 0 && age > most => refused(format!(
                "the mirror countersigned last {age} seconds ago, and {most} is the longest"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The newest cosigned checkpoint, if it is newer.
    pub(crate) fn advance(&mut self, size: u64, at_s: u64) {
        if size > self.cosigned {
            self.cosigned = size;
        }
        self.cosigned_at_s = self.cosigned_at_s.max(at_s);
    }
}

/// The store as it was when it last took something over, kept for whoever asks until it does so again: to begin a transaction costs more
/// than what is read in it.
struct Snapshot {
    read: ReadTransaction,
    /// In use as long as something is read in it.
    _database: Arc<Database>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `None` for a journal that could not be opened.
    key: Option<LogKey>,
    /// First 32 hex digits of the log that this one follows.
    predecessor: Option<String>,
    /// The text of the newest checkpoint that was found to be this log's.
    held: Mutex<Option<String>>,
    /// Sizes and roots that were computed from what the store holds, the newest last.
    roots: Mutex<VecDeque<(u64, Hash)>>,
    head: Mutex<Head>,
    blocked: Mutex<Option<JournalError>>,
    /// Why no intent is taken, although what happens is still recorded.
    stopped: Mutex<Option<JournalError>>,
    contradictions: Mutex<Vec<Contradiction>>,
    upstream: Mutex<Upstream>,
    recent: Mutex<HashMap<String, Recent>>,
    progress: Mutex<Progress>,
    moved: Condvar,
    database: Mutex<Option<Arc<Database>>>,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    /// Records in the store, for whoever sends them on.
    stored: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        key: Option<LogKey>,
        predecessor: Option<String>,
        head: Head,
        database: Option<Database>,
        spare: bool,
    ) -> Self {
        let (size, leaf) = (head.size, head.leaf);
        let progress = Progress { group: 0, size, leaf, spare, waits: None };
        Self {
            key,
            predecessor,
            held: Mutex::default(),
            roots: Mutex::default(),
            head: Mutex::new(head),
            blocked: Mutex::new(None),
            stopped: Mutex::new(None),
            contradictions: Mutex::default(),
            upstream: Mutex::default(),
            recent: Mutex::default(),
            progress: Mutex::new(progress),
            moved: Condvar::new(),
            database: Mutex::new(database.map(Arc::new)),
            snapshot: Mutex::default(),
            stored: watch::Sender::new(head.size),
        }
    }

    /// What is left of a journal that could not be opened.
    pub(crate) fn closed(log: Leaf, blocked: JournalError) -> Self {
        let head = Head { log, size: 0, leaf: Leaf::ZERO };
        let shared = Self::new(None, None, head, None, false);
        *lock(&shared.blocked) = Some(blocked);
        shared
    }

    /// The key that signs the log's checkpoints.
    ///
    /// # Errors
    /// The journal could not be opened.
    pub(crate) fn key(&self) -> Result<&LogKey, JournalError> {
        self.key.as_ref().ok_or_else(|| self.blocked().unwrap_or_else(JournalError::gone))
    }

    pub(crate) fn head(&self) -> Head {
        *lock(&self.head)
    }

    pub(crate) fn set_head(&self, head: Head) {
        *lock(&self.head) = head;
    }

    /// Why nothing can be written any more.
    pub(crate) fn blocked(&self) -> Option<JournalError> {
        lock(&self.blocked).clone()
    }

    /// Nothing is written from now on. The first reason stays.
    pub(crate) fn block(&self, err: &JournalError) {
        let mut blocked = lock(&self.blocked);
        if blocked.is_none() {
            tracing::error!(error = %err, "the journal takes nothing any more; no work is taken");
            *blocked = Some(err.clone());
        }
        drop(blocked);
        // Whoever waits for the store must not wait for ever.
        self.moved.notify_all();
    }

    /// No intent is taken from now on; what already runs is still recorded. The first reason stays.
    pub(crate) fn stop(&self, err: JournalError) {
        let mut stopped = lock(&self.stopped);
        if stopped.is_none() {
            tracing::error!(error = %err, "the journal takes no intents any more; no work is taken");
            *stopped = Some(err);
        }
    }

    /// The log contradicts what it signed: it stops, and the evidence is kept until somebody stores it.
    pub(crate) fn contradict(&self, contradiction: &Contradiction) {
        let Contradiction { code, why, .. } = contradiction.clone();
        self.stop(JournalError::Blocked { code, why });
        lock(&self.contradictions).push(contradiction.clone());
    }

    /// Whether the log is not what its key signed once: what is written now would be another history.
    pub(crate) fn contradicted(&self) -> bool {
        let Some(JournalError::Blocked { code, .. }) = &*lock(&self.stopped) else { return false };
        matches!(code, Code::JournalRolledBack | Code::JournalForked)
    }

    pub(crate) fn contradictions(&self) -> Vec<Contradiction> {
        std::mem::take(&mut *lock(&self.contradictions))
    }

    /// Why no intent is taken at present: blocked or stopped for good, or the store waits for space.
    pub(crate) fn hindrance(&self) -> Option<JournalError> {
        let stopped = || lock(&self.stopped).clone();
        let waits = || lock(&self.progress).waits.clone();
        self.blocked().or_else(stopped).or_else(|| self.upstream_stop()).or_else(waits)
    }

    pub(crate) fn holds_already(&self, note: &SignedNote) -> bool {
        lock(&self.held).as_deref() == Some(note.text())
    }

    pub(crate) fn remember_held(&self, note: &SignedNote) {
        *lock(&self.held) = Some(note.text().to_owned());
    }

    /// The root of the first `size` records, if it was computed lately.
    pub(crate) fn root(&self, size: u64) -> Option<Hash> {
        lock(&self.roots).iter().rfind(|(at, _)| *at == size).map(|(_, root)| *root)
    }

    /// The store holds records of this root: nobody need read them again to compare a note with them.
    pub(crate) fn remember_root(&self, checkpoint: &Checkpoint) {
        let mut roots = lock(&self.roots);
        if roots.len() == ROOTS {
            roots.pop_front();
        }
        roots.push_back((checkpoint.size, checkpoint.root));
    }

    pub(crate) fn has_predecessor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Whether an origin is that of the log before this one.
    pub(crate) fn follows(&self, origin: &str) -> bool {
        self.predecessor.is_some() && self.predecessor.as_deref() == origin.rsplit('/').next()
    }

    /// What is known of the mirror when the journal is opened.
    pub(crate) fn set_upstream(&self, cosigned: u64, patience: Patience) {
        let mut upstream = self.upstream();
        (upstream.cosigned, upstream.patience) = (cosigned, patience);
    }

    pub(crate) fn upstream(&self) -> MutexGuard<'_, Upstream> {
        lock(&self.upstream)
    }

    pub(crate) fn remember(&self, name: String, recent: Recent) {
        lock(&self.recent).insert(name, recent);
    }

    /// What is known of an attempt: from the newest groups, otherwise from the store.
    pub(crate) fn phase(&self, name: &str) -> Result<Phase, JournalError> {
        if let Some(recent) = lock(&self.recent).get(name) {
            return Ok(tables::phase_of(recent.state));
        }
        let row = self.read(|read| tables::attempt(read, name))?;
        Ok(row.map_or(Phase::Unknown, |(state, ..)| tables::phase_of(state)))
    }

    /// Reads the store.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, JournalError> {
        read(&self.snapshot()?.read).map_err(JournalError::from)
    }

    /// Begun under the lock that forgets it: whoever finds nothing among the newest groups, which are let go of after that, then reads a
    /// store that has them.
    fn snapshot(&self) -> Result<Arc<Snapshot>, JournalError> {
        let mut snapshot = lock(&self.snapshot);
        if let Some(snapshot) = &*snapshot {
            return Ok(snapshot.clone());
        }
        let closed = || self.blocked().unwrap_or_else(JournalError::reopening);
        let database = self.database().ok_or_else(closed)?;
        let read = database.begin_read().map_err(redb::Error::from)?;
        Ok(snapshot.insert(Arc::new(Snapshot { read, _database: database })).clone())
    }

    pub(crate) fn database(&self) -> Option<Arc<Database>> {
        lock(&self.database).clone()
    }

    pub(crate) fn set_database(&self, database: Option<Database>) {
        // In this order, so that nobody reads in a store that is being closed.
        *lock(&self.database) = database.map(Arc::new);
        *lock(&self.snapshot) = None;
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    /// The store holds all groups up to this one, and so many records.
    pub(crate) fn stored(&self, group: u64, size: u64, leaf: Leaf) {
        *lock(&self.snapshot) = None;
        lock(&self.recent).retain(|_, recent| recent.group > group);
        let mut progress = lock(&self.progress);
        (progress.group, progress.size, progress.leaf) = (group, size, leaf);
        progress.waits = None;
        drop(progress);
        self.stored.send_replace(size);
        self.moved.notify_all();
    }

    pub(crate) fn store_waits(&self, err: JournalError) {
        lock(&self.progress).waits = Some(err);
        self.moved.notify_all();
    }

    pub(crate) fn spare_is_ready(&self) {
        lock(&self.progress).spare = true;
        self.moved.notify_all();
    }

    /// Waits until the unused ahead file is ready. False: the store waits for space, or everything is blocked.
    pub(crate) fn wait_for_spare(&self) -> bool {
        let mut progress = lock(&self.progress);
        while !progress.spare {
            if progress.waits.is_some() || self.blocked().is_some() {
                return false;
            }
            let waited = self.moved.wait_timeout(progress, Duration::from_secs(1));
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        progress.spare = false;
        true
    }

    /// Tells how many records are in the store, now and whenever there are more.
    pub(crate) fn follow_stored(&self) -> watch::Receiver<u64> {
        self.stored.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_without_the_mirror_only_so_far_and_so_long() {
        let key = "cortex.example/mirror/m1+8004e3a1+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
        let known = Upstream {
            cosigned: 100,
            cosigned_at_s: 1_000,
            patience: Patience { records: Some(50), seconds: Some(60) },
            mirror: VerifierKey::parse(key).ok(),
            ..Upstream::default()
        };
        for (what, upstream, size, now, taken) in [
            ("few, lately", known.clone(), 150, 1_060, true),
            ("one too many", known.clone(), 151, 1_060, false),
            ("one second too long", known.clone(), 100, 1_061, false),
            ("a clock behind the mirror's", known.clone(), 150, 10, true),
            ("a clock that is an hour ahead", ahead(&known, 3_600), 150, 4_660, true),
            ("a clock that is an hour ahead, too long", ahead(&known, 3_600), 150, 4_661, false),
            ("a gateway that claims a day", ahead(&known, 86_400), 150, 87_460, false),
            ("a clock that is behind", ahead(&known, -900), 150, 161, false),
            (
                "no mirror was ever met",
                Upstream { mirror: None, ..known.clone() },
                900,
                9_999,
                true,
            ),
            ("nothing cosigned yet", Upstream { cosigned: 0, ..known.clone() }, 50, 9_999, true),
            ("nothing cosigned, many", Upstream { cosigned: 0, ..known.clone() }, 51, 1, false),
            ("no bounds", Upstream { patience: Patience::default(), ..known }, 900, 9_999, true),
        ] {
            let result = upstream.require_few_unacked(size, now);
            assert_eq!(result.is_ok(), taken, "{what}: {result:?}");
            if let Err(err) = result {
                assert_eq!(err.to_fault().code, Code::JournalUnacked, "{what}");
            }
        }
    }

    fn ahead(upstream: &Upstream, seconds: i64) -> Upstream {
        Upstream { skew_ms: Some(seconds * 1_000), ..upstream.clone() }
    }
}

//! Crashes at every write and sync. The journal runs over files in memory that note each operation in one order, with
//! the answers that were given in between. Then every beginning of that history is made into the disk that a crash
//! would have left (all that was written; or only what was synced, and of the rest some sectors), and opened again.

use super::*;
use redb::StorageBackend;
use std::io;
use std::sync::Mutex;

const SECTOR: usize = 512;

/// Small, so that the files are changed under way too.
const LENGTH: usize = 24 * 1024;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u64, Vec<u8>),
    SetLen(usize, u64),
    Sync(usize),
    /// Somebody was told that so many records are durable.
    Answered(u64),
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
struct History(Arc<Mutex<Vec<Step>>>);

impl History {
    fn note(&self, step: Step) {
        self.0.lock().unwrap().push(step);
    }

    fn steps(&self) -> Vec<Step> {
        self.0.lock().unwrap().clone()
    }
}

/// One file in memory. With a quota, it is a full disk.
#[derive(Debug)]
struct Disk {
    number: usize,
    bytes: Mutex<Vec<u8>>,
    history: History,
    quota: Arc<Mutex<u64>>,
    anchors_full: Arc<std::sync::atomic::AtomicBool>,
    broken: Arc<Mutex<Option<usize>>>,
}

impl Disk {
    /// Fails for good once it is time: the disk is gone.
    fn tick(&self) -> io::Result<()> {
        let mut left = self.broken.lock().unwrap();
        match &mut *left {
            Some(0) => Err(io::Error::from_raw_os_error(5)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let from = bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.tick()?;
        if len > *self.quota.lock().unwrap() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.history.note(Step::SetLen(self.number, len));
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.tick()?;
        self.history.note(Step::Sync(self.number));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.tick()?;
        if self.number > 0 && self.anchors_full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.history.note(Step::Write(self.number, offset, data.to_vec()));
        write(&mut self.bytes.lock().unwrap(), offset, data);
        Ok(())
    }

    fn try_lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        Ok(true)
    }

    fn lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<(), redb::BackendError> {
        Ok(())
    }

    fn lock_shared_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<(), redb::BackendError> {
        Ok(())
    }

    fn unlock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<(), redb::BackendError> {
        Ok(())
    }

    fn query_lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        Ok(false)
    }
}

fn write(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let end = offset as usize + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset as usize..end].copy_from_slice(data);
}

/// A machine: three files, and what becomes of them.
#[derive(Clone, Debug, Default)]
struct Machine {
    history: History,
    quota: Arc<Mutex<u64>>,
    /// No write to the ahead files finds space any more: the file system copies what it overwrites, and is full.
    anchors_full: Arc<std::sync::atomic::AtomicBool>,
    broken: Arc<Mutex<Option<usize>>>,
}

type Images = [Vec<u8>; 3];

impl Machine {
    fn new() -> Self {
        let machine = Self::default();
        *machine.quota.lock().unwrap() = u64::MAX;
        machine
    }

    fn files(&self, images: Images) -> files::Files {
        let mut number = 0;
        let [store, a, b] = images.map(|bytes| {
            let quota = if number == 0 { Arc::clone(&self.quota) } else { Arc::default() };
            if number > 0 {
                *quota.lock().unwrap() = u64::MAX;
            }
            let (bytes, history) = (Mutex::new(bytes), self.history.clone());
            let (anchors_full, broken) = (Arc::clone(&self.anchors_full), Arc::clone(&self.broken));
            let disk = Disk { number, bytes, history, quota, anchors_full, broken };
            number += 1;
            backend::Backend::new(disk)
        });
        files::Files { store, ahead: [a, b], lock: None }
    }

    fn open(&self, images: Images, seed: &Seed) -> Result<(Journal, Vec<OpenIntent>), OpenError> {
        let opened = open::check(self.files(images), seed.key(), Path::new("memory"))?;
        Journal::start(opened, None, Settings::default())
    }
}

/// The key of a journal, again and again.
struct Seed {
    dir: tempfile::TempDir,
    images: Images,
}

impl Seed {
    /// A new journal.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in files::NAMES {
            std::fs::File::create_new(dir.path().join(name)).unwrap();
        }
        let open = |n: usize| backend::Backend::open(&dir.path().join(files::NAMES[n])).unwrap();
        let files = files::Files { store: open(0), ahead: [open(1), open(2)], lock: None };
        files::begin(&files, &who(), None, dir.path(), LENGTH).unwrap();
        drop(files);
        let images = [0, 1, 2].map(|n| std::fs::read(dir.path().join(files::NAMES[n])).unwrap());
        Self { dir, images }
    }

    fn key(&self) -> key::StoredKey {
        key::StoredKey::read(self.dir.path()).unwrap()
    }
}

/// Some twenty records: runs, a refusal, an acknowledgement, a cosigned size.
async fn scenario(journal: &Journal, history: &History) {
    let said = |journal: &Journal| history.note(Step::Answered(journal.size()));
    journal.session_open("s", "p").unwrap();
    journal.begin().await.unwrap();
    said(journal);
    for round in 0..5 {
        let guards = [0, 1].map(|n| journal.intent(draft(&format!("t{round}-{n}"))));
        for guard in futures::future::join_all(guards).await {
            said(journal);
            journal.outcome(guard.unwrap(), exited()).await.unwrap();
            said(journal);
        }
        journal.acked(&key(&format!("t{round}-0"))).await.unwrap();
        if round % 2 == 0 {
            journal.flush().await.unwrap();
        }
    }
    journal.refuse(refusal("r")).await.unwrap();
    said(journal);
}

/// What a crash leaves of a history's beginning.
fn crashed(images: &Images, steps: &[Step], mut lose: impl FnMut() -> bool) -> Images {
    let mut disk = images.clone();
    // Written and not synced, by file.
    let mut pending: [Vec<(u64, Vec<u8>)>; 3] = Default::default();
    for step in steps {
        match step {
            Step::Write(file, offset, data) => pending[*file].push((*offset, data.clone())),
            Step::SetLen(file, len) => disk[*file].resize(*len as usize, 0),
            Step::Sync(file) => {
                for (offset, data) in pending[*file].drain(..) {
                    write(&mut disk[*file], offset, &data);
                }
            }
            Step::Answered(_) => {}
        }
    }
    for (file, writes) in pending.iter().enumerate() {
        for (offset, data) in writes {
            let mut at = 0;
            while at < data.len() {
                let sector_end = SECTOR - (*offset as usize + at) % SECTOR;
                let end = data.len().min(at + sector_end);
                if !lose() {
                    write(&mut disk[file], offset + at as u64, &data[at..end]);
                }
                at = end;
            }
        }
    }
    disk
}

/// Opens what a crash left; everything that was answered must be there, and the journal must work.
async fn survives(images: Images, seed: &Seed, records: &[Vec<u8>], answered: u64, what: &str) {
    let machine = Machine::new();
    let (journal, open) = match machine.open(images, seed) {
        Ok(opened) => opened,
        Err(err) => panic!("{what}: {err}"),
    };
    let there = journal.records(0, usize::MAX).await.unwrap();
    assert!(there.len() as u64 >= answered, "{what}: {} of {answered}", there.len());
    let same = there.len().min(records.len());
    // Beyond the records of the history only a note about a refilled store may stand.
    assert_eq!(there[..same], records[..same], "{what}");
    assert!(there.len() <= same + 1, "{what}");
    let checker = verified(&journal).await;
    assert_eq!(checker.open().len(), open.len(), "{what}");
    let guard = journal.intent(draft("after")).await.unwrap();
    journal.outcome(guard, exited()).await.unwrap();
    verified(&journal).await;
}

/// Runs the scenario, crashes it at every step, and lets `lose` decide what is lost of what was not synced.
async fn crash_everywhere(what: &str, mut lose: impl FnMut() -> bool) {
    let seed = Seed::new();
    let machine = Machine::new();
    let (journal, _) = machine.open(seed.images.clone(), &seed).unwrap();
    scenario(&journal, &machine.history).await;
    journal.flush().await.unwrap();
    let records = journal.records(0, usize::MAX).await.unwrap();
    drop(journal);
    let steps = machine.history.steps();
    println!("{} steps, {} records", steps.len(), records.len());
    assert!(records.len() >= 20 && steps.len() > 60);
    let mut answered = 1;
    for end in 0..=steps.len() {
        if let Some(Step::Answered(size)) = end.checked_sub(1).map(|last| &steps[last]) {
            answered = answered.max(*size);
            continue;
        }
        let left = crashed(&seed.images, &steps[..end], &mut lose);
        survives(left, &seed, &records, answered, &format!("{what} after {end}")).await;
    }
}

#[tokio::test]
async fn killed_at_any_write_or_sync_all_that_was_answered_is_there() {
    crash_everywhere("killed", || false).await;
}

#[tokio::test]
async fn without_power_at_any_write_or_sync_all_that_was_answered_is_there() {
    crash_everywhere("power cut", || true).await;
}

#[tokio::test]
async fn with_writes_torn_at_any_write_or_sync_all_that_was_answered_is_there() {
    let number = fastrand::u64(..);
    println!("seed {number}");
    let mut random = fastrand::Rng::with_seed(number);
    crash_everywhere("torn", || random.bool()).await;
}

#[tokio::test]
async fn a_disk_that_fails_at_any_operation_blocks_the_journal_and_loses_nothing() {
    let seed = Seed::new();
    let healthy = Machine::new();
    let (journal, _) = healthy.open(seed.images.clone(), &seed).unwrap();
    scenario(&journal, &healthy.history).await;
    drop(journal);
    let operations = healthy.history.steps().len();
    for fail_at in (0..operations).step_by(3) {
        let machine = Machine::new();
        *machine.broken.lock().unwrap() = Some(fail_at);
        let Ok((journal, _)) = machine.open(seed.images.clone(), &seed) else { continue };
        let mut answered = journal.size();
        for n in 0..10 {
            let Ok(guard) = journal.intent(draft(&format!("t{n}"))).await else { break };
            answered = answered.max(guard.seq() + 1);
            let Ok(receipt) = journal.outcome(guard, exited()).await else { break };
            answered = answered.max(receipt.seq + 1);
            if journal.flush().await.is_err() {
                break;
            }
        }
        if journal.blocked().is_some() {
            // Once blocked it stays so, and says why.
            let again = journal.intent(draft("again")).await.unwrap_err();
            assert_eq!(again.to_fault().code, cortex_model::Code::JournalUnwritable, "{again}");
        }
        drop(journal);
        let left = crashed(&seed.images, &machine.history.steps(), || false);
        let (journal, _) = Machine::new().open(left, &seed).unwrap();
        assert!(journal.size() >= answered, "failing at {fail_at}");
        verified(&journal).await;
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_out_and_nothing_is_lost_meanwhile() {
    let seed = Seed::new();
    let machine = Machine::new();
    let (journal, _) = machine.open(seed.images.clone(), &seed).unwrap();
    let running = journal.intent(draft("runs")).await.unwrap();
    journal.flush().await.unwrap();
    let length = seed.images[0].len() as u64;
    *machine.quota.lock().unwrap() = length;
    // The store runs out of space at some point; what happens is recorded all the same.
    let mut n = 0;
    let refused = loop {
        n += 1;
        match journal.intent(draft(&format!("t{n}"))).await {
            Ok(guard) => {
                journal.outcome(guard, exited()).await.unwrap();
                // When there is no space left, this says so.
                drop(journal.flush().await);
            }
            Err(err) => break err,
        }
        assert!(n < 2_000, "the disk never became full");
    };
    assert_eq!(refused.to_fault().code, cortex_model::Code::NodeDiskLow, "{refused}");
    let ended = journal.outcome(running, exited()).await.unwrap();
    assert!(journal.flush().await.is_err());
    *machine.quota.lock().unwrap() = u64::MAX;
    stored(&journal, journal.size()).await;
    assert!(journal.blocked().is_none());
    journal.flush().await.unwrap();
    let guard = journal.intent(draft("after")).await.unwrap();
    assert!(guard.seq() > ended.seq);
    journal.outcome(guard, exited()).await.unwrap();
    verified(&journal).await;
}

#[tokio::test]
async fn anchors_that_find_no_space_for_an_intent_start_nothing() {
    let seed = Seed::new();
    let machine = Machine::new();
    let (journal, _) = machine.open(seed.images.clone(), &seed).unwrap();
    machine.anchors_full.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused = journal.intent(draft("a")).await.unwrap_err();
    assert_eq!(refused.to_fault().code, cortex_model::Code::NodeDiskLow, "{refused}");
    // Nobody knows what that write left behind: it is not tried again.
    machine.anchors_full.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(journal.intent(draft("b")).await.is_err() && journal.blocked().is_some());
    drop(journal);
    let left = crashed(&seed.images, &machine.history.steps(), || false);
    let (journal, open) = Machine::new().open(left, &seed).unwrap();
    assert_eq!((open.len(), journal.size()), (0, 1), "it never began");
    journal.outcome(journal.intent(draft("a")).await.unwrap(), exited()).await.unwrap();
    verified(&journal).await;
}

#[tokio::test]
async fn anchors_that_find_no_space_for_an_outcome_leave_an_attempt_that_counts_as_interrupted() {
    let seed = Seed::new();
    let machine = Machine::new();
    let (journal, _) = machine.open(seed.images.clone(), &seed).unwrap();
    let guard = journal.intent(draft("a")).await.unwrap();
    machine.anchors_full.store(true, std::sync::atomic::Ordering::Relaxed);
    let lost = journal.outcome(guard, exited()).await.unwrap_err();
    assert_eq!(lost.to_fault().code, cortex_model::Code::NodeDiskLow, "{lost}");
    drop(journal);
    let left = crashed(&seed.images, &machine.history.steps(), || false);
    let (journal, mut open) = Machine::new().open(left, &seed).unwrap();
    assert_eq!(open.len(), 1, "it began, and nobody knows how it ended");
    let what = Found { rebooted: false, orphans: 0, survivors: 0 };
    let outcome = Outcome::without_run(what.ending());
    journal.recover(open.remove(0), &what, outcome).await.unwrap();
    assert_eq!(kinds(&journal).await, ["genesis", "intent", "recovery", "outcome"]);
    verified(&journal).await;
}

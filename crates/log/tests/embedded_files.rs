//! The files of the embedded backend: what a killed process leaves, locks, versions, damage,
//! quotas, backups.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may; its child talks by lines"
)]

use cortex_log::embedded::Options;
use cortex_log::{
    Commit, CommitId, EmbeddedLog, EventLog, Expect, Key, LogError, OutputChunk, OutputKey, Space,
};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn open(dir: &Path) -> Result<EmbeddedLog, LogError> {
    EmbeddedLog::open(dir, Options::default())
}

fn key(id: &str) -> Key {
    Key::new(Space::Task, "w", id).unwrap()
}

fn commit(n: u64, size: usize) -> Commit {
    let body = vec![n as u8; size].into();
    Commit { id: CommitId::generate(), kind: "Checked".into(), n, body }
}

fn chunk(offset: u64, size: usize) -> OutputChunk {
    OutputChunk { stream: 1, offset, data: vec![offset as u8; size].into() }
}

fn behind(index_behind: usize) -> Options {
    Options { index_behind, ..Options::default() }
}

const CHILD: &str = "CORTEX_LOG_TEST_CHILD_DIR";
/// How far behind the child's index may be.
const BEHIND: &str = "CORTEX_LOG_TEST_INDEX_BEHIND";

/// Appends for ever and says what was acknowledged.
#[tokio::main]
async fn append_until_killed(dir: &Path) {
    let index_behind = std::env::var(BEHIND).unwrap().parse().unwrap();
    let log = Arc::new(EmbeddedLog::open(dir, behind(index_behind)).unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for i in 0..8_u32 {
        let log = log.clone();
        writers.spawn(async move {
            let id = format!("a{i}");
            let output = OutputKey::new("w", &*id, 1).unwrap();
            let mut n = log.last(&key(&id)).await.unwrap().map_or(0, |r| r.commit.n);
            let mut end = log.output_end(&output).await.unwrap();
            loop {
                n += 1;
                log.append(&key(&id), Expect::Any, commit(n, 300)).await.unwrap();
                println!("\nack {id} {n}");
                end = log.append_output(&output, vec![chunk(end, 500)]).await.unwrap();
                println!("\nout {id} {end}");
            }
        });
    }
    panic!("a writer ended: {:?}", writers.join_next().await);
}

#[test]
fn everything_acknowledged_survives_sigkill() {
    if let Some(dir) = std::env::var_os(CHILD) {
        append_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acked: BTreeMap<(String, String), u64> = BTreeMap::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["everything_acknowledged_survives_sigkill", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .env(BEHIND, ["3", "100000", "40"][round % 3])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let mut words = line.split(' ');
            let what = words.next().unwrap_or_default();
            let (Some(id), Some(n)) = (words.next(), words.next()) else { continue };
            let Ok(n) = n.parse::<u64>() else { continue };
            if what == "ack" || what == "out" {
                let last = acked.entry((what.into(), id.into())).or_default();
                *last = n.max(*last);
                seen += 1;
                if seen == 200 + round * 37 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(seen >= 200, "the child ended by itself after {seen} appends");
        check_acknowledged(dir.path(), &acked);
    }
}

#[tokio::main]
async fn check_acknowledged(dir: &Path, acked: &BTreeMap<(String, String), u64>) {
    let log = open(dir).unwrap();
    for ((what, id), n) in acked {
        if what == "ack" {
            let counters: Vec<u64> =
                log.read(&key(id), 0).await.unwrap().iter().map(|r| r.commit.n).collect();
            assert_eq!(counters, (1..=counters.len() as u64).collect::<Vec<_>>(), "{id}");
            assert!(counters.len() as u64 >= *n, "{id}: {n} acknowledged, {}", counters.len());
            let fenced = log.append(&key(id), Expect::Absent, commit(1, 1)).await;
            assert_eq!(fenced, Err(LogError::Conflict), "{id} has a history");
        } else {
            let key = OutputKey::new("w", &**id, 1).unwrap();
            let chunks = log.read_output(&key, 0, usize::MAX).await.unwrap();
            assert!(chunks.last().unwrap().end() >= *n, "{id}: {n} acknowledged");
            for pair in chunks.windows(2) {
                assert_eq!(pair[0].end(), pair[1].offset);
            }
            for c in chunks {
                assert!(c.data.iter().all(|b| *b == c.offset as u8), "{id} at {}", c.offset);
            }
        }
    }
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_free_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    match open(dir.path()) {
        Err(LogError::Locked(place)) => assert!(place.contains("log.redb"), "{place}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    {
        let db = redb::Database::open(dir.path().join("log.redb")).unwrap();
        let write = db.begin_write().unwrap();
        let table = redb::TableDefinition::<&str, u64>::new("meta");
        write.open_table(table).unwrap().insert("format", 3).unwrap();
        write.commit().unwrap();
    }
    match open(dir.path()) {
        Err(LogError::Refused(words)) => {
            assert!(words.contains("format 3") && words.contains("newer"), "{words}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}

/// What version 1 wrote: every commit is in the index, and nothing says how far that goes.
fn make_version_1(dir: &Path, commits: &[(String, u64)]) {
    let db = redb::Database::open(dir.join("log.redb")).unwrap();
    let write = db.begin_write().unwrap();
    {
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        let mut meta = write.open_table(meta).unwrap();
        meta.insert("format", 1).unwrap();
        meta.remove("indexed").unwrap();
        let index = redb::TableDefinition::<(&str, u64), ()>::new("index");
        let mut index = write.open_table(index).unwrap();
        for (subject, rev) in commits {
            index.insert((subject.as_str(), *rev), ()).unwrap();
        }
    }
    write.commit().unwrap();
}

#[tokio::test]
async fn a_file_of_version_1_is_read_and_goes_on_as_version_2() {
    let dir = tempfile::tempdir().unwrap();
    let mut commits = Vec::new();
    {
        let log = open(dir.path()).unwrap();
        for n in 0..30 {
            let key = key(&format!("a{}", n % 7));
            let rev = log.append(&key, Expect::Any, commit(1 + n / 7, 10)).await.unwrap();
            commits.push((key.subject(), rev));
        }
    }
    make_version_1(dir.path(), &commits);
    for round in 0..3 {
        let log = EmbeddedLog::open(dir.path(), behind(2)).unwrap();
        for a in 0..7 {
            let key = key(&format!("a{a}"));
            let wanted: Vec<u64> = commits
                .iter()
                .filter(|(subject, _)| *subject == key.subject())
                .map(|(_, rev)| *rev)
                .collect();
            let history = log.read(&key, 0).await.unwrap();
            assert_eq!(history.iter().map(|r| r.rev).collect::<Vec<_>>(), wanted, "{round}");
            let last = *wanted.last().unwrap();
            assert_eq!(log.last(&key).await.unwrap().unwrap().rev, last);
            let n = wanted.len() as u64 + 1;
            let rev = log.append(&key, Expect::At(last), commit(n, 10)).await.unwrap();
            commits.push((key.subject(), rev));
        }
    }
}

#[test]
fn a_file_that_is_no_log_is_reported_and_left_alone() {
    for content in [b"not a log".to_vec(), vec![0; 100_000], vec![0xa5; 1_000_000]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        std::fs::write(&path, &content).unwrap();
        match open(dir.path()) {
            Err(LogError::Corrupt(words)) => assert!(words.contains("log.redb"), "{words}"),
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn a_damaged_commit_is_reported_and_never_returned() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path()).unwrap();
        for n in 1..=3 {
            log.append(&key("a"), Expect::Any, commit(n, 5000)).await.unwrap();
        }
    }
    let path = dir.path().join("log.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let run: Vec<usize> = bytes
        .windows(1000)
        .enumerate()
        .filter(|(_, w)| w.iter().all(|b| *b == 2))
        .map(|(i, _)| i)
        .collect();
    assert!(!run.is_empty());
    for place in run {
        bytes[place] = 9;
    }
    std::fs::write(&path, bytes).unwrap();
    let got = match open(dir.path()) {
        Ok(log) => log.read(&key("a"), 0).await,
        Err(e) => Err(e),
    };
    assert!(matches!(got, Err(LogError::Corrupt(_))), "{got:?}");
}

#[tokio::test]
async fn a_full_log_refuses_appends_but_can_be_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { quota: Some(50_000), output_quota: Some(5_000), ..Options::default() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    let mut last = log.append(&key("a"), Expect::Absent, commit(1, 9_000)).await.unwrap();
    let mut n = 1;
    let full = loop {
        n += 1;
        match log.append(&key("a"), Expect::At(last), commit(n, 9_000)).await {
            Ok(rev) => last = rev,
            Err(e) => break e,
        }
    };
    assert_eq!((full, n), (LogError::Full, 6));
    assert!(log.usage().await.unwrap().percent() >= 90);
    let put = log.kv_put("B", "k", Expect::Any, vec![0; 9_000].into()).await;
    assert_eq!(put, Err(LogError::Full));
    log.compact(&key("a"), last, commit(6, 100)).await.unwrap();
    assert!(log.usage().await.unwrap().percent() < 5);
    log.append(&key("b"), Expect::Absent, commit(1, 9_000)).await.unwrap();

    let output = OutputKey::new("w", "a", 1).unwrap();
    log.append_output(&output, vec![chunk(0, 4_000)]).await.unwrap();
    let got = log.append_output(&output, vec![chunk(4_000, 2_000)]).await;
    assert_eq!(got, Err(LogError::Full));
    log.remove_output(&output).await.unwrap();
    assert_eq!(log.usage().await.unwrap().output_bytes, 0);
    log.append_output(&output, vec![chunk(0, 2_000)]).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_breaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let rev = log.append(&key("a"), Expect::Absent, commit(1, 100)).await.unwrap();
    drop(log);
    // No disk has as much free space as this asks for.
    let options = Options { min_free: u64::MAX, ..Options::default() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    for _ in 0..3 {
        let got = log.append(&key("a"), Expect::At(rev), commit(2, 100)).await;
        assert_eq!(got, Err(LogError::DiskFull));
        let put = log.kv_put("B", "k", Expect::Any, vec![0; 9].into()).await;
        assert_eq!(put, Err(LogError::DiskFull));
    }
    assert_eq!(log.health().await, Ok(()), "a full disk passes");
    assert_eq!(log.read(&key("a"), 0).await.unwrap().len(), 1);
    drop(log);
    let log = open(dir.path()).unwrap();
    log.append(&key("a"), Expect::At(rev), commit(2, 100)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_in_use_is_a_log_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let log = Arc::new(open(&live).unwrap());
    log.kv_put("B", "k", Expect::Absent, "v".into()).await.unwrap();
    let output = OutputKey::new("w", "a", 1).unwrap();
    log.append_output(&output, vec![chunk(0, 500)]).await.unwrap();
    log.append(&key("a"), Expect::Absent, commit(1, 100)).await.unwrap();
    let (go, mut gone) = tokio::sync::watch::channel(0);
    let writer = {
        let log = log.clone();
        tokio::spawn(async move {
            let mut n = 1;
            while !go.is_closed() {
                n += 1;
                log.append(&key("a"), Expect::Any, commit(n, 100)).await.unwrap();
                go.send_replace(n);
            }
            n
        })
    };
    gone.wait_for(|n| *n > 5).await.unwrap();
    log.backup(&copy).await.unwrap();
    let at_least = *gone.borrow();
    drop(gone);
    let written = writer.await.unwrap();
    assert!(matches!(log.backup(&copy).await, Err(LogError::Refused(_))));

    let copied = open(&copy).unwrap();
    let counters: Vec<u64> =
        copied.read(&key("a"), 0).await.unwrap().iter().map(|r| r.commit.n).collect();
    assert_eq!(counters, (1..=counters.len() as u64).collect::<Vec<_>>());
    assert!(counters.len() as u64 > 5 && counters.len() as u64 <= written.max(at_least));
    assert_eq!(copied.kv_get("B", "k").await.unwrap().unwrap().value, "v");
    assert_eq!(copied.output_end(&output).await.unwrap(), 500);
    copied.append(&key("a"), Expect::Any, commit(99, 100)).await.unwrap();
}

//! Damage and rollback of the files of a journal that is closed: what opening it says.

use super::*;
use crate::journal::tables::{META, RECORDS};
use cortex_model::Code;
use redb::ReadableTable as _;

fn raw(dir: &Path) -> redb::Database {
    store::open(&backend::Backend::open(&dir.join(files::NAMES[0])).unwrap()).unwrap()
}

fn change(dir: &Path, change: impl Fn(&redb::WriteTransaction)) {
    let database = raw(dir);
    let write = database.begin_write().unwrap();
    change(&write);
    write.commit().unwrap();
}

fn refused(dir: &Path) -> OpenError {
    match Journal::open(dir, &who(), Settings::default()) {
        Err(err) => err,
        Ok(_) => panic!("it was opened"),
    }
}

/// A journal with some records, closed.
async fn journal(dir: &Path, tasks: &[&str]) {
    let (journal, _) = open_at(dir);
    for task in tasks {
        let guard = journal.intent(draft(task)).await.unwrap();
        journal.outcome(guard, exited()).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_agent_and_a_newer_format_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    assert!(matches!(refused(dir.path()), OpenError::Locked(_)));
    drop(journal);
    change(dir.path(), |write| {
        write.open_table(META).unwrap().insert("format", "cortex-audit/2").unwrap();
    });
    let newer = refused(dir.path());
    assert!(matches!(&newer, OpenError::Newer { found, .. } if found == "cortex-audit/2"));
    assert_eq!(newer.to_fault().code, Code::DataDirNewer);
}

#[tokio::test]
async fn a_journal_of_the_version_before_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.redb"), b"anything").unwrap();
    let fault = refused(dir.path()).to_fault();
    assert_eq!(fault.code, Code::JournalOld);
    assert!(fault.hint.contains("journal recover"), "{}", fault.hint);
}

#[tokio::test]
async fn changed_missing_swapped_and_inserted_records_are_found_at_open() {
    let bodies = |write: &redb::WriteTransaction, seqs: [u64; 2]| {
        let records = write.open_table(RECORDS).unwrap();
        seqs.map(|seq| records.get(seq).unwrap().unwrap().value().to_vec())
    };
    type Change<'c> = &'c dyn Fn(&redb::WriteTransaction);
    let changes: [(&str, Change<'_>); 4] = [
        ("differs", &|write| {
            let [mut body, _] = bodies(write, [3, 4]);
            let at = body.windows(6).position(|part| part == b"intent").unwrap();
            body[at] = b'I';
            write.open_table(RECORDS).unwrap().insert(3, body.as_slice()).unwrap();
        }),
        ("differs", &|write| {
            write.open_table(RECORDS).unwrap().remove(3).unwrap();
        }),
        ("differs", &|write| {
            let [first, second] = bodies(write, [3, 4]);
            let mut records = write.open_table(RECORDS).unwrap();
            records.insert(3, second.as_slice()).unwrap();
            records.insert(4, first.as_slice()).unwrap();
        }),
        ("older than the store", &|write| {
            let [_, body] = bodies(write, [3, 4]);
            write.open_table(RECORDS).unwrap().insert(7, body.as_slice()).unwrap();
        }),
    ];
    for (words, with) in changes {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path(), &["a", "b", "c"]).await;
        change(dir.path(), with);
        let err = refused(dir.path());
        assert!(err.to_string().contains(words), "{err}");
        assert!(matches!(err.to_fault().code, Code::JournalDamaged | Code::JournalRolledBack));
    }
}

#[tokio::test]
async fn a_record_changed_long_ago_is_found_although_nothing_else_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), &["a", "b"]).await;
    // The ahead files move on until they hold none of the first records.
    let (journal, _) = open(dir.path());
    let large = || cortex_audit::record::Config { what: "x".repeat(59_000), old: None, new: None };
    for _ in 0..250 {
        journal.record(large(), Vec::new()).await.unwrap();
    }
    drop(journal);
    change(dir.path(), |write| {
        let mut records = write.open_table(RECORDS).unwrap();
        let mut body = records.get(1).unwrap().unwrap().value().to_vec();
        let at = body.windows(12).position(|part| part == b"process.exec").unwrap();
        body[at] = b'X';
        records.insert(1, body.as_slice()).unwrap();
    });
    let err = refused(dir.path());
    assert!(err.to_string().contains("2: does not follow"), "{err}");
}

#[tokio::test]
async fn files_that_went_back_in_time_are_refused_or_filled_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let (now, old) = (dir.path().join("now"), dir.path().join("old"));
    journal(&now, &["a"]).await;
    copy(&now, &old);
    journal(&now, &["b", "c"]).await;
    let place = |name: &str, back: &[&str]| {
        let to = dir.path().join(name);
        copy(&now, &to);
        for file in back {
            std::fs::copy(old.join(file), to.join(file)).unwrap();
        }
        to
    };
    // An older store: the ahead files still hold what it lacks, and the log says that it was so.
    let to = place("store", &["log.redb"]);
    let (journal, _) = open(&to);
    assert_eq!(journal.phase(&key("c")).unwrap(), Phase::Known);
    assert_eq!(kinds(&journal).await.last().unwrap(), "recovery");
    verified(&journal).await;
    drop(journal);
    // Older ahead files: what they alone may have held is lost.
    let err = refused(&place("ahead", &["ahead.a", "ahead.b"]));
    assert!(matches!(err, OpenError::RolledBack { .. }), "{err}");
    assert!(err.to_fault().hint.contains("journal recover"));
    // Both: nothing here can tell. The floor and the mirror do.
    let (journal, _) = open(&place("both", files::NAMES));
    assert_eq!(journal.phase(&key("b")).unwrap(), Phase::Unknown);
}

#[tokio::test]
async fn missing_files_are_never_a_new_journal() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), &["a"]).await;
    for name in files::NAMES.iter().chain([&key::FILE]) {
        let (path, aside) = (dir.path().join(name), dir.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let err = refused(dir.path());
        assert!(err.to_string().contains(name), "{err}");
        assert_eq!(err.to_fault().code, Code::JournalRolledBack);
        // Neither is an empty file in its place.
        std::fs::write(&path, b"").unwrap();
        refused(dir.path());
        std::fs::rename(&aside, &path).unwrap();
    }
    drop(open(dir.path()));
}

#[tokio::test]
async fn the_store_of_another_journal_or_another_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    journal(&one, &["a"]).await;
    journal(&two, &["a"]).await;
    for name in ["log.redb", "ahead.a", "audit.key"] {
        let mixed = dir.path().join(format!("mixed-{name}"));
        copy(&one, &mixed);
        std::fs::copy(two.join(name), mixed.join(name)).unwrap();
        assert_eq!(refused(&mixed).to_fault().code, Code::JournalDamaged, "{name}");
    }
}

/// What opening a copy of a journal with one flipped bit must not do: lose or change a record without a word.
async fn judge_flip(
    good: &Path,
    to: &Path,
    name: &str,
    at: usize,
    bit: u8,
    bodies: &[Vec<u8>],
) -> bool {
    copy(good, to);
    let mut bytes = std::fs::read(to.join(name)).unwrap();
    bytes[at] ^= 1 << bit;
    std::fs::write(to.join(name), bytes).unwrap();
    let opened = match Journal::open(to, &who(), Settings::default()) {
        Ok((journal, _)) => {
            let there = journal.records(0, bodies.len()).await.unwrap();
            assert_eq!(there, bodies, "bit {bit} of byte {at} of {name}");
            true
        }
        Err(err) => {
            let known = [Code::JournalDamaged, Code::JournalRolledBack, Code::DataDirNewer]
                .contains(&err.to_fault().code);
            assert!(known, "bit {bit} of byte {at} of {name}: {err}");
            false
        }
    };
    std::fs::remove_dir_all(to).unwrap();
    opened
}

#[tokio::test]
async fn a_flipped_bit_in_what_says_which_commit_is_the_newest_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (good, to) = (dir.path().join("good"), dir.path().join("flipped"));
    let crashed = dir.path().join("crashed");
    journal(&good, &["a", "b"]).await;
    // As a crash leaves it: copied while it is open, with the newest group in the store.
    let (journal, _) = open(&good);
    let guard = journal.intent(draft("c")).await.unwrap();
    journal.outcome(guard, exited()).await.unwrap();
    journal.flush().await.unwrap();
    let bodies = journal.records(0, usize::MAX).await.unwrap();
    copy(&good, &crashed);
    drop(journal);
    assert_eq!(&std::fs::read(crashed.join("log.redb")).unwrap()[..4], b"redb");
    let (mut opened, mut refused) = (0, 0);
    for image in [&good, &crashed] {
        // Which of the two commits counts, whether recovery is needed, and whether two phases were used: one byte of flags.
        let flags = (0..8).map(|bit| (9, bit));
        // The two slots that describe the commits, with their checksums.
        let slots = (64..320).step_by(3).map(|at| (at, (at % 8) as u8));
        for (at, bit) in flags.chain(slots) {
            match judge_flip(image, &to, "log.redb", at, bit, &bodies).await {
                true => opened += 1,
                false => refused += 1,
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_repaired_or_refused_and_never_loses_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    journal(&good, &["a", "b"]).await;
    let (journal, _) = open(&good);
    let bodies = journal.records(0, 9).await.unwrap();
    drop(journal);
    // One with which closing the store panicked.
    for seed in [10_350_089_310_472_867_297, fastrand::u64(..)] {
        println!("seed {seed}");
        flip(seed, &good, &dir.path().join("flipped"), &bodies).await;
    }
}

async fn flip(seed: u64, good: &Path, to: &Path, bodies: &[Vec<u8>]) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut opened, mut refused) = (0, 0);
    for round in 0..120 {
        let name = files::NAMES[round % 2];
        let length = std::fs::metadata(good.join(name)).unwrap().len() as usize;
        // The parts of the files that are in use.
        let used = if name == "ahead.a" { 16 * 1024 } else { length };
        let at = if round < 64 { round * 8 } else { random.usize(..used) };
        let bit = random.u8(..8);
        match judge_flip(good, to, name, at, bit, bodies).await {
            true => opened += 1,
            false => refused += 1,
        }
    }
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

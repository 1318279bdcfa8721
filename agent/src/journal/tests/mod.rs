//! The journal against real files: durability, one writer, recovery, damage, and its refusals.

mod consent;
mod crash;
mod damage;
#[path = "../../../tests/support/draft.rs"]
mod sample;

use super::*;
use cortex_agent_core::recovery::Found;
use cortex_audit::{ChainChecker, SignedNote};
use cortex_model::{Action, Ending};

fn who() -> Identity {
    let [domain, node, workspace, agent] =
        ["example.org", "n1", "default", "0.1.0"].map(str::to_owned);
    Identity { domain, node, workspace, agent }
}

fn key(task: &str) -> AttemptKey {
    sample::key(task).unwrap()
}

fn draft(task: &str) -> IntentDraft {
    sample::intent(task).unwrap()
}

fn refusal(task: &str) -> RefusalDraft {
    RefusalDraft {
        key: key(task),
        fence: 9,
        actor: None,
        rule: String::new(),
        policy: "p".into(),
        code: "CX-0401".into(),
        action: Action::Echo { payload: vec![] },
        outcome: Outcome::without_run(Ending::Denied {
            error: cortex_model::task::WireError::default(),
            rule: String::new(),
        }),
        answer: None,
    }
}

fn exited() -> Outcome {
    Outcome::without_run(Ending::Exited { code: 3 })
}

fn open(dir: &Path) -> (Journal, Vec<OpenIntent>) {
    Journal::open(dir, &who(), Settings::default()).unwrap()
}

/// The process ends without a word: what is durable stays, nothing is recorded.
fn crash(journal: Journal, guards: Vec<IntentGuard>) {
    guards.into_iter().for_each(std::mem::forget);
    drop(journal);
}

async fn verified(journal: &Journal) -> ChainChecker {
    let mut checker = ChainChecker::new();
    for body in journal.records(0, usize::MAX).await.unwrap() {
        checker.push(&body).unwrap();
    }
    assert_eq!(checker.head().unwrap().size, journal.head().size);
    assert_eq!(checker.head().unwrap().leaf.to_string(), journal.head().leaf);
    checker
}

/// Waits until the store has so many records.
async fn stored(journal: &Journal, records: u64) {
    let mut follow = journal.follow_stored();
    let enough = follow.wait_for(|size| *size >= records);
    let waited = tokio::time::timeout(Duration::from_secs(60), enough).await;
    assert!(waited.is_ok_and(|waited| waited.is_ok()), "the store never had {records} records");
}

async fn kinds(journal: &Journal) -> Vec<String> {
    let records = journal.records(0, usize::MAX).await.unwrap();
    records.iter().map(|body| cortex_audit::Envelope::parse(body).unwrap().kind).collect()
}

#[tokio::test]
async fn an_attempt_goes_from_intent_to_outcome_to_acknowledged_and_stays_known() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, found) = open(dir.path());
    assert!(found.is_empty());
    assert_eq!(journal.phase(&key("a")).unwrap(), Phase::Unknown);
    let guard = journal.intent(draft("a")).await.unwrap();
    assert_eq!(journal.phase(&key("a")).unwrap(), Phase::Known);
    assert_eq!(journal.intent(draft("a")).await.unwrap_err(), JournalError::Known);
    let receipt = journal.outcome(guard, exited()).await.unwrap();
    assert_eq!(receipt.report.outcome.as_ref().unwrap().journal_seq, receipt.seq);
    assert_eq!(receipt.report.fence, 7);
    let owed = Owed { seq: receipt.seq, report: receipt.report };
    assert_eq!(journal.owed().await.unwrap(), std::slice::from_ref(&owed));
    let incarnation = journal.incarnation().to_owned();
    drop(journal);

    let (journal, found) = open(dir.path());
    assert!(found.is_empty());
    assert_eq!((journal.incarnation(), journal.node()), (incarnation.as_str(), "n1"));
    assert_eq!(journal.owed().await.unwrap(), [owed]);
    journal.acked(&key("a")).await.unwrap();
    journal.acked(&key("a")).await.unwrap();
    journal.acked(&key("b")).await.unwrap();
    assert_eq!(journal.owed().await.unwrap(), []);
    assert_eq!(journal.phase(&key("a")).unwrap(), Phase::Done);
    assert_eq!(journal.intent(draft("a")).await.unwrap_err(), JournalError::Known);
    assert!(verified(&journal).await.open().is_empty());
}

#[tokio::test]
async fn an_intent_without_outcome_is_found_and_recorded_as_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let guard = journal.intent(draft("a")).await.unwrap();
    let (seq, leaf) = (guard.seq, guard.leaf);
    crash(journal, vec![guard]);

    let (journal, mut found) = open(dir.path());
    let expected = OpenIntent { key: key("a"), fence: 7, seq, leaf, rebooted: false };
    assert_eq!(found, [expected]);
    let what = Found { rebooted: false, orphans: 2, survivors: 0 };
    let outcome = Outcome::without_run(what.ending());
    journal.recover(found.remove(0), &what, outcome).await.unwrap();
    assert_eq!(kinds(&journal).await, ["genesis", "intent", "recovery", "outcome"]);
    assert_eq!(journal.owed().await.unwrap().len(), 1);
    drop(journal);
    assert!(open(dir.path()).1.is_empty());
}

#[tokio::test]
async fn a_refusal_is_an_entry_and_a_report_and_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let receipt = journal.refuse(refusal("a")).await.unwrap();
    assert_eq!(journal.owed().await.unwrap()[0].report, receipt.report);
    assert_eq!(journal.refuse(refusal("a")).await.unwrap_err(), JournalError::Known);
    assert_eq!(journal.intent(draft("a")).await.unwrap_err(), JournalError::Known);
    journal.acked(&key("a")).await.unwrap();
    assert_eq!(journal.phase(&key("a")).unwrap(), Phase::Done);
    verified(&journal).await;
}

#[tokio::test]
async fn many_at_once_share_transactions_and_form_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.session_open("s1", "p").unwrap();
    journal.begin().await.unwrap();
    let runs = (0..300).map(|n| {
        let journal = journal.clone();
        tokio::spawn(async move {
            let guard = journal.intent(draft(&format!("t{n}"))).await.unwrap();
            journal.outcome(guard, exited()).await.unwrap();
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
    journal.session_close("s1", true).await.unwrap();
    assert_eq!(verified(&journal).await.head().unwrap().size, 1 + 1 + 600 + 1);
    drop(journal);
    let (journal, _) = open(dir.path());
    journal.session_open("s2", "p").unwrap();
    journal.begin().await.unwrap();
    let last = journal.records(603, 1).await.unwrap().remove(0);
    let entry = cortex_audit::Envelope::parse(&last).unwrap();
    assert_eq!(entry.data.get("clean"), Some(&cortex_audit::Value::Bool(true)));
}

#[tokio::test]
async fn what_is_announced_is_written_before_the_next_record_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let loaded = |trigger: &str| cortex_audit::record::Config {
        what: trigger.to_owned(),
        old: None,
        new: None,
    };
    journal.session_open("s1", "p").unwrap();
    journal.announce(loaded("start")).unwrap();
    journal.acked(&key("nothing")).await.unwrap();
    journal.flush().await.unwrap();
    // A copy that only asks whether it is the newest has signed nothing.
    assert_eq!(kinds(&journal).await, ["genesis"]);
    let guard = journal.intent(draft("a")).await.unwrap();
    assert_eq!(kinds(&journal).await, ["genesis", "session.open", "config", "intent"]);
    journal.outcome(guard, exited()).await.unwrap();
    drop(journal);
    let (journal, _) = open(dir.path());
    journal.session_open("never asked", "p").unwrap();
    drop(journal);
    let (journal, _) = open(dir.path());
    journal.session_open("s2", "p").unwrap();
    journal.begin().await.unwrap();
    journal.begin().await.unwrap();
    assert_eq!(kinds(&journal).await[5..], ["session.open"]);
    // Any number may be announced; too many do not wait.
    (0..20).for_each(|n| journal.announce(loaded(&n.to_string())).unwrap());
    journal.begin().await.unwrap();
    assert_eq!(kinds(&journal).await.len(), 6 + 20);
    verified(&journal).await;
}

#[tokio::test]
async fn command_lines_stand_in_the_entry_only_as_commitments() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let guard = journal.intent(draft("a")).await.unwrap();
    let body = journal.records(guard.seq(), 1).await.unwrap().remove(0);
    let text = String::from_utf8(body.clone()).unwrap();
    assert!(!text.contains(sample::SECRET));
    let entry = cortex_audit::Envelope::parse(&body).unwrap();
    let argv = entry.data.get("exec").unwrap().get("argv").unwrap();
    let commitment = cortex_audit::Commitment::from_value(argv).unwrap();
    let openings = journal.0.shared.read(|read| tables::openings(read, 1..2)).unwrap();
    let openings = openings.into_iter().map(|(_, text)| cortex_audit::Opening::from_stored(text));
    let opening = openings.into_iter().find(|one| one.commitment() == commitment).unwrap();
    assert_eq!(opening.commitment(), commitment);
    let (name, value) = opening.reveal().unwrap();
    let words = ["true", sample::SECRET].map(cortex_audit::Value::from);
    assert_eq!((name.as_str(), value), ("argv", cortex_audit::Value::List(words.to_vec())));
    drop(journal.outcome(guard, exited()).await.unwrap());
}

#[tokio::test]
async fn a_guard_that_is_dropped_records_that_nobody_knows_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    drop(journal.intent(draft("a")).await.unwrap());
    let body = journal.records(2, 1).await.unwrap().remove(0);
    let record = cortex_audit::Envelope::parse(&body).unwrap();
    assert_eq!(record.data.get("status").unwrap().as_text(), Some("unknown"));
    assert_eq!(journal.owed().await.unwrap().len(), 1);
    drop(journal);
    assert!(open(dir.path()).1.is_empty());
}

#[tokio::test]
async fn the_same_attempt_twice_is_refused_and_the_refusal_is_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let guard = journal.intent(draft("a")).await.unwrap();
    assert_eq!(journal.intent(draft("a")).await.unwrap_err(), JournalError::Known);
    journal.outcome(guard, exited()).await.unwrap();
    assert_eq!(kinds(&journal).await, ["genesis", "intent", "refusal", "outcome"]);
    let body = journal.records(2, 1).await.unwrap().remove(0);
    let record = cortex_audit::Envelope::parse(&body).unwrap();
    assert_eq!(record.data.get("code").unwrap().as_text(), Some("CX-1408"));
    // The refusal has changed nothing for the attempt itself.
    assert_eq!(journal.owed().await.unwrap()[0].seq, 3);
    drop(journal);
    let (journal, _) = open(dir.path());
    assert_eq!(journal.phase(&key("a")).unwrap(), Phase::Known);
}

#[tokio::test]
async fn a_silent_journal_gives_signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { heartbeat: Duration::from_millis(20), ..Settings::default() };
    let (journal, _) = Journal::open(dir.path(), &who(), settings).unwrap();
    stored(&journal, 4).await;
    assert_eq!(kinds(&journal).await[1..4], ["heartbeat"; 3]);
}

#[tokio::test]
async fn without_space_intents_are_refused_and_what_runs_is_still_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let guard = journal.intent(draft("a")).await.unwrap();
    crash(journal, vec![guard]);
    let settings = Settings { reserve: u64::MAX, ..Settings::default() };
    let (journal, mut found) = Journal::open(dir.path(), &who(), settings).unwrap();
    let refused = journal.intent(draft("b")).await.unwrap_err();
    assert!(matches!(refused, JournalError::Full { .. }), "{refused:?}");
    assert_eq!(refused.to_fault().code, cortex_model::Code::NodeDiskLow);
    assert_eq!(journal.phase(&key("b")).unwrap(), Phase::Unknown);
    let what = Found { rebooted: false, orphans: 0, survivors: 0 };
    journal.recover(found.remove(0), &what, exited()).await.unwrap();
    assert_eq!(kinds(&journal).await[2..], ["refusal", "recovery", "outcome"]);
}

#[tokio::test]
async fn a_deleted_or_replaced_file_stops_work_before_anything_starts() {
    for name in files::NAMES {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(dir.path());
        let guard = journal.intent(draft("a")).await.unwrap();
        let path = dir.path().join(name);
        std::fs::copy(&path, dir.path().join("copy")).unwrap();
        std::fs::rename(dir.path().join("copy"), &path).unwrap();
        let refused = journal.intent(draft("b")).await.unwrap_err();
        assert_eq!(refused.to_fault().code, cortex_model::Code::JournalUnlinked, "{name}");
        assert!(refused.to_string().contains(name), "{refused}");
        assert!(journal.blocked().is_some());
        // What runs already is recorded all the same, as well as can be.
        journal.outcome(guard, exited()).await.unwrap();
    }
}

fn note_of(journal: &Journal) -> SignedNote {
    let note = journal.0.shared.read(|read| tables::meta(read, "head")).unwrap().unwrap();
    SignedNote::parse(note.as_bytes()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_journal_below_the_floor_or_beside_it_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (here, clone) = (dir.path().join("here"), dir.path().join("clone"));
    let (journal, _) = open_at(&here);
    journal.session_open("s1", "p").unwrap();
    journal.begin().await.unwrap();
    drop(journal);
    copy(&here, &clone);
    let (journal, _) = open_at(&here);
    let guard = journal.intent(draft("a")).await.unwrap();
    journal.outcome(guard, exited()).await.unwrap();
    journal.flush().await.unwrap();
    let floor = note_of(&journal);
    // The floor is this journal's own past: work goes on.
    let with_floor = |task: &str| IntentDraft { floor: Some(floor.clone()), ..draft(task) };
    let guard = journal.intent(with_floor("b")).await.unwrap();
    journal.outcome(guard, exited()).await.unwrap();
    drop(journal);
    for ahead in [false, true] {
        let place = dir.path().join(format!("clone-{ahead}"));
        copy(&clone, &place);
        let (journal, _) = open_at(&place);
        if ahead {
            // Longer than the floor, with other records.
            for task in ["x", "y", "z"] {
                let guard = journal.intent(draft(task)).await.unwrap();
                journal.outcome(guard, exited()).await.unwrap();
            }
            journal.flush().await.unwrap();
        }
        let refused = journal.intent(with_floor("c")).await.unwrap_err();
        assert_eq!(refused.to_fault().code, cortex_model::Code::JournalFloor, "{refused}");
        assert_eq!(kinds(&journal).await.last().unwrap(), "refusal");
        let code = journal.blocked().unwrap().to_fault().code;
        let expected = [cortex_model::Code::JournalRolledBack, cortex_model::Code::JournalForked];
        assert_eq!(code, expected[usize::from(ahead)]);
        assert!(journal.intent(draft("d")).await.is_err(), "it has stopped for good");
    }
}

fn open_at(dir: &Path) -> (Journal, Vec<OpenIntent>) {
    std::fs::create_dir_all(dir).unwrap();
    open(dir)
}

#[tokio::test]
async fn the_log_goes_on_through_many_ahead_files() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let payload = |n: u32| cortex_audit::record::Config {
        what: format!("{n} {}", "x".repeat(50_000)),
        old: None,
        new: None,
    };
    for round in 0..3 {
        for n in 0..100 {
            journal.record(payload(n), Vec::new()).await.unwrap();
        }
        assert_eq!(verified(&journal).await.head().unwrap().size, 1 + (round + 1) * 100);
        drop(journal);
        journal = open(dir.path()).0;
    }
}

#[tokio::test]
async fn an_attempt_is_known_while_the_store_takes_it_over() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let journal = Arc::new(journal);
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Somebody asks all the time, so that the store is read as it was before each step.
    let asking = std::thread::spawn({
        let (journal, over) = (journal.clone(), over.clone());
        move || {
            let mut asked = 0_u64;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(journal.phase(&key("never")).unwrap(), Phase::Unknown);
                asked += 1;
            }
            asked
        }
    });
    for n in 0..200 {
        let key = key(&format!("t{n}"));
        let guard = journal.intent(draft(&format!("t{n}"))).await.unwrap();
        // Now it stands in the store alone.
        journal.flush().await.unwrap();
        assert_eq!(journal.phase(&key).unwrap(), Phase::Known, "{n}");
        journal.outcome(guard, exited()).await.unwrap();
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(asking.join().unwrap() > 200);
}

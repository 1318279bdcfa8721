//! The journal against a real file: durability, one writer, recovery, damage, and its refusals.

use super::tables::{META, RECORDS};
use super::*;
use cortex_agent_core::plan::FileId;
use cortex_agent_core::recovery::Found;
use cortex_agent_core::{Facts, Policy, Program, Request, decide};
use cortex_audit::ChainChecker;
use cortex_model::task::ShellAction;
use cortex_model::{Action, Ending, TaskId, TaskKey, Workspace};
use redb::{Builder, ConcurrencyMode, ReadableTable};
use std::path::PathBuf;

fn who() -> Identity {
    let text = |text: &str| text.to_owned();
    Identity { node: text("n1"), workspace: text("default"), agent: text("0.1.0") }
}

fn key(task: &str) -> AttemptKey {
    let task = TaskId::parse(task).unwrap();
    AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 1 }
}

fn draft(task: &str) -> IntentDraft {
    let policy = Policy::parse("version = 0\n[shell]\nallow = [\"/bin/ls\"]", "p".into()).unwrap();
    let facts = Facts {
        program: Ok(Program { path: "/bin/ls".into(), id: FileId { dev: 1, ino: 2 } }),
        cwd: Ok(PathBuf::from("/")),
        home: "/root".into(),
        tmpdir: "/tmp".into(),
        agent: "i".into(),
    };
    let argv = vec![b"ls".to_vec(), b"secret-argument".to_vec()];
    let shell = ShellAction { argv, cwd: String::new(), env: vec![], stdin: b"in".to_vec() };
    let (key, action) = (key(task), Action::Shell(shell));
    let request = Request { key: &key, fence: 7, action: &action, timeout_ms: 1, output_limit: 1 };
    let decision = decide(&policy, &facts, &request);
    IntentDraft {
        confined: cortex_audit::record::Sandbox { level: "none".into(), unenforced: vec![] },
        fence: 7,
        actor: None,
        rule: decision.rule.clone(),
        policy: policy.digest().into(),
        plan: Arc::new(decision.plan.unwrap()),
        key,
    }
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
    }
}

fn exited() -> Outcome {
    Outcome::without_run(Ending::Exited { code: 3 })
}

fn open(dir: &Path) -> (Journal, Vec<OpenIntent>) {
    Journal::open(dir, &who()).unwrap()
}

fn verified(journal: &Journal) -> ChainChecker {
    let mut checker = ChainChecker::new();
    for body in journal.entries(0, usize::MAX).unwrap() {
        checker.push(&body).unwrap();
    }
    assert_eq!(checker.head().unwrap().size, journal.head().size);
    assert_eq!(checker.head().unwrap().leaf.to_string(), journal.head().leaf);
    checker
}

fn raw(dir: &Path) -> redb::Database {
    Builder::new()
        .set_concurrency_mode(ConcurrencyMode::SingleWriter)
        .open(dir.join(open::FILE))
        .unwrap()
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
    assert_eq!(journal.owed().unwrap(), std::slice::from_ref(&owed));
    let incarnation = journal.incarnation().to_owned();
    drop(journal);

    let (journal, found) = open(dir.path());
    assert!(found.is_empty());
    assert_eq!((journal.incarnation(), journal.node()), (incarnation.as_str(), "n1"));
    assert_eq!(journal.owed().unwrap(), [owed]);
    journal.acked(&key("a")).await.unwrap();
    journal.acked(&key("a")).await.unwrap();
    journal.acked(&key("b")).await.unwrap();
    assert_eq!(journal.owed().unwrap(), []);
    assert_eq!(journal.phase(&key("a")).unwrap(), Phase::Done);
    assert_eq!(journal.intent(draft("a")).await.unwrap_err(), JournalError::Known);
    assert!(verified(&journal).open().is_empty());
}

#[tokio::test]
async fn an_intent_without_outcome_is_found_and_recorded_as_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let guard = journal.intent(draft("a")).await.unwrap();
    let (seq, leaf) = (guard.seq, guard.leaf);
    drop((guard, journal));

    let (journal, mut found) = open(dir.path());
    let expected = OpenIntent { key: key("a"), fence: 7, seq, leaf, rebooted: false };
    assert_eq!(found, [expected]);
    let what = Found { rebooted: false, orphans: 2, survivors: 0 };
    let outcome = Outcome::without_run(what.ending());
    journal.recover(found.remove(0), &what, outcome).await.unwrap();
    let kinds: Vec<String> = (journal.entries(0, 9).unwrap().iter())
        .map(|body| cortex_audit::Envelope::parse(body).unwrap().kind)
        .collect();
    assert_eq!(kinds, ["genesis", "intent", "recovery", "outcome"]);
    assert_eq!(journal.owed().unwrap().len(), 1);
    drop(journal);
    assert!(open(dir.path()).1.is_empty());
}

#[tokio::test]
async fn a_refusal_is_an_entry_and_a_report_and_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let receipt = journal.refuse(refusal("a")).await.unwrap();
    assert_eq!(journal.owed().unwrap()[0].report, receipt.report);
    assert_eq!(journal.refuse(refusal("a")).await.unwrap_err(), JournalError::Known);
    assert_eq!(journal.intent(draft("a")).await.unwrap_err(), JournalError::Known);
    journal.acked(&key("a")).await.unwrap();
    assert_eq!(journal.phase(&key("a")).unwrap(), Phase::Done);
    verified(&journal);
}

#[tokio::test]
async fn many_at_once_share_transactions_and_form_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.session_open("s1", "p").await.unwrap();
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
    assert_eq!(verified(&journal).head().unwrap().size, 1 + 1 + 600 + 1);
    drop(journal);
    let (journal, _) = open(dir.path());
    journal.session_open("s2", "p").await.unwrap();
    let last = journal.entries(603, 1).unwrap().remove(0);
    let entry = cortex_audit::Envelope::parse(&last).unwrap();
    assert_eq!(entry.data.get("clean"), Some(&cortex_audit::Value::Bool(true)));
}

#[tokio::test]
async fn command_lines_stand_in_the_entry_only_as_commitments() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let guard = journal.intent(draft("a")).await.unwrap();
    let body = journal.entries(guard.seq(), 1).unwrap().remove(0);
    let text = String::from_utf8(body.clone()).unwrap();
    assert!(!text.contains("secret-argument"));
    let entry = cortex_audit::Envelope::parse(&body).unwrap();
    let argv = entry.data.get("exec").unwrap().get("argv").unwrap();
    let commitment = cortex_audit::Commitment::from_value(argv).unwrap();
    let read = redb::ReadableDatabase::begin_read(&*journal.0.database).unwrap();
    let openings = read.open_table(tables::OPENINGS).unwrap();
    let stored = openings.get(commitment.as_str()).unwrap().unwrap();
    let opening = cortex_audit::Opening::from_stored(stored.value());
    assert_eq!(opening.commitment(), commitment);
    let (name, value) = opening.reveal().unwrap();
    let words = ["ls", "secret-argument"].map(cortex_audit::Value::from);
    assert_eq!((name.as_str(), value), ("argv", cortex_audit::Value::List(words.to_vec())));
    drop(journal.outcome(guard, exited()).await.unwrap());
}

#[tokio::test]
async fn a_second_agent_a_newer_format_and_damage_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    assert!(matches!(Journal::open(dir.path(), &who()), Err(OpenError::Locked(_))));
    drop(journal.intent(draft("a")).await.unwrap());
    drop(journal.intent(draft("b")).await.unwrap());
    drop(journal);

    let change = |change: &dyn Fn(&redb::WriteTransaction)| {
        let database = raw(dir.path());
        let write = database.begin_write().unwrap();
        change(&write);
        write.commit().unwrap();
    };
    let refused = || match Journal::open(dir.path(), &who()) {
        Err(err) => err,
        Ok(_) => panic!("it was opened"),
    };
    let set_format = |write: &redb::WriteTransaction, format: &str| {
        write.open_table(META).unwrap().insert("format", format).unwrap();
    };
    change(&|write| set_format(write, "cortex-audit/2"));
    assert!(matches!(refused(), OpenError::Newer { found, .. } if found == "cortex-audit/2"));
    change(&|write| {
        set_format(write, cortex_audit::FORMAT);
        let mut records = write.open_table(RECORDS).unwrap();
        let mut body = records.get(1).unwrap().unwrap().value().to_vec();
        let at = body.windows(6).position(|part| part == b"intent").unwrap();
        body[at] = b'I';
        records.insert(1, body.as_slice()).unwrap();
    });
    assert!(refused().to_string().contains("entry 2: does not follow"), "{}", refused());
    change(&|write| {
        write.open_table(RECORDS).unwrap().remove(1).unwrap();
    });
    assert!(matches!(refused(), OpenError::Corrupt { .. }));
    std::fs::write(dir.path().join(open::FILE), b"something else entirely").unwrap();
    assert_eq!(refused().to_fault().code, cortex_model::Code::DataDirCorrupt);
}

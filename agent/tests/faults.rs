//! Every file system call of a small journal, from its beginning on, fails once with EIO and once kills the process.
//! Afterwards the journal opens, its chain holds, and everything that was said to be durable is there: above all an
//! intent for each process that was started. The faults are injected by strace into this test's own program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends where something else comes than it waits for")]

#[path = "support/draft.rs"]
mod sample;

use cortex_agent::journal::{Identity, IntentDraft, Journal, OpenError, Settings};
use cortex_model::{Ending, Outcome};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the scenario works; set by the test that traces it.
const DIR: &str = "CORTEX_JOURNAL_FAULTS_DIR";

/// Calls that change something, or make it durable.
const CALLS: &str = "openat,pwrite64,write,fdatasync,fsync,ftruncate,mkdir,rename,fchmod";

fn who() -> Identity {
    let [domain, node, workspace, agent] = ["d", "n1", "default", "0"].map(str::to_owned);
    Identity { domain, node, workspace, agent }
}

fn open(dir: &Path) -> Result<Journal, OpenError> {
    Journal::open(&dir.join("journal"), &who(), Settings::default()).map(|(journal, _)| journal)
}

fn draft(task: &str) -> IntentDraft {
    sample::intent(task).unwrap()
}

/// Notes outside of the journal what was said to be durable.
fn say(dir: &Path, line: &str) {
    let mut options = std::fs::File::options();
    let mut file = options.create(true).append(true).open(dir.join("said")).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

/// About twenty records, in two lives of the journal. Ends early when the journal says that it is blocked.
#[tokio::test]
async fn scenario() {
    let own = tempfile::tempdir().unwrap();
    let given = std::env::var_os(DIR).map(PathBuf::from);
    let dir = given.as_deref().unwrap_or(own.path());
    let mut records = 0;
    for life in 0..2 {
        let Ok(journal) = open(dir) else { return };
        if journal.session_open(&format!("s{life}"), "p").is_err() || journal.begin().await.is_err()
        {
            return;
        }
        for n in 0..4 {
            let task = format!("t{life}-{n}");
            let Ok(guard) = journal.intent(draft(&task)).await else { return };
            say(dir, &format!("{} intent {task}\n", guard.seq()));
            // This is where a process would be started.
            let outcome = Outcome::without_run(Ending::Exited { code: 0 });
            let Ok(receipt) = journal.outcome(guard, outcome).await else { return };
            say(dir, &format!("{} outcome {task}\n", receipt.seq));
            if n == 1 && journal.flush().await.is_err() {
                return;
            }
        }
        if journal.session_close(&format!("s{life}"), true).await.is_err() {
            return;
        }
        records = journal.size();
    }
    assert_eq!(records, 1 + 2 * (1 + 8 + 1));
}

/// Runs the scenario under strace with these further arguments.
fn trace(dir: &Path, log: &Path, arguments: &[String]) {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "--seccomp-bpf", "-o"]).arg(log);
    for place in ["journal", "journal.part", "journal.new"] {
        let place = dir.join(place);
        command.arg("-P").arg(&place);
        for name in ["log.redb", "ahead.a", "ahead.b", "audit.key"] {
            command.arg("-P").arg(place.join(name));
        }
    }
    command.arg("-e").arg(format!("trace={CALLS}")).args(arguments);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "scenario", "--nocapture"]).env(DIR, dir);
    let done = command.output().expect("strace is there; cargo xtask setup installs it");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!said.contains("strace:"), "{said}");
}

/// How often each thread makes each of the calls: the injection counts by thread.
fn calls() -> BTreeMap<String, usize> {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("trace");
    trace(dir.path(), &log, &[]);
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim().split_once('(') else { continue };
        if CALLS.split(',').any(|known| known == name) {
            *counts.entry((thread.to_owned(), name.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, name), count) in counts {
        let known: &mut usize = most.entry(name).or_default();
        *known = count.max(*known);
    }
    most
}

/// What the scenario left must be whole.
async fn check(dir: &Path, what: &str) {
    let journal = open(dir).unwrap_or_else(|err| panic!("{what}: {err}"));
    let mut checker = cortex_audit::ChainChecker::new();
    let mut cmds = Vec::new();
    for body in journal.records(0, usize::MAX).await.unwrap() {
        let record = checker.push(&body).unwrap_or_else(|err| panic!("{what}: {err}"));
        let cmd = record.data.get("cmd").and_then(|cmd| cmd.as_text().map(str::to_owned));
        cmds.push((record.kind, cmd.unwrap_or_default()));
    }
    let said = std::fs::read_to_string(dir.join("said")).unwrap_or_default();
    for line in said.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let seq: usize = words[0].parse().unwrap();
        let expected = (words[1].to_owned(), format!("{}/1", words[2]));
        assert_eq!(cmds.get(seq), Some(&expected), "{what}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_any_file_system_call_loses_nothing_that_was_said_to_be_durable() {
    let counts = calls();
    println!("{counts:?}");
    for needed in ["openat", "pwrite64", "fdatasync", "rename"] {
        assert!(counts.contains_key(needed), "{needed} was never called: {counts:?}");
    }
    let mut cases = Vec::new();
    for (name, most) in &counts {
        for when in 1..=*most {
            for fault in ["error=EIO", "signal=SIGKILL"] {
                cases.push(format!("inject={name}:{fault}:when={when}"));
            }
        }
    }
    println!("{} cases", cases.len());
    assert!(cases.len() > 60);
    let (cases, next) = (Arc::new(cases), Arc::new(AtomicUsize::new(0)));
    let workers = (0..4).map(|_| {
        let (cases, next) = (Arc::clone(&cases), Arc::clone(&next));
        tokio::spawn(async move {
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let dir = tempfile::tempdir().unwrap();
                let (place, arguments) = (dir.path().to_owned(), ["-e".to_owned(), case.clone()]);
                let run = move || trace(&place, &place.join("trace"), &arguments);
                tokio::task::spawn_blocking(run).await.unwrap();
                check(dir.path(), case).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

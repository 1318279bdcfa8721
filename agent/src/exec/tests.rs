//! Real programs, run through a real journal.

use super::*;
use crate::journal::{Identity, IntentDraft, Journal};
use crate::processes::{Belongs, find};
use crate::spool::SpoolDir;
use cortex_agent_core::{Facts, Policy, Program, Request, decide};
use cortex_model::task::{ShellAction, Stream};
use cortex_model::{Action, AttemptKey, TaskId, TaskKey, Workspace};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

const MARK: &str = "testincarnation.testsession";

struct Bench {
    dir: tempfile::TempDir,
    journal: Journal,
    spools: Arc<SpoolDir>,
}

fn key(task: &str) -> AttemptKey {
    let task = TaskId::parse(task).unwrap();
    AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 1 }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = |text: &str| text.to_owned();
        let [domain, node, workspace, agent] = ["d", "n", "default", "0"].map(text);
        let who = Identity { domain, node, workspace, agent };
        let (journal, _) =
            Journal::open(dir.path(), &who, crate::journal::Settings::default()).unwrap();
        let spools = SpoolDir::open(&dir.path().join("spool"), u64::MAX, 0).unwrap();
        Self { dir, journal, spools }
    }

    /// Runs `sh -c script` as task `task`.
    async fn run(&self, task: &str, script: &str, stdin: &[u8]) -> (Outcome, Arc<Spool>) {
        let (keep, stop) = oneshot::channel();
        let done = self.run_until(task, script, stdin, stop).await;
        drop(keep);
        done
    }

    async fn run_until(
        &self,
        task: &str,
        script: &str,
        stdin: &[u8],
        stop: oneshot::Receiver<Stop>,
    ) -> (Outcome, Arc<Spool>) {
        let sh = crate::facts::resolve_program(b"sh").unwrap();
        let argv = [&b"sh"[..], b"-c", script.as_bytes()].map(<[u8]>::to_vec).to_vec();
        let shell = ShellAction { argv, stdin: stdin.to_vec(), ..ShellAction::default() };
        self.launch(task, sh, shell, stop).await
    }

    async fn launch(
        &self,
        task: &str,
        program: Program,
        shell: ShellAction,
        stop: oneshot::Receiver<Stop>,
    ) -> (Outcome, Arc<Spool>) {
        let text = format!("version = 0\n[shell]\nallow = [{:?}]", program.path);
        let policy = Policy::parse(&text, String::new()).unwrap();
        let facts = Facts {
            programs: [(String::from_utf8_lossy(&shell.argv[0]).into_owned(), Ok(program))].into(),
            cwd: Some(Ok(self.dir.path().to_owned())),
            home: "/".into(),
            tmpdir: "/tmp".into(),
            agent: MARK.into(),
            ..Facts::default()
        };
        let (key, action) = (key(task), Action::Shell(shell));
        let request = Request {
            key: &key,
            fence: 7,
            action: &action,
            timeout_ms: 60,
            output_limit: u64::MAX,
            consent: None,
        };
        let decision = decide(&policy, &facts, &request);
        let plan = Arc::new(decision.plan.unwrap());
        let (rule, policy) = (decision.rule, String::new());
        let confined = cortex_audit::record::Sandbox { level: "none".into(), unenforced: vec![] };
        let draft = IntentDraft {
            key: key.clone(),
            fence: 7,
            actor: None,
            rule,
            policy,
            confined,
            plan,
            floor: None,
            approval: None,
        };
        let guard = self.journal.intent(draft).await.unwrap();
        let spool = self.spools.create(&key, u64::MAX);
        let (events, _) = mpsc::channel(1);
        let (spool_too, mark) = (Arc::clone(&spool), MARK.into());
        let surroundings = Surroundings {
            spool: spool_too,
            mark,
            guard: None,
            sandbox: None,
            stop,
            typing: None,
            events,
        };
        let (guard, outcome) = launch(guard, surroundings).await;
        self.journal.outcome(guard, outcome.clone()).await.unwrap();
        (outcome, spool)
    }
}

/// One stream in full: inside the outcome, or in the spool when the machine was slow.
fn text((outcome, spool): &(Outcome, Arc<Spool>), stream: Stream) -> String {
    let mut chunks = outcome.inline_output.clone();
    let mut offset = 0;
    while let Some(chunk) = spool.read(offset, 65_536).unwrap() {
        offset += chunk.data.len() as u64;
        chunks.push(chunk);
    }
    let chunks = chunks.iter().filter(|chunk| chunk.stream == stream);
    chunks.map(|chunk| String::from_utf8_lossy(&chunk.data).into_owned()).collect()
}

/// Waits until a file has content, which the program under test writes.
async fn appears(path: &Path) -> String {
    let wait = async {
        loop {
            match tokio::fs::read_to_string(path).await {
                Ok(text) if text.ends_with('\n') => return text,
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap()
}

#[tokio::test]
async fn streams_exit_codes_input_and_environment_are_the_programs_own() {
    let bench = Bench::new();
    let done = bench.run("a", "cat; echo err >&2; pwd; exit 7", b"input\n").await;
    assert_eq!(done.0.ending, Ending::Exited { code: 7 });
    assert_eq!(text(&done, Stream::Stdout), format!("input\n{}\n", bench.dir.path().display()));
    assert_eq!(text(&done, Stream::Stderr), "err\n");
    let lines = text(&bench.run("b", "env | sort", b"").await, Stream::Stdout);
    let names: Vec<&str> = lines.lines().filter_map(|line| line.split('=').next()).collect();
    let own = ["CORTEX_AGENT", "CORTEX_ATTEMPT", "CORTEX_FENCE", "CORTEX_TASK", "HOME", "LANG"];
    assert_eq!(names, [&own[..], &["PATH", "PWD", "TMPDIR"]].concat());
    let (outcome, _) = bench.run("c", "kill -9 $$", b"").await;
    assert_eq!(outcome.ending, Ending::Signaled { signal: 9 });
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_is_spawn_failed_and_nothing_ran() {
    let bench = Bench::new();
    let file = bench.dir.path().join("no-format");
    std::fs::write(&file, [0x7f, b'E', b'L', b'F', 0, 0]).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).unwrap();
    let program = crate::facts::resolve_program(file.as_os_str().as_bytes()).unwrap();
    let argv = vec![b"x".to_vec()];
    let shell = ShellAction { argv, ..ShellAction::default() };
    let (_keep, stop) = oneshot::channel();
    let (outcome, _) = bench.launch("a", program, shell, stop).await;
    let Ending::SpawnFailed(error) = outcome.ending else { panic!("{:?}", outcome.ending) };
    assert_eq!(error.code, "CX-0403");
    assert_eq!(outcome.started_at_ms, 0);
}

#[tokio::test]
async fn large_output_of_both_streams_is_complete() {
    let bench = Bench::new();
    let script = "i=0; while [ $i -lt 3000 ]; do echo out$i; echo err$i >&2; i=$((i+1)); done; \
                  head -c 3000000 /dev/zero";
    let (outcome, spool) = bench.run("a", script, b"").await;
    assert_eq!(outcome.ending, Ending::Exited { code: 0 });
    assert!(outcome.inline_output.is_empty());
    let lines = |word: &str| (0..3000).map(|n| format!("{word}{n}\n")).collect::<String>();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut offset = 0;
    while let Some(chunk) = spool.read(offset, 65_536).unwrap() {
        offset += chunk.data.len() as u64;
        match chunk.stream {
            Stream::Stdout => out.extend_from_slice(&chunk.data),
            Stream::Stderr => err.extend_from_slice(&chunk.data),
        }
    }
    let mut expected = lines("out").into_bytes();
    expected.resize(expected.len() + 3_000_000, 0);
    assert!(out == expected && err == lines("err").into_bytes());
    assert_eq!(outcome.output.total(), offset);
}

#[tokio::test]
async fn a_program_that_does_not_read_its_input_is_not_held_up() {
    let bench = Bench::new();
    let (outcome, _) = bench.run("a", "exit 3", &vec![b'x'; 1_000_000]).await;
    assert_eq!(outcome.ending, Ending::Exited { code: 3 });
}

#[tokio::test]
async fn a_stop_ends_the_whole_tree_also_what_left_the_group() {
    let bench = Bench::new();
    let ready = bench.dir.path().join("ready");
    let script = format!(
        "setsid sh -c 'sleep 1000 & echo x > {}; wait' & sleep 1000 & wait",
        ready.display()
    );
    let (stop, asked) = oneshot::channel();
    let run = bench.run_until("tree", &script, b"", asked);
    let cancel = async {
        appears(&ready).await;
        stop.send(Stop::Cancelled).unwrap();
    };
    let ((outcome, _), ()) = tokio::join!(run, cancel);
    assert_eq!(outcome.ending, Ending::Cancelled { never_started: false, survivors: 0 });
    let key = key("tree");
    assert_eq!(find(Belongs::Attempt { agent: MARK, key: &key, group: -1 }), []);
}

#[tokio::test]
async fn a_program_that_refuses_to_end_is_killed_and_called_timed_out() {
    let bench = Bench::new();
    let ready = bench.dir.path().join("ready");
    let script =
        format!("trap '' TERM; echo x > {}; while :; do sleep 1000; done", ready.display());
    let (stop, asked) = oneshot::channel();
    let run = bench.run_until("deaf", &script, b"", asked);
    let cancel = async {
        appears(&ready).await;
        stop.send(Stop::Timeout).unwrap();
    };
    let ((outcome, _), ()) = tokio::join!(run, cancel);
    assert_eq!(outcome.ending, Ending::Timeout { after_ms: 60 });
}

#[tokio::test]
async fn what_a_program_leaves_behind_does_not_hold_its_end_up_and_is_ended() {
    let bench = Bench::new();
    let done = bench.run("behind", "sleep 1000 & echo done", b"").await;
    assert_eq!(done.0.ending, Ending::Exited { code: 0 });
    assert_eq!(text(&done, Stream::Stdout), "done\n");
    let key = key("behind");
    assert_eq!(find(Belongs::Attempt { agent: MARK, key: &key, group: -1 }), []);
}

//! `cortex task submit`: one task, or a file of them (see `submit_file`). A submit always carries a
//! key, so that asking again after a lost answer never makes a second task.

use super::submit_file;
use crate::client::{Client, Target, required};
use crate::commands::Session;
use crate::error::CliError;
use crate::request::{Draft, TaskArgs};
use crate::{render, view};
use clap::Args;
use cortex_model::Code;
use cortex_model::proto as pb;
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a submit is repeated while the server cannot take it.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// After this long it is said what a submit waits for.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// A command tells it once, also when it submits many tasks.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Flags of `task submit`.
#[derive(Debug, Args)]
#[command(
    after_help = r#"Prints the id of each task. Of a file every line is checked before anything is submitted, and the same file may be
submitted again: lines that were accepted are recognised by their key.

A line of a task file is one JSON object with these fields, of which only argv (or script, or echo) is required:
  argv, script, secret_env, echo, require, node, key, cwd, env, stdin, timeout, deadline, node_lost_grace, priority,
  safe_to_repeat, retries, retry_on, labels, lock, lock_shared, lock_timeout      (bytes that are not UTF-8 as {"b64":"..."})

Examples:
  cortex task submit --require docker --label team=web -- docker build .
  cortex task submit -f tasks.jsonl
  echo '{"argv":["uname","-a"],"timeout":"90s","key":"u1"}' | cortex task submit -f -"#
)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    task: TaskArgs,
    /// Submit every line of this JSON-lines file; '-' is our own standard input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = [
        "argv", "script", "lines", "secret_env", "require", "node", "key", "cwd", "env", "stdin", "timeout", "deadline", "node_lost_grace",
        "priority", "safe_to_repeat", "retries", "retry_on", "label", "lock", "lock_shared", "lock_timeout",
    ])]
    file: Option<PathBuf>,
    /// With --file: a name for this submission; another name makes new tasks of the same lines
    #[arg(long, value_name = "NAME", requires = "file")]
    batch: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required_unless_present_any = ["file", "script", "lines"], value_name = "ARGV")]
    argv: Vec<OsString>,
}

/// A task that the server has accepted.
pub(crate) struct Submitted {
    pub(crate) task: Option<pb::Task>,
    /// False when it had it already.
    pub(crate) created: bool,
}

/// `--json` of one submitted task.
#[derive(Serialize)]
struct Line {
    created: bool,
    task: view::Task,
}

impl Submitted {
    /// Prints the task's id, or the whole answer.
    pub(crate) fn print(&self, json: bool) -> Result<(), CliError> {
        let task = required(self.task.as_ref())?;
        if json {
            return render::json(&Line { created: self.created, task: task.into() });
        }
        render::line(&task.task_id)?;
        if !self.created {
            render::note("this key and request were submitted before: it is the same task");
        }
        Ok(())
    }
}

/// Submits and prints the ids.
pub(crate) async fn run(session: &Session, args: SubmitArgs) -> Result<u8, CliError> {
    if let Some(file) = args.file {
        return submit_file::run(session, &file, args.batch.as_deref().unwrap_or_default()).await;
    }
    let draft = Draft::from_args(args.task, args.argv)?;
    let key = draft.key.clone();
    let spec = draft.spec()?;
    let done = submit(&session.target()?, spec, key, session.actor()?).await?;
    done.print(session.json())?;
    Ok(0)
}

/// Submits one task; makes a key when none is given.
///
/// # Errors
/// The server's, or `CX-0801` when there is none.
pub(crate) async fn submit(
    target: &Target,
    spec: pb::TaskSpec,
    key: Option<String>,
    actor: Option<pb::Actor>,
) -> Result<Submitted, CliError> {
    let client = target.connect().await?;
    let idempotency_key = key.unwrap_or_else(|| format!("cli-{}", uuid::Uuid::new_v4().simple()));
    let request = pb::SubmitTaskRequest { spec: Some(spec), idempotency_key, actor, wait_ms: 0 };
    patiently(target, client, request).await
}

/// Repeats a submit while that may help. The connection is made anew each time: a restarted server
/// may be elsewhere.
pub(super) async fn patiently(
    target: &Target,
    mut client: Client,
    request: pb::SubmitTaskRequest,
) -> Result<Submitted, CliError> {
    let begun = Instant::now();
    let until = begun + PATIENCE;
    let mut pause = PAUSE;
    loop {
        let asked = client.submit_task(request.clone());
        let answer =
            telling(begun + TELL_AFTER, "the server does not say yet that it is durable", asked);
        let error = match answer.await {
            Ok(r) => return Ok(Submitted { task: r.task, created: r.created }),
            Err(e) => e,
        };
        // Nobody makes room within seconds: a person is to be told at once.
        let full = error.is(Code::LogNearlyFull) || error.is(Code::DiskFull);
        if !error.retryable || full || Instant::now() + pause > until {
            return Err(error);
        }
        let paused = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64()));
        telling(begun + TELL_AFTER, &format!("{} {}", error.code, error.message), paused).await;
        pause = (pause * 2).min(Duration::from_secs(2));
        // While there is no server, the old connection's error stays the one to tell.
        if let Ok(again) = target.connect().await {
            client = again;
        }
    }
}

/// Does something, and says at a given time why it is not done yet.
async fn telling<T>(at: Instant, why: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep_until(at) => {}
    }
    if !TOLD.swap(true, Ordering::Relaxed) {
        let seconds = PATIENCE.as_secs();
        render::note(&format!("waiting for the task to be accepted, {seconds} s at most: {why}"));
    }
    work.await
}

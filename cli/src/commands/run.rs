//! `cortex run`: submits one command, shows its output as it is and ends with its exit code. It
//! never leaves a task behind in silence: whoever interrupts it learns how to find the task again.

use super::Session;
use super::task::submit::{Submitted, submit};
use crate::client::{Target, required};
use crate::error::CliError;
use crate::follow::{Follower, Show};
use crate::interrupts::Interrupts;
use crate::request::{Draft, TaskArgs};
use crate::terminal::{Attach, End};
use crate::{exit, render, terminal, view, words};
use clap::Args;
use cortex_model::Code;
use cortex_model::proto as pb;
use serde::Serialize;
use std::ffi::OsString;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;

const CANCEL_PAUSE: Duration = Duration::from_millis(500);

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Output goes to the matching stream as it is, and the exit code is the command's own. Cortex's codes: 123 outcome
not known, 124 timeout or expired, 125 error of Cortex, 126 denied, 127 program not found, 130 cancelled.
Ctrl-C cancels the task and waits for the proof; a second Ctrl-C leaves it.

Examples:
  cortex run -- uname -a
  cortex run --require os=linux --require 'python>=3.10' -- python3 -c 'print(1)'
  cortex run --key nightly-2026-11-23 --timeout 2h --retries 2 --retry-on exit -- make nightly
  cortex run --stdin notes.txt -- wc -w
  cortex run -c 'cd /srv && ls -l | head'
  cortex run --tty -- bash
  cortex run --detach --label team=web -- sh -c 'sleep 60'")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    task: TaskArgs,
    /// Print the task's id and leave; follow it with 'cortex task watch'
    #[arg(long)]
    detach: bool,
    /// Give the command a terminal, and this one's keys: Ctrl-] d leaves it running, Ctrl-] c cancels it
    #[arg(long, conflicts_with = "stdin")]
    tty: bool,
    /// The program and its arguments
    #[arg(last = true, required_unless_present_any = ["script", "lines"], value_name = "ARGV")]
    argv: Vec<OsString>,
}

/// The first and last line of `run --json`; the lines between are events and output.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Submitted { created: bool, task: Box<view::Task> },
    Task { task: Box<view::Task> },
}

/// Runs the command.
pub(crate) async fn run(session: &Session, args: RunArgs) -> Result<u8, CliError> {
    let terminal = args.tty.then(|| terminal(session, args.detach)).transpose()?;
    let mut draft = Draft::from_args(args.task, args.argv)?;
    draft.terminal = terminal;
    let key = draft.key.clone();
    let spec = draft.spec()?;
    let (target, actor) = (session.target()?, session.actor()?);
    if args.detach {
        let done = submit(&target, spec, key, actor).await?;
        done.print(session.json())?;
        return Ok(0);
    }
    let mut interrupts = Interrupts::listen()?;
    let (known, id) = watch::channel(None);
    let work = async {
        let done = submit(&target, spec, key, actor.clone()).await?;
        let task = required(done.task.as_ref())?;
        known.send_replace(Some(task.task_id.clone()));
        if args.tty {
            return attend(session, &target, task, actor.clone()).await;
        }
        follow(session, &target, &done).await
    };
    let cancel =
        cancel_when_known(&target, id.clone(), actor.as_ref(), "interrupted by its author");
    let (mut work, mut cancel) = (pin!(work), pin!(cancel));
    let (mut interrupted, mut cancelled) = (false, false);
    loop {
        tokio::select! {
            end = &mut work => match end {
                Err(e) if e.broken_pipe => return proof_after_pipe(&target, &id, actor.as_ref()).await,
                end => return end,
            },
            refused = &mut cancel, if interrupted && !cancelled => {
                cancelled = true;
                if let Err(e) = refused {
                    render::note(&format!("{}: {}", e.code, e.message));
                }
            }
            // Whoever sits at a terminal is heard there.
            () = interrupts.next(), if !args.tty || id.borrow().is_none() => {
                if interrupted {
                    return Ok(left(id.borrow().as_deref()));
                }
                interrupted = true;
                render::note("cancelling; once more leaves the task as it is");
            }
        }
    }
}

/// The terminal of the command; when we type it must not be asked for in vain.
fn terminal(session: &Session, detach: bool) -> Result<pb::Terminal, CliError> {
    if session.json() && !detach {
        return Err(CliError::new(Code::Usage, "a terminal cannot be shown as JSON")
            .with_hint("add --detach, or leave --json out"));
    }
    terminal::wanted(!detach)
}

/// Types and shows until the task is over or somebody leaves it; `task attach` does the same.
async fn attend(
    session: &Session,
    target: &Target,
    task: &pb::Task,
    actor: Option<pb::Actor>,
) -> Result<u8, CliError> {
    let follower = Follower::new(target.clone(), &task.task_id, Show::Raw);
    sit_at(session, target, follower, &task.task_id, actor, false).await
}

/// The same with a follower of the caller's choice. `anew`: what was typed before counts for nothing.
pub(crate) async fn sit_at(
    session: &Session,
    target: &Target,
    mut follower: Follower,
    id: &str,
    actor: Option<pb::Actor>,
    anew: bool,
) -> Result<u8, CliError> {
    let (_, known) = watch::channel(Some(id.to_owned()));
    let why = "cancelled at its terminal";
    let cancel = cancel_when_known(target, known, actor.as_ref(), why);
    let live = follower.live();
    let (target, task_id) = (target.clone(), id.to_owned());
    let attach = Attach { target, task_id, actor: actor.clone(), anew };
    match terminal::attend(attach, &mut follower, live, cancel).await? {
        End::Over(task) => finish(session, &task),
        End::Detached => {
            render::note(&left_running(id));
            Ok(0)
        }
        End::Gone => {
            render::note(&left_running(id));
            Ok(exit::CORTEX)
        }
    }
}

fn left_running(id: &str) -> String {
    format!("left task {id} as it is; come back: cortex task attach {id}")
}

async fn follow(session: &Session, target: &Target, done: &Submitted) -> Result<u8, CliError> {
    let task = required(done.task.as_ref())?;
    let show = if session.json() { Show::Json } else { Show::Raw };
    if session.json() {
        let task = Box::new(task.into());
        render::json(&Line::Submitted { created: done.created, task })?;
    }
    finish(session, &Follower::new(target.clone(), &task.task_id, show).until_over().await?)
}

/// Says how a task ended and gives the exit code; `task watch` ends the same way.
pub(crate) fn finish(session: &Session, task: &pb::Task) -> Result<u8, CliError> {
    let code = exit::of_task(task);
    if session.json() {
        render::json(&Line::Task { task: Box::new(task.into()) })?;
        return Ok(code);
    }
    for note in last_words(task) {
        render::note(&note);
    }
    Ok(code)
}

/// What stderr says at the end. A program that ended by itself needs no words.
fn last_words(task: &pb::Task) -> Vec<String> {
    use pb::ending::Kind;
    let id = &task.task_id;
    let kind = task.outcome.as_ref().and_then(|o| o.ending.as_ref()?.kind.as_ref());
    let mut notes = Vec::new();
    let output = task.outcome.as_ref().and_then(|o| o.output.as_ref());
    notes.extend(output.and_then(words::gap));
    notes.extend(words::repositories(task.outcome.as_ref()));
    let lost = output.map_or(0, |o| o.lost_bytes);
    if lost > 0 {
        notes.push(format!(
            "the last {lost} bytes of output were lost on the node before they were delivered"
        ));
    }
    if task.state == i32::from(pb::TaskState::Indeterminate) {
        let evidence = if task.evidence.is_empty() {
            words::ending(task.outcome.as_ref())
        } else {
            words::safe(&task.evidence)
        };
        notes.push(format!("how task {id} ended is not known: {evidence}"));
        notes.push(words::how_to_resolve(task));
        return notes;
    }
    let hint = match kind {
        Some(Kind::SpawnFailed(f)) => f.error.as_ref(),
        Some(Kind::Denied(d)) => d.error.as_ref(),
        Some(Kind::Exited(_)) | None => return notes,
        Some(
            Kind::Signaled(_)
            | Kind::Timeout(_)
            | Kind::Cancelled(_)
            | Kind::Interrupted(_)
            | Kind::Expired(_),
        ) => None,
    };
    notes.push(format!("task {id}: {}", words::ending(task.outcome.as_ref())));
    if let Some(e) = hint.filter(|e| !e.hint.is_empty()) {
        notes.push(format!("  hint: {}", words::safe(&e.hint)));
    }
    notes
}

/// Asks for cancellation as soon as there is a task, until the server has it or refuses it.
async fn cancel_when_known(
    target: &Target,
    mut id: watch::Receiver<Option<String>>,
    actor: Option<&pb::Actor>,
    reason: &str,
) -> Result<(), CliError> {
    let task_id = match id.wait_for(Option::is_some).await {
        Ok(id) => id.clone().unwrap_or_default(),
        // Submitting failed, and is told as such.
        Err(_) => return Ok(()),
    };
    let request =
        pb::CancelTaskRequest { task_id, reason: reason.to_owned(), actor: actor.cloned() };
    loop {
        let asked = async { target.connect().await?.cancel_task(request.clone()).await }.await;
        match asked {
            Ok(_) => return Ok(()),
            Err(e) if e.is(Code::TaskOver) => return Ok(()),
            Err(e) if e.is_final() => return Err(e),
            Err(_) => tokio::time::sleep(CANCEL_PAUSE).await,
        }
    }
}

/// Nobody reads our output: as with a pipe on one machine the program ends, only provably.
async fn proof_after_pipe(
    target: &Target,
    id: &watch::Receiver<Option<String>>,
    actor: Option<&pb::Actor>,
) -> Result<u8, CliError> {
    let Some(task_id) = id.borrow().clone() else { return Ok(exit::PIPE) };
    cancel_when_known(target, id.clone(), actor, "nobody reads its output any more").await?;
    Follower::new(target.clone(), &task_id, Show::Nothing).until_over().await?;
    Ok(exit::PIPE)
}

/// Says how to find a task that is left alone. Not 130: nobody proved that it is cancelled.
fn left(id: Option<&str>) -> u8 {
    render::note(&match id {
        Some(id) => format!(
            "left task {id} before its cancellation was proven; see what becomes of it: cortex task watch {id}"
        ),
        None => "left while submitting; whether there is a task is not known: cortex task list"
            .to_owned(),
    });
    exit::CORTEX
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::ending::Kind;

    fn ended(state: pb::TaskState, kind: Kind) -> pb::Task {
        let outcome =
            pb::Outcome { ending: Some(pb::Ending { kind: Some(kind) }), ..Default::default() };
        let task_id = "t1".to_owned();
        pb::Task { task_id, state: state.into(), outcome: Some(outcome), ..Default::default() }
    }

    #[test]
    fn a_program_that_ended_by_itself_needs_no_words() {
        for code in [0, 1, 77] {
            let t = ended(pb::TaskState::Failed, Kind::Exited(pb::Exited { code }));
            assert_eq!(last_words(&t), Vec::<String>::new());
        }
    }

    #[test]
    fn doubt_is_told_with_the_way_out() {
        let mut t = ended(
            pb::TaskState::Indeterminate,
            Kind::Interrupted(pb::Interrupted { found: "no outcome in the journal".into() }),
        );
        t.evidence = "node n1 restarted".into();
        assert_eq!(
            last_words(&t),
            [
                "how task t1 ended is not known: node n1 restarted",
                "when you know what happened: cortex task resolve t1 --as succeeded|failed|retry --reason TEXT",
            ]
        );
    }

    #[test]
    fn a_refusal_brings_its_hint() {
        let error = pb::Error {
            code: "CX-0401".into(),
            message: "rm is not on the list".into(),
            hint: "edit policy.toml".into(),
            retryable: false,
        };
        let kind = Kind::Denied(pb::Denied { error: Some(error), rule: "default".into() });
        assert_eq!(
            last_words(&ended(pb::TaskState::Denied, kind)),
            [
                "task t1: denied by the node's owner: CX-0401 rm is not on the list (rule default)",
                "  hint: edit policy.toml",
            ]
        );
    }
}

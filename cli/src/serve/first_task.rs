//! The first real task of a fresh server: submitted, logged, offered, claimed, journaled, run, reported, like any other, and then
//! told as a timeline. It uses the same calls as every client.

use crate::client::{Client, required};
use crate::error::CliError;
use cortex_model::proto as pb;
use pb::event::Kind;
use pb::watch_task_response::Update;
use std::fmt::Write as _;

/// The command of the first task.
const COMMAND: [&str; 2] = ["cat", "/etc/os-release"];

/// Runs the first task and returns what to print about it.
///
/// # Errors
/// Whatever keeps the task from being submitted or followed.
pub(crate) async fn run(client: &Client) -> Result<String, CliError> {
    let argv = COMMAND.iter().map(|a| a.as_bytes().to_vec()).collect();
    let shell = pb::ShellAction { argv, ..Default::default() };
    let submit = pb::SubmitTaskRequest {
        spec: Some(pb::TaskSpec {
            action: Some(pb::Action { kind: Some(pb::action::Kind::Shell(shell)) }),
            deadline_ms: 60_000,
            ..Default::default()
        }),
        actor: Some(pb::Actor {
            kind: pb::ActorKind::Program.into(),
            id: "cortex-up".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let task = required(client.submit_task(submit).await?.task)?;
    let watch = pb::WatchTaskRequest {
        task_id: task.task_id.clone(),
        include_output: true,
        ..Default::default()
    };
    let mut updates = client.watch(watch).await?;
    let mut entries = Vec::new();
    let mut output = Vec::new();
    while let Some(update) = updates.message().await.map_err(CliError::from)? {
        match update.update {
            Some(Update::Entry(e)) => entries.push(e),
            Some(Update::Output(o)) => output.extend_from_slice(&o.chunk.unwrap_or_default().data),
            Some(Update::CaughtUp(_)) | None => {}
        }
    }
    Ok(timeline(&task.task_id, &entries, &output))
}

fn timeline(id: &str, entries: &[pb::HistoryEntry], output: &[u8]) -> String {
    let begin = entries.first().map_or(0, |e| e.at_ms);
    let mut text = format!("task {id}: {}\n", COMMAND.join(" "));
    for e in entries {
        for event in e.commit.iter().flat_map(|c| &c.events) {
            let after = e.at_ms.saturating_sub(begin);
            let (name, what) = event.kind.as_ref().map_or(("?", String::new()), words);
            // Writing to a String cannot fail.
            writeln!(text, "  {after:>5} ms  {name:<10} {what}").ok();
        }
    }
    for line in String::from_utf8_lossy(output).lines().take(3) {
        writeln!(text, "            | {line}").ok();
    }
    text
}

fn words(kind: &Kind) -> (&'static str, String) {
    match kind {
        Kind::Submitted(s) => (
            "submitted",
            format!("by {}, durable in the log", s.actor.clone().unwrap_or_default().id),
        ),
        Kind::Started(s) => {
            ("started", format!("attempt {} claimed by node {}: {}", s.attempt, s.node, s.reason))
        }
        Kind::Finished(f) => ("finished", ending(f)),
        Kind::AttemptReleased(r) => ("released", format!("attempt {}: {}", r.attempt, r.evidence)),
        Kind::OutcomeUnknown(u) => ("unknown", u.evidence.clone()),
        Kind::ConsentAsked(a) => ("asked", format!("the owner of {} must agree", a.node)),
        Kind::CancelRequested(_)
        | Kind::LateOutcome(_)
        | Kind::Resolved(_)
        | Kind::Archived(_)
        | Kind::ConsentAnswered(_) => ("noted", String::new()),
    }
}

fn ending(f: &pb::Finished) -> String {
    let Some(o) = &f.outcome else { return String::new() };
    let how = match o.ending.as_ref().and_then(|e| e.kind.as_ref()) {
        Some(pb::ending::Kind::Exited(e)) => format!("exit code {}", e.code),
        other => format!("{other:?}"),
    };
    let bytes = o.output.as_ref().map_or(0, |s| s.stdout_bytes + s.stderr_bytes);
    format!("{how}, {bytes} bytes of output, entry {} of the node's journal", o.journal_seq)
}

//! `cortex task submit -f`: many tasks, a bounded number at a time, ids in the file's order. What
//! the server refuses is told by line; the others are submitted all the same.

use super::submit::{Submitted, patiently};
use crate::commands::Session;
use crate::error::CliError;
use crate::taskfile::{self, Line};
use crate::{exit, render};
use cortex_model::Code;
use cortex_model::proto as pb;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::Path;

/// Submits under way at a time.
const IN_FLIGHT: usize = 64;

/// `--json` of one line.
#[derive(Serialize)]
struct Report<'a> {
    line: usize,
    key: &'a str,
    task_id: Option<&'a str>,
    created: Option<bool>,
    error: Option<&'a CliError>,
}

/// Reads, checks and submits the file.
pub(super) async fn run(session: &Session, file: &Path, batch: &str) -> Result<u8, CliError> {
    let lines = read(file, batch)?;
    let (target, actor) = (session.target()?, session.actor()?);
    let client = target.connect().await?;
    let bar = ProgressBar::new(lines.len() as u64);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos}/{len} submitted {per_sec} {eta}")
    {
        bar.set_style(style);
    }
    let mut done = futures::stream::iter(lines)
        .map(|line| {
            let (target, client) = (&target, client.clone());
            let request = pb::SubmitTaskRequest {
                spec: Some(line.spec.clone()),
                idempotency_key: line.key.clone(),
                actor: actor.clone(),
                wait_ms: 0,
            };
            async move { (line, patiently(target, client, request).await) }
        })
        .buffered(IN_FLIGHT);
    let (mut created, mut existed, mut failed) = (0u64, 0u64, 0u64);
    while let Some((line, result)) = done.next().await {
        let told = bar.suspend(|| print(session.json(), &line, &result));
        told?;
        bar.inc(1);
        match result {
            Ok(s) if s.created => created += 1,
            Ok(_) => existed += 1,
            Err(e) if e.retryable => return Err(stopped(e, &line)),
            Err(_) => failed += 1,
        }
    }
    bar.finish_and_clear();
    if !session.json() {
        render::note(&format!("{created} submitted, {existed} existed already, {failed} refused"));
    }
    Ok(if failed == 0 { 0 } else { exit::CORTEX })
}

fn read(file: &Path, batch: &str) -> Result<Vec<Line>, CliError> {
    if file.as_os_str() == "-" {
        return taskfile::read(std::io::stdin().lock(), batch);
    }
    let open = std::fs::File::open(file).map_err(|e| {
        let what = format!("the task file {} cannot be read: {e}", file.display());
        CliError::new(Code::BadTaskFile, what).with_hint("name a file that exists, or '-'")
    })?;
    taskfile::read(open, batch)
}

fn print(json: bool, line: &Line, result: &Result<Submitted, CliError>) -> Result<(), CliError> {
    let task = result.as_ref().ok().and_then(|s| s.task.as_ref());
    let task_id = task.map(|t| t.task_id.as_str());
    if json {
        return render::json(&Report {
            line: line.number,
            key: &line.key,
            task_id,
            created: result.as_ref().ok().map(|s| s.created),
            error: result.as_ref().err(),
        });
    }
    match (task_id, result) {
        (Some(id), _) => render::line(id),
        (None, Err(e)) => {
            render::note(&e.clone().at(&format!("line {}", line.number)).text(false));
            Ok(())
        }
        (None, Ok(_)) => Err(CliError::internal("the server's answer lacks the task")),
    }
}

fn stopped(e: CliError, line: &Line) -> CliError {
    e.at(&format!("stopped at line {}", line.number)).with_hint(
        "submit the same file again: lines that were accepted are recognised and not done twice",
    )
}

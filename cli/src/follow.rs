//! Follows a task until it is over: prints its output once, in order, and goes on after any cut
//! from where it was. It never changes the task; cancelling is the caller's business.

use crate::client::{Client, Target};
use crate::error::CliError;
use crate::render::{self, Raw};
use crate::view;
use cortex_model::Code;
use cortex_model::proto as pb;
use pb::watch_task_response::Update;
use serde::Serialize;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A task that waits longer than this is explained.
const EXPLAIN_AFTER: Duration = Duration::from_secs(1);
/// Pause between two explanations.
const EXPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Trouble that lasts longer than this is told.
const TELL_AFTER: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How output and events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Output as it is, to the matching stream.
    Raw,
    /// Everything as lines of JSON.
    Json,
    /// Only output, as lines of JSON.
    JsonOutput,
    /// Nothing: only the end counts.
    Nothing,
    /// Nothing; the output of the last attempt is kept for the caller.
    Keep,
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Event(view::HistoryEntry),
    Output { attempt: u32, stream: &'static str, offset: u64, data: view::Bytes },
}

/// Where the output stands: everything before was printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    attempt: u32,
    offset: u64,
}

impl Position {
    /// What of a chunk is new: the bytes to skip at its front, and how many bytes before it are
    /// missing. `None` when all of it was seen. Moves past the chunk.
    fn accept(&mut self, attempt: u32, offset: u64, len: u64) -> Option<(u64, u64)> {
        if attempt < self.attempt {
            return None;
        }
        if attempt > self.attempt {
            *self = Position { attempt, offset: 0 };
        }
        let end = offset.saturating_add(len);
        if end <= self.offset {
            return None;
        }
        let (seen, missing) =
            (self.offset.saturating_sub(offset), offset.saturating_sub(self.offset));
        self.offset = end;
        Some((seen, missing))
    }
}

/// A task being followed.
pub(crate) struct Follower {
    target: Target,
    task_id: String,
    show: Show,
    raw: Raw,
    revision: u64,
    output: Position,
    state: pb::TaskState,
    caught_up: bool,
    explained: String,
    explain_at: Instant,
    trouble: Option<Trouble>,
    /// Only this attempt's output, and of it only one stream (true: stderr).
    only_attempt: Option<u32>,
    only_stderr: Option<bool>,
    kept: Kept,
    /// Of the output that is there only so much is wanted, from its end; 0 once some came.
    last: u64,
    /// Says whether the task runs and all that was before was shown.
    live: Option<watch::Sender<bool>>,
}

/// What one attempt wrote.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    attempt: u32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Kept {
    /// An attempt that comes after another begins anew.
    fn keep(&mut self, attempt: u32, to_stderr: bool, data: &[u8]) {
        if attempt != self.attempt {
            *self = Kept { attempt, ..Kept::default() };
        }
        if to_stderr { &mut self.stderr } else { &mut self.stdout }.extend_from_slice(data);
    }
}

/// A connection that does not come back.
struct Trouble {
    since: Instant,
    pause: Duration,
    told: String,
}

impl Follower {
    pub(crate) fn new(target: Target, task_id: &str, show: Show) -> Follower {
        Follower {
            target,
            task_id: task_id.to_owned(),
            show,
            raw: Raw::new(),
            revision: 0,
            output: Position::default(),
            state: pb::TaskState::Unspecified,
            caught_up: false,
            explained: String::new(),
            explain_at: Instant::now() + EXPLAIN_AFTER,
            trouble: None,
            only_attempt: None,
            only_stderr: None,
            kept: Kept::default(),
            last: 0,
            live: None,
        }
    }

    /// Shows of the output that is there only the last so many bytes; 0 is all of it.
    pub(crate) fn only_the_end(mut self, bytes: u64) -> Follower {
        self.last = bytes;
        self
    }

    /// Whether the task runs and all that was before was shown.
    pub(crate) fn live(&mut self) -> watch::Receiver<bool> {
        self.live.get_or_insert_with(|| watch::Sender::new(false)).subscribe()
    }

    fn tell_live(&self) {
        let live = self.caught_up && self.state == pb::TaskState::Running;
        if let Some(sender) = &self.live {
            sender.send_if_modified(|before| std::mem::replace(before, live) != live);
        }
    }

    /// What was kept, with [`Show::Keep`].
    pub(crate) fn kept(&mut self) -> Kept {
        std::mem::take(&mut self.kept)
    }

    /// Prints one attempt's output as far as it exists, and does not wait for more.
    ///
    /// # Errors
    /// Any, at once.
    pub(crate) async fn what_there_is(
        mut self,
        client: &Client,
        attempt: u32,
        only_stderr: Option<bool>,
    ) -> Result<(), CliError> {
        self.output = Position { attempt, offset: 0 };
        (self.only_attempt, self.only_stderr) = (Some(attempt), only_stderr);
        self.stream(client, true).await
    }

    /// Returns the task once it is over or INDETERMINATE, with all its output printed.
    ///
    /// # Errors
    /// Only what waiting cannot change: not found, not allowed, or nobody reads our output.
    pub(crate) async fn until_over(&mut self) -> Result<pb::Task, CliError> {
        loop {
            match self.one_connection().await {
                Ok(task) => return Ok(task),
                Err(e) if e.is_final() => return Err(e),
                Err(e) => self.pause(&e).await,
            }
        }
    }

    async fn one_connection(&mut self) -> Result<pb::Task, CliError> {
        let client = self.target.connect().await?;
        self.stream(&client, false).await?;
        let task = client.task(&self.task_id).await?;
        match state(task.state) {
            // Whatever output arrived before the doubt is still to be shown.
            pb::TaskState::Indeterminate => {
                self.stream(&client, true).await?;
                Ok(task)
            }
            pb::TaskState::Pending | pb::TaskState::Running | pb::TaskState::Unspecified => {
                Err(CliError::new(
                    Code::CannotConnect,
                    "the server ended the watch before the task was over",
                ))
            }
            pb::TaskState::Succeeded
            | pb::TaskState::Failed
            | pb::TaskState::Cancelled
            | pb::TaskState::Denied
            | pb::TaskState::Expired => Ok(task),
        }
    }

    /// Reads one watch to its end, or to where the task became INDETERMINATE.
    async fn stream(&mut self, client: &Client, no_follow: bool) -> Result<(), CliError> {
        self.caught_up = false;
        let mut stream = client
            .watch(pb::WatchTaskRequest {
                task_id: self.task_id.clone(),
                after_revision: self.revision,
                include_output: self.show != Show::Nothing,
                output_attempt: self.output.attempt,
                output_offset: self.output.offset,
                no_follow,
                output_last_bytes: self.last,
            })
            .await?;
        loop {
            let update = tokio::select! {
                update = stream.message() => update?,
                () = tokio::time::sleep_until(self.explain_at), if self.waits() => {
                    self.explain(client).await;
                    continue;
                }
            };
            let Some(update) = update.map(|u| u.update) else { return Ok(()) };
            self.recovered();
            match update {
                Some(Update::Entry(entry)) => self.entry(&entry).await?,
                Some(Update::Output(out)) => {
                    self.output(out.attempt, &out.chunk.unwrap_or_default()).await?;
                }
                Some(Update::CaughtUp(c)) => {
                    self.caught_up = true;
                    if let Some(task) = c.task {
                        self.state = state(task.state);
                    }
                }
                None => {}
            }
            self.tell_live();
            if !no_follow && self.caught_up && self.state == pb::TaskState::Indeterminate {
                return Ok(());
            }
        }
    }

    async fn entry(&mut self, entry: &pb::HistoryEntry) -> Result<(), CliError> {
        if entry.revision <= self.revision {
            return Ok(());
        }
        if self.show == Show::Json {
            render::json(&Line::Event(entry.into()))?;
        }
        // Small output travels inside the outcome; offsets keep it from being printed twice.
        for event in entry.commit.iter().flat_map(|c| &c.events) {
            self.consent(event);
            if let Some((attempt, outcome)) = told_outcome(event) {
                for chunk in &outcome.inline_output {
                    self.output(attempt, chunk).await?;
                }
            }
        }
        self.revision = entry.revision;
        let before = std::mem::replace(&mut self.state, state(entry.state));
        if before != self.state {
            self.explain_at = Instant::now() + EXPLAIN_AFTER;
        }
        Ok(())
    }

    /// Says whom it waits for, and when it does no longer.
    fn consent(&self, event: &pb::Event) {
        use pb::event::Kind;
        if self.show == Show::Nothing {
            return;
        }
        if let Some(Kind::ConsentAsked(asked)) = &event.kind {
            let (node, question) = (&asked.node, asked.question);
            render::note(&format!(
                "waiting for the owner of {node}: on {node}, cortex-agent consent show {question}"
            ));
        }
        if let Some(Kind::ConsentAnswered(answered)) = &event.kind {
            let what = view::consent_answer(answered.answer);
            render::note(&format!("the owner of {}: {what}", answered.node));
        }
    }

    async fn output(&mut self, attempt: u32, chunk: &pb::OutputChunk) -> Result<(), CliError> {
        if self.last > 0 && !chunk.data.is_empty() {
            // What is before was not wanted.
            self.output = Position { attempt, offset: chunk.offset };
            self.last = 0;
        }
        let mut next = self.output;
        let Some((seen, missing)) = next.accept(attempt, chunk.offset, chunk.data.len() as u64)
        else {
            return Ok(());
        };
        if missing > 0 {
            render::note(&format!("{missing} bytes of output are not available any more"));
        }
        let data = &chunk.data[usize::try_from(seen).unwrap_or(chunk.data.len())..];
        let to_stderr = chunk.stream == i32::from(pb::OutputStream::Stderr);
        if self.only_attempt.is_some_and(|only| only != attempt)
            || self.only_stderr.is_some_and(|only| only != to_stderr)
        {
            // Not wanted, but seen: what follows it is no gap.
            self.output = next;
            return Ok(());
        }
        match self.show {
            Show::Raw => self.raw.write(to_stderr, data).await?,
            Show::Json | Show::JsonOutput => render::json(&Line::Output {
                attempt,
                stream: if to_stderr { "stderr" } else { "stdout" },
                offset: chunk.offset.saturating_add(seen),
                data: view::Bytes(data.to_vec()),
            })?,
            Show::Keep => self.kept.keep(attempt, to_stderr, data),
            Show::Nothing => {}
        }
        self.output = next;
        Ok(())
    }

    fn waits(&self) -> bool {
        self.caught_up && self.state == pb::TaskState::Pending && self.show != Show::Nothing
    }

    /// Says why the task does not run, when that changed. Failing to do so is no failure.
    async fn explain(&mut self, client: &Client) {
        self.explain_at = Instant::now() + EXPLAIN_EVERY;
        let request = pb::ExplainTaskRequest { task_id: self.task_id.clone() };
        if let Ok(why) = client.explain_task(request).await
            && !why.summary.is_empty()
            && why.summary != self.explained
        {
            render::note(&format!("waiting: {}", crate::words::safe(&why.summary)));
            self.explained = why.summary;
        }
    }

    async fn pause(&mut self, e: &CliError) {
        let now = Instant::now();
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            since: now,
            pause: FIRST_PAUSE,
            told: String::new(),
        });
        if now.duration_since(trouble.since) >= TELL_AFTER && trouble.told != e.message {
            render::note(&format!("{}: {}; trying again", e.code, e.message));
            trouble.told.clone_from(&e.message);
        }
        // Half to one and a half times the pause, so that many clients do not return together.
        let pause = trouble.pause.mul_f64(0.5 + fastrand::f64());
        trouble.pause = (trouble.pause * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some_and(|t| !t.told.is_empty()) {
            render::note("connected again");
        }
    }
}

/// An outcome that an event tells of its attempt.
fn told_outcome(event: &pb::Event) -> Option<(u32, &pb::Outcome)> {
    use pb::event::Kind;
    match event.kind.as_ref()? {
        Kind::AttemptReleased(r) => Some((r.attempt, r.outcome.as_ref()?)),
        Kind::Finished(f) => Some((f.attempt, f.outcome.as_ref()?)),
        Kind::OutcomeUnknown(u) => Some((u.attempt, u.outcome.as_ref()?)),
        Kind::Submitted(_)
        | Kind::Started(_)
        | Kind::CancelRequested(_)
        | Kind::LateOutcome(_)
        | Kind::Resolved(_)
        | Kind::Archived(_)
        | Kind::ConsentAsked(_)
        | Kind::ConsentAnswered(_) => None,
    }
}

fn state(state: i32) -> pb::TaskState {
    pb::TaskState::try_from(state).unwrap_or(pb::TaskState::Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_taken_once() {
        let mut p = Position::default();
        assert_eq!(p.accept(1, 0, 10), Some((0, 0)));
        assert_eq!(p.accept(1, 0, 10), None, "a repeat");
        assert_eq!(p.accept(1, 5, 10), Some((5, 0)), "an overlap");
        assert_eq!(p.accept(1, 20, 5), Some((0, 5)), "a gap is told");
        assert_eq!(p.accept(2, 0, 3), Some((0, 0)), "the next attempt begins anew");
        assert_eq!(p.accept(1, 25, 5), None, "a superseded attempt");
        assert_eq!(p, Position { attempt: 2, offset: 3 });
        assert_eq!(p.accept(2, u64::MAX, 5), Some((0, u64::MAX - 3)));
    }
}

//! WatchTask: a task's history and output from a position on. Closing a watch changes nothing, and one that was
//! cut goes on where it stopped, through any gateway.

use super::{Api, not_found, principal, task_key};
use crate::status::{log_fault, status};
use crate::tasks::Change;
use crate::view;
use cortex_log::OutputKey;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, TaskKey};
use cortex_scheduler_core::TaskView;
use futures::Stream;
use pb::watch_task_response::Update;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

/// Updates on their way to one watcher; a slow one makes the watch wait, never the gateway.
const UPDATES_QUEUED: usize = 16;
/// Output read at a time, bytes.
const OUTPUT_PIECE: usize = 256 * 1024;

type Reply = Result<pb::WatchTaskResponse, Status>;
type ReplyStream = Pin<Box<dyn Stream<Item = Reply> + Send>>;

impl Api {
    pub(super) fn watch(
        &self,
        request: &Request<pb::WatchTaskRequest>,
    ) -> Result<ReplyStream, Fault> {
        let caller = principal(request)?;
        let workspace = caller.workspace.clone();
        let r = request.get_ref().clone();
        let key = task_key(workspace, &r.task_id)?;
        let (tx, rx) = mpsc::channel(UPDATES_QUEUED);
        let mut watch = Watch {
            api: self.clone(),
            changes: self.tasks.projection.follow(&key),
            seen: r.after_revision,
            attempt: r.output_attempt.max(1),
            offset: r.output_offset,
            view: None,
            key,
            request: r,
            tx,
        };
        tokio::spawn(async move {
            let drain = watch.api.drain.clone();
            let ended = tokio::select! {
                r = watch.run() => r,
                fault = caller.over() => Err(Stop::Fault(fault)),
                () = drain.cancelled() => Err(Stop::Fault(Fault::new(Code::Draining, "the gateway is going away"))),
            };
            if let Err(Stop::Fault(fault)) = ended {
                let told = watch.tx.send(Err(status(&fault))).await;
                drop(told);
            }
            let Watch { api, key, changes, .. } = watch;
            drop(changes);
            api.tasks.projection.unfollow(&key);
        });
        Ok(Box::pin(ReceiverStream::new(rx)))
    }
}

/// Why a watch ends early.
enum Stop {
    /// The watcher left.
    Left,
    /// Something failed.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(f: Fault) -> Stop {
        Stop::Fault(f)
    }
}

struct Watch {
    api: Api,
    key: TaskKey,
    request: pb::WatchTaskRequest,
    changes: broadcast::Receiver<Arc<Change>>,
    tx: mpsc::Sender<Reply>,
    /// Last revision sent.
    seen: u64,
    /// Attempt whose output is next, and from where.
    attempt: u32,
    offset: u64,
    view: Option<Arc<TaskView>>,
}

impl Watch {
    async fn run(&mut self) -> Result<(), Stop> {
        self.catch_up().await?;
        self.send_output().await?;
        let view = self.view.clone().ok_or_else(|| not_found(&self.request.task_id))?;
        self.send(Update::CaughtUp(pb::CaughtUp { task: Some(view::task(&view)) })).await?;
        if self.request.no_follow {
            return Ok(());
        }
        while !self.complete() {
            self.wait().await?;
            self.send_output().await?;
        }
        Ok(())
    }

    /// Sends what the log has and was not sent.
    async fn catch_up(&mut self) -> Result<(), Stop> {
        for change in self.api.tasks.changes(&self.key).await? {
            self.show(&change).await?;
        }
        Ok(())
    }

    async fn show(&mut self, change: &Change) -> Result<(), Stop> {
        if self.view.as_ref().is_none_or(|v| v.revision < change.revision) {
            self.view = Some(change.view.clone());
        }
        if change.revision > self.seen {
            // Output that came before an event is shown before it.
            if change.view.state.is_over() {
                self.send_output().await?;
            }
            self.seen = change.revision;
            self.send(Update::Entry(change.to_entry())).await?;
        }
        Ok(())
    }

    /// Waits for the next change of the task or of its output.
    async fn wait(&mut self) -> Result<(), Stop> {
        let mut grown =
            self.api.log.watch_output(&self.output_key()?).await.map_err(|e| log_fault(&e))?;
        if *grown.borrow_and_update() > self.offset && self.request.include_output {
            return Ok(());
        }
        let next = tokio::select! {
            change = self.changes.recv() => change,
            grew = grown.changed(), if self.request.include_output => {
                return if grew.is_ok() { Ok(()) } else { Err(draining()) };
            }
            () = self.tx.closed() => return Err(Stop::Left),
        };
        match next {
            Ok(change) => self.show(&change).await,
            Err(RecvError::Lagged(_)) => self.catch_up().await,
            Err(RecvError::Closed) => Err(draining()),
        }
    }

    /// Sends output that is durable and was not sent; moves on to later attempts.
    async fn send_output(&mut self) -> Result<(), Stop> {
        let Some(view) = self.view.clone() else { return Ok(()) };
        if !self.request.include_output {
            return Ok(());
        }
        let last = std::mem::take(&mut self.request.output_last_bytes);
        if last > 0 {
            self.attempt = view.attempt.max(1);
            let end = self.api.log.output_end(&self.output_key()?).await;
            self.offset = end.map_err(|e| log_fault(&e))?.saturating_sub(last);
        }
        while self.attempt <= view.attempt {
            self.drain_attempt(&view).await?;
            if self.attempt == view.attempt {
                return Ok(());
            }
            self.attempt += 1;
            self.offset = 0;
        }
        Ok(())
    }

    async fn drain_attempt(&mut self, view: &TaskView) -> Result<(), Stop> {
        let inline =
            view.outcome_of(self.attempt).map(|o| o.inline_output.clone()).unwrap_or_default();
        for chunk in &inline {
            if chunk.offset >= self.offset {
                self.send_chunk(chunk.into()).await?;
            }
        }
        if !inline.is_empty() {
            return Ok(());
        }
        loop {
            let key = self.output_key()?;
            let chunks = self.api.log.read_output(&key, self.offset, OUTPUT_PIECE).await;
            let chunks = chunks.map_err(|e| log_fault(&e))?;
            if chunks.is_empty() {
                return Ok(());
            }
            for c in chunks {
                self.send_chunk(pb::OutputChunk {
                    stream: c.stream.into(),
                    offset: c.offset,
                    data: c.data,
                })
                .await?;
            }
        }
    }

    async fn send_chunk(&mut self, chunk: pb::OutputChunk) -> Result<(), Stop> {
        self.offset = chunk.offset + chunk.data.len() as u64;
        let attempt = self.attempt;
        self.send(Update::Output(pb::WatchOutput { attempt, chunk: Some(chunk) })).await
    }

    /// Whether the task is over. Its outcome was recorded after its output was durable, so all of that was sent.
    fn complete(&self) -> bool {
        self.view.as_ref().is_some_and(|v| v.state.is_over())
    }

    fn output_key(&self) -> Result<OutputKey, Fault> {
        let key = OutputKey::new(self.key.workspace.as_str(), self.key.task.as_str(), self.attempt);
        key.map_err(|e| log_fault(&e))
    }

    async fn send(&self, update: Update) -> Result<(), Stop> {
        let reply = Ok(pb::WatchTaskResponse { update: Some(update) });
        self.tx.send(reply).await.map_err(|_| Stop::Left)
    }
}

fn draining() -> Stop {
    Stop::Fault(Fault::new(Code::Draining, "the gateway is going away"))
}

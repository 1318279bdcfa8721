//! The process around the workers: listens for gateways, says that it lives, follows the log for the index.

use crate::index::Index;
use crate::key::MirrorKey;
use crate::signer::Signer;
use crate::store::Store;
use crate::worker::{Job, Shared, Worker, now_ms};
use cortex_log::audit::is_node;
use cortex_log::{EventLog, LogError, Message, Recorded, Space, Tail};
use cortex_model::limits::mirror::{
    AUDIT_FOUND_MAX, AUDIT_JOBS_MAX, MIRROR_HEARTBEAT_MS, RECONCILE_AFTER_MS, RECONCILE_EVERY_MS,
};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, TaskId, TaskKey, Workspace, wire};
use futures::StreamExt;
use pb::mirror_reply::Body as Reply;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pause before the log is followed again.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);

/// Settings of a mirror.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this process, a token, unique among those that share a log.
    pub name: String,
    /// How long after its node is back a dispatch may be without a record.
    pub reconcile_after: Duration,
}

impl Config {
    /// The defaults of `cortex_model::limits`.
    #[must_use]
    pub fn named(name: &str) -> Config {
        Config { name: name.to_owned(), reconcile_after: Duration::from_millis(RECONCILE_AFTER_MS) }
    }
}

/// What a mirror is made of.
pub struct Mirror {
    /// The log it stores to.
    pub log: Arc<dyn EventLog>,
    /// Its key.
    pub key: MirrorKey,
    /// Settings.
    pub config: Config,
}

/// Serves until `stop`.
///
/// # Errors
/// When the log's messages cannot be subscribed to.
pub async fn serve(mirror: Mirror, stop: CancellationToken) -> anyhow::Result<()> {
    let Mirror { log, key, config } = mirror;
    let vkey = key.verifier().to_string();
    let after = u64::try_from(config.reconcile_after.as_millis()).unwrap_or(u64::MAX);
    let shared = Arc::new(Shared {
        store: Store { log: log.clone() },
        signer: Signer { log: log.clone(), key },
        index: Mutex::new(Index::new(after)),
    });
    let tasks = TaskTracker::new();
    let reading = Arc::new(AtomicUsize::new(0));
    for space in [Space::Task, Space::Audit] {
        for shard in 0..space.shards(log.shards()) {
            reading.fetch_add(1, Ordering::SeqCst);
            let (shared, reading, stop) = (shared.clone(), reading.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = follow(shared, space, shard, reading) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
    let requests = log.subscribe(&format!("cx.m.up.{}", config.name)).await?;
    let heartbeat = pb::MirrorHeartbeat { mirror: config.name.clone(), vkey }.encode_to_vec();
    let beats = beat(log.clone(), format!("cx.m.hb.{}", config.name), heartbeat.into());
    let desk = Desk { shared, workers: HashMap::new(), tasks: tasks.clone(), reading };
    tokio::select! {
        () = stop.cancelled() => {}
        () = beats => {}
        () = desk.run(requests) => {}
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn beat(log: Arc<dyn EventLog>, subject: String, heartbeat: bytes::Bytes) {
    let mut every = tokio::time::interval(Duration::from_millis(MIRROR_HEARTBEAT_MS));
    loop {
        every.tick().await;
        if let Err(error) = log.publish(&subject, heartbeat.clone()).await {
            tracing::debug!(%error, "the mirror was not announced");
        }
    }
}

/// Brings requests and findings to the worker of their node.
struct Desk {
    shared: Arc<Shared>,
    workers: HashMap<(String, String), mpsc::Sender<Job>>,
    tasks: TaskTracker,
    /// Parts of the log that are still being read for the first time.
    reading: Arc<AtomicUsize>,
}

impl Desk {
    async fn run(mut self, mut requests: cortex_log::MessageStream) {
        let mut every = tokio::time::interval(Duration::from_millis(RECONCILE_EVERY_MS));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(message) = requests.next() => self.request(message).await,
                _ = every.tick() => self.reconcile(),
            }
        }
    }

    fn reconcile(&mut self) {
        if self.reading.load(Ordering::SeqCst) > 0 {
            return;
        }
        let found = lock(&self.shared).tick(now_ms());
        for ((workspace, node), kinds) in found {
            // A queue that is full is asked again at the next restart; the worker drops what is known.
            if self.worker(&workspace, &node).try_send(Job::Found(kinds)).is_err() {
                tracing::warn!(
                    node,
                    "a finding was not stored: the node's worker does not keep up"
                );
            }
        }
    }

    async fn request(&mut self, message: Message) {
        let Ok(request) = pb::MirrorRequest::decode(message.body.clone()) else {
            tracing::warn!(subject = message.subject, "a gateway's message cannot be read");
            return;
        };
        if let Some(pb::mirror_request::Body::Find(find)) = &request.body {
            let mut records = lock(&self.shared).find(&request.workspace, &find.task_id);
            records.truncate(AUDIT_FOUND_MAX);
            let body = if self.reading.load(Ordering::SeqCst) > 0 {
                Reply::Error(
                    (&Fault::new(Code::NoMirror, "the mirror is still reading the log")).into(),
                )
            } else {
                Reply::Found(pb::MirrorFound { records })
            };
            self.reply(&message, body).await;
            return;
        }
        if let Some(pb::mirror_request::Body::Hello(_)) = &request.body {
            lock(&self.shared).back(&request.workspace, &request.node, now_ms());
        }
        let worker = self.worker(&request.workspace, &request.node);
        if worker.try_send(Job::Request(Box::new(request), message)).is_err() {
            tracing::debug!("a node's worker does not keep up; its gateway asks again");
        }
    }

    async fn reply(&self, to: &Message, body: Reply) {
        let reply = pb::MirrorReply { body: Some(body) };
        if let Err(error) = self.shared.store.log.reply(to, reply.encode_to_vec().into()).await {
            tracing::debug!(%error, "a gateway was not answered");
        }
    }

    fn worker(&mut self, workspace: &str, node: &str) -> mpsc::Sender<Job> {
        let key = (workspace.to_owned(), node.to_owned());
        let (shared, tasks) = (&self.shared, &self.tasks);
        let fresh = || {
            let (tx, rx) = mpsc::channel(AUDIT_JOBS_MAX);
            tasks.spawn(Worker::new(shared.clone(), workspace, node).run(rx));
            tx
        };
        self.workers.entry(key).or_insert_with(fresh).clone()
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Index> {
    shared.index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a part of the log into the index, from its beginning and then as it grows.
async fn follow(shared: Arc<Shared>, space: Space, shard: u32, reading: Arc<AtomicUsize>) {
    let (mut after, mut first) = (0, true);
    loop {
        let mut tail = match shared.store.log.tail(space, shard, after).await {
            Ok(tail) => tail,
            Err(error) => {
                again(&error).await;
                continue;
            }
        };
        while let Some(item) = tail.next().await {
            match item {
                Ok(Tail::Event(recorded)) => {
                    after = recorded.rev;
                    take(&shared, space, &recorded);
                }
                Ok(Tail::CaughtUp) if first => {
                    first = false;
                    reading.fetch_sub(1, Ordering::SeqCst);
                }
                Ok(Tail::CaughtUp) => {}
                Err(error) => {
                    again(&error).await;
                    break;
                }
            }
        }
    }
}

async fn again(error: &LogError) {
    tracing::warn!(%error, "the log cannot be followed; trying again");
    tokio::time::sleep(FOLLOW_AGAIN).await;
}

fn take(shared: &Shared, space: Space, recorded: &Recorded) {
    let key = &recorded.key;
    match space {
        Space::Task => {
            let parts = (Workspace::parse(key.ws()), TaskId::parse(key.id()));
            let commit = wire::event::decode_commit(recorded.commit.body.clone());
            if let ((Ok(workspace), Ok(task)), Ok(commit)) = (parts, commit) {
                lock(shared).task(&TaskKey { workspace, task }, &commit, recorded.rev);
            }
        }
        Space::Audit if is_node(key) => {}
        Space::Audit => {
            if let Ok(stored) = pb::AuditStored::decode(recorded.commit.body.clone()) {
                lock(shared).records(key.ws(), key.id(), &stored, recorded.at_ms);
            }
        }
        Space::Registry => {}
    }
}

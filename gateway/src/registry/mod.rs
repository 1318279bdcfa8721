//! Nodes and tokens, as the log's space Registry tells them: followed from its beginning, so that a revocation anywhere is known
//! here a moment later. What changes is decided on what the log says and appended with a fence; this view never decides.

mod join;
mod settle;
mod tokens;

pub(crate) use join::{Machine, Signing};
pub(crate) use settle::settle;
pub use tokens::Registrar;

use crate::status::log_fault;
use cortex_log::{Commit, CommitId, EventLog, Expect, Key, LogError, Recorded, Rev, Space, Tail};
use cortex_model::proto as pb;
use cortex_model::registry::{
    CloneSuspected, NodeRecord, Record, RegistryCommit, RegistryEvent, Standing, TokenRecord, fold,
};
use cortex_model::wire::registry as registry_wire;
use cortex_model::wire::{decode_registry_commit, encode_registry_commit};
use cortex_model::{Code, Fault, NodeId, Workspace, registry};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How often a decision is made again because another came between.
const TRIES: usize = 16;
/// How long a caller waits until this gateway has seen its own append.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// Pause before a tail that broke off is begun again.
const AGAIN: Duration = Duration::from_millis(200);
/// Nodes that ended and whose tasks are to be settled; one more waits.
const ENDED_QUEUED: usize = 1_024;

/// A node or token, and whether what rests on it may go on.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) record: Arc<Record>,
    /// Cancelled when the node may no longer work, or the token was revoked.
    pub(crate) ended: CancellationToken,
}

/// A node whose end is final.
#[derive(Clone, Debug)]
pub(crate) struct EndedNode {
    pub(crate) workspace: String,
    pub(crate) node: String,
    pub(crate) record: NodeRecord,
    /// Its attempts were looked for once.
    pub(crate) settled_once: bool,
}

/// See the module.
pub(crate) struct Registry {
    log: Arc<dyn EventLog>,
    gateway: String,
    grace_ms: u64,
    entries: Mutex<BTreeMap<(String, String), Entry>>,
    applied: watch::Sender<Rev>,
    caught_up: watch::Sender<bool>,
    /// The revision at which something was taken away from a node's policy last, or given back.
    narrowings: watch::Sender<Rev>,
    ended: mpsc::Sender<EndedNode>,
}

impl Registry {
    /// Knows nothing yet. What ends for good comes out of the receiver.
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        gateway: &str,
        grace_ms: u64,
    ) -> (Registry, mpsc::Receiver<EndedNode>) {
        let (ended, receiver) = mpsc::channel(ENDED_QUEUED);
        let registry = Registry {
            log,
            gateway: gateway.to_owned(),
            grace_ms,
            entries: Mutex::default(),
            applied: watch::channel(0).0,
            caught_up: watch::channel(false).0,
            narrowings: watch::channel(0).0,
            ended,
        };
        (registry, receiver)
    }

    /// How long after its end a certificate is renewed by its key alone.
    pub(crate) fn grace_ms(&self) -> u64 {
        self.grace_ms
    }

    /// A token, as far as it is known here.
    pub(crate) fn token(&self, workspace: &str, id: &str) -> Option<Entry> {
        self.entry(workspace, registry::token_aggregate(id))
    }

    /// A node, as far as it is known here.
    pub(crate) fn node(&self, workspace: &str, node: &str) -> Option<Entry> {
        self.entry(workspace, format!("n-{node}"))
    }

    fn entry(&self, workspace: &str, id: String) -> Option<Entry> {
        self.lock().get(&(workspace.to_owned(), id)).cloned()
    }

    /// Changes whenever something is taken away from some node's policy, or given back.
    pub(crate) fn narrowings(&self) -> watch::Receiver<Rev> {
        self.narrowings.subscribe()
    }

    /// What is taken away from a node's policy; `None` where nothing ever was.
    pub(crate) fn narrowing(&self, workspace: &str, node: &str) -> Option<pb::Narrowing> {
        match self.node(workspace, node)?.record.as_ref() {
            Record::Node(record) => registry_wire::narrowing(record),
            Record::Token(_) => None,
        }
    }

    /// Every node of a workspace, by id.
    pub(crate) fn nodes(&self, workspace: &str) -> Vec<(String, NodeRecord)> {
        self.of(workspace, "n-", |record| match record {
            Record::Node(node) => Some(node.clone()),
            Record::Token(_) => None,
        })
    }

    /// Every token of a workspace, by id.
    pub(crate) fn tokens(&self, workspace: &str) -> Vec<(String, TokenRecord)> {
        self.of(workspace, "t-", |record| match record {
            Record::Token(token) => Some(token.clone()),
            Record::Node(_) => None,
        })
    }

    fn of<T>(
        &self,
        workspace: &str,
        prefix: &str,
        take: impl Fn(&Record) -> Option<T>,
    ) -> Vec<(String, T)> {
        let entries = self.lock();
        entries
            .range((workspace.to_owned(), prefix.to_owned())..)
            .take_while(|((ws, id), _)| ws == workspace && id.starts_with(prefix))
            .filter_map(|((_, id), entry)| {
                Some((id[prefix.len()..].to_owned(), take(&entry.record)?))
            })
            .collect()
    }

    /// Resolves when everything that was in the log at the start is known.
    pub(crate) async fn caught_up(&self) {
        let mut rx = self.caught_up.subscribe();
        let reached = rx.wait_for(|yes| *yes).await;
        drop(reached);
    }

    /// Follows the log until cancelled.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut after = 0;
        while !stop.is_cancelled() {
            let followed = tokio::select! {
                r = self.tail(&mut after) => r,
                () = stop.cancelled() => return,
            };
            if let Err(e) = followed {
                tracing::warn!(error = %e, "the registry's tail broke off; following again");
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn tail(&self, after: &mut Rev) -> Result<(), LogError> {
        let mut tail = self.log.tail(Space::Registry, 0, *after).await?;
        while let Some(next) = tail.next().await {
            match next? {
                Tail::Event(recorded) => {
                    *after = recorded.rev;
                    if let Some(ended) = self.apply(&recorded) {
                        // Waits when many end at once; who settles them never waits for this tail.
                        self.ended.send(ended).await.ok();
                    }
                    self.applied.send_replace(recorded.rev);
                }
                Tail::CaughtUp => {
                    self.caught_up.send_replace(true);
                }
            }
        }
        Ok(())
    }

    fn apply(&self, recorded: &Recorded) -> Option<EndedNode> {
        let named = registry::named(recorded.key.id());
        if named == registry::Named::Other {
            return None;
        }
        let key = (recorded.key.ws().to_owned(), recorded.key.id().to_owned());
        let mut entries = self.lock();
        let before = entries.get(&key).cloned();
        let folded = decode_registry_commit(recorded.commit.body.clone())
            .and_then(|commit| fold(before.as_ref().map(|e| (*e.record).clone()), &commit));
        let record = match folded {
            Ok(record) => record,
            Err(fault) => {
                tracing::error!(aggregate = %recorded.key, revision = recorded.rev, error = %fault,
                    "a registry commit cannot be folded; nothing rests on this aggregate any more");
                if let Some(entry) = entries.remove(&key) {
                    entry.ended.cancel();
                }
                return None;
            }
        };
        let narrowed = |record: &Record| match record {
            Record::Node(node) => node.narrowed.as_ref().map(|(revision, _)| *revision),
            Record::Token(_) => None,
        };
        let news = narrowed(&record) != before.as_ref().and_then(|e| narrowed(&e.record));
        let ended = before.map(|e| e.ended).filter(|ended| !ended.is_cancelled());
        let ended = ended.unwrap_or_default();
        if !goes_on(&record) {
            ended.cancel();
        }
        let gone = match (&record, named) {
            (Record::Node(node), registry::Named::Node(id)) if node.standing.is_final() => {
                let (workspace, node_id) = (key.0.clone(), id.to_owned());
                Some(EndedNode {
                    workspace,
                    node: node_id,
                    record: node.clone(),
                    settled_once: false,
                })
            }
            (Record::Node(_) | Record::Token(_), _) => None,
        };
        entries.insert(key, Entry { record: Arc::new(record), ended });
        drop(entries);
        if news {
            self.narrowings.send_replace(recorded.rev);
        }
        gone
    }

    /// Records that a node's key is probably on two machines.
    ///
    /// # Errors
    /// The log's.
    pub(crate) async fn suspect(
        &self,
        workspace: &Workspace,
        node: &NodeId,
        suspected: CloneSuspected,
    ) -> Result<(), Fault> {
        let id = registry::node_aggregate(node)?;
        let events = vec![RegistryEvent::CloneSuspected(suspected)];
        let decide = |record: Option<&Record>| match record {
            Some(Record::Node(_)) => Ok(events.clone()),
            Some(Record::Token(_)) | None => Ok(Vec::new()),
        };
        self.change(workspace.as_str(), &id, decide).await.map(drop)
    }

    /// An aggregate as the log has it now, and its last revision.
    pub(crate) async fn load(
        &self,
        workspace: &str,
        id: &str,
    ) -> Result<Option<(Record, Rev)>, Fault> {
        let key = key(workspace, id)?;
        let history = self.log.read(&key, 0).await.map_err(|e| log_fault(&e))?;
        let mut folded = None;
        for recorded in &history {
            let commit = decode_registry_commit(recorded.commit.body.clone())?;
            let before = folded.take().map(|(record, _)| record);
            folded = Some((fold(before, &commit)?, recorded.rev));
        }
        Ok(folded)
    }

    /// Appends events behind `after` (`None`: as the first), and waits until this gateway has seen them. `false` when
    /// something else was appended first.
    ///
    /// # Errors
    /// The log's, as faults.
    pub(crate) async fn append(
        &self,
        workspace: &str,
        id: &str,
        after: Option<(u64, Rev)>,
        events: Vec<RegistryEvent>,
    ) -> Result<bool, Fault> {
        let kind = events.iter().map(RegistryEvent::name).collect::<Vec<_>>().join(",");
        let n = after.map_or(0, |(commits, _)| commits) + 1;
        let body = encode_registry_commit(&RegistryCommit { n, events });
        let commit = Commit { id: CommitId::generate(), kind: kind.into(), n, body };
        let expect = after.map_or(Expect::Absent, |(_, rev)| Expect::At(rev));
        match self.log.append(&key(workspace, id)?, expect, commit).await {
            Ok(rev) => {
                self.seen(rev).await;
                Ok(true)
            }
            Err(LogError::Conflict) => Ok(false),
            Err(e) => Err(log_fault(&e)),
        }
    }

    /// Reads an aggregate, lets `decide` choose events, and appends them, again when something came between. No events:
    /// nothing is appended. Returns the record after that.
    ///
    /// # Errors
    /// What `decide` and the log say.
    pub(crate) async fn change(
        &self,
        workspace: &str,
        id: &str,
        decide: impl Fn(Option<&Record>) -> Result<Vec<RegistryEvent>, Fault>,
    ) -> Result<Record, Fault> {
        for _ in 0..TRIES {
            let before = self.load(workspace, id).await?;
            let events = decide(before.as_ref().map(|(record, _)| record))?;
            let after = before.as_ref().map(|(record, rev)| (record.commits(), *rev));
            match before {
                Some((record, _)) if events.is_empty() => return Ok(record),
                before => {
                    let record = before.map(|(record, _)| record);
                    let n = after.map_or(0, |(commits, _)| commits) + 1;
                    let folded = fold(record, &RegistryCommit { n, events: events.clone() })?;
                    if self.append(workspace, id, after, events).await? {
                        return Ok(folded);
                    }
                }
            }
        }
        Err(Fault::new(Code::LogUnavailable, "others change the same thing all the time"))
    }

    async fn seen(&self, rev: Rev) {
        let mut applied = self.applied.subscribe();
        let wait = applied.wait_for(|seen| *seen >= rev);
        // Late is no error: the append is durable, this view follows.
        drop(tokio::time::timeout(SEEN_WITHIN, wait).await);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether tunnels or calls may rest on it.
fn goes_on(record: &Record) -> bool {
    match record {
        Record::Node(node) => node.standing == Standing::Approved,
        Record::Token(token) => token.revoked.is_none(),
    }
}

fn key(workspace: &str, id: &str) -> Result<Key, Fault> {
    Key::new(Space::Registry, workspace, id)
        .map_err(|e| Fault::new(Code::BadIdentifier, e.to_string()))
}

//! One node's audit, one thing at a time: what its agent uploads, what the index found, what an operator settles. It verifies, stores,
//! persists what will be signed, signs, and answers, in this order.

mod answers;
mod batch;
mod hello;

use crate::index::Index;
use crate::journal::Journal;
use crate::node::NodeState;
use crate::signer::{Last, SignError, Signer};
use crate::store::{Store, StoreError};
use cortex_log::{LogError, Message, Rev};
use cortex_model::limits::mirror::{AUDIT_JOURNALS_OPEN_MAX, NODE_AUDIT_EVERY_MS};
use cortex_model::proto as pb;
use pb::audit_node_event::Kind;
use pb::mirror_reply::Body as Reply;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::mpsc;

/// Something to do for a node.
pub(crate) enum Job {
    /// A gateway waits for the answer.
    Request(Box<pb::MirrorRequest>, Message),
    /// The index found something.
    Found(Vec<Kind>),
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) signer: Signer,
    pub(crate) index: Mutex<Index>,
}

/// A journal in memory, and the fence of what its key signs.
struct Held {
    journal: Journal,
    signed_rev: Rev,
    /// What the node was asked to sign when its hello told of too short a journal; empty when it was not.
    challenge: Vec<u8>,
}

/// Why a request got no proper answer.
#[derive(Debug, Error)]
enum WorkError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<LogError> for WorkError {
    fn from(error: LogError) -> Self {
        WorkError::Store(error.into())
    }
}

impl WorkError {
    /// Somebody else moved what was read: read it again.
    fn is_conflict(&self) -> bool {
        matches!(
            self,
            WorkError::Sign(SignError::Conflict)
                | WorkError::Store(StoreError::Log(LogError::Conflict))
        )
    }

    /// What is stored cannot be trusted: only a person can mend that.
    fn damage(&self) -> Option<&str> {
        match self {
            WorkError::Store(StoreError::Damaged(why))
            | WorkError::Sign(SignError::Damaged(why)) => Some(why),
            WorkError::Store(StoreError::Log(_) | StoreError::Foreign(_)) | WorkError::Sign(_) => {
                None
            }
        }
    }
}

/// See the module.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    workspace: String,
    node: String,
    state: Option<NodeState>,
    held: BTreeMap<String, Held>,
    dirty: bool,
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, workspace: &str, node: &str) -> Worker {
        Worker {
            shared,
            workspace: workspace.to_owned(),
            node: node.to_owned(),
            state: None,
            held: BTreeMap::new(),
            dirty: false,
        }
    }

    /// Works until nobody can send it anything more.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let every = Duration::from_millis(NODE_AUDIT_EVERY_MS);
        let mut published = tokio::time::Instant::now();
        loop {
            let job = tokio::select! {
                biased;
                () = tokio::time::sleep_until(published + every), if self.dirty => None,
                job = jobs.recv() => match job {
                    Some(job) => Some(job),
                    None => break,
                },
            };
            match job {
                Some(job) => self.work(job).await,
                None => {
                    self.publish().await;
                    published = tokio::time::Instant::now();
                }
            }
        }
        if self.dirty {
            self.publish().await;
        }
    }

    async fn work(&mut self, job: Job) {
        match job {
            Job::Found(kinds) => {
                if let Err(error) = self.note(kinds).await {
                    tracing::warn!(node = self.node, %error, "a finding was not stored; it will be found again");
                }
            }
            Job::Request(request, from) => {
                let reply = pb::MirrorReply { body: Some(self.answer(*request).await) };
                if let Err(error) =
                    self.shared.store.log.reply(&from, reply.encode_to_vec().into()).await
                {
                    tracing::debug!(%error, "a gateway was not answered");
                }
            }
        }
    }

    /// The node's history, read once.
    async fn state(&mut self) -> Result<&mut NodeState, WorkError> {
        if self.state.is_none() {
            self.state = Some(self.shared.store.node(&self.workspace, &self.node).await?);
            self.dirty = true;
        }
        Ok(self.state.get_or_insert_default())
    }

    /// Takes events into the node's history, those that say something new.
    async fn note(&mut self, kinds: Vec<Kind>) -> Result<(), WorkError> {
        self.state().await?;
        let Some(state) = &mut self.state else { return Ok(()) };
        let (workspace, node) = (&self.workspace, &self.node);
        let before = state.standing().0;
        let news = self.shared.store.append_node(workspace, node, state, kinds, now_ms()).await?;
        let (after, reason) = state.standing();
        if before != after {
            tracing::warn!(
                workspace,
                node,
                before = before.as_str_name(),
                now = after.as_str_name(),
                reason,
                "a node's audit stands otherwise"
            );
        }
        if news {
            self.dirty = true;
        }
        // Nobody must get work a moment longer than it takes to say so.
        if after == pb::AuditStanding::Quarantined && before != after {
            self.publish().await;
        }
        Ok(())
    }

    /// A journal, read and verified once; with `fresh` again if storage has moved.
    async fn journal(&mut self, log32: &str, fresh: bool) -> Result<&mut Held, WorkError> {
        if fresh
            && let Some(held) = self.held.get(log32)
            && !self.shared.store.is_current(&self.workspace, &held.journal).await?
        {
            tracing::warn!(node = self.node, log32, "what is stored has changed; reading it again");
            self.held.remove(log32);
        }
        if !self.held.contains_key(log32) {
            let Last { signed, rev } = self.shared.signer.last(log32).await?;
            let store = &self.shared.store;
            let journal = store.journal(&self.workspace, &self.node, log32, signed).await?;
            if self.held.len() >= AUDIT_JOURNALS_OPEN_MAX {
                self.held.pop_first();
            }
            self.held
                .insert(log32.to_owned(), Held { journal, signed_rev: rev, challenge: Vec::new() });
        }
        match self.held.get_mut(log32) {
            Some(held) => Ok(held),
            None => Err(WorkError::Store(StoreError::Damaged("it vanished".into()))),
        }
    }

    /// Tells gateways how the node stands.
    async fn publish(&mut self) {
        let audit = self.audit();
        match self.shared.store.publish(&audit).await {
            Ok(()) => self.dirty = false,
            Err(error) => {
                tracing::warn!(node = self.node, %error, "gateways were not told how a node stands")
            }
        }
    }

    fn audit(&self) -> pb::NodeAudit {
        let empty = NodeState::default();
        let state = self.state.as_ref().unwrap_or(&empty);
        let (standing, reason) = state.standing();
        let held = self.held.values().find(|held| state.current.starts_with(&held.journal.log32));
        let signed = held.and_then(|held| held.journal.signed.as_ref());
        let evidence = state.quarantine.as_ref().map_or(Vec::new(), |found| found.notes.clone());
        pb::NodeAudit {
            workspace: self.workspace.clone(),
            node: self.node.clone(),
            log: state.current.clone(),
            standing: standing.into(),
            reason,
            cosigned_note: signed.map_or(String::new(), |signed| signed.note.to_string()),
            cosigned_size: signed.map_or(0, |signed| signed.size),
            cosigned_at_ms: signed.map_or(0, |signed| signed.time_s * 1_000),
            stored: held.map_or(0, |held| held.journal.size()),
            evidence_notes: evidence,
            unrecorded: u32::try_from(state.unrecorded.len()).unwrap_or(u32::MAX),
            undispatched: u32::try_from(state.undispatched.len()).unwrap_or(u32::MAX),
        }
    }

    async fn answer(&mut self, request: pb::MirrorRequest) -> Reply {
        use pb::mirror_request::Body;
        let log32 = request.log;
        match request.body {
            Some(Body::Hello(hello)) => self.hello(&log32, &hello).await,
            Some(Body::Batch(batch)) => self.batch(&log32, &batch).await,
            Some(Body::Openings(openings)) => self.openings(&log32, &openings).await,
            Some(Body::Evidence(evidence)) => self.evidence(&log32, &evidence).await,
            Some(Body::Settle(settle)) => self.settle(&settle).await,
            Some(Body::Locate(locate)) => self.locate(&log32, locate.seq).await,
            Some(Body::Find(_)) | None => answers::malformed("a question that no node can answer"),
        }
    }
}

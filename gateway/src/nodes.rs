//! The nodes whose tunnels end here, told to everybody who wants to know: a heartbeat every second, each change as
//! a numbered delta, a snapshot on request. All of it is ephemeral. What is kept of a node in the bucket `CX_NODES`, so that
//! offline ones can be listed, is written with its seat (`tunnels/seats.rs`) and only read here.

use crate::tunnels::{NODES_BUCKET, Seats};
use crate::view;
use bytes::Bytes;
use cortex_log::{EventLog, KvChange, LogError, Message};
use cortex_model::proto as pb;
use futures::StreamExt;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Heartbeat of a gateway.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Changes are announced together, at most this often.
const DELTA_EVERY: Duration = Duration::from_millis(20);
/// Nodes on one page of a snapshot.
const SNAPSHOT_PAGE: usize = 500;
/// How long other gateways may take to list their nodes.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);

type NodeKey = (String, String);

#[derive(Default)]
struct State {
    /// Sessions that are connected here.
    here: BTreeMap<NodeKey, Arc<pb::NodePresence>>,
    changed: BTreeMap<NodeKey, Arc<pb::NodePresence>>,
    gone: Vec<pb::NodeGone>,
    version: u64,
    /// Other gateways that were heard.
    others: BTreeSet<String>,
    /// What is known of nodes, connected or not, by bucket key; encoded, since it is rarely looked at.
    known: BTreeMap<String, Bytes>,
}

/// See the module.
pub(crate) struct Nodes {
    log: Arc<dyn EventLog>,
    gateway: String,
    epoch: String,
    /// Learns which seats were taken.
    seats: Arc<Seats>,
    state: Mutex<State>,
    dirty: Notify,
}

impl Nodes {
    /// No nodes yet.
    #[must_use]
    pub(crate) fn new(log: Arc<dyn EventLog>, gateway: &str, seats: Arc<Seats>) -> Nodes {
        let epoch = uuid::Uuid::new_v4().simple().to_string();
        Nodes {
            log,
            gateway: gateway.to_owned(),
            epoch,
            seats,
            state: Mutex::default(),
            dirty: Notify::new(),
        }
    }

    /// A node connected, or something about it changed.
    pub(crate) fn changed(&self, p: Arc<pb::NodePresence>) {
        let key = (p.workspace.clone(), p.node.clone());
        let mut state = self.lock();
        state.here.insert(key.clone(), p.clone());
        state.changed.insert(key, p);
        drop(state);
        self.dirty.notify_one();
    }

    /// Nodes that are connected here.
    pub(crate) fn connected(&self) -> usize {
        self.lock().here.len()
    }

    /// The newest session of a node that is known, wherever its connection ends; it may be over.
    pub(crate) fn session(&self, workspace: &str, node: &str) -> Option<String> {
        let state = self.lock();
        if let Some(here) = state.here.get(&(workspace.to_owned(), node.to_owned())) {
            return Some(here.session.clone());
        }
        let known = state.known.get(&format!("{workspace}.{node}"))?;
        pb::NodePresence::decode(known.clone()).ok().map(|presence| presence.session)
    }

    /// A session ended. A newer session of the same node stays.
    pub(crate) fn gone(&self, workspace: &str, node: &str, session: &str, generation: u64) {
        let key = (workspace.to_owned(), node.to_owned());
        let mut state = self.lock();
        let current = state.here.get(&key);
        if current.is_none_or(|p| p.session != session || p.generation != generation) {
            return;
        }
        state.here.remove(&key);
        state.changed.remove(&key);
        state.gone.push(pb::NodeGone {
            workspace: workspace.to_owned(),
            node: node.to_owned(),
            session: session.to_owned(),
        });
        drop(state);
        self.dirty.notify_one();
    }

    /// Announces changes and heartbeats and answers requests for snapshots, until cancelled.
    ///
    /// # Errors
    /// When the log's messages cannot be subscribed to.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<(), LogError> {
        let mut snapshots = self.log.subscribe(&format!("cx.p.snap.{}", self.gateway)).await?;
        let mut heartbeats = self.log.subscribe("cx.p.hb.*").await?;
        let mut known = self.log.kv_watch(NODES_BUCKET).await?;
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = beat.tick() => self.beat().await,
                () = self.dirty.notified() => {
                    self.announce().await;
                    tokio::time::sleep(DELTA_EVERY).await;
                }
                Some(m) = snapshots.next() => self.snapshot(&m).await,
                Some(m) = heartbeats.next() => self.heard(&m),
                change = known.next() => match change {
                    Some(Ok(change)) => self.described(change),
                    Some(Err(_)) | None => known = self.log.kv_watch(NODES_BUCKET).await?,
                },
            }
        }
    }

    async fn beat(&self) {
        let heartbeat = {
            let state = self.lock();
            pb::PresenceHeartbeat {
                gateway: self.gateway.clone(),
                epoch: self.epoch.clone(),
                version: state.version,
                nodes: u32::try_from(state.here.len()).unwrap_or(u32::MAX),
            }
        };
        self.publish("hb", heartbeat.encode_to_vec()).await;
    }

    async fn announce(&self) {
        let delta = {
            let mut state = self.lock();
            if state.changed.is_empty() && state.gone.is_empty() {
                return;
            }
            state.version += 1;
            pb::PresenceDelta {
                gateway: self.gateway.clone(),
                epoch: self.epoch.clone(),
                version: state.version,
                changed: std::mem::take(&mut state.changed)
                    .into_values()
                    .map(|p| (*p).clone())
                    .collect(),
                gone: std::mem::take(&mut state.gone),
            }
        };
        self.publish("d", delta.encode_to_vec()).await;
    }

    async fn publish(&self, kind: &str, bytes: Vec<u8>) {
        let subject = format!("cx.p.{kind}.{}", self.gateway);
        if let Err(e) = self.log.publish(&subject, Bytes::from(bytes)).await {
            tracing::debug!(error = %e, "presence was not announced");
        }
    }

    async fn snapshot(&self, m: &Message) {
        let Ok(request) = pb::PresenceSnapshotRequest::decode(m.body.clone()) else { return };
        let page = self.page(&request.after);
        if let Err(e) = self.log.reply(m, page.encode_to_vec().into()).await {
            tracing::debug!(error = %e, "a snapshot was not answered");
        }
    }

    fn page(&self, after: &str) -> pb::PresenceSnapshot {
        let state = self.lock();
        let name = |k: &NodeKey| format!("{}/{}", k.0, k.1);
        let mut nodes = Vec::new();
        let mut next_after = String::new();
        for (_, p) in state.here.iter().filter(|(k, _)| name(k).as_str() > after) {
            if nodes.len() == SNAPSHOT_PAGE {
                next_after = nodes
                    .last()
                    .map(|p: &pb::NodePresence| format!("{}/{}", p.workspace, p.node))
                    .unwrap_or_default();
                break;
            }
            nodes.push((**p).clone());
        }
        pb::PresenceSnapshot {
            gateway: self.gateway.clone(),
            epoch: self.epoch.clone(),
            version: state.version,
            nodes,
            next_after,
        }
    }

    fn described(&self, change: KvChange) {
        match change {
            KvChange::Put { key, entry } => {
                self.seats.changed(&key, entry.rev);
                self.lock().known.insert(key, entry.value);
            }
            KvChange::Delete { key } => {
                self.lock().known.remove(&key);
            }
            KvChange::CaughtUp => {}
        }
    }

    fn heard(&self, m: &Message) {
        let Ok(hb) = pb::PresenceHeartbeat::decode(m.body.clone()) else { return };
        if hb.gateway != self.gateway {
            self.lock().others.insert(hb.gateway);
        }
    }

    /// Every known node of a workspace, by name: those that are connected anywhere, and those that were.
    pub(crate) async fn list(&self, workspace: &str) -> BTreeMap<String, pb::Node> {
        let mut all = BTreeMap::new();
        let known = format!("{workspace}.");
        for (_, bytes) in
            self.lock().known.range(known.clone()..).take_while(|(k, _)| k.starts_with(&known))
        {
            if let Ok(p) = pb::NodePresence::decode(bytes.clone()) {
                all.insert(p.node.clone(), view::node(&p, ""));
            }
        }
        let others: Vec<String> = self.lock().others.iter().cloned().collect();
        for gateway in others {
            for p in self.elsewhere(&gateway).await {
                if p.workspace == workspace {
                    all.insert(p.node.clone(), view::node(&p, &gateway));
                }
            }
        }
        for p in self.lock().here.values().filter(|p| p.workspace == workspace) {
            all.insert(p.node.clone(), view::node(p, &self.gateway));
        }
        all
    }

    async fn elsewhere(&self, gateway: &str) -> Vec<pb::NodePresence> {
        let mut nodes = Vec::new();
        let mut after = String::new();
        loop {
            let ask = pb::PresenceSnapshotRequest { after: after.clone() };
            let subject = format!("cx.p.snap.{gateway}");
            let answer = self.log.request(&subject, ask.encode_to_vec().into(), LIST_TIMEOUT).await;
            let Some(page) = answer.ok().and_then(|b| pb::PresenceSnapshot::decode(b).ok()) else {
                self.lock().others.remove(gateway);
                return nodes;
            };
            nodes.extend(page.nodes);
            if page.next_after.is_empty() {
                return nodes;
            }
            after = page.next_after;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

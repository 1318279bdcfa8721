//! The gateway's side of the audit: which mirrors are there, what they say of each node. It relays and holds no key; nothing here
//! counts as an acknowledgement.

use cortex_log::audit::AUDIT_BUCKET;
use cortex_log::{EventLog, KvChange, LogError, Message};
use cortex_model::limits::mirror::{MIRROR_DEAD_AFTER_MS, MIRROR_TIMEOUT_MS};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use futures::StreamExt;
use pb::mirror_reply::Body as Reply;
use pb::mirror_request::Body as Ask;
use prost::Message as _;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How a node's audit stands; default when it never uploaded a journal.
pub(crate) type Standing = watch::Receiver<Arc<pb::NodeAudit>>;

struct Heard {
    vkey: String,
    at: Instant,
}

/// See the module.
pub(crate) struct Audits {
    log: Arc<dyn EventLog>,
    gateway: String,
    mirrors: Mutex<BTreeMap<String, Heard>>,
    standings: Mutex<HashMap<String, watch::Sender<Arc<pb::NodeAudit>>>>,
}

/// Whether a node with this audit must get no work.
pub(crate) fn is_barred(audit: &pb::NodeAudit) -> bool {
    matches!(audit.standing(), pb::AuditStanding::Quarantined | pb::AuditStanding::Retired)
}

impl Audits {
    pub(crate) fn new(log: Arc<dyn EventLog>, gateway: &str) -> Audits {
        Audits {
            log,
            gateway: gateway.to_owned(),
            mirrors: Mutex::default(),
            standings: Mutex::default(),
        }
    }

    /// Follows mirrors and standings until cancelled.
    ///
    /// # Errors
    /// When the log cannot be subscribed to.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<(), LogError> {
        let mut heartbeats = self.log.subscribe("cx.m.hb.*").await?;
        let mut changes = self.log.kv_watch(AUDIT_BUCKET).await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(message) = heartbeats.next() => self.heard(&message),
                change = changes.next() => match change {
                    Some(Ok(change)) => self.changed(change),
                    Some(Err(_)) | None => changes = self.log.kv_watch(AUDIT_BUCKET).await?,
                },
            }
        }
    }

    fn heard(&self, message: &Message) {
        let Ok(beat) = pb::MirrorHeartbeat::decode(message.body.clone()) else { return };
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        mirrors.insert(beat.mirror, Heard { vkey: beat.vkey, at: Instant::now() });
    }

    fn changed(&self, change: KvChange) {
        if let KvChange::Put { key, entry } = change
            && let Ok(audit) = pb::NodeAudit::decode(entry.value)
        {
            self.tell(&key, audit);
        }
    }

    fn tell(&self, key: &str, audit: pb::NodeAudit) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        match standings.get(key) {
            Some(sender) => {
                sender.send_replace(Arc::new(audit));
            }
            None => {
                standings.insert(key.to_owned(), watch::Sender::new(Arc::new(audit)));
            }
        }
    }

    /// How a node stands, from the log and then as it changes. Asked before the node gets anything.
    ///
    /// # Errors
    /// When the log does not say: then nothing is known, and nothing may be dispatched.
    pub(crate) async fn standing(&self, workspace: &str, node: &str) -> Result<Standing, LogError> {
        let key = format!("{workspace}.{node}");
        let stored = self.log.kv_get(AUDIT_BUCKET, &key).await?;
        let stored = stored.and_then(|entry| pb::NodeAudit::decode(entry.value).ok());
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = standings
            .entry(key)
            .or_insert_with(|| watch::Sender::new(Arc::new(stored.unwrap_or_default())));
        Ok(sender.subscribe())
    }

    /// How a node stood when last heard; for people.
    pub(crate) fn known(&self, workspace: &str, node: &str) -> Option<pb::NodeAudit> {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let audit = standings.get(&format!("{workspace}.{node}"))?.borrow().as_ref().clone();
        (!audit.log.is_empty()).then_some(audit)
    }

    /// How a node stands, as the log says now.
    pub(crate) async fn fresh(&self, workspace: &str, node: &str) -> Option<pb::NodeAudit> {
        let stored = self.log.kv_get(AUDIT_BUCKET, &format!("{workspace}.{node}")).await;
        let stored =
            stored.ok().flatten().and_then(|entry| pb::NodeAudit::decode(entry.value).ok());
        stored.or_else(|| self.known(workspace, node))
    }

    /// Nodes of a workspace that ever uploaded a journal.
    pub(crate) fn nodes(&self, workspace: &str) -> Vec<String> {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let audits = standings.values().map(|sender| sender.borrow().clone());
        let mut nodes: Vec<String> = audits
            .filter(|audit| audit.workspace == workspace && !audit.log.is_empty())
            .map(|audit| audit.node.clone())
            .collect();
        nodes.sort();
        nodes
    }

    /// Keys of the mirrors that are at work.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<String> = mirrors.values().map(|heard| heard.vkey.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Asks the mirror that is responsible for a node, and the next one when it is gone.
    ///
    /// # Errors
    /// `CX-1501` when none answers, and what the mirror itself refuses.
    pub(crate) async fn ask(
        &self,
        workspace: &str,
        node: &str,
        log: &str,
        body: Ask,
    ) -> Result<Reply, Fault> {
        let request = pb::MirrorRequest {
            workspace: workspace.to_owned(),
            node: node.to_owned(),
            log: log.to_owned(),
            gateway: self.gateway.clone(),
            body: Some(body),
        };
        let bytes = bytes::Bytes::from(request.encode_to_vec());
        let timeout = Duration::from_millis(MIRROR_TIMEOUT_MS);
        while let Some(mirror) = self.responsible(workspace, node) {
            match self.log.request(&format!("cx.m.up.{mirror}"), bytes.clone(), timeout).await {
                Ok(answer) => return read(answer),
                Err(error) => {
                    tracing::debug!(mirror, %error, "a mirror does not answer");
                    self.mirrors.lock().unwrap_or_else(PoisonError::into_inner).remove(&mirror);
                }
            }
        }
        Err(Fault::new(Code::NoMirror, "no mirror answers"))
    }

    /// The living mirror with the highest hash: all gateways that hear the same mirrors agree, and where they do not, the fences of the
    /// log keep it harmless.
    fn responsible(&self, workspace: &str, node: &str) -> Option<String> {
        let mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = Duration::from_millis(MIRROR_DEAD_AFTER_MS);
        mirrors
            .iter()
            .filter(|(_, heard)| heard.at.elapsed() < alive)
            .map(|(name, _)| name)
            .max_by_key(|name| {
                let digest: [u8; 32] =
                    Sha256::digest(format!("{name}\0{workspace}\0{node}").as_bytes()).into();
                digest
            })
            .cloned()
    }
}

/// The mirror's refusal as a fault of our own.
fn fault(error: pb::Error) -> Fault {
    let code = Code::ALL.iter().find(|code| code.as_str() == error.code).copied();
    Fault::new(code.unwrap_or(Code::Internal), error.message).with_hint(error.hint)
}

fn read(answer: bytes::Bytes) -> Result<Reply, Fault> {
    match pb::MirrorReply::decode(answer).ok().and_then(|reply| reply.body) {
        Some(Reply::Error(error)) => Err(fault(error)),
        Some(body) => Ok(body),
        None => Err(Fault::new(Code::Internal, "a mirror's answer cannot be read")),
    }
}

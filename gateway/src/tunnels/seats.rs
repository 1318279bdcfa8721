//! Which connection acts for a node: the one that took the node's seat last, wherever tunnels end. A seat lies in the bucket
//! `CX_NODES` and is taken at the revision that was read. Who takes one has the older connection ended first; and a gateway acts
//! only while it lately heard itself, so that one that was frozen or cut off does nothing for nodes that went elsewhere.

use super::takeover;
use crate::status::log_fault;
use bytes::Bytes;
use cortex_log::{EventLog, Expect, LogError, Message, Rev};
use cortex_model::limits::enrol::{SEAT_LEASE_MS, SEAT_PATIENCE_MS, SEAT_PULSE_MS, SEAT_TRIES};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, Tick};
use cortex_tunnel::{Rival, Rivals, Standing};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pb::gateway_request::Body;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bucket of what is known about nodes, by `<workspace>.<node>`.
pub(crate) const NODES_BUCKET: &str = "CX_NODES";
/// Pause before a seat is tried again; it grows with each try.
const AGAIN: Duration = Duration::from_millis(5);
/// Seats that are looked up at the same time after an absence.
const LOOKED_UP_AT_ONCE: usize = 64;

/// What a connection that ended leaves to the next one; none while it stands.
type Left = watch::Receiver<Option<pb::SeatLeft>>;

/// See the module.
pub(crate) struct Seats {
    log: Arc<dyn EventLog>,
    gateway: String,
    started: Instant,
    sitting: Mutex<Sitting>,
    /// When the newest word of ours that came back was sent.
    heard: watch::Sender<u64>,
}

#[derive(Default)]
struct Sitting {
    next: u64,
    /// By the bucket's key.
    nodes: HashMap<String, Node>,
}

/// The connections of one node here: mostly one, for moments more.
#[derive(Default)]
struct Node {
    /// The highest revision at which the seat is known to have been taken.
    newest: Rev,
    sitters: Vec<Sitter>,
}

struct Sitter {
    id: u64,
    /// None while it has not taken the seat yet.
    rev: Option<Rev>,
    superseded: CancellationToken,
    left: Left,
}

impl Seats {
    pub(crate) fn new(log: Arc<dyn EventLog>, gateway: &str) -> Arc<Seats> {
        Arc::new(Seats {
            log,
            gateway: gateway.to_owned(),
            started: Instant::now(),
            sitting: Mutex::default(),
            heard: watch::channel(0).0,
        })
    }

    fn tick(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A connection of a node that will take its seat. From here on it learns when another one does.
    pub(super) fn enter(self: &Arc<Seats>, key: &str) -> Seat {
        let (leave, left) = watch::channel(None);
        let superseded = CancellationToken::new();
        let mut sitting = self.lock();
        sitting.next += 1;
        let id = sitting.next;
        let sitter = Sitter { id, rev: None, superseded: superseded.clone(), left };
        sitting.nodes.entry(key.to_owned()).or_default().sitters.push(sitter);
        drop(sitting);
        Seat { seats: self.clone(), key: key.to_owned(), id, superseded, leave }
    }

    /// The seat was taken at `rev`: older connections here are ghosts. What they will leave when they have ended.
    fn taken(&self, key: &str, rev: Rev) -> Vec<Left> {
        let mut sitting = self.lock();
        let Some(node) = sitting.nodes.get_mut(key) else { return Vec::new() };
        node.newest = node.newest.max(rev);
        let older = node.sitters.iter().filter(|s| s.rev.is_some_and(|own| own < rev));
        older
            .map(|ghost| {
                ghost.superseded.cancel();
                ghost.left.clone()
            })
            .collect()
    }

    /// What is kept of a node changed: perhaps somebody else has its seat.
    pub(crate) fn changed(&self, key: &str, rev: Rev) {
        drop(self.taken(key, rev));
    }

    /// Waits until this gateway may act for its nodes.
    pub(crate) async fn may_act(&self) {
        let fresh = |heard: u64| self.tick().saturating_sub(heard) <= SEAT_LEASE_MS;
        if fresh(*self.heard.borrow()) {
            return;
        }
        let mut heard = self.heard.subscribe();
        while !fresh(*heard.borrow_and_update()) && heard.changed().await.is_ok() {}
    }

    /// Takes a seat for the connection `id`, and has the one that had it let go. `presence` is kept with it.
    ///
    /// # Errors
    /// `CX-0303` when the session has a newer connection, or another one was faster; the log's.
    pub(super) async fn take(
        &self,
        key: &str,
        id: u64,
        presence: &pb::NodePresence,
        rival: Rival,
    ) -> Result<Taken, Fault> {
        for n in 0..SEAT_TRIES {
            let known = self.log.kv_get(NODES_BUCKET, key).await.map_err(|e| log_fault(&e))?;
            let before =
                known.as_ref().and_then(|e| pb::NodePresence::decode(e.value.clone()).ok());
            let before = before.unwrap_or_default();
            let seat = before.seat.clone().unwrap_or_default();
            let mut rivals = Rivals::of_seat(&seat);
            let Standing::Counts { clone } =
                rivals.hello(rival.clone(), Tick(crate::clock::now().0))
            else {
                return Err(superseded("the session has a newer connection already"));
            };
            let journal = takeover::newest(presence, &before);
            let kept = pb::NodePresence {
                slots_free: 0,
                journal: Some(journal.clone()),
                seat: Some(rivals.to_seat(&self.gateway)),
                ..presence.clone()
            };
            let expect = known.map_or(Expect::Absent, |e| Expect::At(e.rev));
            let bytes = Bytes::from(kept.encode_to_vec());
            match self.log.kv_put(NODES_BUCKET, key, expect, bytes).await {
                Ok(rev) => {
                    let mut taken = Taken { rev, seat: kept.seat.map(Box::new), journal, clone };
                    self.sit(key, id, rev)?;
                    self.clear(key, &seat.gateway, &kept.incarnation, &mut taken).await;
                    return Ok(taken);
                }
                // What was read may lag behind.
                Err(LogError::Conflict) => tokio::time::sleep(AGAIN * n).await,
                Err(e) => return Err(log_fault(&e)),
            }
        }
        Err(Fault::new(Code::LogUnavailable, "others take the node's seat all the time"))
    }

    fn sit(&self, key: &str, id: u64, rev: Rev) -> Result<(), Fault> {
        let mut sitting = self.lock();
        let node = sitting.nodes.get_mut(key);
        let newest = node.as_ref().map_or(0, |node| node.newest);
        let sitter = node.and_then(|node| node.sitters.iter_mut().find(|s| s.id == id));
        match sitter {
            Some(sitter) if newest <= rev => {
                sitter.rev = Some(rev);
                Ok(())
            }
            Some(_) | None => Err(superseded("another connection of the node was faster")),
        }
    }

    /// Sees to it that nobody else acts for the node any more, and takes over what was seen of its journal.
    async fn clear(&self, key: &str, gateway: &str, incarnation: &str, taken: &mut Taken) {
        let here = self.taken(key, taken.rev);
        let elsewhere = async {
            if !gateway.is_empty() && gateway != self.gateway {
                self.have_left(key, gateway, taken.rev).await
            } else {
                None
            }
        };
        let (here, elsewhere) = tokio::join!(ended(here), elsewhere);
        for left in [here, elsewhere].into_iter().flatten() {
            takeover::raise(&mut taken.journal, incarnation, left);
        }
    }

    /// Asks another gateway to end its connections of the node. One that cannot be heard does not act after its lease.
    async fn have_left(&self, key: &str, gateway: &str, rev: Rev) -> Option<pb::SeatLeft> {
        let (workspace, node) = key.split_once('.').unwrap_or_default();
        let (workspace, node) = (workspace.to_owned(), node.to_owned());
        let asked = pb::SeatTaken { workspace, node, revision: rev };
        let request = pb::GatewayRequest { body: Some(Body::SeatTaken(asked)) };
        let subject = format!("cx.g.{gateway}");
        let patience = Duration::from_millis(SEAT_PATIENCE_MS);
        let until = Instant::now() + patience;
        match self.log.request(&subject, request.encode_to_vec().into(), patience).await {
            Ok(answer) => pb::SeatLeft::decode(answer).ok(),
            // It has ended, or must look at its seats before it acts again.
            Err(LogError::NoResponders) => None,
            Err(error) => {
                tracing::warn!(gateway, node = key, %error, "the gateway that had the node does not answer");
                tokio::time::sleep_until(until).await;
                None
            }
        }
    }

    /// Answers other gateways and listens to itself until cancelled.
    ///
    /// # Errors
    /// When the log's messages cannot be subscribed to.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<(), LogError> {
        let subject = format!("cx.g.{}", self.gateway);
        let mut asked = self.log.subscribe(&subject).await?;
        let mut pulse = tokio::time::interval(Duration::from_millis(SEAT_PULSE_MS));
        pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = pulse.tick() => self.speak(&subject).await,
                Some(()) = answers.next(), if !answers.is_empty() => {}
                message = asked.next() => match message {
                    Some(message) => match body(&message) {
                        Some(Body::SeatTaken(taken)) => answers.push(self.answer(message, taken)),
                        Some(Body::Pulse(pulse)) => self.hear(pulse.sent_ms).await,
                        None => {}
                    },
                    None => return Err(LogError::Backend("the subscription ended".into())),
                },
            }
        }
    }

    async fn speak(&self, subject: &str) {
        let pulse = pb::Pulse { sent_ms: self.tick() };
        let request = pb::GatewayRequest { body: Some(Body::Pulse(pulse)) };
        if let Err(error) = self.log.publish(subject, request.encode_to_vec().into()).await {
            tracing::debug!(%error, "this gateway cannot speak to itself");
        }
    }

    /// A word of ours came back. After a long absence the seats are looked at before anybody acts again.
    async fn hear(&self, sent_ms: u64) {
        let before = *self.heard.borrow();
        if sent_ms < before {
            return;
        }
        if sent_ms - before > SEAT_LEASE_MS && !self.look_again().await {
            return;
        }
        self.heard.send_replace(sent_ms);
    }

    /// Whether all seats could be looked at.
    async fn look_again(&self) -> bool {
        let keys: Vec<String> = self.lock().nodes.keys().cloned().collect();
        if !keys.is_empty() {
            tracing::warn!(
                nodes = keys.len(),
                "this gateway was away: looking whether its nodes went elsewhere"
            );
        }
        let look = |key: String| async move {
            let known = self.log.kv_get(NODES_BUCKET, &key).await;
            known.map(|known| known.map(|entry| self.changed(&key, entry.rev))).is_ok()
        };
        let looks = futures::stream::iter(keys.into_iter().map(look));
        looks.buffer_unordered(LOOKED_UP_AT_ONCE).all(std::future::ready).await
    }

    async fn answer(&self, message: Message, taken: pb::SeatTaken) {
        let key = format!("{}.{}", taken.workspace, taken.node);
        let left = ended(self.taken(&key, taken.revision)).await.unwrap_or_default();
        if let Err(error) = self.log.reply(&message, left.encode_to_vec().into()).await {
            tracing::debug!(%error, "a gateway was not told that a node's seat is free");
        }
    }

    /// Keeps what is known of a node whose connection ended, unless another one has its seat.
    pub(super) async fn keep(&self, taken: Taken, presence: &pb::NodePresence) {
        let seat = taken.seat.map(|seat| pb::Seat { gateway: String::new(), ..*seat });
        let kept = pb::NodePresence { slots_free: 0, seat, ..presence.clone() };
        let key = format!("{}.{}", presence.workspace, presence.node);
        let bytes = Bytes::from(kept.encode_to_vec());
        match self.log.kv_put(NODES_BUCKET, &key, Expect::At(taken.rev), bytes).await {
            Ok(_) | Err(LogError::Conflict) => {}
            Err(error) => {
                tracing::warn!(node = presence.node, %error, "the node's description was not stored");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sitting> {
        self.sitting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A seat that was taken.
pub(super) struct Taken {
    rev: Rev,
    /// As it stands in the log. The rest of what is kept there, the tunnel has anyhow.
    seat: Option<Box<pb::Seat>>,
    /// The newest entry of the node's journal that anybody saw.
    pub(super) journal: pb::JournalHead,
    /// Two sessions that look like one key on two machines.
    pub(super) clone: Option<Box<[Rival; 2]>>,
}

/// A connection's place among those of its node, until it is dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    pub(super) key: String,
    pub(super) id: u64,
    /// Cancelled when another connection has taken the seat.
    pub(super) superseded: CancellationToken,
    leave: watch::Sender<Option<pb::SeatLeft>>,
}

impl Seat {
    /// The connection does nothing any more, and this is what it last saw of the node's journal.
    pub(super) fn leave(self, incarnation: &str, journal: &pb::JournalHead) {
        let left =
            pb::SeatLeft { journal: Some(journal.clone()), incarnation: incarnation.to_owned() };
        self.leave.send_replace(Some(left));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sitting = self.seats.lock();
        let Some(node) = sitting.nodes.get_mut(&self.key) else { return };
        node.sitters.retain(|sitter| sitter.id != self.id);
        if node.sitters.is_empty() {
            sitting.nodes.remove(&self.key);
        }
    }
}

fn superseded(why: &str) -> Fault {
    Fault::new(Code::Superseded, why)
}

fn body(message: &Message) -> Option<Body> {
    pb::GatewayRequest::decode(message.body.clone()).ok()?.body
}

/// Waits until connections have ended; what the one with the longest journal left.
async fn ended(ghosts: Vec<Left>) -> Option<pb::SeatLeft> {
    let mut longest: Option<pb::SeatLeft> = None;
    for mut ghost in ghosts {
        // An error: it ended before it knew of a journal.
        let left = ghost.wait_for(Option::is_some).await.ok().and_then(|left| left.clone());
        let size = |left: &pb::SeatLeft| left.journal.as_ref().map_or(0, |journal| journal.size);
        longest = longest.into_iter().chain(left).max_by_key(size);
    }
    longest
}

//! One agent's connection: reads and writes frames, drives the tunnel's machine, carries offers to the agent and its
//! reports to the log. It decides nothing about tasks and waits for nothing slow: whatever takes time is a future in
//! `work`, so that heartbeats and control frames never stand behind a disk.

use super::Shared;
use super::audit::{self, Relay};
use super::flow::Flow;
use super::offers::Waiting;
use super::seats::{Seat, Taken};
use crate::identity::Principal;
use cortex_log::{LogError, Message, MessageStream, Rev};
use cortex_model::ids::SessionId;
use cortex_model::limits::OFFER_TIMEOUT_MS;
use cortex_model::limits::enrol::{RENEW_NOW_PER_NODE_MS, RENEW_NOW_RANGE_MS};
use cortex_model::proto as pb;
use cortex_model::registry::Digest;
use cortex_model::{AttemptKey, Code, Fault, Incarnation, NodeId, Outcome, Tick, Workspace};
use cortex_tunnel::{AckMode, GatewayAction, GatewayEnd};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use pb::dispatch_reply::Body as Reply;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

/// Pause before something the log did not take is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// The longest such pause; it doubles with every try.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(10);

/// Something slow that ended.
pub(super) enum Done {
    /// The node was looked up and its subject is listened to.
    Known(Box<Result<super::peer::LookedUp, Fault>>),
    Started {
        offer_id: u64,
        result: Result<Rev, LogError>,
    },
    Stored {
        key: AttemptKey,
        bytes: u64,
        result: Result<u64, LogError>,
    },
    /// Output of an attempt that the log did not give to this node.
    Foreign {
        key: AttemptKey,
        bytes: u64,
    },
    /// The log did not say whose an attempt is.
    Doubtful {
        key: AttemptKey,
        fault: Fault,
    },
    Consented {
        key: AttemptKey,
        report: Box<pb::ConsentReport>,
        /// The pause before this try.
        after: Duration,
        result: Result<(), Fault>,
    },
    Finished {
        key: AttemptKey,
        outcome: Box<Outcome>,
        /// The pause before this try.
        after: Duration,
        result: Result<(), Fault>,
    },
    Replied,
    /// The mirror answered what was relayed to it, or nobody did.
    Relayed {
        said: Box<cortex_tunnel::AuditUp>,
        answer: Box<Result<pb::mirror_reply::Body, Fault>>,
    },
    /// It is time to say hello to the mirror again.
    GreetMirror,
}

/// The agent behind the connection.
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) session: SessionId,
    /// What everybody was told of it; shared with who tells it.
    pub(super) told: Arc<pb::NodePresence>,
    pub(super) slots: u32,
    pub(super) slots_free: u32,
    pub(super) journal: pb::JournalHead,
    pub(super) last_seen_ms: u64,
    /// It said that it goes away.
    pub(super) leaving: bool,
    /// Its place among the node's connections.
    pub(super) seat: Seat,
    /// What came of taking the node's seat; none before the welcome.
    pub(super) taken: Option<Taken>,
    /// As last told to the agent and to schedulers.
    pub(super) audit_standing: i32,
    /// Its audit bars it from work.
    pub(super) barred: bool,
}

/// See the module.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) workspace: Workspace,
    pub(super) principal: Principal,
    pub(super) end: GatewayEnd,
    pub(super) out: mpsc::Sender<Box<pb::GatewayFrame>>,
    pub(super) peer: Option<Peer>,
    pub(super) requests: Option<MessageStream>,
    pub(super) offers: BTreeMap<u64, Waiting>,
    pub(super) asked: HashMap<u64, Message>,
    pub(super) flows: HashMap<AttemptKey, Flow>,
    pub(super) work: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) next_id: u64,
    pub(super) relay: Relay,
    /// Changes when another CA signs.
    ca: watch::Receiver<Digest>,
    /// Changes when something is taken away from some node's policy.
    narrowings: watch::Receiver<Rev>,
    /// The narrowing that the node was told last.
    pub(super) narrowed: u64,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        principal: Principal,
        out: mpsc::Sender<Box<pb::GatewayFrame>>,
    ) -> Connection {
        let mut end = GatewayEnd::new(shared.tunnel.clone(), shared.tick());
        let (ca, narrowings) = (shared.identity.ca(), shared.registry.narrowings());
        let token_end = principal.expires_at.unwrap_or_default();
        end.set_token_end(token_end, shared.tick(), crate::clock::now());
        Connection {
            shared,
            workspace: principal.workspace.clone(),
            principal,
            end,
            out,
            peer: None,
            requests: None,
            offers: BTreeMap::new(),
            asked: HashMap::new(),
            flows: HashMap::new(),
            work: FuturesUnordered::new(),
            next_id: 0,
            relay: Relay::default(),
            ca,
            narrowings,
            narrowed: 0,
        }
    }

    /// Drives the connection to its end. In a box, for what a future takes as an argument it holds twice as long as it lives.
    pub(super) async fn run(mut self: Box<Self>, mut inbound: Streaming<pb::AgentFrame>) {
        metrics::gauge!("cortex_tunnels").increment(1.0);
        let why = self.drive(&mut inbound).await;
        metrics::gauge!("cortex_tunnels").decrement(1.0);
        // Nothing of it goes on, and only then the next connection does.
        self.work.clear();
        let Some(mut peer) = self.peer.take() else { return };
        tracing::info!(node = %peer.node, session = %peer.session, reason = why, "tunnel ended");
        peer.last_seen_ms = crate::clock::now().0;
        let p = peer.tell();
        peer.seat.leave(&p.incarnation, &peer.journal);
        self.shared.nodes.gone(&p.workspace, &p.node, &p.session, p.generation);
        if let Some(taken) = peer.taken {
            self.shared.seats.keep(taken, &p).await;
        }
    }

    async fn drive(&mut self, inbound: &mut Streaming<pb::AgentFrame>) -> &'static str {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let stop = self.shared.stop.clone();
        let out = self.out.clone();
        let ended = self.principal.ended().clone();
        let mut superseded = CancellationToken::new();
        let mut draining = false;
        loop {
            if superseded.is_cancelled() {
                let text = "a newer connection of the same node took over";
                return self.dismiss(&Fault::new(Code::Superseded, text));
            }
            if ended.is_cancelled() {
                return self.dismiss(&self.shared.identity.why_ended(&self.principal));
            }
            while let Some(action) = self.end.poll_action() {
                if let ControlFlow::Break(why) = self.act(action) {
                    return why;
                }
            }
            self.fill();
            if let Some(peer) = &self.peer {
                superseded = peer.seat.superseded.clone();
            }
            let Some(deadline) = self.end.poll_timeout().map(|t| self.shared.instant(t)) else {
                return "closed";
            };
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            let full = self.end.has_frame();
            tokio::select! {
                frame = inbound.message() => match frame {
                    Ok(Some(frame)) => self.heard(frame),
                    Ok(None) => return "the agent closed it",
                    Err(_) => return "the transport broke",
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
                Some(m) = next(&mut self.requests) => self.request(m),
                () = audit::changed(&mut self.relay.standing) => self.standing_changed(),
                permit = out.reserve(), if full => match permit {
                    Ok(permit) => if let Some(frame) = self.end.poll_frame() { permit.send(frame) },
                    Err(_) => return "the transport is gone",
                },
                () = timer.as_mut() => self.tick(),
                Ok(()) = self.ca.changed() => self.ask_to_renew(),
                Ok(()) = self.narrowings.changed() => self.narrow(),
                () = superseded.cancelled() => {}
                () = ended.cancelled() => {}
                () = stop.cancelled(), if !draining => {
                    draining = true;
                    let grace = self.shared.config.drain_grace.as_millis();
                    self.end.drain(u32::try_from(grace).unwrap_or(u32::MAX), self.shared.tick());
                }
            }
        }
    }

    /// The connection may do nothing any more: of what it was about to do, only the reason is still said.
    fn dismiss(&mut self, fault: &Fault) -> &'static str {
        self.end.refuse(fault.into(), 0);
        while let Some(action) = self.end.poll_action() {
            if let close @ GatewayAction::Close { .. } = action
                && self.act(close).is_break()
            {
                break;
            }
        }
        "dismissed"
    }

    fn now(&self) -> Tick {
        self.shared.tick()
    }

    /// Hands frames to the transport while it has room.
    fn fill(&mut self) {
        while self.end.has_frame() {
            let Ok(permit) = self.out.try_reserve() else { return };
            let Some(frame) = self.end.poll_frame() else { return };
            permit.send(frame);
        }
    }

    fn heard(&mut self, frame: pb::AgentFrame) {
        let now = self.now();
        if let Err(e) = self.end.handle_frame(frame, now) {
            tracing::warn!(node = self.node_name(), error = %e, "the agent broke the protocol");
        }
    }

    /// Asks the node for a certificate of the CA that signs now, unless it has one.
    pub(super) fn ask_to_renew(&mut self) {
        if self.end.is_up() && self.shared.identity.should_renew(&self.principal) {
            let nodes = u64::try_from(self.shared.nodes.connected()).unwrap_or(u64::MAX);
            let (least, most) = RENEW_NOW_RANGE_MS;
            let within = nodes.saturating_mul(RENEW_NOW_PER_NODE_MS).clamp(least, most);
            self.end.renew_now(u32::try_from(within).unwrap_or(u32::MAX));
        }
    }

    fn token_shown(&mut self, token: &str) {
        match self.shared.identity.tunnel_token(&self.principal, token) {
            Ok(expires) => self.end.token_accepted(expires, self.now(), crate::clock::now()),
            Err(fault) => self.end.refuse((&fault).into(), 0),
        }
    }

    pub(super) fn node_name(&self) -> &str {
        self.peer.as_ref().map_or("", |p| p.node.as_str())
    }

    fn tick(&mut self) {
        let now = self.now();
        self.end.handle_timeout(now, crate::clock::now());
        // Offers whose scheduler stopped waiting long ago.
        let old = Duration::from_millis(2 * OFFER_TIMEOUT_MS);
        while let Some(first) = self.offers.first_entry() {
            if first.get().since.elapsed() < old {
                break;
            }
            let (offer_id, _) = first.remove_entry();
            self.end.withdraw(offer_id);
        }
    }

    fn act(&mut self, action: GatewayAction) -> ControlFlow<&'static str> {
        match action {
            GatewayAction::Hello(hello) => self.hello(*hello),
            GatewayAction::Claim { offer_id, key, fence, slots_free } => {
                self.claim(offer_id, key, fence, slots_free);
            }
            GatewayAction::Busy { busy, .. } => {
                if let Some(waiting) = self.offers.remove(&busy.offer_id) {
                    self.reply(waiting.message, Reply::Busy(busy));
                }
            }
            GatewayAction::Outcome { key, report } => self.outcome(key, *report),
            GatewayAction::Consent { key, report } => self.consent(key, report),
            GatewayAction::Output { key, chunk } => {
                let bytes = chunk.data.len() as u64;
                if self.flows.entry(key.clone()).or_default().chunk(chunk) {
                    self.advance(&key);
                } else {
                    self.end.output_settled(bytes);
                }
            }
            GatewayAction::QueryAnswer { answer, .. } => {
                if let Some(m) = self.asked.remove(&answer.query_id) {
                    self.reply(m, Reply::QueryAnswer(answer));
                }
            }
            GatewayAction::CancelAnswer { answer, .. } => {
                if let Some(m) = self.asked.remove(&answer.query_id) {
                    self.reply(m, Reply::CancelAnswer(answer));
                }
            }
            GatewayAction::TerminalAnswer(answer) => {
                if let Some(m) = self.asked.remove(&answer.query_id) {
                    self.reply(m, Reply::Terminal(answer));
                }
            }
            GatewayAction::Heartbeat(beat) => self.heartbeat(beat),
            GatewayAction::TokenShown(token) => self.token_shown(&token),
            GatewayAction::Audit(said) => self.audit(*said),
            GatewayAction::Leaving(reason) => {
                tracing::info!(node = self.node_name(), reason, "the agent goes away");
                self.leaving();
            }
            GatewayAction::Close { why, last } => {
                tracing::debug!(node = self.node_name(), ?why, "closing the tunnel");
                if let Some(frame) = last {
                    // If the transport has no room the agent learns it from the silence.
                    let told = self.out.try_send(frame);
                    drop(told);
                }
                return ControlFlow::Break("closed by the gateway");
            }
        }
        ControlFlow::Continue(())
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Known(known) => self.known(*known),
            Done::Replied => {}
            Done::Relayed { said, answer } => self.relayed(*said, *answer),
            Done::GreetMirror => self.greet_mirror(),
            Done::Started { offer_id, result } => match result {
                Ok(rev) => {
                    self.end.go(offer_id, rev);
                }
                Err(LogError::Conflict) => {
                    metrics::counter!("cortex_claims_lost_total").increment(1);
                    self.end.no_go(offer_id, None);
                }
                Err(e) => {
                    // It may have landed: only a new connection makes the scheduler ask the node.
                    let fault = crate::status::log_fault(&e);
                    self.end.refuse((&fault).into(), 0);
                }
            },
            Done::Stored { key, bytes, result } => {
                self.end.output_settled(bytes);
                let Some(flow) = self.flows.get_mut(&key) else { return };
                match result {
                    Ok(end) => {
                        flow.stored(end);
                        self.end.ack_output(&key, end, AckMode::Durable);
                    }
                    Err(LogError::OutputGap { expected }) => {
                        let dropped = flow.gap(expected);
                        self.end.output_settled(dropped);
                        self.end.ack_output(&key, expected, AckMode::Resend);
                    }
                    Err(_) => {}
                }
                self.advance(&key);
            }
            Done::Foreign { key, bytes } => {
                tracing::warn!(node = self.node_name(), attempt = %key, "output of an attempt that is not the node's own is dropped");
                let (waiting, outcome) = self.flows.remove(&key).map(Flow::end).unwrap_or_default();
                self.end.output_settled(bytes + waiting);
                self.end.ack_output(&key, 0, AckMode::Discard);
                if let Some(outcome) = outcome {
                    self.finish(key, outcome, Duration::ZERO);
                }
            }
            Done::Doubtful { key, fault } => {
                tracing::warn!(node = self.node_name(), attempt = %key, error = %fault, "output cannot be stored");
                self.end.refuse((&fault).into(), 0);
            }
            Done::Consented { key, report, after, result } => {
                self.consent_recorded(key, report, after, result);
            }
            Done::Finished { key, outcome, after, result } => match result {
                Ok(()) => {
                    self.flows.remove(&key);
                    self.end.ack_outcome(&key);
                }
                Err(fault) => {
                    tracing::warn!(attempt = %key, error = %fault, "an outcome was not stored; trying again");
                    self.finish(key, outcome, (2 * after).clamp(RETRY, RETRY_MAX));
                }
            },
        }
    }
}

/// The next message of a stream that may not be there yet.
async fn next(requests: &mut Option<MessageStream>) -> Option<Message> {
    match requests {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

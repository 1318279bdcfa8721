//! One agent's connection: reads and writes frames, drives the tunnel's machine, carries offers to the agent and its
//! reports to the log. It decides nothing about tasks and waits for nothing slow: whatever takes time is a future in
//! `work`, so that heartbeats and control frames never stand behind a disk.

use super::Shared;
use super::flow::{Flow, Next};
use super::offers::{self, Claimant, Waiting};
use crate::ingest;
use crate::nodes::NODES_BUCKET;
use cortex_log::{LogError, Message, MessageStream, OutputKey, Rev};
use cortex_model::ids::SessionId;
use cortex_model::limits::OFFER_TIMEOUT_MS;
use cortex_model::proto as pb;
use cortex_model::{AttemptKey, Code, Fault, Incarnation, NodeId, Outcome, Tick, Workspace, wire};
use cortex_tunnel::{AckMode, GatewayAction, GatewayEnd};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use pb::dispatch_reply::Body as Reply;
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// Pause before something the log did not take is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Something slow that ended.
enum Done {
    /// The node was looked up and its subject is listened to.
    Known(Result<(MessageStream, u64), Fault>),
    Started {
        offer_id: u64,
        result: Result<Rev, LogError>,
    },
    Stored {
        key: AttemptKey,
        bytes: u64,
        result: Result<u64, LogError>,
    },
    Finished {
        key: AttemptKey,
        outcome: Box<Outcome>,
        result: Result<(), Fault>,
    },
    Replied,
}

/// The agent behind the connection.
struct Peer {
    node: NodeId,
    incarnation: Incarnation,
    session: SessionId,
    presence: pb::NodePresence,
    superseded: CancellationToken,
    announced_free: u32,
}

/// See the module.
pub(super) struct Connection {
    shared: Arc<Shared>,
    workspace: Workspace,
    end: GatewayEnd,
    out: mpsc::Sender<Result<pb::GatewayFrame, Status>>,
    peer: Option<Peer>,
    requests: Option<MessageStream>,
    offers: BTreeMap<u64, Waiting>,
    asked: HashMap<u64, Message>,
    flows: HashMap<AttemptKey, Flow>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    next_id: u64,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        workspace: Workspace,
        out: mpsc::Sender<Result<pb::GatewayFrame, Status>>,
    ) -> Connection {
        let end = GatewayEnd::new(shared.tunnel.clone(), shared.tick());
        Connection {
            shared,
            workspace,
            end,
            out,
            peer: None,
            requests: None,
            offers: BTreeMap::new(),
            asked: HashMap::new(),
            flows: HashMap::new(),
            work: FuturesUnordered::new(),
            next_id: 0,
        }
    }

    /// Drives the connection to its end.
    pub(super) async fn run(mut self, mut inbound: Streaming<pb::AgentFrame>) {
        metrics::gauge!("cortex_tunnels").increment(1.0);
        let why = self.drive(&mut inbound).await;
        metrics::gauge!("cortex_tunnels").decrement(1.0);
        if let Some(mut peer) = self.peer.take() {
            tracing::info!(node = %peer.node, session = %peer.session, reason = why, "tunnel ended");
            let p = &mut peer.presence;
            p.last_seen_ms = crate::clock::now().0;
            self.shared.leave(&p.workspace, &p.node, &p.session);
            self.shared.nodes.gone(&p.workspace, &p.node, &p.session, p.generation);
            self.shared.nodes.remember(p).await;
        }
    }

    async fn drive(&mut self, inbound: &mut Streaming<pb::AgentFrame>) -> &'static str {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let stop = self.shared.stop.clone();
        let out = self.out.clone();
        let mut superseded = CancellationToken::new();
        let mut draining = false;
        loop {
            while let Some(action) = self.end.poll_action() {
                if let ControlFlow::Break(why) = self.act(action) {
                    return why;
                }
            }
            self.fill();
            if let Some(peer) = &self.peer {
                superseded = peer.superseded.clone();
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
                permit = out.reserve(), if full => match permit {
                    Ok(permit) => if let Some(frame) = self.end.poll_frame() { permit.send(Ok(frame)) },
                    Err(_) => return "the transport is gone",
                },
                () = timer.as_mut() => self.tick(),
                () = superseded.cancelled() => {
                    let fault = Fault::new(Code::Superseded, "a newer connection of the same node took over");
                    self.end.refuse((&fault).into(), 0);
                }
                () = stop.cancelled(), if !draining => {
                    draining = true;
                    let grace = self.shared.config.drain_grace.as_millis();
                    self.end.drain(u32::try_from(grace).unwrap_or(u32::MAX), self.shared.tick());
                }
            }
        }
    }

    fn now(&self) -> Tick {
        self.shared.tick()
    }

    /// Hands frames to the transport while it has room.
    fn fill(&mut self) {
        while self.end.has_frame() {
            let Ok(permit) = self.out.try_reserve() else { return };
            let Some(frame) = self.end.poll_frame() else { return };
            permit.send(Ok(frame));
        }
    }

    fn heard(&mut self, frame: pb::AgentFrame) {
        let now = self.now();
        if let Err(e) = self.end.handle_frame(frame, now) {
            tracing::warn!(node = self.node_name(), error = %e, "the agent broke the protocol");
        }
    }

    fn node_name(&self) -> &str {
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
            GatewayAction::Heartbeat(beat) => self.heartbeat(beat),
            GatewayAction::Leaving(reason) => {
                tracing::info!(node = self.node_name(), reason, "the agent goes away");
                self.announce(|p| {
                    p.slots = 0;
                    p.slots_free = 0;
                });
            }
            GatewayAction::Close { why, last } => {
                tracing::debug!(node = self.node_name(), ?why, "closing the tunnel");
                if let Some(frame) = last {
                    // If the transport has no room the agent learns it from the silence.
                    let told = self.out.try_send(Ok(*frame));
                    drop(told);
                }
                return ControlFlow::Break("closed by the gateway");
            }
        }
        ControlFlow::Continue(())
    }

    fn hello(&mut self, hello: pb::Hello) {
        match self.peer_of(hello) {
            Ok(peer) => {
                let subject = format!("cx.n.{}.{}.{}", self.workspace, peer.node, peer.session);
                let shared = self.shared.clone();
                let key = format!("{}.{}", self.workspace, peer.node);
                let incarnation = peer.incarnation.to_string();
                self.peer = Some(peer);
                self.work.push(async move { Done::Known(look_up(&shared, &subject, &key, &incarnation).await) }.boxed());
            }
            Err(fault) => self.end.refuse((&fault).into(), 0),
        }
    }

    fn peer_of(&self, h: pb::Hello) -> Result<Peer, Fault> {
        let node = NodeId::parse(&h.node)?;
        let incarnation = Incarnation::parse(&h.incarnation)?;
        // A connection counts as a session of its own: after a reconnect the scheduler asks what became of claims.
        let session = SessionId::parse(&format!("{}-{}", h.session, h.generation))?;
        let superseded =
            self.shared.take_over(self.workspace.as_str(), node.as_str(), session.as_str());
        let now = crate::clock::now().0;
        let presence = pb::NodePresence {
            workspace: self.workspace.to_string(),
            node: node.to_string(),
            session: session.to_string(),
            incarnation: incarnation.to_string(),
            generation: h.generation,
            slots: h.slots,
            slots_free: h.slots_free,
            manifest: h.manifest,
            journal: h.journal,
            agent_version: h.agent_version,
            connected_at_ms: now,
            last_seen_ms: now,
        };
        let announced_free = presence.slots_free;
        Ok(Peer { node, incarnation, session, presence, superseded, announced_free })
    }

    /// Welcomes the agent once offers for it are listened to.
    fn known(&mut self, known: Result<(MessageStream, u64), Fault>) {
        let Some(peer) = &mut self.peer else { return };
        match known {
            Ok((requests, journal_seen)) => {
                let journal = peer.presence.journal.get_or_insert_default();
                if journal.size < journal_seen {
                    tracing::error!(node = %peer.node, has = journal.size, seen = journal_seen,
                        "the node's journal is shorter than it was: it was rolled back or its disk lost data");
                    // Its word that something never started is not taken until it has grown again.
                    journal.size = journal_seen;
                }
                let presence = peer.presence.clone();
                self.requests = Some(requests);
                let now = self.shared.tick();
                if self.end.accept(self.workspace.as_str(), now, crate::clock::now()) {
                    tracing::info!(node = %presence.node, session = %presence.session, agent = presence.agent_version, "tunnel up");
                    self.shared.nodes.changed(presence.clone());
                    let shared = self.shared.clone();
                    self.work.push(
                        async move {
                            shared.nodes.remember(&presence).await;
                            Done::Replied
                        }
                        .boxed(),
                    );
                }
            }
            Err(fault) => self.end.refuse((&fault).into(), 0),
        }
    }

    fn heartbeat(&mut self, beat: pb::AgentHeartbeat) {
        let Some(peer) = &mut self.peer else { return };
        let p = &mut peer.presence;
        p.last_seen_ms = crate::clock::now().0;
        if let Some(head) = beat.journal
            && p.journal.as_ref().is_none_or(|j| j.size < head.size)
        {
            p.journal = Some(head);
        }
        let (before, after) = (peer.announced_free, beat.slots_free);
        let step = (beat.slots / 4).max(1);
        let told =
            p.slots == beat.slots && (before == 0) == (after == 0) && before.abs_diff(after) < step;
        p.slots = beat.slots;
        p.slots_free = beat.slots_free;
        if !told {
            self.announce(|_| {});
        }
    }

    fn announce(&mut self, change: impl FnOnce(&mut pb::NodePresence)) {
        let Some(peer) = &mut self.peer else { return };
        change(&mut peer.presence);
        peer.announced_free = peer.presence.slots_free;
        self.shared.nodes.changed(peer.presence.clone());
    }

    /// A scheduler's message for this node.
    fn request(&mut self, m: Message) {
        let Ok(request) = pb::DispatchRequest::decode(m.body.clone()) else {
            tracing::warn!(subject = m.subject, "a scheduler's message cannot be read");
            return;
        };
        use pb::dispatch_request::Body;
        self.next_id += 1;
        let id = self.next_id;
        match request.body {
            Some(Body::Offer(offer)) => {
                let mut to_agent = offer.offer.clone().unwrap_or_default();
                to_agent.offer_id = id;
                match self.end.offer(to_agent) {
                    Ok(()) => {
                        let since = tokio::time::Instant::now();
                        let scheduler = request.scheduler;
                        self.offers.insert(id, Waiting { message: m, scheduler, offer, since });
                    }
                    Err(_) => self.reply(m, Reply::Gone(pb::SessionGone {})),
                }
            }
            Some(Body::Query(q)) => {
                let sent = self.end.query(pb::Query { query_id: id, ..q });
                self.ask(id, m, sent.is_ok());
            }
            Some(Body::Cancel(c)) => {
                let sent = self.end.cancel(pb::Cancel { query_id: id, ..c });
                self.ask(id, m, sent.is_ok());
            }
            None => {}
        }
    }

    fn ask(&mut self, id: u64, m: Message, sent: bool) {
        if sent {
            self.asked.insert(id, m);
        } else {
            self.reply(m, Reply::Gone(pb::SessionGone {}));
        }
    }

    fn reply(&mut self, to: Message, body: Reply) {
        let shared = self.shared.clone();
        self.work.push(
            async move {
                offers::reply(shared, to, body).await;
                Done::Replied
            }
            .boxed(),
        );
    }

    /// The agent takes an offer: the log decides whether it gets the task.
    fn claim(&mut self, offer_id: u64, key: AttemptKey, fence: u64, slots_free: u32) {
        let (Some(waiting), Some(peer)) = (self.offers.remove(&offer_id), &self.peer) else {
            self.end.no_go(offer_id, None);
            return;
        };
        let by = Claimant {
            node: peer.node.clone(),
            incarnation: peer.incarnation.clone(),
            session: peer.session.clone(),
        };
        let gateway = &self.shared.config.name;
        let commit = match offers::started(
            &waiting.offer,
            &waiting.scheduler,
            &by,
            gateway,
            crate::clock::now(),
        ) {
            Ok(commit) => commit,
            Err(fault) => {
                self.end.no_go(offer_id, Some((&fault).into()));
                return;
            }
        };
        let claim = pb::Claim {
            offer_id,
            workspace: key.task.workspace.to_string(),
            task_id: key.task.task.to_string(),
            attempt: key.attempt,
            fence,
            slots_free,
        };
        self.reply(waiting.message, Reply::Claim(claim));
        let shared = self.shared.clone();
        self.work.push(
            async move {
                let result = offers::append(&shared.tasks, &key, fence, &commit).await;
                Done::Started { offer_id, result }
            }
            .boxed(),
        );
    }

    fn outcome(&mut self, key: AttemptKey, report: pb::OutcomeReport) {
        match wire::task::outcome(report.outcome.unwrap_or_default()) {
            Ok(outcome) => {
                self.flows.entry(key.clone()).or_default().outcome(Box::new(outcome));
                self.advance(&key);
            }
            Err(fault) => {
                tracing::error!(attempt = %key, error = %fault, "an outcome cannot be read");
                self.end.refuse((&fault).into(), 0);
            }
        }
    }

    /// Does what is next for an attempt's reports.
    fn advance(&mut self, key: &AttemptKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        match flow.next() {
            Next::Store(chunks) => self.store(key.clone(), chunks),
            Next::AskEnd => self.store(key.clone(), Vec::new()),
            Next::Resend(from) => self.end.ack_output(key, from, AckMode::Resend),
            Next::Finish(outcome) => self.finish(key.clone(), outcome, Duration::ZERO),
            Next::Nothing => {}
        }
    }

    /// Stores chunks; with none it asks for the durable end.
    fn store(&mut self, key: AttemptKey, chunks: Vec<pb::OutputChunk>) {
        let log = self.shared.log.clone();
        self.work.push(
            async move {
                let bytes = chunks.iter().map(|c| c.data.len() as u64).sum();
                let mut result = store_once(log.as_ref(), &key, &chunks).await;
                while !matches!(result, Ok(_) | Err(LogError::OutputGap { .. })) {
                    tracing::warn!(attempt = %key, ?result, "output was not stored; trying again");
                    tokio::time::sleep(RETRY).await;
                    result = store_once(log.as_ref(), &key, &chunks).await;
                }
                Done::Stored { key, bytes, result }
            }
            .boxed(),
        );
    }

    fn finish(&mut self, key: AttemptKey, outcome: Box<Outcome>, after: Duration) {
        let Some(peer) = &self.peer else { return };
        let (shared, node) = (self.shared.clone(), peer.node.clone());
        self.work.push(
            async move {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                let result = ingest::outcome(&shared.tasks, &node, &key, &outcome).await;
                Done::Finished { key, outcome, result }
            }
            .boxed(),
        );
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Known(known) => self.known(known),
            Done::Replied => {}
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
            Done::Finished { key, outcome, result } => match result {
                Ok(()) => {
                    self.flows.remove(&key);
                    self.end.ack_outcome(&key);
                }
                Err(fault) => {
                    tracing::warn!(attempt = %key, error = %fault, "an outcome was not stored; trying again");
                    self.finish(key, outcome, RETRY);
                }
            },
        }
    }
}

async fn store_once(
    log: &dyn cortex_log::EventLog,
    key: &AttemptKey,
    chunks: &[pb::OutputChunk],
) -> Result<u64, LogError> {
    let output = OutputKey::new(key.task.workspace.as_str(), key.task.task.as_str(), key.attempt)?;
    if chunks.is_empty() {
        return log.output_end(&output).await;
    }
    let chunk = |c: &pb::OutputChunk| cortex_log::OutputChunk {
        stream: u8::try_from(c.stream).unwrap_or(0),
        offset: c.offset,
        data: c.data.clone(),
    };
    log.append_output(&output, chunks.iter().map(chunk).collect()).await
}

/// Listens for offers and looks up how long the node's journal has been.
async fn look_up(
    shared: &Shared,
    subject: &str,
    key: &str,
    incarnation: &str,
) -> Result<(MessageStream, u64), Fault> {
    let fault = |e: LogError| crate::status::log_fault(&e);
    let requests = shared.log.subscribe(subject).await.map_err(fault)?;
    let known = shared.log.kv_get(NODES_BUCKET, key).await.map_err(fault)?;
    let known = known.and_then(|e| pb::NodePresence::decode(e.value).ok());
    let same_life = known.filter(|p| p.incarnation == incarnation);
    Ok((requests, same_life.and_then(|p| p.journal).map_or(0, |j| j.size)))
}

/// The next message of a stream that may not be there yet.
async fn next(requests: &mut Option<MessageStream>) -> Option<Message> {
    match requests {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

//! The agent's end of the tunnel: connects, reconnects, claims, and delivers what is owed. One
//! machine lives as long as the agent's process (the session) and sees many connections. It never
//! decides whether to take work, never starts any, and never keeps output; the worker and spool do.

use crate::agent_actions::{AgentAction, ClaimResult, DisconnectReason};
use crate::backoff::Backoff;
use crate::delivery::{BadChunk, Delivery, Restored};
use crate::error::ProtocolError;
use crate::frame::{self, check_outcome, up};
use crate::handshake::check_welcome;
use crate::heartbeat::Heartbeat;
use crate::offers::Offers;
use cortex_model::contract::TUNNEL_VERSIONS;
use cortex_model::limits::{
    ACTION_QUEUE_MAX, CONNECT_TIMEOUT_MS, FRAME_QUEUE_MAX, HANDSHAKE_TIMEOUT_MS,
    RECONNECT_STABLE_MS, UNDELIVERED_ATTEMPTS_MAX,
};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::{
    AgentFrame, AgentHeartbeat, AttemptPhase, Busy, BusyReason, Cancel, CancelAnswer, Claim, Error,
    Hello, JournalHead, KnownAttempt, Leaving, Manifest, Offer, OutcomeReport, OutputChunk, Query,
    QueryAnswer, Welcome,
};
use cortex_model::{AttemptKey, Code, Fault, Tick};
use std::collections::{BTreeMap, VecDeque};

/// What stays the same for the life of the agent's process.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The node's identifier.
    pub node: String,
    /// The life of the node's journal, 32 hex digits.
    pub incarnation: String,
    /// UUID of this process's session.
    pub session: String,
    /// The agent's release.
    pub agent_version: String,
}

/// What a hello says, at the moment at which the transport came up.
#[derive(Clone, Debug, Default)]
pub struct HelloState {
    /// What the machine is and can do.
    pub manifest: Manifest,
    /// The newest journal entry.
    pub journal: JournalHead,
    /// Attempts the node knows of whose outcome was not acknowledged. Claims do not count: they ended
    /// with the connection they were made on.
    pub attempts: Vec<KnownAttempt>,
    /// Slots in all.
    pub slots: u32,
    /// Slots that are free.
    pub slots_free: u32,
}

#[derive(Debug)]
pub(crate) enum State {
    Waiting {
        until: Tick,
    },
    Connecting {
        deadline: Tick,
    },
    Greeting {
        deadline: Tick,
    },
    Up {
        heartbeat: Heartbeat,
        since: Tick,
        drain: Option<Tick>,
    },
    /// Given up; the driver was told.
    Closing,
}

/// See the module. Feed it, then take all actions, then frames while there is room for them.
#[derive(Debug)]
pub struct AgentEnd {
    pub(crate) cfg: AgentConfig,
    pub(crate) state: State,
    generation: u64,
    pub(crate) backoff: Backoff,
    slots: u32,
    slots_free: u32,
    /// Free slots as the gateway knows them.
    told_free: u32,
    journal: JournalHead,
    pub(crate) leaving: Option<String>,
    pub(crate) offers: Offers,
    pub(crate) queries: BTreeMap<u64, AttemptKey>,
    pub(crate) cancels: BTreeMap<u64, AttemptKey>,
    pub(crate) delivery: Delivery,
    frames: VecDeque<AgentFrame>,
    pub(crate) actions: VecDeque<AgentAction>,
    pub(crate) ignored: u64,
}

impl AgentEnd {
    /// A new session, not connected. The first action is `Connect`.
    #[must_use]
    pub fn new(cfg: AgentConfig) -> Self {
        AgentEnd {
            cfg,
            state: State::Waiting { until: Tick(0) },
            generation: 0,
            backoff: Backoff::default(),
            slots: 0,
            slots_free: 0,
            told_free: 0,
            journal: JournalHead::default(),
            leaving: None,
            offers: Offers::default(),
            queries: BTreeMap::new(),
            cancels: BTreeMap::new(),
            delivery: Delivery::default(),
            frames: VecDeque::new(),
            actions: VecDeque::new(),
            ignored: 0,
        }
    }

    /// Takes over what a former process of this node still owes. Call it before the first `connected`.
    pub fn restore(&mut self, restored: Restored) {
        self.delivery.restore(restored);
    }

    /// The transport is up: says hello. Take all actions of `disconnected` before composing `hello`.
    pub fn connected(&mut self, hello: HelloState, now: Tick) {
        self.drop_connection();
        self.generation += 1;
        let HelloState { manifest, journal, mut attempts, slots, slots_free } = hello;
        attempts.retain(|attempt| attempt.phase() != AttemptPhase::Claiming);
        (self.slots, self.slots_free, self.told_free) = (slots, slots_free, slots_free);
        self.journal = journal;
        self.state = State::Greeting { deadline: now + HANDSHAKE_TIMEOUT_MS };
        self.frames.push_back(up(Up::Hello(Hello {
            min_version: TUNNEL_VERSIONS.0,
            max_version: TUNNEL_VERSIONS.1,
            node: self.cfg.node.clone(),
            incarnation: self.cfg.incarnation.clone(),
            session: self.cfg.session.clone(),
            generation: self.generation,
            manifest: Some(manifest),
            journal: Some(self.journal.clone()),
            attempts,
            slots,
            slots_free,
            agent_version: self.cfg.agent_version.clone(),
        })));
    }

    /// The transport, or the attempt to get one, is gone. Open claims end as `NoGo`; the next
    /// `Connect` comes after the back-off. `jitter` is any random number.
    pub fn disconnected(&mut self, now: Tick, jitter: u64) {
        if let State::Waiting { .. } = self.state {
            return;
        }
        self.note_stability(now);
        self.drop_connection();
        self.state = State::Waiting { until: now + self.backoff.next(jitter) };
    }

    fn drop_connection(&mut self) {
        self.actions.retain(outlives_connection);
        self.frames.clear();
        self.queries.clear();
        self.cancels.clear();
        self.delivery.disconnected();
        for (offer_id, key) in self.offers.drain_claims() {
            self.actions.push_back(AgentAction::NoGo { key, offer_id, answer: None });
        }
    }

    fn note_stability(&mut self, now: Tick) {
        if let State::Up { since, .. } = self.state
            && now >= since + RECONNECT_STABLE_MS
        {
            self.backoff.reset();
        }
    }

    /// What heartbeats say from now on. A change of the free slots is told soon, not at once.
    pub fn update(&mut self, slots: u32, slots_free: u32, journal: JournalHead) {
        (self.slots, self.slots_free) = (slots, slots_free);
        self.journal = journal;
        if let State::Up { heartbeat, .. } = &mut self.state
            && self.told_free != slots_free
        {
            heartbeat.hasten();
        }
    }

    /// Takes an offer: the node holds a slot for it. `slots_free` is what is left.
    pub fn claim(&mut self, offer: &Offer, slots_free: u32) -> ClaimResult {
        if !self.is_open(offer) {
            return ClaimResult::Gone;
        }
        if self.delivery.len() + self.offers.claims() >= UNDELIVERED_ATTEMPTS_MAX {
            let fault = Fault::new(Code::AgentUnable, "too much output waits to be delivered");
            self.busy(offer, BusyReason::Unable, slots_free, Some(Error::from(&fault)));
            return ClaimResult::Full;
        }
        self.offers.claim(offer.offer_id);
        self.told_free = slots_free;
        self.send(Up::Claim(Claim {
            offer_id: offer.offer_id,
            workspace: offer.workspace.clone(),
            task_id: offer.task_id.clone(),
            attempt: offer.attempt,
            fence: offer.fence,
            slots_free,
        }));
        ClaimResult::Claimed
    }

    /// Does not take an offer. False if the offer is not open on this connection.
    pub fn busy(
        &mut self,
        offer: &Offer,
        reason: BusyReason,
        slots_free: u32,
        error: Option<Error>,
    ) -> bool {
        if !self.is_open(offer) {
            return false;
        }
        self.offers.remove(offer.offer_id);
        self.told_free = slots_free;
        self.refuse_offer(offer, reason, error);
        true
    }

    fn is_open(&self, offer: &Offer) -> bool {
        self.offers.unclaimed(offer.offer_id).is_some_and(|open| {
            open.fence == offer.fence
                && frame::names(&open.key, &offer.workspace, &offer.task_id, offer.attempt)
        })
    }

    pub(crate) fn refuse_offer(&mut self, offer: &Offer, reason: BusyReason, error: Option<Error>) {
        let slots_free = self.told_free;
        self.send(Up::Busy(Busy {
            offer_id: offer.offer_id,
            task_id: offer.task_id.clone(),
            reason: reason.into(),
            slots_free,
            error,
        }));
    }

    /// Says what the node knows of an attempt now. A claim that waits for its answer turns *unknown*
    /// into *claiming*. False if this connection did not ask, or got its answer.
    pub fn answer_query(&mut self, query: &Query, phase: AttemptPhase) -> bool {
        let Some(key) = take_asked(&mut self.queries, query.query_id, |key| {
            frame::names(key, &query.workspace, &query.task_id, query.attempt)
        }) else {
            return false;
        };
        let claiming = phase == AttemptPhase::Unknown && self.offers.is_claiming(&key);
        let phase = if claiming { AttemptPhase::Claiming } else { phase };
        self.send(Up::QueryAnswer(QueryAnswer {
            query_id: query.query_id,
            phase: phase.into(),
            journal: Some(self.journal.clone()),
            incarnation: self.cfg.incarnation.clone(),
        }));
        true
    }

    /// Says what a cancel met. False if this connection did not ask, or got its answer.
    pub fn answer_cancel(&mut self, cancel: &Cancel, phase: AttemptPhase) -> bool {
        let asked = take_asked(&mut self.cancels, cancel.query_id, |key| {
            frame::names(key, &cancel.workspace, &cancel.task_id, cancel.attempt)
        });
        if asked.is_some() {
            let phase = phase.into();
            self.send(Up::CancelAnswer(CancelAnswer { query_id: cancel.query_id, phase }));
        }
        asked.is_some()
    }

    /// The agent goes away: from now on every offer is answered busy, on later connections too.
    pub fn leaving(&mut self, reason: &str) {
        self.leaving = Some(reason.into());
        if let State::Up { .. } = self.state {
            self.send(Up::Leaving(Leaving { reason: reason.into() }));
        }
    }

    /// An attempt has ended, and all its output was announced. Sent after that output, and again
    /// after every reconnect until it is acknowledged. Only the first outcome of an attempt counts.
    ///
    /// # Errors
    /// A report that no gateway would take is not kept.
    pub fn outcome(&mut self, report: OutcomeReport) -> Result<(), ProtocolError> {
        let key = check_outcome(&report)?;
        self.delivery.outcome(key, report);
        Ok(())
    }

    /// The spool of an attempt has grown to `end` bytes, both streams together.
    pub fn output_available(&mut self, key: &AttemptKey, end: u64) {
        self.delivery.output_available(key, end);
    }

    /// The answer to `ReadSpool`. One that came too late is dropped.
    ///
    /// # Errors
    /// The chunk is empty, longer than asked for, or names no stream.
    pub fn output_data(&mut self, key: &AttemptKey, chunk: OutputChunk) -> Result<(), BadChunk> {
        self.delivery.output_data(key, chunk)
    }

    /// The spool cannot be read any more: its outcome is sent without waiting for the rest.
    pub fn output_lost(&mut self, key: &AttemptKey) {
        self.delivery.drop_output(key);
    }

    /// The next thing for the driver to do.
    pub fn poll_action(&mut self, now: Tick) -> Option<AgentAction> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        match &self.state {
            State::Waiting { until } if now >= *until => {
                self.state = State::Connecting { deadline: now + CONNECT_TIMEOUT_MS };
                Some(AgentAction::Connect)
            }
            State::Up { drain: Some(_), .. } if self.all_is_said() => {
                self.backoff.reset();
                self.close(DisconnectReason::Drained, now);
                self.actions.pop_front()
            }
            State::Up { .. } => {
                let (key, offset, max) = self.delivery.next_read()?;
                Some(AgentAction::ReadSpool { key, offset, max })
            }
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Greeting { .. }
            | State::Closing => None,
        }
    }

    fn all_is_said(&self) -> bool {
        self.offers.is_empty() && self.frames.is_empty()
    }

    /// Whether `poll_frame` has something to send.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        match &self.state {
            State::Greeting { .. } => !self.frames.is_empty(),
            State::Up { heartbeat, .. } => {
                !self.frames.is_empty() || heartbeat.is_due() || self.delivery.has_frame()
            }
            State::Waiting { .. } | State::Connecting { .. } | State::Closing => false,
        }
    }

    /// The next frame to send. Call it only when the transport has room: what waits here can be
    /// overtaken by control frames, what waits in the transport cannot.
    pub fn poll_frame(&mut self) -> Option<AgentFrame> {
        let beat = match &mut self.state {
            State::Greeting { .. } => return self.frames.pop_front(),
            State::Up { heartbeat, .. } => heartbeat.take(),
            State::Waiting { .. } | State::Connecting { .. } | State::Closing => return None,
        };
        if let Some(seq) = beat {
            self.told_free = self.slots_free;
            let (slots, slots_free) = (self.slots, self.slots_free);
            let journal = Some(self.journal.clone());
            return Some(up(Up::Heartbeat(AgentHeartbeat { seq, slots, slots_free, journal })));
        }
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        if let Some(report) = self.delivery.next_outcome() {
            return Some(up(Up::Outcome(report)));
        }
        self.delivery.next_output().map(|report| up(Up::Output(report)))
    }

    /// When `handle_timeout` must be called at the latest. None: nothing happens by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Connecting { deadline } | State::Greeting { deadline } => Some(*deadline),
            State::Up { heartbeat, drain, .. } => {
                let beat = heartbeat.deadline();
                Some(drain.map_or(beat, |drain| drain.min(beat)))
            }
            State::Closing => None,
        }
    }

    /// Time has passed. Harmless when called too early or too often.
    pub fn handle_timeout(&mut self, now: Tick) {
        match &mut self.state {
            State::Connecting { deadline } if now >= *deadline => {
                self.close(DisconnectReason::ConnectTimeout, now);
            }
            State::Greeting { deadline } if now >= *deadline => {
                self.close(DisconnectReason::HandshakeTimeout, now);
            }
            State::Up { heartbeat, .. } if heartbeat.is_dead(now) => {
                self.close(DisconnectReason::Silent, now);
            }
            State::Up { drain: Some(drain), .. } if now >= *drain => {
                self.backoff.reset();
                self.close(DisconnectReason::Drained, now);
            }
            State::Up { heartbeat, .. } => heartbeat.handle_timeout(now),
            // Waiting ends in `poll_action`.
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Greeting { .. }
            | State::Closing => {}
        }
    }

    /// Frames of the gateway that meant nothing here: late answers, for example. For metrics.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Grows with every connection of the session.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn welcomed(&mut self, welcome: Welcome, now: Tick) -> Result<(), ProtocolError> {
        check_welcome(&welcome, TUNNEL_VERSIONS)?;
        let heartbeat = Heartbeat::new(welcome.heartbeat_ms, welcome.dead_after_ms, now);
        self.backoff.set_floor(welcome.min_backoff_ms.into());
        self.state = State::Up { heartbeat, since: now, drain: None };
        self.delivery.connected(welcome.output_credit);
        self.actions.push_back(AgentAction::Welcomed {
            gateway: welcome.gateway,
            workspace: welcome.workspace,
            version: welcome.version,
            now_ms: welcome.now_ms,
        });
        if let Some(reason) = self.leaving.clone() {
            self.send(Up::Leaving(Leaving { reason }));
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, body: Up) {
        self.frames.push_back(up(body));
    }

    /// Whether a queue is full, so that nothing more can be taken.
    pub(crate) fn overflows(&self) -> bool {
        self.frames.len() >= FRAME_QUEUE_MAX || self.actions.len() >= ACTION_QUEUE_MAX
    }

    pub(crate) fn close(&mut self, why: DisconnectReason, now: Tick) {
        self.note_stability(now);
        self.state = State::Closing;
        self.actions.push_back(AgentAction::Disconnect(why));
    }
}

/// Facts about the past stay true; what belongs to the connection is void with it.
fn outlives_connection(action: &AgentAction) -> bool {
    match action {
        AgentAction::Refused { .. }
        | AgentAction::NoGo { .. }
        | AgentAction::OutcomeAcked(_)
        | AgentAction::OutputAcked { .. }
        | AgentAction::DiscardOutput(_)
        | AgentAction::Released(_) => true,
        AgentAction::Connect
        | AgentAction::Disconnect(_)
        | AgentAction::Welcomed { .. }
        | AgentAction::Offer(_)
        // The journal does not know it, so the node says so and the attempt is released.
        | AgentAction::Go { .. }
        | AgentAction::Query(_)
        | AgentAction::Cancel(_)
        | AgentAction::Drain { .. }
        | AgentAction::ReadSpool { .. } => false,
    }
}

fn take_asked(
    asked: &mut BTreeMap<u64, AttemptKey>,
    id: u64,
    same: impl Fn(&AttemptKey) -> bool,
) -> Option<AttemptKey> {
    if !asked.get(&id).is_some_and(same) {
        return None;
    }
    asked.remove(&id)
}

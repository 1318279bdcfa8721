//! The gateway's end of one connection: handshake, offers and their claims, liveness, credit. It never
//! decides who an agent is, what is appended or what is durable; the driver does, and answers through
//! the methods here. It holds nothing that matters: dropping it costs a reconnect.

use crate::credit::Window;
use crate::error::ProtocolError;
use crate::frame::{down, key};
use crate::gateway_actions::{AckMode, CloseReason, GatewayAction, OfferError};
use crate::heartbeat::Heartbeat;
use crate::offers::Offers;
use cortex_model::contract::TUNNEL_VERSIONS;
use cortex_model::limits::{
    ACTION_QUEUE_MAX, DEAD_AFTER_MS, DRAIN_MAX_MS, FRAME_QUEUE_MAX, HANDSHAKE_TIMEOUT_MS,
    HEARTBEAT_MS, OPEN_OFFERS_MAX, OPEN_QUERIES_MAX, OUTPUT_WINDOW, RECONNECT_BASE_MS,
    RECONNECT_FATAL_MS,
};
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    Cancel, Credit, Drain, Error, GatewayFrame, GatewayHeartbeat, Go, NoGo, Offer, OutcomeAck,
    OutputAck, Query, Refuse, Welcome,
};
use cortex_model::{AttemptKey, Tick, UnixMillis};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What is the same for all tunnels of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The gateway's name.
    pub gateway: String,
    /// Tunnel versions it speaks, lowest and highest.
    pub versions: (u32, u32),
    /// Pause between heartbeats, milliseconds, 10 to 60,000.
    pub heartbeat_ms: u32,
    /// Silence after which a connection is dead, milliseconds; at least two heartbeats.
    pub dead_after_ms: u32,
    /// Output on its way and not settled, bytes per tunnel; at least one chunk.
    pub output_window: u64,
    /// Floor of the agents' pause before they reconnect, milliseconds.
    pub min_backoff_ms: u32,
    /// Pause asked of an agent that cannot be served until somebody upgrades or repairs something,
    /// milliseconds.
    pub fatal_retry_ms: u32,
}

impl GatewayConfig {
    /// The defaults of `cortex_model::limits`.
    #[must_use]
    pub fn new(gateway: &str) -> Self {
        GatewayConfig {
            gateway: gateway.into(),
            versions: TUNNEL_VERSIONS,
            heartbeat_ms: HEARTBEAT_MS,
            dead_after_ms: DEAD_AFTER_MS,
            output_window: OUTPUT_WINDOW,
            min_backoff_ms: RECONNECT_BASE_MS as u32,
            fatal_retry_ms: RECONNECT_FATAL_MS as u32,
        }
    }
}

#[derive(Debug)]
pub(crate) enum State {
    AwaitHello { deadline: Tick },
    Deciding { deadline: Tick, version: u32 },
    Up { heartbeat: Heartbeat, drain: Option<Tick> },
    Closed,
}

/// See the module. Feed it, then take all actions, then frames while there is room for them.
#[derive(Debug)]
pub struct GatewayEnd {
    pub(crate) cfg: Arc<GatewayConfig>,
    pub(crate) state: State,
    pub(crate) session: String,
    /// The gateway's wall clock, as last told.
    wall: UnixMillis,
    pub(crate) leaving: bool,
    pub(crate) offers: Offers,
    pub(crate) queries: BTreeMap<u64, AttemptKey>,
    pub(crate) cancels: BTreeMap<u64, AttemptKey>,
    pub(crate) outcomes_in_flight: usize,
    pub(crate) window: Window,
    frames: VecDeque<GatewayFrame>,
    /// Acknowledgements of output that wait, one per attempt, in turn.
    ack_order: VecDeque<AttemptKey>,
    acks: BTreeMap<AttemptKey, (u64, AckMode)>,
    pub(crate) actions: VecDeque<GatewayAction>,
    pub(crate) ignored: u64,
}

impl GatewayEnd {
    /// A connection that has just been made.
    #[must_use]
    pub fn new(cfg: Arc<GatewayConfig>, now: Tick) -> Self {
        GatewayEnd {
            window: Window::new(cfg.output_window),
            cfg,
            state: State::AwaitHello { deadline: now + HANDSHAKE_TIMEOUT_MS },
            session: String::new(),
            wall: UnixMillis(0),
            leaving: false,
            offers: Offers::default(),
            queries: BTreeMap::new(),
            cancels: BTreeMap::new(),
            outcomes_in_flight: 0,
            frames: VecDeque::new(),
            ack_order: VecDeque::new(),
            acks: BTreeMap::new(),
            actions: VecDeque::new(),
            ignored: 0,
        }
    }

    /// The agent of `Hello` is one of ours. False if there is no hello to answer (any more).
    pub fn accept(&mut self, workspace: &str, now: Tick, wall: UnixMillis) -> bool {
        let State::Deciding { version, .. } = self.state else { return false };
        self.wall = wall;
        let cfg = Arc::clone(&self.cfg);
        let heartbeat = Heartbeat::new(cfg.heartbeat_ms, cfg.dead_after_ms, now);
        self.state = State::Up { heartbeat, drain: None };
        self.push(Down::Welcome(Welcome {
            version,
            gateway: cfg.gateway.clone(),
            heartbeat_ms: cfg.heartbeat_ms,
            dead_after_ms: cfg.dead_after_ms,
            output_credit: self.window.size(),
            min_backoff_ms: cfg.min_backoff_ms,
            workspace: workspace.into(),
            now_ms: wall.0,
        }));
        true
    }

    /// Ends the connection for cause, at any time. An `error` that is not retryable makes the agent
    /// tell its owner. `retry_after_ms` 0 leaves the pause to the agent.
    pub fn refuse(&mut self, error: Error, retry_after_ms: u32) {
        self.close(CloseReason::Refused, Some(Refuse { error: Some(error), retry_after_ms }));
    }

    /// Proposes a task. The id must not be in use on this connection.
    ///
    /// # Errors
    /// Nothing was sent; the task can be offered elsewhere.
    pub fn offer(&mut self, offer: Offer) -> Result<(), OfferError> {
        let State::Up { drain, .. } = &self.state else { return Err(OfferError::NotUp) };
        if drain.is_some() || self.leaving {
            return Err(OfferError::Draining);
        }
        if self.offers.len() >= OPEN_OFFERS_MAX {
            return Err(OfferError::Full);
        }
        let key = key("offer", &offer.workspace, &offer.task_id, offer.attempt)
            .map_err(|_| OfferError::BadKey)?;
        if !self.offers.insert(offer.offer_id, key, offer.fence) {
            return Err(OfferError::Duplicate);
        }
        self.push(Down::Offer(offer));
        Ok(())
    }

    /// Nobody waits for the answer to an offer any more: a claim of it that comes late is answered
    /// `NoGo` here. False if the offer is not open or was claimed.
    pub fn withdraw(&mut self, offer_id: u64) -> bool {
        let open = self.offers.unclaimed(offer_id).is_some();
        self.offers.remove_if(open, offer_id).is_some()
    }

    /// `Started` is in the log at revision `fence`: answers a claim. False if none is pending.
    pub fn go(&mut self, offer_id: u64, fence: u64) -> bool {
        let Some(key) = self.take_claim(offer_id) else { return false };
        let session = self.session.clone();
        self.push(Down::Go(Go {
            offer_id,
            workspace: key.task.workspace.as_str().into(),
            task_id: key.task.task.as_str().into(),
            attempt: key.attempt,
            fence,
            session,
        }));
        true
    }

    /// The claim came to nothing. False if none is pending.
    pub fn no_go(&mut self, offer_id: u64, error: Option<Error>) -> bool {
        let Some(key) = self.take_claim(offer_id) else { return false };
        let task_id = key.task.task.as_str().into();
        self.push(Down::NoGo(NoGo { offer_id, task_id, attempt: key.attempt, error }));
        true
    }

    fn take_claim(&mut self, offer_id: u64) -> Option<AttemptKey> {
        let claimed = self.offers.claimed(offer_id).is_some();
        self.offers.remove_if(claimed && self.is_up(), offer_id)
    }

    /// The outcome is durable, was before, or will never be wanted. An outcome that came on an older
    /// connection may be acknowledged here too.
    pub fn ack_outcome(&mut self, key: &AttemptKey) {
        self.outcomes_in_flight = self.outcomes_in_flight.saturating_sub(1);
        self.push(Down::OutcomeAck(OutcomeAck {
            workspace: key.task.workspace.as_str().into(),
            task_id: key.task.task.as_str().into(),
            attempt: key.attempt,
        }));
    }

    /// Everything of an attempt's output below `offset` is durable. Of acknowledgements that wait
    /// for the transport only the last offset of each attempt is sent.
    pub fn ack_output(&mut self, key: &AttemptKey, offset: u64, mode: AckMode) {
        if !self.is_up() {
            return;
        }
        if let Some((waiting, wanted)) = self.acks.get_mut(key) {
            *waiting = offset;
            if mode != AckMode::Durable {
                *wanted = mode;
            }
            return;
        }
        if self.waiting() >= FRAME_QUEUE_MAX {
            self.close(CloseReason::Overflow, None);
            return;
        }
        self.ack_order.push_back(key.clone());
        self.acks.insert(key.clone(), (offset, mode));
    }

    /// The handling of `bytes` of output has ended: durable or dropped. Room for as many opens again.
    pub fn output_settled(&mut self, bytes: u64) {
        self.window.settle(bytes);
    }

    /// Asks what the node knows of an attempt.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn query(&mut self, query: Query) -> Result<(), OfferError> {
        let key = key("query", &query.workspace, &query.task_id, query.attempt)
            .map_err(|_| OfferError::BadKey)?;
        self.ask(query.query_id, key, |this| &mut this.queries)?;
        self.push(Down::Query(query));
        Ok(())
    }

    /// Asks the node to stop an attempt.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn cancel(&mut self, cancel: Cancel) -> Result<(), OfferError> {
        let key = key("cancel", &cancel.workspace, &cancel.task_id, cancel.attempt)
            .map_err(|_| OfferError::BadKey)?;
        self.ask(cancel.query_id, key, |this| &mut this.cancels)?;
        self.push(Down::Cancel(cancel));
        Ok(())
    }

    fn ask(
        &mut self,
        id: u64,
        key: AttemptKey,
        table: impl Fn(&mut Self) -> &mut BTreeMap<u64, AttemptKey>,
    ) -> Result<(), OfferError> {
        if !self.is_up() {
            return Err(OfferError::NotUp);
        }
        let open = table(self);
        if open.contains_key(&id) {
            return Err(OfferError::Duplicate);
        }
        if open.len() >= OPEN_QUERIES_MAX {
            return Err(OfferError::Full);
        }
        open.insert(id, key);
        Ok(())
    }

    /// The gateway goes away: the agent is told to go elsewhere, and the connection ends when it has
    /// gone, after `grace_ms` at the latest.
    pub fn drain(&mut self, grace_ms: u32, now: Tick) {
        if let State::Up { drain: drain @ None, .. } = &mut self.state {
            *drain = Some(now + u64::from(grace_ms).min(DRAIN_MAX_MS));
            self.push(Down::Drain(Drain { grace_ms }));
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_action(&mut self) -> Option<GatewayAction> {
        self.actions.pop_front()
    }

    /// Whether `poll_frame` has something to send.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        let State::Up { heartbeat, .. } = &self.state else { return false };
        !self.frames.is_empty()
            || heartbeat.is_due()
            || self.window.can_grant()
            || !self.ack_order.is_empty()
    }

    /// The next frame to send. Call it only when the transport has room.
    pub fn poll_frame(&mut self) -> Option<GatewayFrame> {
        let State::Up { heartbeat, .. } = &mut self.state else { return None };
        // The welcome is in the queue before the first beat, and must be the first frame.
        if !matches!(self.frames.front(), Some(GatewayFrame { body: Some(Down::Welcome(_)) }))
            && let Some(seq) = heartbeat.take()
        {
            return Some(down(Down::Heartbeat(GatewayHeartbeat { seq, now_ms: self.wall.0 })));
        }
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        if let Some(output_bytes) = self.window.grant() {
            return Some(down(Down::Credit(Credit { output_bytes })));
        }
        let key = self.ack_order.pop_front()?;
        let (offset, mode) = self.acks.remove(&key)?;
        Some(down(Down::OutputAck(OutputAck {
            workspace: key.task.workspace.as_str().into(),
            task_id: key.task.task.as_str().into(),
            attempt: key.attempt,
            offset,
            resend: mode == AckMode::Resend,
            discard: mode == AckMode::Discard,
        })))
    }

    /// When `handle_timeout` must be called at the latest. None: the connection is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        match &self.state {
            State::AwaitHello { deadline } | State::Deciding { deadline, .. } => Some(*deadline),
            State::Up { heartbeat, drain } => {
                let beat = heartbeat.deadline();
                Some(drain.map_or(beat, |drain| drain.min(beat)))
            }
            State::Closed => None,
        }
    }

    /// Time has passed; `wall` is what heartbeats tell the agent. Harmless when called too often.
    pub fn handle_timeout(&mut self, now: Tick, wall: UnixMillis) {
        self.wall = wall;
        match &mut self.state {
            State::AwaitHello { deadline } | State::Deciding { deadline, .. } => {
                if now >= *deadline {
                    self.close(CloseReason::HandshakeTimeout, None);
                }
            }
            State::Up { heartbeat, .. } if heartbeat.is_dead(now) => {
                self.close(CloseReason::Silent, None);
            }
            State::Up { drain: Some(drain), .. } if now >= *drain => {
                self.close(CloseReason::Drained, None);
            }
            State::Up { heartbeat, .. } => heartbeat.handle_timeout(now),
            State::Closed => {}
        }
    }

    /// Whether the agent was welcomed and the connection is not over.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Frames of the agent that meant nothing here: late claims, for example. For metrics.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    pub(crate) fn push(&mut self, body: Down) {
        if !self.is_up() {
            return;
        }
        if self.waiting() >= FRAME_QUEUE_MAX {
            self.close(CloseReason::Overflow, None);
            return;
        }
        self.frames.push_back(down(body));
    }

    fn waiting(&self) -> usize {
        self.frames.len() + self.ack_order.len()
    }

    pub(crate) fn overflows(&self) -> bool {
        self.actions.len() >= ACTION_QUEUE_MAX
    }

    pub(crate) fn protocol_error(&mut self, error: &ProtocolError) {
        let refuse = Refuse {
            error: Some(Error::from(&error.to_fault())),
            retry_after_ms: self.cfg.fatal_retry_ms,
        };
        self.close(CloseReason::Protocol(error.clone()), Some(refuse));
    }

    pub(crate) fn close(&mut self, why: CloseReason, refuse: Option<Refuse>) {
        if let State::Closed = self.state {
            return;
        }
        self.state = State::Closed;
        self.frames = VecDeque::new();
        self.ack_order = VecDeque::new();
        self.acks = BTreeMap::new();
        self.offers = Offers::default();
        let last = refuse.map(|refuse| Box::new(down(Down::Refuse(refuse))));
        self.actions.push_back(GatewayAction::Close { why, last });
    }
}

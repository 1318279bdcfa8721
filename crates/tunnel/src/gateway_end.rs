//! The gateway's end of one connection: handshake, offers and their claims, liveness, credit. It never
//! decides who an agent is, what is appended or what is durable; the driver does, and answers through
//! the methods here. It holds nothing that matters: dropping it costs a reconnect.

use crate::audit::Uploads;
use crate::credit::Window;
use crate::error::ProtocolError;
use crate::frame::boxed;
use crate::gateway_actions::{AckMode, CloseReason, GatewayAction};
use crate::heartbeat::Heartbeat;
use crate::offers::Offers;
use cortex_model::contract::TUNNEL_VERSIONS;
use cortex_model::limits::{
    ACTION_QUEUE_MAX, DEAD_AFTER_MS, FRAME_QUEUE_MAX, HANDSHAKE_TIMEOUT_MS, HEARTBEAT_MS,
    OUTPUT_WINDOW, RECONNECT_BASE_MS, RECONNECT_FATAL_MS,
};
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AuditState, Credit, Error, GatewayFrame, GatewayHeartbeat, OutputAck, Refuse,
};
use cortex_model::{AttemptKey, Code, Fault, Tick, UnixMillis};
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
    /// The agent's workspace, from `accept` on: it can report about nothing else.
    pub(crate) workspace: String,
    /// The gateway's wall clock, as last told.
    pub(crate) wall: UnixMillis,
    /// End of the newest token the agent showed, by the wall clock and by the one that never jumps; none: no end.
    pub(crate) token_end: UnixMillis,
    pub(crate) token_deadline: Option<Tick>,
    pub(crate) leaving: bool,
    pub(crate) offers: Offers,
    pub(crate) queries: BTreeMap<u64, AttemptKey>,
    pub(crate) cancels: BTreeMap<u64, AttemptKey>,
    pub(crate) terminals: BTreeMap<u64, AttemptKey>,
    pub(crate) outcomes_in_flight: usize,
    pub(crate) window: Window,
    /// Each in a box: a queue keeps room for several, frames are large, and most tunnels are idle.
    frames: VecDeque<Box<GatewayFrame>>,
    /// Acknowledgements of output that wait, one per attempt, in turn.
    pub(crate) ack_order: VecDeque<AttemptKey>,
    pub(crate) acks: BTreeMap<AttemptKey, (u64, AckMode)>,
    pub(crate) audit_greeted: bool,
    pub(crate) uploads: Uploads,
    /// The newest state of the node's journal that waits for the transport.
    pub(crate) audit_state: Option<AuditState>,
    /// The newest cosigned checkpoint of the node's journal; every offer and go carries it.
    pub(crate) audit_floor: String,
    /// Answers to uploads that wait for the transport, as many as uploads are open.
    pub(crate) answers: VecDeque<Box<GatewayFrame>>,
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
            workspace: String::new(),
            wall: UnixMillis(0),
            token_end: UnixMillis(0),
            token_deadline: None,
            leaving: false,
            offers: Offers::default(),
            queries: BTreeMap::new(),
            cancels: BTreeMap::new(),
            terminals: BTreeMap::new(),
            outcomes_in_flight: 0,
            frames: VecDeque::new(),
            ack_order: VecDeque::new(),
            acks: BTreeMap::new(),
            audit_greeted: false,
            uploads: Uploads::default(),
            audit_state: None,
            audit_floor: String::new(),
            answers: VecDeque::new(),
            actions: VecDeque::new(),
            ignored: 0,
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
            || self.audit_state.is_some()
            || !self.answers.is_empty()
            || self.window.can_grant()
            || !self.ack_order.is_empty()
    }

    /// The next frame to send. Call it only when the transport has room.
    pub fn poll_frame(&mut self) -> Option<Box<GatewayFrame>> {
        let State::Up { heartbeat, .. } = &mut self.state else { return None };
        // The welcome is in the queue before the first beat, and must be the first frame.
        let first = self.frames.front().and_then(|frame| frame.body.as_ref());
        if !matches!(first, Some(Down::Welcome(_)))
            && let Some(seq) = heartbeat.take()
        {
            return Some(boxed(Down::Heartbeat(GatewayHeartbeat { seq, now_ms: self.wall.0 })));
        }
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        if let Some(state) = self.audit_state.take() {
            return Some(boxed(Down::AuditState(state)));
        }
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        if let Some(output_bytes) = self.window.grant() {
            return Some(boxed(Down::Credit(Credit { output_bytes })));
        }
        let key = self.ack_order.pop_front()?;
        let (offset, mode) = self.acks.remove(&key)?;
        Some(boxed(Down::OutputAck(OutputAck {
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
                let times = [Some(heartbeat.deadline()), *drain, self.token_deadline];
                times.into_iter().flatten().min()
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
            // Either clock may be the one that stood still: this one while the machine slept, the other when it was set.
            State::Up { .. }
                if self.token_deadline.is_some_and(|at| now >= at || wall >= self.token_end) =>
            {
                let text = "no newer tunnel token was shown in time";
                let error = Some(Error::from(&Fault::new(Code::TunnelTokenStale, text)));
                self.close(CloseReason::TokenStale, Some(Refuse { error, retry_after_ms: 0 }));
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
        self.frames.push_back(boxed(body));
    }

    pub(crate) fn waiting(&self) -> usize {
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
        self.audit_state = None;
        self.answers = VecDeque::new();
        self.offers = Offers::default();
        let last = refuse.map(|refuse| boxed(Down::Refuse(refuse)));
        self.actions.push_back(GatewayAction::Close { why, last });
    }
}

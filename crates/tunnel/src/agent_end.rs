//! The agent's end of the tunnel: connects, reconnects, claims, and delivers what is owed. One
//! machine lives as long as the agent's process (the session) and sees many connections. It never
//! decides whether to take work, never starts any, and never keeps output; the worker and spool do.

use crate::agent_actions::{AgentAction, DisconnectReason};
use crate::audit::AgentSide;
use crate::backoff::Backoff;
use crate::consents::Consents;
use crate::delivery::{Delivery, Restored};
use crate::error::ProtocolError;
use crate::frame::up;
use crate::handshake::check_welcome;
use crate::heartbeat::Heartbeat;
use crate::offers::Offers;
use cortex_model::contract::TUNNEL_VERSIONS;
use cortex_model::limits::enrol::TOKEN_GRACE_MS;
use cortex_model::limits::{
    ACTION_QUEUE_MAX, FRAME_QUEUE_MAX, HANDSHAKE_TIMEOUT_MS, RECONNECT_STABLE_MS,
};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::{
    AgentFrame, AttemptPhase, Hello, JournalHead, KnownAttempt, Leaving, Manifest, Welcome,
};
use cortex_model::{AttemptKey, Tick};
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
        /// The tunnel is not held longer than this, unless the gateway takes a newer token.
        token: Option<Tick>,
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
    pub(crate) slots: u32,
    pub(crate) slots_free: u32,
    /// Free slots as the gateway knows them.
    pub(crate) told_free: u32,
    pub(crate) journal: JournalHead,
    pub(crate) leaving: Option<String>,
    pub(crate) offers: Offers,
    pub(crate) queries: BTreeMap<u64, AttemptKey>,
    pub(crate) cancels: BTreeMap<u64, AttemptKey>,
    /// What was typed and not answered: the gateway's id by an id that is never used again, so that an answer that comes after a
    /// reconnect answers nothing.
    pub(crate) terminals: BTreeMap<u64, u64>,
    pub(crate) typed: u64,
    pub(crate) delivery: Delivery,
    pub(crate) consents: Consents,
    pub(crate) frames: VecDeque<AgentFrame>,
    pub(crate) audit: AgentSide,
    /// Frames of the audit that wait for the transport.
    pub(crate) uploads: VecDeque<AgentFrame>,
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
            terminals: BTreeMap::new(),
            typed: 0,
            delivery: Delivery::default(),
            consents: Consents::default(),
            frames: VecDeque::new(),
            audit: AgentSide::default(),
            uploads: VecDeque::new(),
            actions: VecDeque::new(),
            ignored: 0,
        }
    }

    /// Takes over what a former process of this node still owes. Call it before the first `connected`.
    pub fn restore(&mut self, restored: Restored) {
        self.delivery.restore(restored, &mut self.actions);
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
        self.uploads.clear();
        self.audit = AgentSide::default();
        self.queries.clear();
        self.cancels.clear();
        self.terminals.clear();
        self.delivery.disconnected();
        self.consents.disconnected();
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
        let token = token_deadline(welcome.token_expires_at_ms, welcome.now_ms, now);
        self.state = State::Up { heartbeat, since: now, drain: None, token };
        self.delivery.connected(welcome.output_credit);
        self.actions.push_back(AgentAction::Welcomed {
            gateway: welcome.gateway,
            workspace: welcome.workspace,
            version: welcome.version,
            now_ms: welcome.now_ms,
            token_expires_at_ms: welcome.token_expires_at_ms,
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

/// When a tunnel ends whose token ends then, by the gateway's clock; 0 is never.
pub(crate) fn token_deadline(expires_at_ms: u64, now_ms: u64, now: Tick) -> Option<Tick> {
    (expires_at_ms != 0).then(|| now + expires_at_ms.saturating_sub(now_ms) + TOKEN_GRACE_MS)
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
        | AgentAction::TokenAccepted { .. }
        | AgentAction::RenewNow { .. }
        // It is sent again on every connection.
        | AgentAction::Narrow(_)
        | AgentAction::Offer(_)
        // The journal does not know it, so the node says so and the attempt is released.
        | AgentAction::Go { .. }
        | AgentAction::Query(_)
        | AgentAction::Cancel(_)
        // Who typed it says it again.
        | AgentAction::Terminal(_)
        | AgentAction::Drain { .. }
        // Acknowledgements of the audit too: the next hello brings what the mirror has.
        | AgentAction::Audit(_)
        | AgentAction::ReadSpool { .. } => false,
    }
}

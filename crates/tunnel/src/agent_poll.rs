//! What the agent's end wants: actions, frames in the order of their classes, time.

use crate::agent_actions::{AgentAction, DisconnectReason};
use crate::agent_end::{AgentEnd, State};
use crate::frame::up;
use cortex_model::Tick;
use cortex_model::limits::CONNECT_TIMEOUT_MS;
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::{AgentFrame, AgentHeartbeat};

impl AgentEnd {
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
                !self.frames.is_empty()
                    || heartbeat.is_due()
                    || self.consents.has_frame()
                    || !self.uploads.is_empty()
                    || self.delivery.has_frame()
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
        // Before the outcome: what was asked comes before what became of it.
        if let Some(report) = self.consents.next() {
            return Some(up(Up::Consent(report)));
        }
        if let Some(report) = self.delivery.next_outcome() {
            return Some(up(Up::Outcome(report)));
        }
        if let Some(frame) = self.uploads.pop_front() {
            return Some(frame);
        }
        self.delivery.next_output().map(|report| up(Up::Output(report)))
    }

    /// When `handle_timeout` must be called at the latest. None: nothing happens by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Connecting { deadline } | State::Greeting { deadline } => Some(*deadline),
            State::Up { heartbeat, drain, token, .. } => {
                [Some(heartbeat.deadline()), *drain, *token].into_iter().flatten().min()
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
            State::Up { token: Some(end), .. } if now >= *end => {
                self.close(DisconnectReason::TokenStale, now);
            }
            State::Up { heartbeat, .. } => heartbeat.handle_timeout(now),
            // Waiting ends in `poll_action`.
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Greeting { .. }
            | State::Closing => {}
        }
    }
}

//! What the gateway's end tells its driver. No logic lives here.

use crate::audit::AuditUp;
use crate::error::ProtocolError;
use cortex_model::AttemptKey;
use cortex_model::proto::{
    AgentHeartbeat, Busy, CancelAnswer, ConsentReport, GatewayFrame, Hello, OutcomeReport,
    OutputChunk, QueryAnswer, TerminalAnswer,
};
use thiserror::Error;

/// Something that happened on the connection, in order. Frames to send are not among them: see
/// `GatewayEnd::poll_frame`.
#[derive(Clone, Debug, PartialEq)]
pub enum GatewayAction {
    /// An agent that speaks a common version says who it is: answer with `accept` or `refuse`.
    Hello(Box<Hello>),
    /// The node takes an offer of this connection: append `Started`, then `go` or `no_go`.
    Claim {
        /// The offer.
        offer_id: u64,
        /// The attempt it offered.
        key: AttemptKey,
        /// The revision it offered.
        fence: u64,
        /// Free slots the node has left.
        slots_free: u32,
    },
    /// The node does not take an offer of this connection.
    Busy {
        /// The attempt that was offered.
        key: AttemptKey,
        /// The frame.
        busy: Busy,
    },
    /// How an attempt ended. Make it durable once its output is; then `ack_outcome`. It is sent again
    /// only after a reconnect: a driver that cannot deal with it must close the connection.
    Outcome {
        /// The attempt.
        key: AttemptKey,
        /// The frame.
        report: Box<OutcomeReport>,
    },
    /// How an attempt stands with the owner of its node. Make it durable, then `ack_consent`; a later one replaces it.
    Consent {
        /// The attempt.
        key: AttemptKey,
        /// The frame.
        report: Box<ConsentReport>,
    },
    /// A piece of output. Make it durable or drop it; either way call `output_settled` with its
    /// length, and `ack_output` when more is durable or a gap shows.
    Output {
        /// The attempt.
        key: AttemptKey,
        /// 1 to 64 KiB of one stream.
        chunk: OutputChunk,
    },
    /// The answer to a query of this connection.
    QueryAnswer {
        /// The attempt that was asked about.
        key: AttemptKey,
        /// The frame.
        answer: QueryAnswer,
    },
    /// The answer to a cancel of this connection.
    CancelAnswer {
        /// The attempt that was to be cancelled.
        key: AttemptKey,
        /// The frame.
        answer: CancelAnswer,
    },
    /// What became of what was typed through this connection.
    TerminalAnswer(TerminalAnswer),
    /// The node lives; what it has free.
    Heartbeat(AgentHeartbeat),
    /// The node shows a newer token: answer with `token_accepted` or `refuse`. It is secret.
    TokenShown(String),
    /// The node goes away: offer it nothing more.
    Leaving(String),
    /// What the node says of its journal. Each upload must get one answer by `GatewayEnd::audit`.
    Audit(Box<AuditUp>),
    /// The connection is over. Send `last` if the transport takes it, then drop the transport.
    Close {
        /// Why.
        why: CloseReason,
        /// A last frame that tells the agent.
        last: Option<Box<GatewayFrame>>,
    },
}

/// Why the gateway's end gives a connection up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// No hello, or no decision about it, in time.
    HandshakeTimeout,
    /// The agent speaks no version that this gateway speaks.
    NoCommonVersion,
    /// The driver refused.
    Refused,
    /// Silence for longer than agreed.
    Silent,
    /// The agent broke the protocol.
    Protocol(ProtocolError),
    /// No newer token was shown before the old one ended.
    TokenStale,
    /// The grace of `drain` is over.
    Drained,
    /// The agent does not read, or the driver does not keep up.
    Overflow,
}

/// Why an offer, query or cancel was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OfferError {
    /// There is no welcomed agent, or no longer.
    #[error("the tunnel is not up")]
    NotUp,
    /// The gateway or the agent is going away.
    #[error("the tunnel takes no more offers")]
    Draining,
    /// As many are open as may be.
    #[error("too many are open on this tunnel")]
    Full,
    /// The id is in use on this connection.
    #[error("the id is in use on this tunnel")]
    Duplicate,
    /// A part of it cannot be a key.
    #[error("it names no attempt")]
    BadKey,
}

/// What an acknowledgement of output asks of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Everything below the offset is durable; go on.
    Durable,
    /// Everything below the offset is durable; send from there again. Say it once per gap, then drop
    /// chunks beyond the offset until it is met: every repetition is obeyed.
    Resend,
    /// The output will never be wanted.
    Discard,
}

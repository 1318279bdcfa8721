//! What the agent's end tells its driver to do. No logic lives here.

use crate::audit::AuditDown;
use crate::error::ProtocolError;
use cortex_model::AttemptKey;
use cortex_model::proto::{Cancel, Error, Go, Narrowing, NoGo, Offer, Query, TerminalInput};

/// Something for the driver to do, in order. Frames are not among them: see `AgentEnd::poll_frame`.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentAction {
    /// Dial a gateway; then call `connected`, or `disconnected` if it fails.
    Connect,
    /// Drop the transport, or the attempt to get one, and call `disconnected`.
    Disconnect(DisconnectReason),
    /// The gateway takes us.
    Welcomed {
        /// The gateway's name.
        gateway: String,
        /// The workspace this node belongs to.
        workspace: String,
        /// The tunnel version that is spoken.
        version: u32,
        /// The gateway's clock, Unix milliseconds.
        now_ms: u64,
        /// The tunnel ends then unless `show_token` came before, Unix milliseconds by the gateway's clock; 0 is never.
        token_expires_at_ms: u64,
    },
    /// The gateway took the token of `show_token`.
    TokenAccepted {
        /// The tunnel ends then unless a newer one is shown, Unix milliseconds by the gateway's clock.
        expires_at_ms: u64,
        /// The gateway's clock, Unix milliseconds.
        now_ms: u64,
    },
    /// What a server takes away from what the owner allows, as it stands now. Comes after every welcome where there is something.
    Narrow(Narrowing),
    /// The CA changed: renew the certificate, then connect again.
    RenewNow {
        /// Wait up to this long first, at random; milliseconds.
        within_ms: u32,
    },
    /// The gateway refused us, or ended the connection for cause. `Disconnect` follows.
    Refused {
        /// Why, in the gateway's words.
        error: Error,
        /// Trying again will not help: tell the owner. It is tried again nevertheless, slowly.
        fatal: bool,
    },
    /// A proposal: answer with `claim` or `busy`.
    Offer(Box<Offer>),
    /// The answer to a claim of this connection: write the intent, then start. Comes once per claim.
    Go {
        /// The attempt to start.
        key: AttemptKey,
        /// The frame.
        go: Go,
    },
    /// The claim came to nothing: free its slot.
    NoGo {
        /// The attempt that was claimed.
        key: AttemptKey,
        /// The offer that was claimed.
        offer_id: u64,
        /// The gateway's answer; none if the connection was lost before there was one.
        answer: Option<NoGo>,
    },
    /// Answer with `answer_query`, at once and from what the journal says now.
    Query(Query),
    /// Stop this attempt; answer with `answer_cancel`.
    Cancel(Cancel),
    /// Something for the terminal of an attempt; answer with `answer_terminal`.
    Terminal(Box<TerminalInput>),
    /// The gateway is going away. `Disconnect` follows when open claims are answered, or after the
    /// grace; the next connection is made without a long pause.
    Drain {
        /// Milliseconds until the connection ends at the latest.
        grace_ms: u64,
    },
    /// The outcome is durable upstream.
    OutcomeAcked(AttemptKey),
    /// The output below `offset` is durable upstream. The spool must be kept until `Released`.
    OutputAcked {
        /// The attempt.
        key: AttemptKey,
        /// Bytes from the beginning of the output.
        offset: u64,
    },
    /// Nobody wants this attempt's output: what comes is not sent any more.
    DiscardOutput(AttemptKey),
    /// Nothing is owed for this attempt any more: its spool may be deleted.
    Released(AttemptKey),
    /// Read from a spool and answer with `output_data`: one chunk of one stream that begins at
    /// `offset` and has 1 to `max` bytes.
    ReadSpool {
        /// The attempt.
        key: AttemptKey,
        /// Where to begin.
        offset: u64,
        /// Most bytes.
        max: usize,
    },
    /// What the mirror says of the journal, or its answer to an upload of this connection.
    Audit(Box<AuditDown>),
}

/// Why the agent's end gives a connection up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// It could not be established in time.
    ConnectTimeout,
    /// Neither welcome nor refusal came in time.
    HandshakeTimeout,
    /// Silence for longer than agreed.
    Silent,
    /// The gateway broke the protocol.
    Protocol(ProtocolError),
    /// It took no newer token, and did not end the tunnel with the old one.
    TokenStale,
    /// The gateway refused us.
    Refused,
    /// The gateway goes away and all is said.
    Drained,
    /// The gateway does not read, or the driver does not keep up.
    Overflow,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimResult {
    /// It will be sent: hold a slot until `Go` or `NoGo`.
    Claimed,
    /// The offer is not open on this connection: forget it.
    Gone,
    /// Too much is undelivered; busy was answered instead: forget it.
    Full,
}

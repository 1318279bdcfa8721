//! The agent tunnel: both of its ends as state machines that are given frames, time and randomness
//! and give back frames and actions. It never touches a socket, a clock, a store or a runtime; the
//! drivers in `gateway` and `agent` do, and the tests here run both ends against each other.
//!
//! Driving either end is one loop: feed it (`handle_frame`, `handle_timeout`, and the calls by which
//! the driver answers), then take every action (`poll_action`), then take frames (`poll_frame`) for
//! as long as the transport has room, and sleep until `poll_timeout`. A frame is only taken when it
//! can be sent, so that control frames overtake the output that waits behind a slow transport.

mod agent_actions;
mod agent_calls;
mod agent_end;
mod agent_frames;
mod agent_poll;
mod audit;
mod audit_calls;
mod backoff;
mod consents;
mod credit;
mod delivery;
mod error;
mod frame;
mod gateway_actions;
mod gateway_calls;
mod gateway_end;
mod gateway_frames;
mod handshake;
mod heartbeat;
mod offers;
mod rivals;
mod terminal;

pub use agent_actions::{AgentAction, ClaimResult, DisconnectReason};
pub use agent_end::{AgentConfig, AgentEnd, HelloState};
pub use audit::{AuditDown, AuditError, AuditRoom, AuditUp};
pub use delivery::{BadChunk, Restored};
pub use error::ProtocolError;
pub use gateway_actions::{AckMode, CloseReason, GatewayAction, OfferError};
pub use gateway_end::{GatewayConfig, GatewayEnd};
pub use rivals::{Rival, Rivals, Standing};
pub use terminal::{Keyboard, News, Size, Typed, Typist};

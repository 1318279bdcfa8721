//! Who gets in and what they may do, over real sockets: gateways with TLS and a log, clients with whatever credentials.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod authority;
mod boundaries;
mod issuers;
mod machines;
mod people;
mod revocation;
#[path = "../support/mod.rs"]
mod support;
mod takeover;
mod tunnel_tokens;

//! Who may be here, over real sockets: the real server and agents, and strangers that say what no agent of ours would. Every
//! refusal has its code and a hint where it is met, and the server goes on serving others.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that called them")]

#[path = "../system/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the system tests; each uses its part")]
mod support;

mod certificate;
mod clock;
mod flood;
mod forged;
mod interop;
mod joining;
mod life;
mod machine;
mod raw;
mod rivals;
mod strangers;

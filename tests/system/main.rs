//! Cortex as its users meet it: the real binary, real processes, real sockets, real kills. Each test has its own
//! server on its own temporary directory; none relies on another, on the network or on being root.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that called them")]

mod audit;
mod audit_faults;
mod browser;
mod cancel;
mod composed;
mod directory;
mod disk;
mod files;
mod fleet;
mod fleet_identity;
mod hands;
mod identity;
mod many;
mod network;
mod ready;
mod refuse;
mod run;
mod set_back;
mod stages;
mod storm;
mod support;
mod survive;
mod tasks;
mod terminal;

//! What a gateway is told at start. It reads no file and no environment; whoever composes the process does.

use crate::retention::Retention;
use cortex_model::limits;
use std::time::Duration;

/// Settings of one gateway process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this gateway, a token (`a-z0-9-_`), unique among those that share a log.
    pub name: String,
    /// Heartbeat period on tunnels, milliseconds.
    pub heartbeat_ms: u32,
    /// Silence after which a tunnel is dead, milliseconds.
    pub dead_after_ms: u32,
    /// Floor of the pause before an agent reconnects, milliseconds.
    pub min_backoff_ms: u32,
    /// Finished tasks kept in memory for listings; older ones are read from the log.
    pub finished_kept: usize,
    /// How long and how much output is kept.
    pub retention: Retention,
    /// How long after its end a node's certificate is renewed by its key alone, milliseconds.
    pub renewal_grace_ms: u64,
    /// Calls per second of one workspace; twice as many may come at once.
    pub calls_per_second: u32,
    /// How long open calls and tunnels may go on after a shutdown was asked for.
    pub drain_grace: Duration,
}

impl Config {
    /// Settings that suit one machine as well as a fleet.
    #[must_use]
    pub fn named(name: &str) -> Config {
        Config {
            name: name.to_owned(),
            heartbeat_ms: limits::HEARTBEAT_MS,
            dead_after_ms: limits::DEAD_AFTER_MS,
            min_backoff_ms: 100,
            finished_kept: 200_000,
            retention: Retention {
                max_age: Duration::from_secs(7 * 24 * 3600),
                max_bytes: 50 * 1024 * 1024 * 1024,
            },
            renewal_grace_ms: limits::identity::RENEWAL_GRACE_MS,
            calls_per_second: limits::identity::CALLS_PER_SECOND,
            drain_grace: Duration::from_secs(5),
        }
    }
}

//! The clocks of this machine. Reads them and decides nothing.

use cortex_audit::Stamp;
use cortex_model::{Tick, UnixMillis};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall clock.
#[must_use]
pub fn unix_now() -> UnixMillis {
    UnixMillis(unix_us() / 1000)
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The stamps of journal entries.
#[derive(Clone, Debug)]
pub struct Stamps {
    boot: String,
}

impl Stamps {
    /// Finds out which boot this is. Where the system has no such thing, every process counts as one.
    #[must_use]
    pub fn new() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_else(|_| uuid::Uuid::new_v4().to_string());
        Self { boot }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Stamp {
        Stamp { unix_us: unix_us(), mono_us: mono_us(), boot: self.boot.clone() }
    }

    /// The id of this boot.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.boot
    }
}

impl Default for Stamps {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "linux")]
fn mono_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(now.tv_nsec / 1000).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn mono_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(now.tv_nsec / 1000).unwrap_or(0)
}

/// Counts milliseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    start: Instant,
}

impl Ticks {
    /// Starts counting.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// When a tick comes, for a timer.
    #[must_use]
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + std::time::Duration::from_millis(tick.0)
    }
}

impl Default for Ticks {
    fn default() -> Self {
        Self::new()
    }
}

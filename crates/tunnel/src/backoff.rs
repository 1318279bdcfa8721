//! How long an agent waits before it connects again: exponential, full jitter, never below what the
//! server asked for. It never draws randomness; the driver brings it.

use cortex_model::limits::{RECONNECT_BASE_MS, RECONNECT_CAP_MS, RECONNECT_FLOOR_MAX_MS};

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// From the last welcome; holds until the next.
    floor: u64,
    /// From a refusal; holds once.
    once: u64,
}

impl Backoff {
    pub(crate) fn set_floor(&mut self, ms: u64) {
        self.floor = ms.min(RECONNECT_FLOOR_MAX_MS);
    }

    pub(crate) fn set_floor_once(&mut self, ms: u64) {
        self.once = ms.min(RECONNECT_FLOOR_MAX_MS);
    }

    /// The connection lived long enough, or ended as arranged: the next failure is the first.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after another failure, in milliseconds. `jitter` is any random number. It is added
    /// to the floor, since a floor alone would let all agents of a server come back at once.
    pub(crate) fn next(&mut self, jitter: u64) -> u64 {
        let window = RECONNECT_BASE_MS
            .checked_shl(self.failures)
            .filter(|window| window >> self.failures == RECONNECT_BASE_MS)
            .map_or(RECONNECT_CAP_MS, |window| window.min(RECONNECT_CAP_MS));
        self.failures = self.failures.saturating_add(1);
        let floor = self.floor.max(std::mem::take(&mut self.once));
        floor + jitter % (window + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_from_250_ms_to_30_s_and_stays_there() {
        let mut backoff = Backoff::default();
        for window in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            assert_eq!(backoff.next(window), window);
        }
        for _ in 0..200 {
            assert_eq!(backoff.next(30_000), 30_000);
        }
        backoff.reset();
        assert_eq!(backoff.next(250), 250);
    }

    #[test]
    fn jitter_covers_the_whole_window_down_to_the_floor() {
        for (jitter, pause) in
            [(0, 40), (1, 41), (250, 290), (251, 40), (u64::MAX, 40 + u64::MAX % 251)]
        {
            let mut backoff = Backoff::default();
            backoff.set_floor(40);
            assert_eq!(backoff.next(jitter), pause, "{jitter}");
        }
    }

    #[test]
    fn a_refusal_sets_the_floor_once_and_a_welcome_until_the_next() {
        let mut backoff = Backoff::default();
        backoff.set_floor(100);
        backoff.set_floor_once(5_000);
        assert_eq!(backoff.next(0), 5_000);
        assert_eq!(backoff.next(0), 100);
        backoff.set_floor_once(u64::MAX);
        assert_eq!(backoff.next(0), RECONNECT_FLOOR_MAX_MS);
    }
}

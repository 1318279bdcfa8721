//! How often something may happen, per key: some at once, then at a steady rate. Time is an argument.

use cortex_model::Tick;
use std::collections::HashMap;

/// Rates by key. Bounded: when it is full, keys that could begin anew are forgotten, and if there are none, all.
#[derive(Debug)]
pub(super) struct Buckets {
    at_once: u64,
    every_us: u64,
    most: usize,
    /// When the key's next turn would be if it had used none of what may come at once, microseconds.
    next: HashMap<String, u64>,
}

impl Buckets {
    /// `at_once` of them, then one each `every_us` microseconds, for at most `most` keys.
    pub(super) fn new(at_once: u32, every_us: u64, most: usize) -> Buckets {
        Buckets { at_once: u64::from(at_once), every_us, most, next: HashMap::new() }
    }

    /// How long the key must wait before its next turn, milliseconds; 0 is now. Takes nothing.
    pub(super) fn wait_ms(&self, key: &str, now: Tick) -> u64 {
        let now = now.0.saturating_mul(1_000);
        let next = self.next.get(key).copied().unwrap_or(0).max(now);
        let free = now + self.at_once.saturating_sub(1) * self.every_us;
        next.saturating_sub(free).div_ceil(1_000)
    }

    /// Takes a turn, also one that is too early.
    pub(super) fn take(&mut self, key: &str, now: Tick) {
        let now = now.0.saturating_mul(1_000);
        if self.next.len() >= self.most && !self.next.contains_key(key) {
            self.next.retain(|_, next| *next > now);
            if self.next.len() >= self.most {
                self.next.clear();
            }
        }
        let ceiling = now + self.at_once * self.every_us;
        let next = self.next.entry(key.to_owned()).or_insert(now);
        *next = ((*next).max(now) + self.every_us).min(ceiling);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_may_come_at_once_then_one_after_the_other() {
        let mut buckets = Buckets::new(3, 2_000_000, 10);
        for _ in 0..3 {
            assert_eq!(buckets.wait_ms("a", Tick(0)), 0);
            buckets.take("a", Tick(0));
        }
        assert_eq!(buckets.wait_ms("a", Tick(0)), 2_000);
        assert_eq!(buckets.wait_ms("b", Tick(0)), 0, "another key");
        assert_eq!(buckets.wait_ms("a", Tick(2_000)), 0);
        buckets.take("a", Tick(2_000));
        assert_eq!(buckets.wait_ms("a", Tick(2_000)), 2_000);
        assert_eq!(buckets.wait_ms("a", Tick(60_000)), 0);
    }

    #[test]
    fn who_goes_on_too_early_waits_no_longer_than_for_all() {
        let mut buckets = Buckets::new(2, 1_000_000, 10);
        for _ in 0..1_000 {
            buckets.take("a", Tick(0));
        }
        assert_eq!(buckets.wait_ms("a", Tick(0)), 1_000);
    }

    #[test]
    fn the_table_does_not_grow_beyond_its_bound() {
        let mut buckets = Buckets::new(2, 1_000_000, 10);
        for n in 0..1_000 {
            buckets.take(&n.to_string(), Tick(n));
            assert!(buckets.next.len() <= 10);
        }
    }
}

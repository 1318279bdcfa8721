//! Liveness of one connection, the same on both sides: when to say that we live, and when the other
//! side is dead. Any frame counts as life. It never sends anything itself.

use cortex_model::limits::EARLY_HEARTBEAT_MS;
use cortex_model::time::Tick;

#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: u64,
    dead_after: u64,
    last_heard: Tick,
    last_beat: Tick,
    next_beat: Tick,
    due: bool,
    seq: u64,
}

impl Heartbeat {
    /// Starts at the moment at which the connection came up; the first beat is due at once.
    pub(crate) fn new(interval_ms: u32, dead_after_ms: u32, now: Tick) -> Self {
        Heartbeat {
            interval: interval_ms.into(),
            dead_after: dead_after_ms.into(),
            last_heard: now,
            last_beat: now,
            next_beat: now + u64::from(interval_ms),
            due: true,
            seq: 0,
        }
    }

    pub(crate) fn heard(&mut self, now: Tick) {
        self.last_heard = self.last_heard.max(now);
    }

    pub(crate) fn is_dead(&self, now: Tick) -> bool {
        now >= self.last_heard + self.dead_after
    }

    /// Brings the next beat forward, because what it would say has changed.
    pub(crate) fn hasten(&mut self) {
        self.next_beat = self.next_beat.min(self.last_beat + EARLY_HEARTBEAT_MS);
    }

    /// A beat that the transport has no room for stays due; beats never pile up.
    pub(crate) fn handle_timeout(&mut self, now: Tick) {
        if now >= self.next_beat {
            self.due = true;
            self.last_beat = now;
            self.next_beat = now + self.interval;
        }
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// Takes the beat that is due: its sequence number.
    pub(crate) fn take(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.due) {
            return None;
        }
        self.seq += 1;
        Some(self.seq)
    }

    /// When `handle_timeout` or `is_dead` has something to say next.
    pub(crate) fn deadline(&self) -> Tick {
        self.next_beat.min(self.last_heard + self.dead_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_due_at_once_and_then_every_interval_and_never_piles_up() {
        let mut beat = Heartbeat::new(1_000, 3_000, Tick(0));
        assert_eq!(beat.take(), Some(1));
        for (now, expected) in
            [(999, None), (1_000, Some(2)), (1_000, None), (1_999, None), (9_000, Some(3))]
        {
            beat.handle_timeout(Tick(now));
            assert_eq!(beat.take(), expected, "at {now}");
        }
        assert_eq!(beat.take(), None);
    }

    #[test]
    fn silence_is_death_exactly_at_its_deadline_and_any_frame_is_life() {
        let mut beat = Heartbeat::new(1_000, 3_000, Tick(0));
        assert!(!beat.is_dead(Tick(2_999)));
        assert!(beat.is_dead(Tick(3_000)));
        beat.heard(Tick(2_500));
        assert!(!beat.is_dead(Tick(5_499)));
        assert!(beat.is_dead(Tick(5_500)));
    }

    #[test]
    fn the_deadline_always_moves_on_after_it_was_handled() {
        let mut beat = Heartbeat::new(10, 100, Tick(0));
        assert_eq!(beat.deadline(), Tick(10));
        beat.handle_timeout(Tick(10));
        assert_eq!(beat.deadline(), Tick(20));
    }

    #[test]
    fn a_hastened_beat_comes_early_but_not_in_a_burst() {
        let mut beat = Heartbeat::new(1_000, 3_000, Tick(0));
        beat.handle_timeout(Tick(1_000));
        beat.hasten();
        assert_eq!(beat.deadline(), Tick(1_000 + EARLY_HEARTBEAT_MS));
        beat.handle_timeout(Tick(1_500));
        beat.hasten();
        assert_eq!(beat.deadline(), Tick(1_500 + EARLY_HEARTBEAT_MS));
    }
}

//! Credit: how many bytes of output may be under way. The agent spends it, the gateway grants it as
//! output is settled, so that a slow store slows the agent and nobody's memory grows. Control frames
//! never need it.

use crate::error::ProtocolError;
use cortex_model::limits::{OUTPUT_GRANT_FRACTION, OUTPUT_WINDOW_MAX, OUTPUT_WINDOW_MIN};

/// The agent's side: what it may still send.
#[derive(Debug, Default)]
pub(crate) struct Purse {
    available: u64,
}

impl Purse {
    pub(crate) fn reset(&mut self, bytes: u64) {
        self.available = bytes.min(OUTPUT_WINDOW_MAX);
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.available = self.available.saturating_add(bytes).min(OUTPUT_WINDOW_MAX);
    }

    /// Takes up to `wanted` bytes; 0 if there is nothing.
    pub(crate) fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.available);
        self.available -= taken;
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.available == 0
    }
}

/// The gateway's side: what it lets the agent send.
#[derive(Debug)]
pub(crate) struct Window {
    size: u64,
    /// Granted and not used by the agent.
    granted: u64,
    /// Received, handled, and not granted again.
    settled: u64,
}

impl Window {
    pub(crate) fn new(bytes: u64) -> Self {
        let size = bytes.clamp(OUTPUT_WINDOW_MIN, OUTPUT_WINDOW_MAX);
        Window { size, granted: size, settled: 0 }
    }

    /// The first grant, which the welcome carries.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn received(&mut self, bytes: u64) -> Result<(), ProtocolError> {
        if bytes > self.granted {
            return Err(ProtocolError::CreditExceeded { sent: bytes, credit: self.granted });
        }
        self.granted -= bytes;
        Ok(())
    }

    /// Bytes whose handling has ended. More than is under way is cut: a driver that counts twice must
    /// not widen the window.
    pub(crate) fn settle(&mut self, bytes: u64) {
        let under_way = self.size - self.granted - self.settled;
        self.settled += bytes.min(under_way);
    }

    /// Whether `grant` has something. Small grants would make small chunks, so they are collected.
    pub(crate) fn can_grant(&self) -> bool {
        self.settled >= self.size / OUTPUT_GRANT_FRACTION
    }

    pub(crate) fn grant(&mut self) -> Option<u64> {
        if !self.can_grant() {
            return None;
        }
        let bytes = std::mem::take(&mut self.settled);
        self.granted += bytes;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credit_comes_back_in_quarters_of_the_window() {
        let mut window = Window::new(1 << 20);
        window.received(1 << 20).unwrap();
        assert!(window.received(1).is_err());
        window.settle((1 << 18) - 1);
        assert_eq!(window.grant(), None);
        window.settle(1);
        assert_eq!(window.grant(), Some(1 << 18));
        assert_eq!(window.grant(), None);
        window.received(1 << 18).unwrap();
    }

    #[test]
    fn settling_more_than_was_received_grants_nothing_extra() {
        let mut window = Window::new(1 << 20);
        window.received(100).unwrap();
        window.settle(u64::MAX);
        assert_eq!(window.grant(), None);
        window.received((1 << 20) - 100).unwrap();
        window.settle(u64::MAX);
        assert_eq!(window.grant(), Some(1 << 20));
    }

    #[test]
    fn a_window_is_never_below_one_chunk_nor_above_its_limit() {
        assert_eq!(Window::new(0).size(), OUTPUT_WINDOW_MIN);
        assert_eq!(Window::new(u64::MAX).size(), OUTPUT_WINDOW_MAX);
    }

    proptest! {
        #[test]
        fn purse_and_window_agree_and_never_stall(steps in prop::collection::vec((1_u64..70_000, any::<bool>()), 1..200)) {
            let mut window = Window::new(128 * 1024);
            let mut purse = Purse::default();
            purse.reset(window.size());
            let mut waiting = 0_u64;
            for (bytes, settle) in steps {
                let sent = purse.take(bytes);
                if sent > 0 {
                    prop_assert!(window.received(sent).is_ok());
                    waiting += sent;
                }
                if settle {
                    window.settle(std::mem::take(&mut waiting));
                    if let Some(granted) = window.grant() {
                        purse.add(granted);
                    }
                    prop_assert!(!purse.is_empty(), "all is settled, so something may be sent");
                }
                prop_assert!(waiting <= window.size());
            }
        }
    }
}

//! Which schedulers are heard, and so which shards are ours. It keeps no lease: whoever is silent is not there.

use cortex_scheduler_core::owned_shards;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Silence after which a scheduler is not there.
const SILENT: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct Membership {
    me: String,
    heard: BTreeMap<String, Instant>,
}

impl Membership {
    pub(crate) fn new(me: &str) -> Membership {
        Membership { me: me.to_owned(), heard: BTreeMap::new() }
    }

    /// A scheduler said that it lives.
    pub(crate) fn heard(&mut self, scheduler: &str, now: Instant) {
        self.heard.insert(scheduler.to_owned(), now);
    }

    /// Shards that are ours by what was heard until now.
    pub(crate) fn owned(&mut self, shards: u32, now: Instant) -> BTreeSet<u32> {
        self.heard.retain(|_, at| now.duration_since(*at) < SILENT);
        let mut all: BTreeSet<String> = self.heard.keys().cloned().collect();
        all.insert(self.me.clone());
        owned_shards(&self.me, &all, shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_schedulers_share_the_shards_and_the_survivor_takes_them_all() {
        let t0 = Instant::now();
        let (mut a, mut b) = (Membership::new("a"), Membership::new("b"));
        a.heard("b", t0);
        b.heard("a", t0);
        let (of_a, of_b) = (a.owned(16, t0), b.owned(16, t0));
        assert!(of_a.is_disjoint(&of_b) && of_a.len() + of_b.len() == 16);
        assert_eq!(a.owned(16, t0 + SILENT).len(), 16);
    }
}

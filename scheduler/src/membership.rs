//! Which schedulers are heard and keep up, and so which shards are ours. It keeps no lease: whoever is silent, or hears nothing
//! of the log any more, is not there.

use cortex_scheduler_core::owned_shards;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Silence after which a scheduler is not there.
const SILENT: Duration = Duration::from_secs(3);
/// How long a scheduler may take to reach a position that another one had reached before.
const STALLED: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Membership {
    me: String,
    heard: BTreeMap<String, Heard>,
    /// What others had applied and we had not.
    ahead: Option<Goal>,
}

struct Heard {
    at: Instant,
    applied: Vec<u64>,
    /// What we had applied and it had not.
    goal: Option<Goal>,
}

/// Positions to be reached, by shard, since when.
struct Goal {
    positions: Vec<u64>,
    since: Instant,
}

impl Goal {
    fn reached(&self, applied: &[u64]) -> bool {
        !is_ahead(&self.positions, applied)
    }
}

impl Membership {
    pub(crate) fn new(me: &str) -> Membership {
        Membership { me: me.to_owned(), heard: BTreeMap::new(), ahead: None }
    }

    /// A scheduler said that it lives and what it has applied.
    pub(crate) fn heard(&mut self, scheduler: &str, applied: Vec<u64>, now: Instant) {
        match self.heard.get_mut(scheduler) {
            Some(known) => (known.at, known.applied) = (now, applied),
            None => {
                drop(
                    self.heard.insert(scheduler.to_owned(), Heard { at: now, applied, goal: None }),
                );
            }
        }
    }

    /// Shards that are ours by what was heard until now; `mine` is what we have applied.
    pub(crate) fn owned(&mut self, shards: u32, mine: &[u64], now: Instant) -> BTreeSet<u32> {
        self.heard.retain(|_, h| now.duration_since(h.at) < SILENT);
        let mut all = BTreeSet::from([self.me.clone()]);
        for (name, h) in &mut self.heard {
            if !falls_behind(&mut h.goal, &h.applied, mine, now) {
                all.insert(name.clone());
            }
        }
        owned_shards(&self.me, &all, shards)
    }

    /// Whether others see more of the log than we do, for longer than can be. Then our tail is dead and we should begin anew.
    pub(crate) fn left_behind(&mut self, mine: &[u64], now: Instant) -> bool {
        let mut most = mine.to_vec();
        for h in self.heard.values() {
            for (most, theirs) in most.iter_mut().zip(&h.applied) {
                *most = (*most).max(*theirs);
            }
        }
        falls_behind(&mut self.ahead, mine, &most, now)
    }
}

/// Whether `applied` has not reached for too long what `others` had.
fn falls_behind(goal: &mut Option<Goal>, applied: &[u64], others: &[u64], now: Instant) -> bool {
    goal.take_if(|g| g.reached(applied));
    if goal.is_none() && is_ahead(others, applied) {
        *goal = Some(Goal { positions: others.to_vec(), since: now });
    }
    goal.as_ref().is_some_and(|g| now.duration_since(g.since) >= STALLED)
}

fn is_ahead(a: &[u64], b: &[u64]) -> bool {
    a.iter().zip(b).any(|(a, b)| a > b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn two_schedulers_share_the_shards_and_the_survivor_takes_them_all() {
        let t0 = Instant::now();
        let (mut a, mut b) = (Membership::new("a"), Membership::new("b"));
        a.heard("b", vec![0; 16], t0);
        b.heard("a", vec![0; 16], t0);
        let (of_a, of_b) = (a.owned(16, &[0; 16], t0), b.owned(16, &[0; 16], t0));
        assert!(of_a.is_disjoint(&of_b) && of_a.len() + of_b.len() == 16);
        assert_eq!(a.owned(16, &[0; 16], t0 + SILENT).len(), 16);
    }

    #[test]
    fn a_scheduler_that_lives_but_hears_nothing_of_the_log_loses_its_shards_until_it_does() {
        let t0 = Instant::now();
        let mut a = Membership::new("a");
        let mut owned = |seconds: u32, mine: u64, theirs: u64| {
            let now = t0 + SECOND * seconds;
            a.heard("b", vec![theirs, 7], now);
            a.owned(16, &[mine, 7], now).len()
        };
        let share = owned(0, 5, 5);
        assert!(share < 16);
        // One commit behind at every look, but never the same one: that is keeping up.
        for second in 1..30 {
            assert_eq!(owned(second, 5 + u64::from(second), 4 + u64::from(second)), share);
        }
        assert_eq!(owned(30, 90, 33), share);
        assert_eq!(owned(38, 95, 33), share);
        assert_eq!(owned(39, 95, 33), 16, "it has not moved for ten seconds");
        assert_eq!(owned(42, 96, 95), share, "it is back");
    }

    #[test]
    fn who_sees_less_of_the_log_than_others_for_long_is_told_to_begin_anew() {
        let t0 = Instant::now();
        let mut a = Membership::new("a");
        a.heard("b", vec![9], t0);
        assert!(!a.left_behind(&[4], t0));
        assert!(!a.left_behind(&[8], t0 + SECOND * 9));
        assert!(a.left_behind(&[8], t0 + STALLED));
        assert!(!a.left_behind(&[9], t0 + STALLED));
    }
}

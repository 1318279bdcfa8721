//! Work per decision must not grow with the number of nodes: counted, not timed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;

use cortex_model::UnixMillis;
use cortex_scheduler_core::{Proposal, Scheduler};
use std::collections::VecDeque;

#[test]
fn nodes_examined_per_decision_at_most_double_from_1_000_to_100_000_nodes() {
    let few = examined_per_decision(1_000);
    let many = examined_per_decision(100_000);
    println!("examined per decision: {few:.2} at 1,000 nodes, {many:.2} at 100,000");
    assert!(many <= 2.0 * few, "{few} -> {many}");
}

/// Nodes come, and tasks come, start and end.
fn examined_per_decision(nodes: u32) -> f64 {
    let mut s = Scheduler::new(1);
    s.owns([0].into());
    let now = UnixMillis(1_000_000);
    let mut rev = 0;
    for i in 0..nodes {
        s.node_up(fleet::node_view(i, 2), now);
    }
    let mut running = VecDeque::new();
    let busy = nodes.min(10_000);
    for i in 0..busy + 5_000 {
        rev += 1;
        s.apply(&fleet::submit(i, rev)).unwrap();
        for p in s.propose(now) {
            let Proposal::Offer(offer) = p else { panic!("{p:?}") };
            rev += 1;
            s.apply(&fleet::started(&offer, rev)).unwrap();
            running.push_back(offer);
        }
        if running.len() > busy as usize {
            let offer = running.pop_front().unwrap();
            rev += 1;
            s.apply(&fleet::finished(&offer, rev)).unwrap();
        }
    }
    let c = s.counters();
    assert!(c.decisions >= u64::from(busy), "{c:?}");
    c.examined as f64 / c.decisions as f64
}

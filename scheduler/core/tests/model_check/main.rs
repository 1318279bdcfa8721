//! Random schedules of a small world: schedulers, gateways and agents that crash, freeze, come back, lose and double
//! messages, and a log whose appends are fenced and whose answers get lost. Whatever happens, the histories keep the
//! invariants, nothing begins twice without permission, and once faults stop, every task ends or says why it waits.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod agent;
mod checks;
mod faults;
mod messages;
#[path = "../support/mod.rs"]
mod support;
mod world;

use world::World;

/// `CORTEX_SEED=n` runs one seed; a failure names its seed.
#[test]
fn random_schedules_lose_nothing_and_start_nothing_twice() {
    let one = std::env::var("CORTEX_SEED").ok().and_then(|s| s.parse::<u64>().ok());
    let seeds = one.map_or(1..=300, |s| s..=s);
    let mut seen = checks::Seen::default();
    for seed in seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.run_with_faults(15_000);
        world.heal();
        world.run_quietly(120_000);
        world.check_end();
        seen.add(&world.seen);
    }
    println!("{seen:?}");
    if one.is_none() {
        seen.everything_happened();
    }
}

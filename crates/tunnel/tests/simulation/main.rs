//! Both ends against each other over a network that delays, cuts and falls silent, with a model of
//! the agent's spool and journal and of the gateways' store. Every schedule comes from a seed, which
//! is printed when it fails; `TUNNEL_SEED=n` runs that one alone, `TUNNEL_SEEDS=n` more of them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod agent;
mod audit;
mod gateway;
mod world;

use world::World;

const SEEDS: u64 = 500;
/// Simulated milliseconds in which things go wrong.
const CHAOS_MS: u64 = 15_000;
/// Simulated milliseconds after which everything must be delivered once nothing goes wrong any more:
/// above the longest pause before a reconnect.
const HEAL_MS: u64 = 90_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[test]
fn everything_is_delivered_once_whatever_the_network_does() {
    let seeds = match number("TUNNEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TUNNEL_SEEDS").unwrap_or(SEEDS),
    };
    let mut totals = world::Totals::default();
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| run(seed));
        match run {
            Ok(seen) => totals.add(&seen),
            Err(panic) => {
                eprintln!("failed with TUNNEL_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("seeds {seeds:?}: {totals:?}");
    if seeds.end - seeds.start >= SEEDS {
        totals.assert_that_all_kinds_of_trouble_happened();
    }
}

fn run(seed: u64) -> world::Totals {
    let mut world = World::new(seed);
    while world.now.0 < CHAOS_MS {
        world.trouble();
        world.step();
    }
    world.heal();
    let limit = world.now + HEAL_MS;
    while !world.is_quiet() {
        assert!(world.now < limit, "not quiet after the network healed: {}", world.describe());
        world.step();
    }
    world.totals
}

//! How fast the scheduler fold alone is, per second of CPU time: `cargo run --release -p cortex-scheduler-core --example fold_rate [NODES] [TASKS]`.

#![expect(clippy::print_stdout, reason = "this program prints a table")]
#![expect(clippy::unwrap_used, reason = "a broken benchmark should stop")]

#[path = "../tests/support/fleet.rs"]
mod fleet;

use cortex_model::UnixMillis;
use cortex_scheduler_core::{Offer, OfferAnswer, Proposal, Scheduler};
use std::collections::VecDeque;

/// Tasks made at a time, so that what is measured as memory is the fold's own.
const CHUNK: u32 = 10_000;
const NOW: UnixMillis = UnixMillis(10_000_000);

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u32>().unwrap());
    let nodes = args.next().unwrap_or(100_000);
    let tasks = args.next().unwrap_or(1_000_000);
    println!(
        "{:>8} {:>9}  {:>12} {:>12} {:>12} {:>9} {:>8}",
        "nodes", "queued", "submits/s", "offers/s", "tasks/s", "examined", "MiB"
    );
    for n in [1_000, nodes] {
        measure(n, tasks);
    }
}

fn measure(nodes: u32, tasks: u32) {
    let mut s = Scheduler::new(1);
    s.owns([0].into());
    let mut rev = 0;
    let mut applying = 0.0;
    for chunk in 0..tasks.div_ceil(CHUNK) {
        let range = chunk * CHUNK..tasks.min((chunk + 1) * CHUNK);
        let commits: Vec<_> = range.map(|i| fleet::submit(i, u64::from(i) + 1)).collect();
        rev += commits.len() as u64;
        let begin = cpu_seconds();
        for r in &commits {
            s.apply(r).unwrap();
        }
        applying += cpu_seconds() - begin;
    }
    let submits = f64::from(tasks) / applying;
    for i in 0..nodes {
        s.node_up(fleet::node_view(i, 4), NOW);
    }

    // All slots of all nodes, from empty to full.
    let before = s.counters();
    let begin = cpu_seconds();
    let mut offers = Vec::new();
    loop {
        let some = s.propose(NOW);
        if some.is_empty() {
            break;
        }
        offers.extend(some.into_iter().filter_map(offer));
    }
    let rate = offers.len() as f64 / (cpu_seconds() - begin);
    let c = s.counters();
    let examined = (c.examined - before.examined) as f64 / (c.decisions - before.decisions) as f64;

    // Whole tasks through the fold with every slot busy: claimed, started, finished, the next one offered.
    let mut running: VecDeque<Box<Offer>> = offers.into();
    let rounds = running.len().min(200_000).min(tasks as usize / 2);
    let begin = cpu_seconds();
    for _ in 0..rounds {
        let Some(o) = running.pop_front() else { break };
        s.offer_answered(o.id, OfferAnswer::Claimed { slots_free: 0 }, NOW);
        rev += 2;
        s.apply(&fleet::started(&o, rev - 1)).unwrap();
        s.apply(&fleet::finished(&o, rev)).unwrap();
        running.extend(s.propose(NOW).into_iter().filter_map(offer));
    }
    let whole = rounds as f64 / (cpu_seconds() - begin);
    println!(
        "{nodes:>8} {tasks:>9}  {submits:>12.0} {rate:>12.0} {whole:>12.0} {examined:>9.2} {:>8}",
        resident_mib()
    );
}

fn offer(p: Proposal) -> Option<Box<Offer>> {
    match p {
        Proposal::Offer(offer) => Some(offer),
        Proposal::Append { .. } | Proposal::Query { .. } | Proposal::Cancel { .. } => None,
    }
}

/// CPU time of this thread, so that other work on the machine does not count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok());
    ns.unwrap_or_default() / 1e9
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

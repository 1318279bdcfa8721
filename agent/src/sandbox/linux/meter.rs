//! Holds a tree to limits that no control group holds: processor time by letting it stand still in turn, memory and
//! the number of processes by looking often and ending it. Works as well as it can and is called `approx`.

use super::super::message::{Broke, Spec, Used};
use super::tree::Seen;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often memory and processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Length of one turn of the processor limit: short enough that a tree seems slow rather than stopped.
const TURN: Duration = Duration::from_millis(50);
/// The longest time a tree stands still at once, in turns.
const STILL_MAX: f64 = 20.0;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Let the tree stand still, until the next look.
    Stop,
    /// Let it go on.
    Continue,
    /// End it: it is over a limit.
    End(Broke),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Meter {
    cpu_percent: u32,
    memory: u64,
    pids: u32,
    page: u64,
    tick_us: u64,
    look_at: Instant,
    /// Processor time by process, so that those which have ended still count.
    ticks: BTreeMap<i32, u64>,
    ended_ticks: u64,
    /// Processor time that was due at the last look, microseconds.
    spent_us: u64,
    allowance_us: f64,
    last: Instant,
    stopped: bool,
    pub(super) used: Used,
}

impl Meter {
    /// A meter for what the spec asks to be held here.
    pub(super) fn new(spec: &Spec, now: Instant) -> Self {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        Self {
            cpu_percent: spec.cpu_percent,
            memory: spec.memory,
            pids: spec.pids,
            page: rustix::param::page_size() as u64,
            tick_us: 1_000_000 / ticks,
            look_at: now,
            ticks: BTreeMap::new(),
            ended_ticks: 0,
            spent_us: 0,
            allowance_us: 0.0,
            last: now,
            stopped: false,
            used: Used::default(),
        }
    }

    /// When it wants to look next; never, if there is nothing to hold.
    pub(super) fn wakes_in(&self, now: Instant) -> Option<Duration> {
        (self.cpu_percent > 0 || self.memory > 0 || self.pids > 0)
            .then(|| self.look_at.saturating_duration_since(now))
    }

    /// A child was waited for; `cpu_us` includes what it had waited for itself.
    pub(super) fn ended(&mut self, pid: i32, cpu_us: u64, memory: u64) {
        self.ticks.remove(&pid);
        self.ended_ticks += cpu_us / self.tick_us;
        self.used.cpu_us += cpu_us;
        self.used.memory = self.used.memory.max(memory);
    }

    /// Looks at the tree.
    pub(super) fn look(&mut self, tree: &BTreeMap<i32, Seen>, now: Instant) -> Act {
        let memory: u64 = tree.values().map(|seen| seen.pages * self.page).sum();
        let pids: u32 = tree.values().map(|seen| seen.threads).sum();
        self.used.memory = self.used.memory.max(memory);
        self.used.pids = self.used.pids.max(pids);
        let over = if self.memory > 0 && memory > self.memory {
            Broke::Memory
        } else if self.pids > 0 && pids > self.pids {
            Broke::Pids
        } else {
            Broke::Nothing
        };
        if over != Broke::Nothing {
            self.used.broke = over as u32;
            return Act::End(over);
        }
        self.look_at = now + LOOK_EVERY;
        if self.cpu_percent > 0 { self.throttle(tree, now) } else { Act::Nothing }
    }

    /// Spends an allowance that grows with time; stands still while it is overdrawn.
    fn throttle(&mut self, tree: &BTreeMap<i32, Seen>, now: Instant) -> Act {
        for (pid, seen) in tree {
            self.ticks.insert(*pid, seen.ticks);
        }
        let gone: u64 =
            self.ticks.iter().filter(|(pid, _)| !tree.contains_key(pid)).map(|(_, t)| *t).sum();
        self.ticks.retain(|pid, _| tree.contains_key(pid));
        self.ended_ticks += gone;
        let total = (self.ended_ticks + self.ticks.values().sum::<u64>()) * self.tick_us;
        let spent = total.saturating_sub(self.spent_us) as f64;
        self.spent_us = self.spent_us.max(total);
        let share = f64::from(self.cpu_percent) / 100.0;
        let passed = now.duration_since(self.last).as_micros() as f64;
        self.last = now;
        // Time that was not used is forgotten: there is no saving up for a burst longer than a turn.
        let most = share * TURN.as_micros() as f64;
        self.allowance_us = (self.allowance_us + passed * share - spent).min(most);
        if self.allowance_us < 0.0 {
            let debt = (-self.allowance_us / share / TURN.as_micros() as f64).clamp(0.1, STILL_MAX);
            self.look_at = now + TURN.mul_f64(debt);
            self.stopped = true;
            return Act::Stop;
        }
        self.look_at = now + TURN.mul_f64(0.2);
        if std::mem::take(&mut self.stopped) { Act::Continue } else { Act::Nothing }
    }
}

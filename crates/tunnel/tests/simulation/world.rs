//! Time, the network and its troubles, and the tasks there are.

use crate::agent::Node;
use crate::gateway::{Gateway, Store};
use cortex_model::proto::{AgentFrame, GatewayFrame};
use cortex_model::{AttemptKey, TaskId, TaskKey, Tick, Workspace};
use std::collections::{BTreeMap, VecDeque};

pub(crate) const WINDOW: u64 = 128 * 1024;
pub(crate) const DEAD_AFTER_MS: u64 = 3_000;
/// Frames that a direction of the transport holds before it pushes back.
const ROOM: usize = 6;

/// How often what happened, over all seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) connections: u64,
    pub(crate) cuts: u64,
    pub(crate) late: u64,
    pub(crate) blackholes: u64,
    pub(crate) restarts: u64,
    pub(crate) drains: u64,
    pub(crate) silent: u64,
    pub(crate) gone_claims: u64,
    pub(crate) dropped_claims: u64,
    pub(crate) released: u64,
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    pub(crate) interrupted: u64,
    pub(crate) discarded: u64,
    pub(crate) finished: u64,
    pub(crate) ignored: u64,
    pub(crate) bytes: u64,
    pub(crate) audit_gaps: u64,
    pub(crate) audit_losses: u64,
}

impl Totals {
    fn fields(&mut self) -> [&mut u64; 19] {
        [
            &mut self.connections,
            &mut self.cuts,
            &mut self.late,
            &mut self.blackholes,
            &mut self.restarts,
            &mut self.drains,
            &mut self.silent,
            &mut self.gone_claims,
            &mut self.dropped_claims,
            &mut self.released,
            &mut self.duplicates,
            &mut self.gaps,
            &mut self.interrupted,
            &mut self.discarded,
            &mut self.finished,
            &mut self.ignored,
            &mut self.bytes,
            &mut self.audit_gaps,
            &mut self.audit_losses,
        ]
    }

    pub(crate) fn add(&mut self, other: &Totals) {
        for (mine, theirs) in self.fields().into_iter().zip(other.clone().fields()) {
            *mine += *theirs;
        }
    }

    pub(crate) fn assert_that_all_kinds_of_trouble_happened(&mut self) {
        let shown = format!("{self:?}");
        assert!(self.fields().iter().all(|count| **count > 0), "a trouble is missing: {shown}");
    }
}

/// One direction of a transport: in order, delayed, bounded.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    frames: VecDeque<(Tick, T)>,
    last: Tick,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Pipe { frames: VecDeque::new(), last: Tick(0) }
    }
}

impl<T> Pipe<T> {
    pub(crate) fn has_room(&self) -> bool {
        self.frames.len() < ROOM
    }

    pub(crate) fn send(&mut self, frame: T, at: Tick) {
        self.last = self.last.max(at);
        self.frames.push_back((self.last, frame));
    }

    pub(crate) fn receive(&mut self, now: Tick) -> Option<T> {
        self.frames.pop_front_if(|(at, _)| *at <= now).map(|(_, frame)| frame)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.frames.clear();
    }
}

/// A transport between the node and one gateway.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) up: Pipe<AgentFrame>,
    pub(crate) down: Pipe<GatewayFrame>,
    /// How far the output of each attempt was sent here.
    pub(crate) sent: BTreeMap<AttemptKey, u64>,
    /// The agent's side is closed, or was never opened.
    pub(crate) agent_gone: bool,
    /// The gateway's side is closed.
    pub(crate) gateway_gone: bool,
    /// Since then nothing passes and nobody is told.
    pub(crate) silent_since: Option<Tick>,
}

pub(crate) struct World {
    pub(crate) now: Tick,
    pub(crate) rng: fastrand::Rng,
    pub(crate) calm: bool,
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) links: Vec<Link>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) totals: Totals,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let tasks = rng.u32(1..12);
        World {
            now: Tick(0),
            node: Node::new(),
            store: Store::new(tasks),
            rng,
            calm: false,
            links: Vec::new(),
            gateways: Vec::new(),
            totals: Totals::default(),
        }
    }

    pub(crate) fn delay(&mut self) -> Tick {
        let longest = if self.rng.u8(..) < 8 { 400 } else { 30 };
        self.now + self.rng.u64(0..longest)
    }

    /// True once in `times`, while there is trouble.
    pub(crate) fn unlucky(&mut self, times: u32) -> bool {
        !self.calm && self.rng.u32(0..times) == 0
    }

    pub(crate) fn step(&mut self) {
        self.now = self.now + self.rng.u64(1..20);
        self.step_store();
        for link in 0..self.links.len() {
            self.deliver_up(link);
            self.step_gateway(link);
        }
        self.step_node();
        self.check_silence();
    }

    fn deliver_up(&mut self, link: usize) {
        let now = self.now;
        while let Some(frame) = self.links[link].up.receive(now) {
            self.totals.late += u64::from(self.links[link].agent_gone);
            self.gateway_receives(link, frame);
        }
        // The end of the stream comes after its last frame.
        let this = &mut self.links[link];
        let cut = this.agent_gone && this.up.is_empty() && this.silent_since.is_none();
        if cut && !this.gateway_gone && self.rng.u32(0..20) == 0 {
            self.close_gateway_side(link);
        }
    }

    pub(crate) fn close_gateway_side(&mut self, link: usize) {
        let this = &mut self.links[link];
        this.gateway_gone = true;
        this.up.clear();
        let gateway = &mut self.gateways[link];
        self.totals.ignored += gateway.end.ignored();
        gateway.closed = true;
    }

    /// Perhaps something goes wrong.
    pub(crate) fn trouble(&mut self) {
        if self.links.is_empty() {
            return;
        }
        let link = self.links.len() - 1;
        match self.rng.u32(0..900) {
            // Cut for the agent at once; what it sent before is still delivered.
            0..2 => {
                self.totals.cuts += 1;
                self.agent_loses(link);
            }
            // The gateway dies with all it holds.
            2 => {
                self.totals.cuts += 1;
                self.close_gateway_side(link);
                self.agent_loses(link);
            }
            3 if self.links[link].silent_since.is_none() => {
                self.totals.blackholes += 1;
                let this = &mut self.links[link];
                this.silent_since = Some(self.now);
                this.up.clear();
                this.down.clear();
            }
            4 if self.rng.bool() => {
                self.totals.restarts += 1;
                self.restart_node();
            }
            5 => {
                self.totals.drains += 1;
                let grace = self.rng.u32(0..2_000);
                self.gateways[link].end.drain(grace, self.now);
            }
            6 => self.mirror_loses(link),
            _ => {}
        }
    }

    /// No more trouble: what is broken stays broken until somebody notices, nothing new breaks.
    pub(crate) fn heal(&mut self) {
        self.calm = true;
    }

    /// A silent link must be noticed by both ends, from its silence alone.
    fn check_silence(&self) {
        // A handshake that falls silent has its own, longer time; timers are looked at every step.
        let limit = cortex_model::limits::HANDSHAKE_TIMEOUT_MS.max(DEAD_AFTER_MS) + 40;
        for link in &self.links {
            if let Some(since) = link.silent_since
                && self.now > since + limit
            {
                assert!(link.agent_gone, "the agent did not notice the silence");
                assert!(link.gateway_gone, "the gateway did not notice the silence");
            }
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.store.all_finished() && self.store.mirror.is_complete() && self.node.owes_nothing()
    }

    pub(crate) fn describe(&self) -> String {
        format!("{:#?}\n{}", self.node.describe(), self.store.describe())
    }
}

pub(crate) fn key(task: u32, attempt: u32) -> AttemptKey {
    let task = TaskId::parse(&format!("t{task}")).unwrap();
    AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt }
}

/// Bytes of an attempt's output: `length` from `offset`. Different for every attempt and offset.
pub(crate) fn content(key: &AttemptKey, offset: u64, length: usize) -> &'static [u8] {
    use std::sync::OnceLock;
    /// Prime, so that no shift by a chunk meets itself.
    const PERIOD: usize = 65_521;
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        let mut rng = fastrand::Rng::with_seed(7);
        let period: Vec<u8> = (0..PERIOD).map(|_| rng.u8(..)).collect();
        period.iter().copied().cycle().take(3 * PERIOD).collect()
    });
    let of_task: u64 = key.task.task.as_str()[1..].parse().unwrap();
    let start = (offset + of_task * 1_009 + u64::from(key.attempt) * 17) as usize % PERIOD;
    &pattern[start..start + length]
}

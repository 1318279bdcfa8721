//! The gateways: drivers of the gateway's end, with a scheduler's view of tasks and a store that is
//! slow, sometimes fails, and finishes what it was given even when its gateway is gone.

use crate::audit::Mirror;
use crate::world::{Pipe, WINDOW, World, content, key};
use cortex_model::proto::{
    AttemptPhase, Error, Offer, OutcomeReport, OutputChunk, Query, TaskSpec,
};
use cortex_model::{AttemptKey, Code, Fault, Tick, UnixMillis};
use cortex_tunnel::{AckMode, AuditUp, CloseReason, GatewayAction, GatewayConfig, GatewayEnd};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug)]
enum Append {
    Start { offer_id: u64, key: AttemptKey, fence: u64 },
    Output { key: AttemptKey, chunk: OutputChunk },
    Outcome { key: AttemptKey, report: Box<OutcomeReport> },
    Audit(Box<AuditUp>),
}

pub(crate) struct Gateway {
    pub(crate) end: GatewayEnd,
    pub(crate) closed: bool,
    hello: Option<(Tick, u64)>,
    superseded: Option<Tick>,
    appends: Pipe<Append>,
    unsettled: u64,
    /// Offsets from which output was asked for again.
    expects: BTreeMap<AttemptKey, u64>,
    /// Outcomes whose output is not durable yet.
    held: Vec<(AttemptKey, Box<OutcomeReport>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Pending { offered_until: Tick },
    Started { link: usize, asked: Tick },
    Finished,
}

#[derive(Debug)]
struct Task {
    revision: u64,
    attempt: u32,
    phase: Phase,
}

/// What is durable, and common to all gateways.
#[derive(Debug)]
pub(crate) struct Store {
    tasks: BTreeMap<u32, Task>,
    started: BTreeSet<AttemptKey>,
    released: BTreeSet<AttemptKey>,
    outcomes: BTreeMap<AttemptKey, OutcomeReport>,
    durable: BTreeMap<AttemptKey, u64>,
    ids: u64,
    pub(crate) mirror: Mirror,
}

impl Store {
    pub(crate) fn new(tasks: u32) -> Self {
        let phase = Phase::Pending { offered_until: Tick(0) };
        Store {
            tasks: (1..=tasks).map(|id| (id, Task { revision: 1, attempt: 1, phase })).collect(),
            started: BTreeSet::new(),
            released: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            durable: BTreeMap::new(),
            ids: 0,
            mirror: Mirror::default(),
        }
    }

    pub(crate) fn all_finished(&self) -> bool {
        self.tasks.values().all(|task| task.phase == Phase::Finished)
    }

    pub(crate) fn has_outcome(&self, key: &AttemptKey) -> bool {
        self.outcomes.contains_key(key)
    }

    pub(crate) fn is_started(&self, key: &AttemptKey) -> bool {
        self.started.contains(key)
    }

    pub(crate) fn was_released(&self, key: &AttemptKey) -> bool {
        self.released.contains(key)
    }

    pub(crate) fn durable(&self, key: &AttemptKey) -> u64 {
        self.durable.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn describe(&self) -> String {
        format!("{:#?}\ndurable {:?}\n{:?}", self.tasks, self.durable, self.mirror)
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn task(&mut self, key: &AttemptKey) -> &mut Task {
        self.tasks.get_mut(&number(key)).expect("only tasks that there are")
    }
}

fn number(key: &AttemptKey) -> u32 {
    key.task.task.as_str()[1..].parse().expect("a task of this simulation")
}

pub(crate) fn key_of(task_id: &str, attempt: u32) -> AttemptKey {
    key(task_id[1..].parse().expect("a task of this simulation"), attempt)
}

/// Nobody wants the output of these.
fn is_unwanted(key: &AttemptKey) -> bool {
    number(key) % 7 == 3
}

impl World {
    pub(crate) fn add_gateway(&mut self) {
        let mut cfg = GatewayConfig::new("g");
        cfg.output_window = WINDOW;
        self.gateways.push(Gateway {
            end: GatewayEnd::new(Arc::new(cfg), self.now),
            closed: false,
            hello: None,
            superseded: None,
            appends: Pipe::default(),
            unsettled: 0,
            expects: BTreeMap::new(),
            held: Vec::new(),
        });
    }

    pub(crate) fn gateway_receives(&mut self, link: usize, frame: cortex_model::proto::AgentFrame) {
        let end = &mut self.gateways[link].end;
        end.handle_frame(frame, self.now).expect("the agent keeps the protocol");
        self.gateway_acts(link);
    }

    pub(crate) fn step_gateway(&mut self, link: usize) {
        self.gateway_appends(link);
        if self.gateways[link].closed {
            return;
        }
        let now = self.now;
        let gateway = &mut self.gateways[link];
        gateway.end.handle_timeout(now, UnixMillis(now.0));
        if let Some((_, generation)) = gateway.hello.take_if(|(at, _)| now >= *at) {
            self.gateway_decides(link, generation);
        }
        let gateway = &mut self.gateways[link];
        if gateway.superseded.is_some_and(|at| now >= at) {
            gateway.end.refuse(Error::from(&Fault::new(Code::Superseded, "replaced")), 0);
        }
        self.gateway_acts(link);
        self.gateway_sends(link);
    }

    fn gateway_decides(&mut self, link: usize, generation: u64) {
        assert!(generation > 0);
        if self.unlucky(6) {
            let retry = self.rng.u32(0..500);
            let error = Error::from(&Fault::new(Code::LogUnavailable, "not now"));
            self.gateways[link].end.refuse(error, retry);
            return;
        }
        assert!(self.gateways[link].end.accept("default", self.now, UnixMillis(self.now.0)));
        for older in 0..link {
            // Two connections overlap for a while.
            let at = self.delay();
            self.gateways[older].superseded.get_or_insert(at);
        }
    }

    fn gateway_acts(&mut self, link: usize) {
        while !self.gateways[link].closed {
            let Some(action) = self.gateways[link].end.poll_action() else { return };
            self.gateway_does(link, action);
        }
    }

    fn gateway_does(&mut self, link: usize, action: GatewayAction) {
        let at = self.delay();
        let gateway = &mut self.gateways[link];
        match action {
            GatewayAction::Hello(hello) => gateway.hello = Some((at, hello.generation)),
            GatewayAction::Claim { offer_id, key, fence, .. } => {
                gateway.appends.send(Append::Start { offer_id, key, fence }, at);
            }
            GatewayAction::Busy { key, .. } => {
                let again = self.now + 50;
                if let Phase::Pending { offered_until } = &mut self.store.task(&key).phase {
                    *offered_until = again;
                }
            }
            GatewayAction::Outcome { key, report } => gateway.held.push((key, report)),
            GatewayAction::Output { key, chunk } => {
                gateway.unsettled += chunk.data.len() as u64;
                assert!(gateway.unsettled <= WINDOW, "more output under way than granted");
                gateway.appends.send(Append::Output { key, chunk }, at);
            }
            GatewayAction::QueryAnswer { key, answer } => {
                if answer.phase() == AttemptPhase::Unknown {
                    self.release(&key);
                }
            }
            GatewayAction::Audit(said) => gateway.appends.send(Append::Audit(said), at),
            GatewayAction::CancelAnswer { .. }
            | GatewayAction::Consent { .. }
            | GatewayAction::Heartbeat(_)
            | GatewayAction::TokenShown(_)
            | GatewayAction::TerminalAnswer(_)
            | GatewayAction::Leaving(_) => {}
            GatewayAction::Close { why, last } => {
                if why == CloseReason::Silent {
                    self.totals.silent += 1;
                    let link = &self.links[link];
                    let broken = link.silent_since.is_some() || link.agent_gone;
                    assert!(broken, "a living agent was taken for dead");
                }
                if let Some(last) = last
                    && self.links[link].silent_since.is_none()
                {
                    self.links[link].down.send(*last, at);
                }
                self.close_gateway_side(link);
            }
        }
    }

    fn gateway_sends(&mut self, link: usize) {
        while self.links[link].down.has_room() && self.gateways[link].end.has_frame() {
            let at = self.delay();
            let frame = self.gateways[link].end.poll_frame().expect("has_frame said so");
            let this = &mut self.links[link];
            if this.silent_since.is_none() && !this.agent_gone {
                this.down.send(*frame, at);
            }
        }
    }

    /// What was given to the store lands, also when the gateway is gone.
    fn gateway_appends(&mut self, link: usize) {
        let now = self.now;
        while let Some(append) = self.gateways[link].appends.receive(now) {
            match append {
                Append::Start { offer_id, key, fence } => self.start(link, offer_id, &key, fence),
                Append::Output { key, chunk } => self.store_output(link, &key, &chunk),
                Append::Outcome { key, report } => self.finish(link, &key, *report),
                Append::Audit(said) => self.mirror_hears(link, *said),
            }
        }
        let store = &self.store;
        let ready = |(key, report): &mut (AttemptKey, Box<OutcomeReport>)| {
            let outcome = report.outcome.as_ref().expect("checked by the end");
            let total = outcome.output.as_ref().map_or(0, |output| output.stdout_bytes);
            !outcome.inline_output.is_empty() || is_unwanted(key) || store.durable(key) >= total
        };
        let ready: Vec<_> = self.gateways[link].held.extract_if(.., ready).collect();
        for (key, report) in ready {
            let at = self.delay();
            self.gateways[link].appends.send(Append::Outcome { key, report }, at);
        }
    }

    fn start(&mut self, link: usize, offer_id: u64, key: &AttemptKey, fence: u64) {
        let now = self.now;
        let task = self.store.task(key);
        if task.revision == fence && matches!(task.phase, Phase::Pending { .. }) {
            task.revision += 1;
            task.phase = Phase::Started { link, asked: now };
            let revision = task.revision;
            assert!(self.store.started.insert(key.clone()), "{key} started twice");
            self.gateways[link].end.go(offer_id, revision);
        } else {
            self.gateways[link].end.no_go(offer_id, None);
        }
    }

    /// The node said that it never started this attempt.
    fn release(&mut self, key: &AttemptKey) {
        let task = self.store.task(key);
        if task.attempt == key.attempt && matches!(task.phase, Phase::Started { .. }) {
            task.revision += 1;
            task.attempt += 1;
            task.phase = Phase::Pending { offered_until: Tick(0) };
            self.store.released.insert(key.clone());
            self.totals.released += 1;
        }
    }

    fn store_output(&mut self, link: usize, key: &AttemptKey, chunk: &OutputChunk) {
        let failing = self.unlucky(25);
        let (offset, length) = (chunk.offset, chunk.data.len() as u64);
        assert_eq!(&chunk.data[..], content(key, offset, length as usize), "{key} at {offset}");
        let durable = self.store.durable.entry(key.clone()).or_default();
        let gateway = &mut self.gateways[link];
        gateway.unsettled -= length;
        gateway.end.output_settled(length);
        if is_unwanted(key) {
            gateway.end.ack_output(key, offset, AckMode::Discard);
            return;
        }
        let expected = gateway.expects.get(key).is_none_or(|wanted| *wanted == offset);
        if !expected {
            return;
        }
        gateway.expects.remove(key);
        if failing || offset > *durable {
            self.totals.gaps += 1;
            gateway.expects.insert(key.clone(), *durable);
            gateway.end.ack_output(key, *durable, AckMode::Resend);
            return;
        }
        if offset + length > *durable {
            self.totals.bytes += offset + length - *durable;
            *durable = offset + length;
        } else {
            self.totals.duplicates += 1;
        }
        gateway.end.ack_output(key, *durable, AckMode::Durable);
    }

    fn finish(&mut self, link: usize, key: &AttemptKey, report: OutcomeReport) {
        assert!(self.store.is_started(key) && !self.store.was_released(key));
        match self.store.outcomes.get(key) {
            Some(known) => {
                assert_eq!(comparable(key, known), comparable(key, &report), "an outcome changed");
            }
            None => {
                self.store.outcomes.insert(key.clone(), report);
                self.totals.finished += 1;
                let task = self.store.task(key);
                assert_eq!(task.attempt, key.attempt);
                task.phase = Phase::Finished;
            }
        }
        self.gateways[link].end.ack_outcome(key);
    }

    /// The scheduler: offers what is pending, asks about what was started on another connection.
    pub(crate) fn step_store(&mut self) {
        let ups: Vec<usize> = (0..self.gateways.len())
            .filter(|link| !self.gateways[*link].closed && self.gateways[*link].end.is_up())
            .collect();
        let Some(newest) = ups.last().copied() else { return };
        let now = self.now;
        for id in self.store.tasks.keys().copied().collect::<Vec<_>>() {
            let serial = self.store.id();
            let task = self.store.tasks.get_mut(&id).expect("it was listed");
            let key = key(id, task.attempt);
            match &mut task.phase {
                Phase::Pending { offered_until } if now >= *offered_until => {
                    let link = ups[self.rng.usize(0..ups.len())];
                    let patience = if self.rng.u8(0..10) == 0 { 5 } else { 1_600 };
                    *offered_until = now + patience;
                    let offer = offer(&key, task.revision, serial);
                    if self.gateways[link].end.offer(offer).is_ok() && patience == 5 {
                        // Withdrawn while the agent thinks about it: a claim comes too late.
                        self.gateways[link].end.withdraw(serial);
                    }
                }
                Phase::Started { link, asked } if *link != newest && now >= *asked + 500 => {
                    *asked = now;
                    let query = Query {
                        query_id: serial,
                        workspace: key.task.workspace.to_string(),
                        task_id: key.task.task.to_string(),
                        attempt: key.attempt,
                    };
                    self.gateways[newest].end.query(query).expect("few queries are open");
                }
                Phase::Pending { .. } | Phase::Started { .. } | Phase::Finished => {}
            }
        }
    }
}

/// What two reports of one attempt must agree on. A node that restarts after it dropped output that nobody wanted no longer
/// knows why that is gone, and admits that it is.
fn comparable(key: &AttemptKey, report: &OutcomeReport) -> OutcomeReport {
    let mut report = report.clone();
    if is_unwanted(key)
        && let Some(output) = report.outcome.as_mut().and_then(|outcome| outcome.output.as_mut())
    {
        output.lost_bytes = 0;
    }
    report
}

fn offer(key: &AttemptKey, fence: u64, offer_id: u64) -> Offer {
    Offer {
        workspace: key.task.workspace.to_string(),
        task_id: key.task.task.to_string(),
        attempt: key.attempt,
        fence,
        spec: Some(TaskSpec::default()),
        offer_id,
        ..Offer::default()
    }
}

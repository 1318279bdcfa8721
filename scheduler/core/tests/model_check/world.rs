//! The world: time, randomness, the log, and who is alive.

use crate::agent::Agent;
use crate::checks::{Seen, Truth};
use crate::messages::Message;
use crate::support::{actor, facts, key, node, spec, ws};
use cortex_model::{Commit, RetryOn, TaskKey, UnixMillis};
use cortex_scheduler_core::decide::{self, NewTask, Submit};
use cortex_scheduler_core::{NodeView, RecordedCommit, Scheduler, TaskView};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) const STEP: u64 = 25;
const SHARDS: u32 = 2;

pub(crate) struct Peer {
    pub(crate) core: Scheduler,
    pub(crate) alive: bool,
    pub(crate) frozen_until: u64,
    /// Grows with each start, so that answers to an earlier life are not mistaken.
    pub(crate) epoch: u32,
    pub(crate) applied: usize,
    /// Presence as told to it: node to (gateway, session).
    pub(crate) told: BTreeMap<usize, NodeView>,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) faults: bool,
    pub(crate) log: Vec<RecordedCommit>,
    pub(crate) views: BTreeMap<TaskKey, TaskView>,
    pub(crate) peers: Vec<Peer>,
    /// Alive, and epoch.
    pub(crate) gateways: Vec<(bool, u32)>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) mail: BTreeMap<(u64, u64), Message>,
    pub(crate) posted: u64,
    pub(crate) truth: Truth,
    pub(crate) seen: Seen,
    tasks: u32,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let caps = ["", "docker", "docker", "gpu"];
        let agents = caps.iter().enumerate().map(|(i, caps)| new_agent(i, caps, &mut rng));
        let agents = agents.collect();
        World {
            now: 0,
            faults: true,
            log: Vec::new(),
            views: BTreeMap::new(),
            peers: (0..3).map(|i| new_peer(i, 0)).collect(),
            gateways: vec![(true, 0); 2],
            agents,
            mail: BTreeMap::new(),
            posted: 0,
            truth: Truth::default(),
            seen: Seen::default(),
            tasks: 0,
            rng,
        }
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    /// Something that only happens while there are faults.
    pub(crate) fn fault(&mut self, percent: u32) -> bool {
        self.faults && self.chance(percent)
    }

    pub(crate) fn run_with_faults(&mut self, for_ms: u64) {
        let end = self.now + for_ms;
        while self.now < end {
            self.break_something();
            self.clients();
            self.step();
        }
    }

    pub(crate) fn heal(&mut self) {
        self.faults = false;
        for i in 0..self.peers.len() {
            self.peers[i].frozen_until = 0;
            if !self.peers[i].alive {
                self.start_peer(i);
            }
        }
        for gateway in &mut self.gateways {
            gateway.0 = true;
        }
        for a in self.agents.iter_mut().filter(|a| !a.gone_for_good) {
            a.frozen_until = 0;
            if !a.alive {
                a.restart(false);
            }
        }
    }

    pub(crate) fn run_quietly(&mut self, for_ms: u64) {
        let end = self.now + for_ms;
        while self.now < end && !self.settled() {
            self.step();
        }
        // Pauses before retries that nobody will take, and presence, come to rest too.
        let end = self.now + 10_000;
        while self.now < end {
            self.step();
        }
    }

    fn settled(&self) -> bool {
        let ended = |v: &TaskView| v.state.is_over() || !self.could_run(v);
        self.mail.is_empty()
            && self.agents.iter().all(|a| a.gone_for_good || a.undelivered.is_empty())
            && self.views.values().all(ended)
            && self.peers.iter().all(|p| p.applied == self.log.len())
    }

    /// Whether there is a node that could still take the task, or it is somewhere already.
    pub(crate) fn could_run(&self, v: &TaskView) -> bool {
        if v.state == cortex_model::TaskState::Indeterminate {
            return false;
        }
        if v.state != cortex_model::TaskState::Pending {
            return true;
        }
        self.agents.iter().filter(|a| !a.gone_for_good).any(|a| {
            let f = facts(a.node.as_str(), a.caps);
            v.spec.require.iter().all(|r| f.meets(r).is_ok())
                && v.spec.node.as_ref().is_none_or(|n| *n == a.node)
        })
    }

    fn step(&mut self) {
        self.now += STEP;
        self.agents_work();
        self.presence();
        self.ownership();
        self.deliver();
        for i in 0..self.peers.len() {
            self.scheduler_works(i);
        }
    }

    fn clients(&mut self) {
        if self.tasks < 25 && self.chance(8) {
            self.tasks += 1;
            let spec = self.random_spec();
            self.submit(spec);
        }
        if self.chance(1) && !self.views.is_empty() {
            let at = self.rng.usize(0..self.views.len());
            let v = self.views.values().nth(at).unwrap().clone();
            if let Ok(events) = decide::cancel(&v, &actor(), "", UnixMillis(self.now))
                && !events.is_empty()
            {
                self.truth.cancelled.insert(v.key.clone());
                self.append(&v.key, v.revision, Commit { n: v.n + 1, events }).unwrap();
            }
        }
    }

    fn submit(&mut self, spec: cortex_model::TaskSpec) {
        let task = key("w", &format!("t{}", self.tasks));
        for _ in 0..2 {
            let new = NewTask {
                spec: spec.clone(),
                idempotency_key: task.task.to_string(),
                actor: actor(),
                now: UnixMillis(self.now),
            };
            match decide::submit(self.views.get(&task), &new) {
                Submit::Create(commit) => {
                    self.append(&task, 0, commit).unwrap();
                }
                Submit::Same => {}
                Submit::Conflict(fault) => panic!("{fault}"),
            }
        }
    }

    fn random_spec(&mut self) -> cortex_model::TaskSpec {
        let mut s = spec();
        s.run_timeout_ms = 4_000;
        s.node_lost_grace_ms = 2_000;
        s.priority = self.rng.i32(-2..=2);
        s.safe_to_repeat = self.chance(50);
        s.retry.backoff_ms = 100;
        if self.chance(30) {
            s.retry.on.insert(RetryOn::Exit);
            s.retry.on.insert(RetryOn::Timeout);
            s.retry.max_attempts = 3;
        }
        if self.chance(20) {
            s.deadline_ms = self.rng.u64(100..20_000);
        }
        if self.chance(40) {
            let needs = ["docker", "gpu", "docker", "nowhere"];
            let need = needs[self.rng.usize(0..needs.len())];
            s.require.insert(cortex_model::Requirement::parse(need).unwrap());
        }
        if self.chance(15) {
            s.node = Some(node(&format!("n{}", self.rng.u32(0..5))));
        }
        s
    }

    /// The one fence of the system.
    pub(crate) fn append(
        &mut self,
        task: &TaskKey,
        expect: u64,
        commit: Commit,
    ) -> Result<u64, ()> {
        let mut view = self.views.get(task).cloned();
        if view.as_ref().map_or(0, |v| v.revision) != expect {
            return Err(());
        }
        let revision = self.log.len() as u64 + 1;
        let shard = u32::from(task.task.as_str().len().is_multiple_of(2)) % SHARDS;
        let at = UnixMillis(self.now);
        self.truth.about_to_append(task, view.as_ref(), &commit, &self.agents);
        TaskView::apply(&mut view, task, revision, at, &commit)
            .unwrap_or_else(|v| panic!("{task}: {v}: {commit:?}"));
        self.seen.commit(&commit);
        self.views.insert(task.clone(), view.unwrap());
        self.log.push(RecordedCommit { shard, task: task.clone(), revision, at, commit });
        Ok(revision)
    }

    fn scheduler_works(&mut self, i: usize) {
        if !self.peers[i].alive || self.peers[i].frozen_until > self.now {
            return;
        }
        // One that thaws acts before it reads.
        let behind = self.fault(20);
        if !behind {
            let upto = self.log.len();
            for at in self.peers[i].applied..upto {
                let r = self.log[at].clone();
                self.peers[i].core.apply(&r).unwrap();
            }
            self.peers[i].applied = upto;
        }
        let now = UnixMillis(self.now);
        if self.peers[i].core.next_wakeup().is_none_or(|at| at > now) {
            return;
        }
        for proposal in self.peers[i].core.propose(now) {
            self.send_proposal(i, proposal);
        }
    }

    /// Who owns what, as each believes: while there are faults they may disagree in any way.
    fn ownership(&mut self) {
        for i in 0..self.peers.len() {
            let heard: Vec<usize> = (0..self.peers.len())
                .filter(|p| {
                    *p == i || (self.peers[*p].alive && self.peers[*p].frozen_until <= self.now)
                })
                .filter(|p| *p == i || !self.faults || !self.now.is_multiple_of(7 + *p as u64))
                .collect();
            let owned: BTreeSet<u32> =
                (0..SHARDS).filter(|s| heard[*s as usize % heard.len()] == i).collect();
            self.peers[i].core.owns(owned);
        }
    }

    /// Tells schedulers every now and then which nodes are there.
    fn presence(&mut self) {
        for i in 0..self.peers.len() {
            let due = (self.now / STEP + i as u64).is_multiple_of(8);
            let peer = &self.peers[i];
            if !due || !peer.alive || peer.frozen_until > self.now || self.fault(30) {
                continue;
            }
            let mut told = BTreeMap::new();
            for (n, agent) in self.agents.iter().enumerate() {
                let Some((g, epoch)) = agent.connected else { continue };
                if self.gateways[g] == (true, epoch) {
                    told.insert(n, view_of(agent, g, epoch));
                }
            }
            let peer = &mut self.peers[i];
            let now = UnixMillis(self.now);
            for (n, old) in std::mem::replace(&mut peer.told, told.clone()) {
                let same = told
                    .get(&n)
                    .is_some_and(|new| new.session == old.session && new.gateway == old.gateway);
                if !same {
                    peer.core.node_gone(&old.workspace, &old.node, &old.session, &old.gateway, now);
                }
            }
            for view in told.into_values() {
                peer.core.node_up(view, now);
            }
            peer.core.presence_complete(now);
        }
    }

    pub(crate) fn start_peer(&mut self, i: usize) {
        let epoch = self.peers[i].epoch + 1;
        self.peers[i] = new_peer(i, epoch);
    }
}

fn new_peer(i: usize, epoch: u32) -> Peer {
    Peer {
        core: Scheduler::new(i as u32 * 1000 + epoch),
        alive: true,
        frozen_until: 0,
        epoch,
        applied: 0,
        told: BTreeMap::new(),
    }
}

fn new_agent(i: usize, caps: &'static str, rng: &mut Rng) -> Agent {
    Agent {
        node: node(&format!("n{i}")),
        caps,
        slots: rng.usize(1..=3),
        alive: true,
        gone_for_good: false,
        frozen_until: 0,
        lives: 1,
        sessions: 1,
        generation: 0,
        connected: None,
        connected_at: 0,
        journal: BTreeMap::new(),
        journal_size: 0,
        undelivered: BTreeMap::new(),
        claims: BTreeMap::new(),
        running: BTreeMap::new(),
    }
}

fn view_of(agent: &Agent, gateway: usize, epoch: u32) -> NodeView {
    NodeView {
        workspace: ws("w"),
        node: agent.node.clone(),
        session: agent.session(),
        incarnation: agent.life(),
        generation: agent.generation,
        gateway: Arc::from(format!("g{gateway}-{epoch}")),
        connected_at: UnixMillis(agent.connected_at),
        slots: agent.slots as u32,
        slots_free: agent.free() as u32,
        journal_size: agent.journal_size,
        facts: Arc::new(facts(agent.node.as_str(), agent.caps)),
    }
}

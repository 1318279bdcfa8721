//! The scheduler's fold alone, in this process: no log, no network, no clock. How fast it decides, and how many nodes it
//! looks at for a decision, with few and with many nodes.

use crate::report::{Goal, Row};
use crate::sample;
use anyhow::Context as _;
use cortex_model::event::Submitted;
use cortex_model::ids::SessionId;
use cortex_model::{
    Actor, ActorKind, Commit, Event, Incarnation, NodeFacts, NodeId, Requirement, TaskId, TaskKey,
    TaskSpec, UnixMillis, Version, Workspace,
};
use cortex_scheduler_core::{NodeView, Offer, OfferAnswer, Proposal, RecordedCommit, Scheduler};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
const SLOTS: u32 = 4;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Numbers of nodes to compare; the last one is the one that is reported.
    pub(crate) nodes: [usize; 2],
    /// Tasks that wait.
    pub(crate) tasks: usize,
    /// Decisions per round.
    pub(crate) decisions: usize,
    /// Rounds.
    pub(crate) rounds: usize,
}

impl Size {
    /// The one of the figures.
    pub(crate) const FULL: Size =
        Size { nodes: [1_000, 100_000], tasks: 1_000_000, decisions: 50_000, rounds: 5 };
    /// For a test that it runs.
    pub(crate) const TINY: Size =
        Size { nodes: [10, 100], tasks: 2_000, decisions: 300, rounds: 2 };
}

/// Measures both sizes.
///
/// # Errors
/// When the fold no longer takes what this makes.
pub(crate) fn run(size: Size) -> anyhow::Result<Vec<Row>> {
    let few = Figures::measure(size.nodes[0], size)?;
    let many = Figures::measure(size.nodes[1], size)?;
    let setting = format!(
        "in memory; {} nodes, {} tasks waiting; yardstick: {} nodes",
        size.nodes[1], size.tasks, size.nodes[0]
    );
    let row = |name: &str, values: &[f64], unit| Row::new("fold", name, values, unit, &setting);
    Ok(vec![
        row("offers", &many.offers, "/s").beside(&many.offers, &few.offers),
        row("whole turns (offer, started, finished)", &many.turns, "/s")
            .beside(&many.turns, &few.turns),
        row("nodes examined per decision", &many.examined, "nodes")
            .beside(&many.examined, &few.examined)
            .goal(Goal::RatioAtMost(2.0)),
        row("submits applied", &[many.submits], "/s").beside(&[many.submits], &[few.submits]),
        row("memory of the fold", &[many.memory_mib], "MiB"),
    ])
}

#[derive(Default)]
struct Figures {
    offers: Vec<f64>,
    turns: Vec<f64>,
    examined: Vec<f64>,
    submits: f64,
    memory_mib: f64,
}

impl Figures {
    fn measure(nodes: usize, size: Size) -> anyhow::Result<Figures> {
        let before = own_rss_mib()?;
        let mut world = World::new()?;
        let begun = Instant::now();
        for _ in 0..size.tasks + nodes * SLOTS as usize {
            world.submit(nodes)?;
        }
        let took = begun.elapsed().as_secs_f64();
        let submitted = world.submitted as f64;
        let mut figures = Figures { submits: submitted / took, ..Figures::default() };
        world.connect(nodes)?;
        // Every slot gets its task; what still waits then is what is measured with.
        world.propose();
        figures.memory_mib = own_rss_mib()? - before;
        for _ in 0..size.rounds {
            let counted = world.core.counters();
            let begun = Instant::now();
            let proposing = world.round(size.decisions, nodes)?;
            let took = begun.elapsed();
            let now = world.core.counters();
            let decisions = (now.decisions - counted.decisions) as f64;
            figures.offers.push(size.decisions as f64 / proposing.as_secs_f64());
            figures.turns.push(size.decisions as f64 / took.as_secs_f64());
            figures.examined.push((now.examined - counted.examined) as f64 / decisions);
        }
        Ok(figures)
    }
}

fn own_rss_mib() -> anyhow::Result<f64> {
    Ok(crate::procs::rss_kib(std::process::id())? / 1024.0)
}

/// A scheduler and everything around it, without any I/O.
struct World {
    core: Scheduler,
    workspace: Workspace,
    session: SessionId,
    /// Offered and taken, longest ago first.
    running: VecDeque<Offer>,
    submitted: u64,
    rev: u64,
}

impl World {
    fn new() -> anyhow::Result<World> {
        let mut core = Scheduler::new(1);
        core.owns([0].into());
        core.presence_complete(NOW);
        Ok(World {
            core,
            workspace: Workspace::default_workspace(),
            session: SessionId::parse("0190f0a0-0000-7000-8000-000000000000")?,
            running: VecDeque::new(),
            submitted: 0,
            rev: 0,
        })
    }

    fn connect(&mut self, nodes: usize) -> anyhow::Result<()> {
        let incarnation = Incarnation::parse("0123456789abcdef0123456789abcdef")?;
        for n in 0..nodes {
            let node = node_name(n)?;
            let mut facts = NodeFacts::default();
            for (name, version) in [("echo", ""), ("shell", "")] {
                facts.capabilities.insert(name.into(), Version::parse(version));
            }
            facts.capabilities.insert("python".into(), Version::parse(&format!("3.{}", 8 + n % 5)));
            for (name, value) in [("os", "linux".to_owned()), ("zone", format!("z{}", n % 20))] {
                facts.labels.insert(name.into(), value);
            }
            let view = NodeView {
                workspace: self.workspace.clone(),
                node,
                session: self.session.clone(),
                incarnation: incarnation.clone(),
                generation: 1,
                gateway: "g-1".into(),
                connected_at: NOW,
                slots: SLOTS,
                slots_free: SLOTS,
                journal_size: 0,
                facts: Arc::new(facts),
            };
            self.core.node_up(view, NOW);
        }
        Ok(())
    }

    /// Of 20 tasks, 14 need nothing special, 3 a version, 2 a zone, 1 is pinned to a node.
    fn submit(&mut self, nodes: usize) -> anyhow::Result<()> {
        let n = self.submitted;
        self.submitted += 1;
        let mut spec: TaskSpec = sample::echo();
        let require = match n % 20 {
            0..14 => None,
            14..17 => Some(format!("python>=3.{}", 8 + n % 5)),
            17..19 => Some(format!("zone=z{}", n / 20 % 20)),
            _ => {
                spec.node = Some(node_name(usize::try_from(n * 7919)? % nodes)?);
                None
            }
        };
        if let Some(text) = require {
            spec.require.insert(Requirement::parse(&text).context("a requirement")?);
        }
        let key = format!("k{n}");
        let task = TaskKey {
            task: TaskId::derive(&self.workspace, &key),
            workspace: self.workspace.clone(),
        };
        let submitted = Submitted {
            spec,
            idempotency_key: key,
            request_hash: vec![0; 32],
            request_version: cortex_model::request::REQUEST_VERSION,
            actor: Actor {
                kind: ActorKind::Program,
                id: "cortex-bench".into(),
                model: String::new(),
                on_behalf_of: String::new(),
            },
            at: NOW,
        };
        self.apply(task, Commit { n: 1, events: vec![Event::Submitted(Box::new(submitted))] })
    }

    fn apply(&mut self, task: TaskKey, commit: Commit) -> anyhow::Result<()> {
        self.rev += 1;
        let (shard, revision, at) = (0, self.rev, NOW);
        Ok(self.core.apply(&RecordedCommit { shard, task, revision, at, commit })?)
    }

    /// Takes every offer there is. The time in which it proposed is returned.
    fn propose(&mut self) -> Duration {
        let mut proposing = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let proposals = self.core.propose(NOW);
            proposing += begun.elapsed();
            if proposals.is_empty() {
                return proposing;
            }
            for offer in proposals.into_iter().filter_map(offer) {
                self.core.offer_answered(offer.id, OfferAnswer::Claimed { slots_free: 0 }, NOW);
                self.running.push_back(offer);
            }
        }
    }

    /// So many tasks end, their slots get the next ones, and as many are submitted, so that the numbers stay. The time in
    /// which it proposed is returned.
    fn round(&mut self, decisions: usize, nodes: usize) -> anyhow::Result<Duration> {
        let mut proposing = Duration::ZERO;
        for _ in 0..decisions {
            let Some(offer) = self.running.pop_front() else { anyhow::bail!("nothing runs") };
            let attempt = offer.to.attempt;
            let started = sample::started(attempt, offer.to.node)?;
            let task = offer.to.task;
            self.apply(task.clone(), Commit { n: offer.next_n, events: vec![started] })?;
            self.apply(task, sample::finished(attempt))?;
            self.submit(nodes)?;
            proposing += self.propose();
        }
        Ok(proposing)
    }
}

fn offer(p: Proposal) -> Option<Offer> {
    match p {
        Proposal::Offer(offer) => Some(*offer),
        Proposal::Append { .. } | Proposal::Query { .. } | Proposal::Cancel { .. } => None,
    }
}

fn node_name(n: usize) -> anyhow::Result<NodeId> {
    Ok(NodeId::parse(&format!("node-{n:06}"))?)
}

//! What must hold: during the run on every commit and every start, and at the end on every task.

use crate::agent::{Agent, Attempt};
use crate::world::World;
use cortex_model::event::Event;
use cortex_model::{Commit, ReleaseReason, TaskKey, TaskState, UnixMillis};
use cortex_scheduler_core::TaskView;
use std::collections::{BTreeMap, BTreeSet};

/// What really happened, as nobody in the system sees it.
#[derive(Default)]
pub(crate) struct Truth {
    began: BTreeSet<Attempt>,
    never: BTreeSet<Attempt>,
    pub(crate) cancelled: BTreeSet<TaskKey>,
}

impl Truth {
    /// A program starts. `v` is the task as the log has it at this moment.
    pub(crate) fn begins(&mut self, a: &Attempt, v: &TaskView) {
        assert!(self.began.insert(a.clone()), "{a:?} begins twice");
        assert!(!self.never.contains(a), "{a:?} begins after it was said that it never did");
        assert!(v.attempt >= a.1, "{a:?} begins without Started");
        if v.spec.safe_to_repeat {
            return;
        }
        for earlier in 1..a.1 {
            let before = (a.0.clone(), earlier);
            let ended = v.released.contains_key(&earlier);
            assert!(!self.began.contains(&before) || ended, "{a:?} begins, {before:?} is open");
        }
        assert!(v.attempt == a.1, "{a:?} begins, and {} is current", v.attempt);
    }

    pub(crate) fn about_to_append(
        &mut self,
        task: &TaskKey,
        before: Option<&TaskView>,
        commit: &Commit,
        agents: &[Agent],
    ) {
        for event in &commit.events {
            match event {
                Event::AttemptReleased(r) if r.reason == ReleaseReason::NotStarted => {
                    let a = (task.clone(), r.attempt);
                    assert!(!self.began.contains(&a), "{a:?} is called never started, but it ran");
                    self.never.insert(a);
                }
                Event::Finished(f) if f.attempt > 0 && f.outcome.journal_seq > 0 => {
                    let a = (task.clone(), f.attempt);
                    let node = before.and_then(TaskView::node).unwrap();
                    let agent = agents.iter().find(|x| x.node == *node).unwrap();
                    // The journal may be lost by now; if it is there, it agrees.
                    if let Some(Some(o)) = agent.journal.get(&a) {
                        assert_eq!(o.journal_seq, f.outcome.journal_seq, "{a:?}");
                    }
                }
                _ => {}
            }
        }
    }
}

/// What the seeds led to, so that a test that tests nothing is noticed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) begins: u32,
    pub(crate) agent_crashes: u32,
    pub(crate) gateway_crashes: u32,
    pub(crate) scheduler_crashes: u32,
    pub(crate) freezes: u32,
    events: BTreeMap<String, u32>,
}

impl Seen {
    pub(crate) fn commit(&mut self, commit: &Commit) {
        for event in &commit.events {
            let name = match event {
                Event::AttemptReleased(r) => format!("released {:?}", r.reason),
                other => other.name().to_owned(),
            };
            *self.events.entry(name).or_default() += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Seen) {
        self.begins += other.begins;
        self.agent_crashes += other.agent_crashes;
        self.gateway_crashes += other.gateway_crashes;
        self.scheduler_crashes += other.scheduler_crashes;
        self.freezes += other.freezes;
        for (name, n) in &other.events {
            *self.events.entry(name.clone()).or_default() += n;
        }
    }

    pub(crate) fn everything_happened(&self) {
        for name in [
            "Submitted",
            "Started",
            "Finished",
            "CancelRequested",
            "OutcomeUnknown",
            "LateOutcome",
            "released NotStarted",
            "released Interrupted",
            "released NodeLost",
            "released TimedOut",
            "released Exited",
        ] {
            assert!(self.events.get(name).is_some_and(|n| *n > 10), "{name} hardly ever happened");
        }
    }
}

impl World {
    /// After the faults: every task is over, or says why not.
    pub(crate) fn check_end(&mut self) {
        for v in self.views.values() {
            let agent = v.node().and_then(|n| self.agents.iter().find(|a| a.node == *n));
            let journal = agent.map(|a| {
                (a.phase(&(v.key.clone(), v.attempt)), a.life(), a.journal_size, a.connected)
            });
            let why: Vec<_> = self
                .peers
                .iter()
                .map(|p| p.core.explain(&v.key, UnixMillis(self.now)).map(|e| e.summary))
                .collect();
            let who = format!("{} at {}: {journal:?} {why:?} {v:?}", v.key, self.now);
            match v.state {
                TaskState::Running => panic!("still running: {who}"),
                TaskState::Pending => {
                    assert!(!self.could_run(v), "not placed: {who}");
                    for peer in &self.peers {
                        let e = peer.core.explain(&v.key, UnixMillis(self.now)).unwrap();
                        assert!(!e.nodes.iter().any(|n| n.eligible && n.online), "{e:?}");
                        assert!(!e.summary.is_empty() && !e.suggestions.is_empty(), "{e:?}");
                    }
                }
                TaskState::Indeterminate => {
                    assert!(
                        !v.spec.safe_to_repeat
                            || !v.attempts_left()
                            || v.cancel_requested
                            || past(v, self.now),
                        "{who}"
                    );
                    assert!(!v.evidence.is_empty(), "{who}");
                }
                TaskState::Succeeded
                | TaskState::Failed
                | TaskState::Cancelled
                | TaskState::Denied
                | TaskState::Expired => {}
            }
            if v.state == TaskState::Cancelled {
                assert!(self.truth.cancelled.contains(&v.key) || v.outcome.is_some(), "{who}");
            }
        }
        for peer in &self.peers {
            assert_eq!(peer.core.quarantined().count(), 0);
            let open = self.views.values().filter(|v| !v.state.is_over());
            assert_eq!(peer.core.open_tasks(), open.clone().count());
            for v in open {
                assert_eq!(peer.core.task(&v.key), Some(v), "a fold is a fold is a fold");
            }
        }
    }
}

fn past(v: &TaskView, now: u64) -> bool {
    v.deadline_at.is_some_and(|d| d.0 <= now)
}

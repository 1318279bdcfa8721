//! Scenario tables: what happens, and what the scheduler proposes then. The tables are in `scenarios/`; the words are
//! explained at the top of `scenarios/basics.txt`.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod support;

use cortex_model::event::{
    AttemptReleased, Event, Finished, OutcomeUnknown, ReleaseReason, Started,
};
use cortex_model::{Commit, Ending, Requirement, RetryOn, TaskSpec, UnixMillis};
use cortex_scheduler_core::{
    NodeView, OfferAnswer, Phase, Proposal, Refusal, Scheduler, TaskView, decide,
};
use std::collections::{BTreeMap, VecDeque};
use support::*;

#[derive(Default)]
struct World {
    s: Scheduler,
    now: u64,
    rev: u64,
    views: BTreeMap<String, TaskView>,
    nodes: BTreeMap<String, NodeView>,
    offers: BTreeMap<String, u64>,
    queries: BTreeMap<String, u64>,
    proposed: Option<VecDeque<String>>,
}

#[test]
fn every_scenario_goes_as_written() {
    let tables = [
        ("basics", include_str!("scenarios/basics.txt")),
        ("attempts", include_str!("scenarios/attempts.txt")),
    ];
    let mut scenarios = 0;
    for (file, text) in tables {
        let mut world = World::default();
        let mut name = String::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let at = format!("{file}.txt:{}: {name}: {line}", number + 1);
            if let Some(title) = line.strip_prefix("== ") {
                world.nothing_unsaid(&at);
                name = title.to_owned();
                scenarios += 1;
                world = World { s: Scheduler::new(1), ..World::default() };
                world.s.owns([0].into());
                world.s.presence_complete(UnixMillis(0));
            } else if let Some(expected) = line.strip_prefix("> ") {
                world.expect(expected, &at);
            } else {
                world.nothing_unsaid(&at);
                world.act(line, &at);
            }
        }
        world.nothing_unsaid(file);
    }
    assert!(scenarios >= 20, "{scenarios} scenarios");
}

impl World {
    fn expect(&mut self, expected: &str, at: &str) {
        if self.proposed.is_none() {
            let proposals = self.s.propose(UnixMillis(self.now));
            let shown = proposals.iter().map(|p| self.show(p)).collect();
            self.proposed = Some(shown);
        }
        let proposed = self.proposed.as_mut().unwrap();
        if expected == "nothing" {
            assert_eq!(*proposed, VecDeque::<String>::new(), "{at}");
        } else {
            assert_eq!(proposed.pop_front().as_deref(), Some(expected), "{at}");
        }
    }

    fn nothing_unsaid(&mut self, at: &str) {
        let rest = self.proposed.take().unwrap_or_default();
        assert!(rest.is_empty(), "before {at}: not expected: {rest:?}");
    }

    fn show(&mut self, p: &Proposal) -> String {
        match p {
            Proposal::Offer(o) => {
                self.offers.insert(o.to.task.to_string(), o.id);
                let session = o.to.session.as_str();
                format!("offer {} {} to {session} at {}", o.to.task, o.to.attempt, o.fence)
            }
            Proposal::Append { task, expect, commit } => {
                let events: Vec<String> = commit.events.iter().map(show_event).collect();
                format!("append {task} {} at {expect}", events.join(" "))
            }
            Proposal::Query { id, to } => {
                self.queries.insert(to.task.to_string(), *id);
                format!("query {} {} to {}", to.task, to.attempt, to.session)
            }
            Proposal::Cancel { to, reason, .. } => {
                format!("cancel {} {} to {}: {reason}", to.task, to.attempt, to.session)
            }
        }
    }

    fn act(&mut self, line: &str, at: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let option = |name: &str| {
            words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let number = |name: &str| option(name).map(|v| v.parse::<u64>().expect(at));
        let flag = |name: &str| words.contains(&name);
        let now = UnixMillis(self.now);
        match words[0] {
            "at" => self.now = words[1].parse().expect(at),
            "submit" => {
                let mut spec = spec();
                spec.priority = number("priority").unwrap_or(0) as i32;
                spec.deadline_ms = number("deadline").unwrap_or(0);
                spec.run_timeout_ms = number("timeout").unwrap_or(0);
                spec.retry.max_attempts = number("attempts").unwrap_or(0) as u32;
                spec.safe_to_repeat = flag("safe");
                if flag("retry-exit") {
                    spec.retry.on.insert(RetryOn::Exit);
                }
                self.submit(words[1], spec, option("needs"), option("node"));
            }
            "up" => self.up(words[1], option("has"), number("slots"), number("free"), &option),
            "gone" => {
                let v = self.nodes[words[1]].clone();
                self.s.node_gone(&v.workspace, &v.node, &v.session, &v.gateway, now);
            }
            "start" => self.start(words[1], words[2]),
            "cancel" => {
                let v = &self.views[words[1]];
                let events = decide::cancel(v, &actor(), "", now).expect(at);
                self.commit(words[1], events);
            }
            "report" => {
                let v = &self.views[words[1]];
                let o = outcome(ending(words[2]), 7);
                let node = v.node().unwrap().clone();
                match decide::outcome(v, &node, v.attempt, &o, now) {
                    decide::OutcomeDecision::Append(events) => self.commit(words[1], events),
                    other => panic!("{at}: {other:?}"),
                }
            }
            "stopping" => {
                let (task, phase) = (task_key(words[1]), phase(words[2]));
                self.s.cancel_answered(&task, phase, now);
            }
            "resolve" => {
                let v = &self.views[words[1]];
                let retry = cortex_model::ResolveAs::Retry;
                let events = decide::resolve(v, retry, &actor(), "", now).expect(at);
                self.commit(words[1], events);
            }
            "appended" => self.repeat_append(words[1], words[2], at),
            _ => self.answer_or_check(&words, &option, at),
        }
    }

    fn answer_or_check(
        &mut self,
        words: &[&str],
        option: &dyn Fn(&str) -> Option<String>,
        at: &str,
    ) {
        let number = |name: &str| option(name).map(|v| v.parse::<u64>().expect(at));
        match words[0] {
            "claimed" => self.answer(words[1], OfferAnswer::Claimed { slots_free: 0 }),
            "timeout" => self.answer(words[1], OfferAnswer::Timeout),
            "busy" => {
                let reason = match words[2] {
                    "no-slot" => Refusal::NoSlot,
                    "known" => Refusal::KnownAttempt,
                    "leaving" => Refusal::Leaving,
                    _ => Refusal::Unable,
                };
                let why = String::new();
                self.answer(words[1], OfferAnswer::Busy { reason, slots_free: 0, why });
            }
            "answer" => self.node_answers(words[1], words[2], option, number("journal")),
            "wake" => {
                let want: Option<u64> = words[1].parse().ok();
                assert_eq!(self.s.next_wakeup().map(|t| t.0), want, "{at}");
            }
            "explain" => {
                let e = self.s.explain(&task_key(words[1]), UnixMillis(self.now)).expect(at);
                let text = format!("{} {:?} {:?}", e.summary, e.suggestions, e.nodes);
                let want = words[2..].join(" ");
                assert!(text.contains(&want), "{at}\nis: {text}");
            }
            "state" => assert_eq!(self.views[words[1]].state.name(), words[2], "{at}"),
            _ => panic!("{at}: unknown word"),
        }
    }

    fn submit(
        &mut self,
        name: &str,
        mut spec: TaskSpec,
        needs: Option<String>,
        on: Option<String>,
    ) {
        for need in needs.iter().flat_map(|n| n.split(',')) {
            spec.require.insert(Requirement::parse(need).unwrap());
        }
        spec.node = on.map(|n| node(&n));
        let commit = submitted(spec, self.now);
        self.record(name, commit);
    }

    fn up(
        &mut self,
        name: &str,
        has: Option<String>,
        slots: Option<u64>,
        free: Option<u64>,
        option: &dyn Fn(&str) -> Option<String>,
    ) {
        let (workspace, short) = name.split_once('/').unwrap_or(("w", name));
        let words = has.unwrap_or_default();
        let fresh = node_view(workspace, short, &words, slots.unwrap_or(1) as u32);
        let mut view = self.nodes.get(name).cloned().unwrap_or(fresh);
        if !words.is_empty() {
            view.facts = facts(short, &words).into();
        }
        view.slots = slots.map_or(view.slots, |s| s as u32);
        view.slots_free = free.map_or(view.slots, |s| s as u32);
        let again = option("session").map(|s| session(&s));
        if let Some(s) = again.filter(|s| *s != view.session) {
            (view.session, view.generation, view.connected_at) = (s, 1, UnixMillis(self.now));
        }
        view.generation = option("generation").map_or(view.generation, |g| g.parse().unwrap());
        view.gateway = option("gateway").map_or(view.gateway, |g| g.into());
        view.incarnation = option("life").map_or(view.incarnation, |l| life(&l));
        view.journal_size = option("journal").map_or(view.journal_size, |j| j.parse().unwrap());
        self.nodes.insert(name.into(), view.clone());
        self.s.node_up(view, UnixMillis(self.now));
    }

    fn start(&mut self, task: &str, on: &str) {
        let v = &self.nodes[on];
        let started = Started {
            attempt: self.views[task].attempt + 1,
            node: v.node.clone(),
            incarnation: v.incarnation.clone(),
            session: v.session.clone(),
            offered_by: "s".into(),
            offered_at: UnixMillis(self.now),
            reason: String::new(),
            refused: Vec::new(),
            at: UnixMillis(self.now),
            gateway: "g1".into(),
        };
        self.commit(task, vec![Event::Started(Box::new(started))]);
    }

    /// Appends by hand what the scheduler proposed to append.
    fn repeat_append(&mut self, task: &str, what: &str, at: &str) {
        let v = &self.views[task];
        let now = UnixMillis(self.now);
        let event = match what {
            "expired" => decide::deadline_passed(v, now),
            "node-lost" => decide::node_silent(v, UnixMillis(0), now),
            "overdue" => decide::run_overdue(v, false, now),
            "unheard" => decide::cancel_unheard(v, UnixMillis(0), now),
            "not-started" => {
                let incarnation = v.started.as_ref().unwrap().incarnation.clone();
                let answer = decide::Answered {
                    unknown: true,
                    incarnation,
                    journal_size: 9,
                    journal_seen: 0,
                };
                decide::not_started(v, &answer, now)
            }
            _ => None,
        };
        self.commit(task, vec![event.expect(at)]);
    }

    fn commit(&mut self, name: &str, events: Vec<Event>) {
        let n = self.views[name].n + 1;
        self.record(name, Commit { n, events });
    }

    fn record(&mut self, name: &str, commit: Commit) {
        self.rev += 1;
        let r = recorded(&task_key(name), self.rev, self.now, commit);
        let mut view = self.views.remove(name);
        apply(&mut view, &r);
        self.views.insert(name.into(), view.unwrap());
        self.s.apply(&r).unwrap();
    }

    fn answer(&mut self, task: &str, answer: OfferAnswer) {
        let id = self.offers[&task_key(task).to_string()];
        self.s.offer_answered(id, answer, UnixMillis(self.now));
    }

    fn node_answers(
        &mut self,
        task: &str,
        phase: &str,
        option: &dyn Fn(&str) -> Option<String>,
        journal: Option<u64>,
    ) {
        let id = self.queries[&task_key(task).to_string()];
        let phase = self::phase(phase);
        let ran_on = &self.views[task].started.as_ref().unwrap().incarnation;
        let life = option("life").map_or(ran_on.clone(), |l| life(&l));
        self.s.query_answered(id, phase, &life, journal.unwrap_or(0), UnixMillis(self.now));
    }
}

fn phase(word: &str) -> Phase {
    match word {
        "unknown" => Phase::Unknown,
        "claiming" => Phase::Claiming,
        "known" => Phase::Known,
        _ => Phase::Done,
    }
}

fn task_key(name: &str) -> cortex_model::TaskKey {
    let (workspace, task) = name.split_once('/').unwrap_or(("w", name));
    key(workspace, task)
}

fn ending(word: &str) -> Ending {
    match word.split_once(':') {
        Some(("exit", code)) => Ending::Exited { code: code.parse().unwrap() },
        Some(("signal", signal)) => Ending::Signaled { signal: signal.parse().unwrap() },
        _ => match word {
            "timeout" => Ending::Timeout { after_ms: 1 },
            "cancelled" => Ending::Cancelled { never_started: false, survivors: 0 },
            "interrupted" => Ending::Interrupted { found: "intent".into() },
            "denied" => Ending::Denied { error: Default::default(), rule: String::new() },
            _ => panic!("{word}"),
        },
    }
}

fn show_event(e: &Event) -> String {
    match e {
        Event::Finished(f) => {
            let Finished { attempt, outcome, .. } = &**f;
            let how = match &outcome.ending {
                Ending::Expired { never_started } => {
                    format!("expired,never_started={never_started}")
                }
                Ending::Cancelled { never_started, .. } => {
                    format!("cancelled,never_started={never_started}")
                }
                other => format!("{other:?}"),
            };
            format!("Finished({attempt},{how})")
        }
        Event::AttemptReleased(r) => {
            let AttemptReleased { attempt, reason, retry_at, .. } = &**r;
            let reason = match reason {
                ReleaseReason::NotStarted => "not-started",
                ReleaseReason::NodeLost => "node-lost",
                ReleaseReason::Interrupted => "interrupted",
                ReleaseReason::TimedOut => "timed-out",
                ReleaseReason::Exited => "exited",
                ReleaseReason::Resolved => "resolved",
            };
            format!("Released({attempt},{reason},retry_at={retry_at})")
        }
        Event::OutcomeUnknown(u) => {
            let OutcomeUnknown { attempt, .. } = &**u;
            format!("OutcomeUnknown({attempt})")
        }
        other => other.name().to_owned(),
    }
}

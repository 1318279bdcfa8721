//! Messages, and what gateways and agents do with them, as the protocol says.

use crate::agent::Attempt;
use crate::world::World;
use cortex_model::event::{Event, Started};
use cortex_model::ids::SessionId;
use cortex_model::{Commit, Ending, Incarnation, NodeId, Outcome, TaskKey, UnixMillis};
use cortex_scheduler_core::decide::{self, OutcomeDecision};
use cortex_scheduler_core::{
    AppendResult, AttemptAt, Offer, OfferAnswer, Phase, Proposal, Refusal, TaskView,
};

/// Scheduler and its epoch.
pub(crate) type Asker = (usize, u32);

/// One connection of an agent: gateway, its epoch, agent, session, generation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    gateway: (usize, u32),
    pub(crate) agent: usize,
    session: SessionId,
    generation: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Down(Link, Down),
    Up(Link, Up),
    Answer(Asker, Answer),
    /// An append under way, from whom it comes, and what follows.
    Append {
        by: Author,
        task: TaskKey,
        expect: u64,
        commit: Commit,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Author {
    Scheduler(Asker),
    Claim(Link, u64, TaskKey, u32),
    Report(Link, TaskKey, u32),
}

#[derive(Clone, Debug)]
pub(crate) enum Down {
    Offer(Asker, Box<Offer>),
    Go(u64, Attempt),
    NoGo(u64),
    Query(Asker, u64, Attempt),
    Cancel(Attempt),
    Ack(Attempt),
}

#[derive(Clone, Debug)]
pub(crate) enum Up {
    Claim(Asker, Box<Offer>, u32),
    Busy(Asker, u64, Refusal, u32),
    Knows(Asker, u64, Phase, Incarnation, u64),
    Report { task: TaskKey, attempt: u32, outcome: Box<Outcome> },
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Offer(u64, OfferAnswer),
    Query(u64, Phase, Incarnation, u64),
    Append(TaskKey, AppendResult),
}

impl World {
    pub(crate) fn send_proposal(&mut self, peer: usize, proposal: Proposal) {
        let asker = (peer, self.peers[peer].epoch);
        match proposal {
            Proposal::Append { task, expect, commit } => {
                self.post(Message::Append { by: Author::Scheduler(asker), task, expect, commit });
            }
            Proposal::Offer(offer) => match self.link_to(&offer.to) {
                Some(link) => self.post(Message::Down(link, Down::Offer(asker, offer))),
                None => self.answer(asker, Answer::Offer(offer.id, OfferAnswer::Gone)),
            },
            Proposal::Query { id, to } => {
                if let Some(link) = self.link_to(&to) {
                    let attempt = (to.task, to.attempt);
                    self.post(Message::Down(link, Down::Query(asker, id, attempt)));
                }
            }
            Proposal::Cancel { to, .. } => {
                if let Some(link) = self.link_to(&to) {
                    self.post(Message::Down(link, Down::Cancel((to.task, to.attempt))));
                }
            }
        }
    }

    fn link_to(&self, to: &AttemptAt) -> Option<Link> {
        let a = self.agents.iter().position(|a| a.node == to.node)?;
        self.link(a).filter(|l| l.session == to.session)
    }

    pub(crate) fn link(&self, a: usize) -> Option<Link> {
        let agent = &self.agents[a];
        let gateway = agent.connected?;
        let (session, generation) = (agent.session(), agent.generation);
        Some(Link { gateway, agent: a, session, generation })
    }

    pub(crate) fn agent_sends(&mut self, a: usize, up: Up) {
        if let Some(link) = self.link(a) {
            self.post(Message::Up(link, up));
        }
    }

    fn answer(&mut self, asker: Asker, answer: Answer) {
        self.post(Message::Answer(asker, answer));
    }

    pub(crate) fn deliver(&mut self) {
        while let Some((&(at, id), _)) = self.mail.first_key_value() {
            if at > self.now {
                return;
            }
            let message = self.mail.remove(&(at, id)).unwrap();
            self.handle(id, message);
        }
    }

    fn handle(&mut self, id: u64, message: Message) {
        match message {
            Message::Down(link, down) => {
                let agent = &self.agents[link.agent];
                if self.link(link.agent).as_ref() != Some(&link) || !agent.alive {
                    return;
                }
                if agent.frozen_until > self.now {
                    let thaw = agent.frozen_until;
                    self.mail.insert((thaw, id), Message::Down(link, down));
                    return;
                }
                self.at_agent(&link, down);
            }
            Message::Up(link, up) => {
                let (g, epoch) = link.gateway;
                if self.gateways[g] == (true, epoch) {
                    self.at_gateway(&link, up);
                }
            }
            Message::Answer((peer, epoch), answer) => {
                if self.peers[peer].alive && self.peers[peer].epoch == epoch {
                    self.at_scheduler(peer, answer);
                }
            }
            Message::Append { by, task, expect, commit } => self.at_log(by, task, expect, commit),
        }
    }

    fn at_agent(&mut self, link: &Link, down: Down) {
        let a = link.agent;
        let free = self.agents[a].free() as u32;
        match down {
            Down::Offer(asker, offer) => {
                let attempt = (offer.to.task.clone(), offer.to.attempt);
                let agent = &mut self.agents[a];
                let refusal = if agent.phase(&attempt) != Phase::Unknown {
                    Some(Refusal::KnownAttempt)
                } else if free == 0 {
                    Some(Refusal::NoSlot)
                } else {
                    None
                };
                let up = match refusal {
                    Some(reason) => Up::Busy(asker, offer.id, reason, free),
                    None => {
                        agent.claims.insert(offer.id, attempt);
                        Up::Claim(asker, offer, free - 1)
                    }
                };
                self.agent_sends(a, up);
            }
            Down::Go(id, attempt) => self.go(a, id, &attempt),
            Down::NoGo(id) => {
                self.agents[a].claims.remove(&id);
            }
            Down::Query(asker, id, attempt) => {
                let agent = &self.agents[a];
                let phase = agent.phase(&attempt);
                let up = Up::Knows(asker, id, phase, agent.life(), agent.journal_size);
                self.agent_sends(a, up);
            }
            Down::Cancel(attempt) => {
                if self.agents[a].running.contains_key(&attempt) {
                    let ending = Ending::Cancelled { never_started: false, survivors: 0 };
                    self.agents[a].end(&attempt, ending);
                }
            }
            Down::Ack(attempt) => {
                self.agents[a].undelivered.remove(&attempt);
            }
        }
    }

    /// The only way anything starts.
    fn go(&mut self, a: usize, id: u64, attempt: &Attempt) {
        let agent = &mut self.agents[a];
        if agent.claims.get(&id) != Some(attempt) {
            return;
        }
        agent.claims.remove(&id);
        if agent.journal.contains_key(attempt) {
            return;
        }
        agent.journal.insert(attempt.clone(), None);
        agent.journal_size += 1;
        let runs = if self.rng.u32(0..10) == 0 { 4_000 } else { self.rng.u64(0..800) };
        self.agents[a].running.insert(attempt.clone(), self.now + runs);
        self.truth.begins(attempt, self.views.get(&attempt.0).unwrap());
        self.seen.begins += 1;
    }

    fn at_gateway(&mut self, link: &Link, up: Up) {
        match up {
            Up::Claim(asker, offer, free) => {
                self.answer(
                    asker,
                    Answer::Offer(offer.id, OfferAnswer::Claimed { slots_free: free }),
                );
                let (task, attempt) = (offer.to.task.clone(), offer.to.attempt);
                let by = Author::Claim(link.clone(), offer.id, task.clone(), attempt);
                let commit = self.started(link, &offer);
                self.post(Message::Append { by, task, expect: offer.fence, commit });
            }
            Up::Busy(asker, id, reason, slots_free) => {
                let why = String::new();
                let busy = OfferAnswer::Busy { reason, slots_free, why };
                self.answer(asker, Answer::Offer(id, busy));
            }
            Up::Knows(asker, id, phase, life, size) => {
                self.answer(asker, Answer::Query(id, phase, life, size));
            }
            Up::Report { task, attempt, outcome } => self.ingest(link, &task, attempt, &outcome),
        }
    }

    fn started(&self, link: &Link, offer: &Offer) -> Commit {
        let claimed = Started {
            attempt: offer.to.attempt,
            node: self.agents[link.agent].node.clone(),
            incarnation: self.agents[link.agent].life(),
            session: link.session.clone(),
            offered_by: "s".into(),
            offered_at: offer.offered_at,
            reason: offer.reason.clone(),
            refused: offer.refused.clone(),
            at: UnixMillis(self.now),
            gateway: format!("g{}", link.gateway.0),
        };
        Commit { n: offer.next_n, events: vec![Event::Started(Box::new(claimed))] }
    }

    /// Reads, which may show an older state, decides, and appends where it read.
    fn ingest(&mut self, link: &Link, task: &TaskKey, attempt: u32, outcome: &Outcome) {
        let node: NodeId = self.agents[link.agent].node.clone();
        let Some(view) = self.read(task) else { return };
        match decide::outcome(&view, &node, attempt, outcome, UnixMillis(self.now)) {
            OutcomeDecision::AlreadyKnown | OutcomeDecision::NotHeard => {
                self.post(Message::Down(link.clone(), Down::Ack((task.clone(), attempt))));
            }
            OutcomeDecision::Append(events) | OutcomeDecision::Late(events) => {
                let by = Author::Report(link.clone(), task.clone(), attempt);
                let commit = Commit { n: view.n + 1, events };
                let (task, expect) = (task.clone(), view.revision);
                self.post(Message::Append { by, task, expect, commit });
            }
            OutcomeDecision::Behind => {}
        }
    }

    /// The task as somebody may see it who reads a replica: some commits may be missing at the end.
    fn read(&mut self, task: &TaskKey) -> Option<TaskView> {
        if !self.fault(10) {
            return self.views.get(task).cloned();
        }
        let all: Vec<_> = self.log.iter().filter(|r| r.task == *task).cloned().collect();
        let shown = all.len().saturating_sub(self.rng.usize(0..3));
        let mut view = None;
        for r in &all[..shown] {
            crate::support::apply(&mut view, r);
        }
        view
    }

    fn at_log(&mut self, by: Author, task: TaskKey, expect: u64, commit: Commit) {
        let landed = self.append(&task, expect, commit).is_ok();
        let unknown = self.fault(3);
        match by {
            Author::Scheduler(asker) => {
                let result = match (unknown, landed) {
                    (true, _) => AppendResult::Unknown,
                    (false, true) => AppendResult::Ok,
                    (false, false) => AppendResult::Conflict,
                };
                self.answer(asker, Answer::Append(task, result));
            }
            Author::Claim(link, id, task, attempt) => {
                let down = if landed { Down::Go(id, (task, attempt)) } else { Down::NoGo(id) };
                // A gateway that does not know says nothing and ends the connection.
                if unknown {
                    if self.link(link.agent).as_ref() == Some(&link) {
                        self.agents[link.agent].disconnect();
                    }
                } else if self.gateways[link.gateway.0] == (true, link.gateway.1) {
                    self.post(Message::Down(link, down));
                }
            }
            Author::Report(link, task, attempt) if landed && !unknown => {
                self.post(Message::Down(link, Down::Ack((task, attempt))));
            }
            Author::Report(..) => {}
        }
    }

    fn at_scheduler(&mut self, peer: usize, answer: Answer) {
        let now = UnixMillis(self.now);
        let core = &mut self.peers[peer].core;
        match answer {
            Answer::Offer(id, answer) => core.offer_answered(id, answer, now),
            Answer::Query(id, phase, life, size) => {
                core.query_answered(id, phase, &life, size, now)
            }
            Answer::Append(task, result) => core.appended(&task, result, now),
        }
    }
}

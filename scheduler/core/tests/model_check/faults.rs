//! What goes wrong, and how agents live through it.

use crate::agent::Attempt;
use crate::messages::{Author, Message, Up};
use crate::world::World;
use cortex_model::Ending;

impl World {
    pub(crate) fn break_something(&mut self) {
        for i in 0..self.peers.len() {
            if !self.peers[i].alive && self.chance(5) {
                self.start_peer(i);
            } else if self.rng.u32(0..1000) < 3 {
                self.peers[i].alive = false;
                self.seen.scheduler_crashes += 1;
            } else if self.rng.u32(0..1000) < 3 {
                self.peers[i].frozen_until = self.now + self.rng.u64(0..4_000);
            }
        }
        for g in 0..self.gateways.len() {
            let (alive, epoch) = self.gateways[g];
            if !alive && self.chance(5) {
                self.gateways[g] = (true, epoch + 1);
            } else if self.rng.u32(0..1000) < 4 {
                self.gateways[g].0 = false;
                self.seen.gateway_crashes += 1;
            }
        }
        for a in 0..self.agents.len() {
            self.break_agent(a);
        }
    }

    fn break_agent(&mut self, a: usize) {
        let roll = self.rng.u32(0..1000);
        let now = self.now;
        if !self.agents[a].alive {
            if !self.agents[a].gone_for_good && self.chance(4) {
                let disk_lost = self.chance(10);
                self.agents[a].restart(disk_lost);
            }
            return;
        }
        match roll {
            0..6 => {
                self.seen.agent_crashes += 1;
                self.agents[a].crash();
                // Node 3 may never come back; nobody else is needed for good.
                self.agents[a].gone_for_good = a == 3 && self.chance(20);
            }
            6..10 => {
                self.seen.freezes += 1;
                self.agents[a].frozen_until = now + self.rng.u64(0..6_000);
            }
            10..20 => self.agents[a].disconnect(),
            _ => {}
        }
    }

    /// Agents connect, run, and report.
    pub(crate) fn agents_work(&mut self) {
        for a in 0..self.agents.len() {
            let agent = &self.agents[a];
            if !agent.alive || agent.frozen_until > self.now {
                continue;
            }
            if agent.connected.is_some_and(|(g, epoch)| self.gateways[g] != (true, epoch)) {
                self.agents[a].disconnect();
            }
            if self.agents[a].connected.is_none() && self.chance(20) {
                self.connect(a);
            }
            let now = self.now;
            let ended: Vec<Attempt> = self.agents[a]
                .running
                .iter()
                .filter(|(_, at)| **at <= now)
                .map(|(attempt, _)| attempt.clone())
                .collect();
            for attempt in ended {
                let ending = self.random_ending();
                self.agents[a].end(&attempt, ending);
            }
            if self.now.is_multiple_of(200) {
                self.report(a);
            }
        }
    }

    fn connect(&mut self, a: usize) {
        let g = self.rng.usize(0..self.gateways.len());
        let (alive, epoch) = self.gateways[g];
        if alive {
            let agent = &mut self.agents[a];
            agent.connected = Some((g, epoch));
            agent.connected_at = self.now;
            agent.generation += 1;
            self.report(a);
        }
    }

    fn report(&mut self, a: usize) {
        for ((task, attempt), outcome) in self.agents[a].undelivered.clone() {
            let up = Up::Report { task, attempt, outcome: outcome.into() };
            self.agent_sends(a, up);
        }
    }

    fn random_ending(&mut self) -> Ending {
        match self.rng.u32(0..10) {
            0 => Ending::Exited { code: 1 },
            1 => Ending::Signaled { signal: 9 },
            2 => Ending::Timeout { after_ms: 4_000 },
            _ => Ending::Exited { code: 0 },
        }
    }

    /// Puts a message under way: late, sometimes twice, sometimes never.
    pub(crate) fn post(&mut self, message: Message) {
        if self.fault(5) {
            // What is lost on a connection is lost with it, and so is a claim whose append a gateway gave up.
            if let Message::Down(link, _)
            | Message::Up(link, _)
            | Message::Append { by: Author::Claim(link, ..), .. } = &message
                && self.link(link.agent).as_ref() == Some(link)
            {
                self.agents[link.agent].disconnect();
            }
            return;
        }
        let copies = 1 + u32::from(self.fault(3));
        for _ in 0..copies {
            let slow = self.fault(5);
            let delay = if slow { self.rng.u64(0..3_000) } else { self.rng.u64(0..60) };
            self.posted += 1;
            self.mail.insert((self.now + delay, self.posted), message.clone());
        }
    }
}

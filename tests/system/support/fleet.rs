//! A scaled-out Cortex: two gateways, schedulers and an agent as processes of their own on one nats-server.
//! When it is dropped, also by a panic, nothing of it is left.

use super::run::{self, Running};
use super::{Agent, Nats, Server, wait};
use rustix::process::Signal;
use std::fs;

/// What one fleet has. The gateways' directories hold everything else.
pub(crate) struct Fleet {
    pub(crate) agent: Agent,
    schedulers: Vec<Running>,
    mirrors: Vec<Option<Running>>,
    pub(crate) gateways: [Server; 2],
    pub(crate) nats: Nats,
}

impl Fleet {
    /// Two gateways, two schedulers, and an agent whose tunnel ends at one of the gateways.
    #[track_caller]
    pub(crate) fn start(agent_at: usize, agent_flags: &[&str]) -> Fleet {
        let root = Server::prepare(&[]);
        let nats = Nats::start(root.path("nats"));
        let url = nats.url();
        let authority = root.path("authority");
        root.cortex(&["ca", "init", authority.to_str().unwrap()]).ok();
        let mut gateways = [root, Server::prepare(&[])].map(|s| s.into_gateway(&url, &authority));
        gateways.iter_mut().for_each(Server::launch);
        gateways.iter_mut().for_each(Server::until_ready);
        let endpoint = gateways[0].path("endpoint-of-the-agent.json");
        let flags = [&["--starter-policy"], agent_flags].concat();
        let agent = Agent::prepare(&gateways[0], "n1", endpoint, &flags);
        let mut fleet =
            Fleet { agent, schedulers: Vec::new(), mirrors: Vec::new(), gateways, nats };
        fleet.start_scheduler();
        fleet.start_scheduler();
        fleet.lead_agent_to(agent_at);
        fleet.agent.launch();
        fleet.gateways.iter().for_each(|g| fleet.agent.until_online(g));
        fleet
    }

    /// Where the agent finds its gateway the next time it connects.
    pub(crate) fn lead_agent_to(&self, gateway: usize) {
        let target = self.gateways[0].path("endpoint-of-the-agent.json");
        let part = target.with_extension("part");
        fs::copy(self.gateways[gateway].data().join("endpoint.json"), &part).unwrap();
        fs::rename(part, target).unwrap();
    }

    /// One more scheduler.
    #[track_caller]
    pub(crate) fn start_scheduler(&mut self) {
        let number = self.schedulers.len();
        let mut command = run::command(&self.gateways[0].path(&format!("scheduler-{number}")));
        command.args(["scheduler", "--log", &self.nats.url()]).env("CORTEX_LOG", "info");
        self.schedulers.push(Running::start(command, b""));
    }

    /// kill -9 of one of them.
    #[track_caller]
    pub(crate) fn kill_scheduler(&mut self, number: usize) {
        let scheduler = &mut self.schedulers[number];
        scheduler.signal(Signal::KILL);
        wait::until("the scheduler to be gone", || scheduler.is_over().then_some(()));
    }

    /// A mirror, new or again after a kill. All share the key that the first one made.
    #[track_caller]
    pub(crate) fn start_mirror(&mut self, number: usize) {
        self.start_mirror_with(number, &[]);
    }

    /// The same with more flags.
    #[track_caller]
    pub(crate) fn start_mirror_with(&mut self, number: usize, flags: &[&str]) {
        let place = |n: usize| self.gateways[0].path(&format!("mirror-{n}"));
        let mut command = run::command(&place(number));
        command.args(["mirror", "--log", &self.nats.url(), "--key"]);
        command.arg(self.gateways[0].path("mirror.key")).args(flags).env("CORTEX_LOG", "info");
        let mut mirror = Running::start(command, b"");
        mirror.until_it_says("mirror is running");
        self.mirrors.resize_with(self.mirrors.len().max(number + 1), || None);
        self.mirrors[number] = Some(mirror);
    }

    /// kill -9 of one of them.
    #[track_caller]
    pub(crate) fn kill_mirror(&mut self, number: usize) {
        let mut mirror = self.mirrors[number].take().unwrap();
        mirror.signal(Signal::KILL);
        wait::until("the mirror to be gone", || mirror.is_over().then_some(()));
    }

    /// Sends a signal to every scheduler.
    pub(crate) fn signal_schedulers(&self, signal: Signal) {
        self.schedulers.iter().for_each(|s| s.signal(signal));
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for scheduler in &self.schedulers {
                eprintln!("--- a scheduler said:\n{}", scheduler.stderr());
            }
            for mirror in self.mirrors.iter().flatten() {
                eprintln!("--- a mirror said:\n{}", mirror.stderr());
            }
            eprintln!("--- nats-server said:\n{}", self.nats.log());
        }
    }
}

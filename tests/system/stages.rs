//! kill -9 at every stage of a task, at the very frame: a proxy between agent and gateway holds the connection
//! there, the victim is killed, everything starts again. Whatever died, the effect happens once and the task
//! succeeds; only a task that ran while its own agent died is INDETERMINATE.

use crate::support::proxy::{Stop, Way};
use crate::support::{Agent, Proxy, Server, effects, text, wait};
use std::path::PathBuf;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Up,
    Agent,
    Both,
}

/// A server, an agent behind a proxy, and a task pinned to it that counts its effect.
struct Scene {
    server: Server,
    agent: Agent,
    proxy: Proxy,
    file: PathBuf,
    gate: PathBuf,
    task: String,
}

/// What a task prints at its very end: only its outcome carries it.
const LAST_WORD: &str = "the-last-word-of-the-task";

impl Scene {
    /// The task is submitted; its agent was not started yet.
    fn submitted() -> Scene {
        let server = Server::start(&["--no-agent"]);
        let proxy = Proxy::start(&server, "n1");
        let agent = Agent::prepare(&server, "n1", proxy.endpoint(), &[]);
        let (file, gate) = (server.path("effects"), server.path("gate"));
        // The last word is put together on the node, so that the request does not hold it.
        let (head, tail) = LAST_WORD.split_at(9);
        let script = format!(
            "echo x >> {}; while ! [ -e {} ]; do sleep 0.02; done; printf %s%s {head} {tail}",
            text(&file),
            text(&gate)
        );
        let task = server.submit(&["--node", "n1"], &["sh", "-c", &script]);
        Scene { server, agent, proxy, file, gate, task }
    }

    /// Holds everything that way from the first frame of this task on, without the one that has `without`.
    fn hold(&self, way: Way, without: Option<&str>) {
        let (holds, without) = (self.task.clone(), without.map(str::to_owned));
        self.proxy.stop_at(Stop { way, holds, without });
    }

    fn until_held(&self) {
        wait::until("the frame that is held", || self.proxy.reached().then_some(()));
    }

    fn until_effect(&self) {
        wait::until("the task's effect", || (effects(&self.file) > 0).then_some(()));
    }

    fn open_gate(&self) {
        std::fs::write(&self.gate, "").unwrap();
    }

    /// Kills, lets the network through again, starts again.
    fn strike(&mut self, victim: Victim) {
        if victim != Victim::Agent {
            self.server.kill_up();
        }
        if victim != Victim::Up {
            self.agent.kill();
        }
        self.proxy.heal();
        if victim != Victim::Agent {
            self.server.up();
        }
        if victim != Victim::Up {
            self.agent.launch();
        }
    }

    /// It succeeded, with one effect and all of its output.
    fn succeeds(&self, victim: Victim) {
        self.open_gate();
        let task = self.server.until_state(&self.task, &["succeeded", "failed", "indeterminate"]);
        assert_eq!(task["state"], "succeeded", "{victim:?}: {task:#}");
        assert_eq!(effects(&self.file), 1, "{victim:?}");
        let output = self.server.cortex(&["task", "output", &self.task]).ok();
        assert_eq!(output.text(), LAST_WORD, "{victim:?}");
        let events = self.server.events(&self.task);
        let finished = events.iter().filter(|e| *e == "Finished").count();
        assert_eq!(finished, 1, "{victim:?}: {events:?}");
    }
}

/// The same stage with each victim, at the same time: most of it is waiting.
fn with_each_victim(stage: impl Fn(Victim) + Sync) {
    std::thread::scope(|scope| {
        let started = [Victim::Up, Victim::Agent, Victim::Both].map(|v| {
            scope.spawn({
                let stage = &stage;
                move || stage(v)
            })
        });
        for thread in started {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn killed_when_submitted_and_not_offered() {
    let mut scene = Scene::submitted();
    scene.server.kill_up();
    scene.server.up();
    assert_eq!(scene.server.task(&scene.task)["state"], "pending");
    scene.agent.launch();
    scene.succeeds(Victim::Up);
}

#[test]
fn killed_when_offered_and_not_claimed() {
    with_each_victim(|victim| {
        let mut scene = Scene::submitted();
        scene.hold(Way::Down, None);
        scene.agent.launch();
        scene.until_held();
        scene.strike(victim);
        scene.succeeds(victim);
    });
}

#[test]
fn killed_when_claimed_and_not_started() {
    with_each_victim(|victim| {
        let mut scene = Scene::submitted();
        scene.hold(Way::Up, None);
        scene.agent.launch();
        scene.until_held();
        assert_eq!(scene.server.events(&scene.task), ["Submitted"]);
        scene.strike(victim);
        scene.succeeds(victim);
    });
}

#[test]
fn killed_when_started_and_the_go_did_not_arrive() {
    with_each_victim(|victim| {
        let mut scene = Scene::submitted();
        // An offer names the task and carries its command; a Go names it only.
        scene.hold(Way::Down, Some(&text(&scene.file)));
        scene.agent.launch();
        scene.until_held();
        assert_eq!(scene.server.events(&scene.task)[..2], ["Submitted", "Started"]);
        assert_eq!(effects(&scene.file), 0);
        scene.strike(victim);
        scene.succeeds(victim);
    });
}

#[test]
fn killed_while_it_runs() {
    with_each_victim(|victim| {
        let mut scene = Scene::submitted();
        scene.agent.launch();
        scene.until_effect();
        scene.strike(victim);
        if victim == Victim::Up {
            return scene.succeeds(victim);
        }
        let task = scene.server.until_state(&scene.task, &["indeterminate", "succeeded", "failed"]);
        assert_eq!(task["state"], "indeterminate", "{victim:?}: {task:#}");
        assert!(!task["evidence"].as_str().unwrap().is_empty());
        assert_eq!(effects(&scene.file), 1, "{victim:?}");
    });
}

#[test]
fn killed_when_finished_and_not_reported() {
    with_each_victim(|victim| {
        let mut scene = Scene::submitted();
        let holds = LAST_WORD.to_owned();
        scene.proxy.stop_at(Stop { way: Way::Up, holds, without: None });
        scene.open_gate();
        scene.agent.launch();
        scene.until_held();
        assert_eq!(scene.server.events(&scene.task), ["Submitted", "Started"]);
        scene.strike(victim);
        scene.succeeds(victim);
    });
}

#[test]
fn killed_when_reported_and_not_acknowledged() {
    with_each_victim(|victim| {
        let mut scene = Scene::submitted();
        scene.agent.launch();
        scene.until_effect();
        scene.hold(Way::Down, Some(&text(&scene.file)));
        scene.open_gate();
        scene.until_held();
        scene.server.until_state(&scene.task, &["succeeded"]);
        scene.strike(victim);
        scene.succeeds(victim);
        scene.agent.until_online(&scene.server);
        assert_eq!(scene.server.events(&scene.task), ["Submitted", "Started", "Finished"]);
    });
}

//! A machine with the real agent on it, whose clock may be wrong; and what an administrator does on the server.

use crate::support::run::{self, Ended, Running};
use crate::support::server::{allowed, online, write_policy};
use crate::support::{Nats, Server, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine of its own, below the server's temporary directory.
pub(crate) struct Machine {
    name: String,
    pub(crate) dir: PathBuf,
    skew_s: i64,
    process: Option<Running>,
}

impl Machine {
    /// A machine that never joined.
    pub(crate) fn new(server: &Server, name: &str) -> Machine {
        let dir = server.path(name);
        write_policy(&dir, allowed());
        Machine { name: name.to_owned(), dir, skew_s: 0, process: None }
    }

    /// One that joined with a new token.
    #[track_caller]
    pub(crate) fn joined(server: &Server, name: &str) -> Machine {
        let machine = Machine::new(server, name);
        machine.join(&url(server), &join_token(server, &[]), &[]).ok();
        machine
    }

    /// Sets its clock, from the next command on.
    pub(crate) fn set_clock(&mut self, skew_s: i64) {
        self.skew_s = skew_s;
    }

    /// `cortex-agent join`, with the token on standard input.
    #[track_caller]
    pub(crate) fn join(&self, url: &str, token: &str, flags: &[&str]) -> Ended {
        let own = ["join", url, "--token-file", "-"];
        let own = if flags.contains(&"--node") {
            own.to_vec()
        } else {
            [&own[..], &["--node", &self.name]].concat()
        };
        Running::start(self.command(&[&own[..], flags].concat()), token.as_bytes()).end()
    }

    /// A command of `cortex-agent` on its data directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = run::command(&self.dir);
        command.env_remove("CORTEX_DATA_DIR").env("CORTEX_LOG", "info").arg("__agent").args(args);
        command.arg("--data-dir").arg(&self.dir);
        set_clock(&mut command, self.skew_s);
        command
    }

    /// Such a command and its end.
    #[track_caller]
    pub(crate) fn agent(&self, args: &[&str]) -> Ended {
        Running::start(self.command(args), b"").end()
    }

    /// Starts the agent.
    pub(crate) fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(Running::start(self.command(&["run"]), b""));
    }

    /// Waits until the agent's log holds a text.
    #[track_caller]
    pub(crate) fn until_it_logs(&self, text: &str) {
        let process = self.process.as_ref().unwrap();
        let said = wait::within(wait::DEADLINE, || process.stderr().contains(text).then_some(()));
        assert!(said.is_some(), "no {text:?} in the agent's log:\n{}", process.stderr());
    }

    /// Whether the agent's log holds a text.
    pub(crate) fn logs(&self, text: &str) -> bool {
        self.process.as_ref().unwrap().stderr().contains(text)
    }

    /// Waits until the agent ended by itself, and says how.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Ended {
        self.process.take().unwrap().end()
    }

    /// Kills the agent.
    pub(crate) fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Waits until the server sees it.
    #[track_caller]
    pub(crate) fn until_online(&self, server: &Server) {
        until_online(server, &self.name);
    }
}

/// Two gateways of one deployment on a nats-server of their own.
pub(crate) struct Two {
    pub(crate) gateways: [Server; 2],
    /// Where their keys lie.
    pub(crate) authority: PathBuf,
    _nats: Nats,
    _home: Server,
}

impl Two {
    #[track_caller]
    pub(crate) fn start() -> Two {
        let home = Server::prepare(&[]);
        let nats = Nats::start(home.path("nats"));
        let authority = home.path("authority");
        home.cortex(&["ca", "init", authority.to_str().unwrap()]).ok();
        let gateways = [0, 1].map(|_| {
            let mut gateway = Server::prepare(&[]).into_gateway(&nats.url(), &authority);
            gateway.launch();
            gateway.until_ready();
            gateway
        });
        Two { gateways, authority, _nats: nats, _home: home }
    }
}

/// Waits until a node is connected.
#[track_caller]
pub(crate) fn until_online(server: &Server, node: &str) {
    wait::until(&format!("node {node} to connect"), || is_online(server, node).then_some(()));
}

/// Whether a node is connected.
pub(crate) fn is_online(server: &Server, node: &str) -> bool {
    server.nodes().iter().any(|n| n["node"] == *node && online(n))
}

/// Where a server listens, as it says itself.
pub(crate) fn url(server: &Server) -> String {
    let text = std::fs::read_to_string(server.data().join("endpoint.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value["url"].as_str().unwrap().to_owned()
}

/// Host and port of that.
pub(crate) fn address(server: &Server) -> std::net::SocketAddr {
    url(server).trim_start_matches("https://").parse().unwrap()
}

/// A new join token.
#[track_caller]
pub(crate) fn join_token(server: &Server, flags: &[&str]) -> String {
    token(server, &[&["token", "create", "node"], flags].concat(), "cxj1.")
}

/// A new token for people.
#[track_caller]
pub(crate) fn user_token(server: &Server, flags: &[&str]) -> String {
    token(server, &[&["token", "create", "user"], flags].concat(), "cxu1.")
}

#[track_caller]
fn token(server: &Server, args: &[&str], begins: &str) -> String {
    let said = server.cortex(args).ok().text();
    let found = said.split_whitespace().find(|word| word.starts_with(begins));
    found.unwrap_or_else(|| panic!("no token in {said}")).to_owned()
}

/// The server still does its work: a task runs on a node.
#[track_caller]
pub(crate) fn still_serves(server: &Server) {
    server.run(&["echo", "still here"]).ok().says(&["still here"]);
}

/// Has a command live in another time.
pub(crate) fn set_clock(command: &mut Command, skew_s: i64) {
    if skew_s != 0 {
        command.env("LD_PRELOAD", shim()).env("SKEW_SECONDS", skew_s.to_string());
    }
}

/// `clock.c`, compiled. It lies beside the tests, whole or not at all, because tests run at the same time.
fn shim() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let (whole, part) =
        (folder.join("clock.so"), folder.join(format!("clock-{}.so", std::process::id())));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("identity/clock.c");
    let newer = |a: &Path, b: &Path| {
        let time = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        time(a) > time(b)
    };
    if !newer(&whole, &source) {
        let mut cc = Command::new("cc");
        let made = cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&part).arg(&source).status();
        assert!(made.unwrap().success(), "clock.c does not compile");
        std::fs::rename(&part, &whole).unwrap();
    }
    whole
}

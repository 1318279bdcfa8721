//! A second agent as a process of its own, beside the one that `cortex up` starts.

use super::Server;
use super::run::{self, Running};
use super::server::{allowed, kill_all, online, write_policy};
use super::wait;
use rustix::process::Signal;
use std::path::{Path, PathBuf};

/// An agent with its own data directory, below the server's temporary directory.
pub(crate) struct Agent {
    node: String,
    dir: PathBuf,
    endpoint: PathBuf,
    flags: Vec<String>,
    process: Option<Running>,
}

impl Agent {
    /// An agent that joined a running server and is not started yet. `endpoint` says where the gateway is from then on.
    #[track_caller]
    pub(crate) fn prepare(server: &Server, node: &str, endpoint: PathBuf, flags: &[&str]) -> Agent {
        let dir = server.path(node);
        write_policy(&dir, allowed());
        if !dir.join("identity/identity.json").exists() {
            enrol(server, node, &server.join_token());
        }
        Agent {
            node: node.to_owned(),
            dir,
            endpoint,
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            process: None,
        }
    }

    /// An agent that is connected straight to the server.
    #[track_caller]
    pub(crate) fn join(server: &Server, node: &str, flags: &[&str]) -> Agent {
        let endpoint = server.data().join("endpoint.json");
        let mut agent = Agent::prepare(server, node, endpoint, flags);
        agent.launch();
        agent.until_online(server);
        agent
    }

    /// An agent that joined with this token, connected straight to the server.
    #[track_caller]
    pub(crate) fn join_with(server: &Server, node: &str, token: &str) -> Agent {
        enrol(server, node, token);
        let mut agent = Agent::prepare(server, node, server.data().join("endpoint.json"), &[]);
        agent.launch();
        agent
    }

    /// A copy of its whole state, as a restored or cloned machine has it. The agent must not run.
    pub(crate) fn copied(&self, server: &Server, name: &str) -> Agent {
        assert!(self.process.is_none(), "it runs");
        let dir = server.path(name);
        copy(&self.dir, &dir);
        let (node, endpoint) = (self.node.clone(), self.endpoint.clone());
        Agent { node, dir, endpoint, flags: self.flags.clone(), process: None }
    }

    /// Where its state is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts the process.
    pub(crate) fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = run::command(&self.dir);
        command.env_remove("CORTEX_DATA_DIR").env("CORTEX_LOG", "info");
        command.args(["__agent", "run", "--data-dir"]).arg(&self.dir);
        command.arg("--endpoint-file").arg(&self.endpoint).args(&self.flags);
        self.process = Some(Running::start(command, b""));
    }

    /// Waits until the server sees it.
    #[track_caller]
    pub(crate) fn until_online(&self, server: &Server) {
        wait::until(&format!("node {} to connect", self.node), || {
            server.nodes().iter().any(|n| n["node"] == *self.node && online(n)).then_some(())
        });
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().unwrap().stderr()
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub(crate) fn terminate(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        process.end().ok();
    }

    /// kill -9 of the agent alone.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        kill_all(&[self.process.take().unwrap().pid()]);
    }
}

/// Copies a directory with everything in it but sockets and the lock of a process.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if from.is_file() && entry.file_name() != "agent.lock" {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// Joins, into the directory of the node's name.
#[track_caller]
fn enrol(server: &Server, node: &str, token: &str) {
    let dir = server.path(node);
    let mut command = run::command(&dir);
    command.env_remove("CORTEX_DATA_DIR").args(["__agent", "join", &server.url()]);
    command.args(["--token-file", "-", "--node", node, "--data-dir"]).arg(&dir);
    Running::start(command, token.as_bytes()).end().ok();
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let (Some(process), true) = (&self.process, std::thread::panicking()) {
            eprintln!("--- agent {} said:\n{}", self.node, process.stderr());
        }
    }
}

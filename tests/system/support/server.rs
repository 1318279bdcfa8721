//! A whole Cortex of its own: a temporary data directory, `cortex up` as a real process, and its agent.
//! When it is dropped, also by a panic, nothing of it is left.

use super::run::{self, Ended, Running};
use super::{processes, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Programs that tests run beside those of the starter policy.
const ALLOWED: [&str; 16] = [
    "sh", "env", "cat", "seq", "sleep", "printf", "pwd", "uname", "echo", "true", "false", "head",
    "wc", "tr", "dd", "ls",
];

/// A server and everything that belongs to it.
pub(crate) struct Server {
    root: TempDir,
    data: PathBuf,
    up: Option<Running>,
    /// The command that serves, and what it says when it is ready.
    serves: (&'static str, &'static str),
    args: Vec<String>,
    /// The local agent keeps the policy that it was started with, or made itself.
    keeps_policy: bool,
    /// What every process of this server is started with beside that.
    dress: Box<dyn Fn(&mut std::process::Command) + Sync>,
}

impl Server {
    /// A server with its local agent, ready for tasks of the programs above.
    #[track_caller]
    pub(crate) fn start(args: &[&str]) -> Server {
        let mut server = Server::prepare(args);
        server.up();
        server
    }

    /// A server whose local agent has the policy that `cortex up` writes.
    #[track_caller]
    #[allow(dead_code, reason = "the identity tests share this file and run what tests allow")]
    pub(crate) fn start_with_its_own_policy(args: &[&str]) -> Server {
        let mut server = Server::prepare(args);
        server.keeps_policy = true;
        server.up();
        server
    }

    /// A directory for a server that does not run yet.
    pub(crate) fn prepare(args: &[&str]) -> Server {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        Server {
            root,
            data,
            up: None,
            serves: ("up", "From another terminal"),
            args,
            keeps_policy: false,
            dress: Box::new(|_| {}),
        }
    }

    /// The same as `cortex gateway` on a log that others share.
    pub(crate) fn into_gateway(mut self, log: &str, authority: &Path) -> Server {
        self.serves = ("gateway", "gateway at");
        self.set_args(&["--log", log, "--authority", authority.to_str().unwrap()]);
        self
    }

    /// The same with its data somewhere else.
    pub(crate) fn prepare_in(data: &Path, args: &[&str]) -> Server {
        let mut server = Server::prepare(args);
        server.data = data.to_owned();
        server
    }

    /// Starts `cortex up`, again after a kill, and waits until tasks can run.
    #[track_caller]
    pub(crate) fn up(&mut self) {
        self.launch();
        self.until_ready();
    }

    /// Starts it without waiting.
    pub(crate) fn launch(&mut self) {
        assert!(self.up.is_none(), "it runs already");
        let mut command = run::command(&self.data);
        command.arg(self.serves.0).args(&self.args).env("CORTEX_LOG", "info");
        (self.dress)(&mut command);
        self.up = Some(Running::start(command, b""));
    }

    /// Waits until it serves, and its local agent is there if it has one.
    #[track_caller]
    pub(crate) fn until_ready(&mut self) {
        self.up.as_mut().unwrap().until_it_says(self.serves.1);
        if self.serves.0 == "up" && !self.args.iter().any(|a| a == "--no-agent") {
            if !self.keeps_policy {
                self.allow(&ALLOWED);
            }
            wait::until("the local agent", || self.nodes().iter().any(online).then_some(()));
        }
    }

    /// Replaces the local agent's policy.
    pub(crate) fn allow(&self, programs: &[&str]) {
        write_policy(&self.data.join("agent"), programs);
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The temporary directory of everything that belongs to it.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path for a test's own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn up_process(&self) -> &Running {
        self.up.as_ref().unwrap()
    }

    /// A command in the background.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        self.spawn_with(args, b"")
    }

    pub(crate) fn spawn_with(&self, args: &[&str], input: &[u8]) -> Running {
        let mut command = run::command(&self.data);
        command.args(args);
        (self.dress)(&mut command);
        Running::start(command, input)
    }

    /// Changes every process that is started from now on, commands too.
    #[allow(dead_code, reason = "the identity tests share this file and move clocks with it")]
    pub(crate) fn dress(&mut self, dress: impl Fn(&mut std::process::Command) + Sync + 'static) {
        self.dress = Box::new(dress);
    }

    /// A command and its end.
    #[track_caller]
    pub(crate) fn cortex(&self, args: &[&str]) -> Ended {
        self.spawn(args).end()
    }

    /// `cortex run -- ARGV` and its end.
    #[track_caller]
    pub(crate) fn run(&self, argv: &[&str]) -> Ended {
        self.cortex(&[&["run", "--"], argv].concat())
    }

    /// A join token for one machine.
    #[track_caller]
    pub(crate) fn join_token(&self) -> String {
        let ended = self.cortex(&["token", "create", "node", "--json"]);
        ended.ok().json()["text"].as_str().unwrap().to_owned()
    }

    /// A token for a person or program.
    #[track_caller]
    pub(crate) fn user_token(&self, flags: &[&str]) -> String {
        let args = [&["token", "create", "user", "--json"], flags].concat();
        self.cortex(&args).ok().json()["text"].as_str().unwrap().to_owned()
    }

    /// A client's directory that leads to this server with another token.
    pub(crate) fn client_dir(&self, name: &str, token: &str) -> PathBuf {
        let dir = self.path(name).join("client");
        fs::create_dir_all(&dir).unwrap();
        fs::copy(self.data.join("endpoint.json"), dir.join("endpoint.json")).unwrap();
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).mode(0o600).open(dir.join("client.token"));
        std::io::Write::write_all(&mut file.unwrap(), token.as_bytes()).unwrap();
        dir
    }

    /// Where it listens, `https://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        let text = fs::read(self.data.join("endpoint.json")).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        value["url"].as_str().unwrap().to_owned()
    }

    /// Submits with `run --detach` and returns the task's id.
    #[track_caller]
    pub(crate) fn submit(&self, flags: &[&str], argv: &[&str]) -> String {
        let ended = self.cortex(&[&["run", "--json", "--detach"], flags, &["--"], argv].concat());
        ended.ok().json()["task"]["task_id"].as_str().unwrap().to_owned()
    }

    /// A task as `task show --json` tells it.
    #[track_caller]
    pub(crate) fn task(&self, id: &str) -> Value {
        self.cortex(&["task", "show", "--json", id]).ok().json()
    }

    /// Waits for one of these states.
    #[track_caller]
    pub(crate) fn until_state(&self, id: &str, states: &[&str]) -> Value {
        wait::until(&format!("task {id} to be {}", states.join(" or ")), || {
            let task = self.task(id);
            states.contains(&task["state"].as_str().unwrap()).then_some(task)
        })
    }

    /// The events of a task's history by name, in order.
    #[track_caller]
    pub(crate) fn events(&self, id: &str) -> Vec<String> {
        let history = self.cortex(&["task", "history", "--json", id]).ok().json();
        let entries = history["entries"].as_array().unwrap();
        let events = entries.iter().flat_map(|e| e["events"].as_array().unwrap());
        events.map(|e| e["event"].as_str().unwrap().to_owned()).collect()
    }

    /// The nodes; none while the server does not answer.
    pub(crate) fn nodes(&self) -> Vec<Value> {
        let ended = self.cortex(&["node", "list", "--json"]);
        if ended.code == 0 { list(&ended.json(), "nodes") } else { Vec::new() }
    }

    /// The tasks that these flags of `task list` select.
    #[track_caller]
    pub(crate) fn tasks(&self, flags: &[&str]) -> Vec<Value> {
        let ended = self.cortex(&[&["task", "list", "--json"], flags].concat());
        list(&ended.ok().json(), "tasks")
    }

    /// Waits until the server answers at all, and an agent is there if there should be one.
    #[track_caller]
    pub(crate) fn until_answers(&self) {
        wait::until("an answer", || (self.cortex(&["task", "list"]).code == 0).then_some(()));
    }

    /// Other flags from the next start on.
    pub(crate) fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|a| (*a).to_owned()).collect();
    }

    /// kill -9 of `cortex up` alone.
    pub(crate) fn kill_up(&mut self) {
        let mut up = self.up.take().unwrap();
        up.signal(Signal::KILL);
        wait::until("the server to be gone", || up.is_over().then_some(()));
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> Ended {
        let up = self.up.take().unwrap();
        up.signal(Signal::TERM);
        up.end()
    }

    /// Processes of the local agent: those that were started with its directory.
    pub(crate) fn agent_pids(&self) -> Vec<i32> {
        processes::with_argument(&self.data.join("agent").to_string_lossy())
    }

    /// kill -9 of the local agent; `cortex up`, if it runs, starts another.
    #[track_caller]
    pub(crate) fn kill_agent(&self) {
        let pids = self.agent_pids();
        assert!(!pids.is_empty(), "no agent runs");
        kill_all(&pids);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(up) = self.up.take() {
            if std::thread::panicking() {
                eprintln!(
                    "--- cortex {} said:\n{}",
                    self.serves.0,
                    String::from_utf8_lossy(&up.stdout())
                );
                eprintln!("--- and on stderr:\n{}", up.stderr());
            }
            drop(up);
        }
        // Ending an agent makes its guard end the tasks; what is started meanwhile is seen the next time round.
        wait::within(wait::DEADLINE, || {
            let mut left = processes::of_directory(self.root.path());
            left.extend(processes::of_directory(&self.data));
            left.iter().for_each(|pid| processes::signal(*pid, Signal::KILL));
            left.is_empty().then_some(())
        });
    }
}

fn list(value: &Value, name: &str) -> Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("no {name} in {value}")).clone()
}

/// Kills processes and waits until they are gone.
#[track_caller]
pub(crate) fn kill_all(pids: &[i32]) {
    pids.iter().for_each(|pid| processes::signal(*pid, Signal::KILL));
    wait::until("killed processes to be gone", || {
        pids.iter().all(|pid| !processes::alive(*pid)).then_some(())
    });
}

/// Writes an agent's policy file, whole or not at all.
pub(crate) fn write_policy(agent_dir: &Path, programs: &[&str]) {
    let paths =
        programs.iter().flat_map(|p| [format!("\"/usr/bin/{p}\""), format!("\"/bin/{p}\"")]);
    let list = paths.collect::<Vec<_>>().join(", ");
    let text = format!("version = 0\n[shell]\nallow = [{list}]\n[echo]\nallow = true\n");
    write_policy_text(agent_dir, &text);
}

/// The same with a policy of any kind.
pub(crate) fn write_policy_text(agent_dir: &Path, text: &str) {
    fs::create_dir_all(agent_dir).unwrap();
    let part = agent_dir.join("policy.part");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part).unwrap();
    std::io::Write::write_all(&mut &file, text.as_bytes()).unwrap();
    fs::rename(&part, agent_dir.join("policy.toml")).unwrap();
}

/// Whether a node of `node list --json` is connected.
pub(crate) fn online(node: &Value) -> bool {
    node["online"] == Value::Bool(true)
}

/// The programs that tests may run.
pub(crate) fn allowed() -> &'static [&'static str] {
    &ALLOWED
}

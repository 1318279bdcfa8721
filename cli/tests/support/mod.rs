//! Starts real servers and runs the real binary. Everything lives in temporary directories and
//! listens on free loopback ports; every wait has an end.

mod proxy;

pub(crate) use proxy::Proxy;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for anything: far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The only line of stdout, as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Every line of stdout, as JSON.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.out().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn exited(self, code: i32) -> Done {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// The binary with nothing of this machine's settings.
pub(crate) fn cortex(data_dir: &Path) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_cortex"));
    c.env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("USER", "anna")
        .env("CORTEX_DATA_DIR", data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    c
}

/// A command under way.
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(|p| std::thread::spawn(move || drain(p)));
        let stderr = child.stderr.take().map(|p| std::thread::spawn(move || drain(p)));
        Running { child, stdout, stderr }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Done {
        let status = wait_until("the command to end", || self.child.try_wait().unwrap());
        let read = |h: Option<JoinHandle<Vec<u8>>>| h.map_or_else(Vec::new, |h| h.join().unwrap());
        let stdout = read(self.stdout.take());
        let stderr = String::from_utf8(read(self.stderr.take())).unwrap();
        Done { code: status.code().unwrap_or(-1), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a failed test comes here with a process that still runs.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn drain(mut pipe: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    pipe.read_to_end(&mut all).unwrap();
    all
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What tasks of tests may run: with any arguments, without a sandbox.
const PROGRAMS: [&str; 12] =
    ["sh", "cat", "echo", "false", "head", "ls", "printf", "seq", "sleep", "true", "uname", "wc"];

/// A server with its agent, in a directory of its own.
pub(crate) struct Up {
    dir: TempDir,
    child: Child,
}

impl Up {
    /// Starts it and returns when its first task has run, so the agent is there. Tasks may run the programs above.
    pub(crate) fn start() -> Up {
        let dir = tempfile::tempdir().unwrap();
        let mut command = cortex(&dir.path().join("data"));
        let mut child = command.arg("up").stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let up = Up { dir, child };
        let ready = lines.any(|l| l.unwrap().starts_with("Ctrl-C stops it"));
        assert!(ready, "the server ended before it was ready");
        let paths = PROGRAMS.map(|name| format!("\"/usr/bin/{name}\", \"/bin/{name}\"")).join(", ");
        let text = format!("version = 0\n[shell]\nallow = [{paths}]\n");
        fs::write(up.data().join("agent/policy.toml"), text).unwrap();
        up
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A place for the tests' own files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The binary with arguments, talking to this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut c = cortex(&self.data());
        c.args(args);
        c
    }

    /// Runs it to its end.
    pub(crate) fn cortex(&self, args: &[&str]) -> Done {
        Running::start(&mut self.command(args)).end()
    }

    /// Submits a shell script and returns the task's id.
    pub(crate) fn submit_sh(&self, script: &str) -> String {
        let done = self.cortex(&["task", "submit", "--", "sh", "-c", script]).exited(0);
        done.out().trim().to_owned()
    }

    /// A data directory of a client that reaches this server through `url` and shows `token`.
    pub(crate) fn client_dir(&self, name: &str, url: &str, token: Option<&str>) -> PathBuf {
        let dir = self.file(name);
        fs::create_dir_all(&dir).unwrap();
        point(&dir, url);
        let own = fs::read_to_string(self.data().join("client.token")).unwrap();
        private(&dir.join("client.token"), token.unwrap_or(&own));
        dir
    }

    /// Where it listens, `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        let text = fs::read(self.data().join("endpoint.json")).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        value["url"].as_str().unwrap().strip_prefix("https://").unwrap().to_owned()
    }

    /// Kills the agent without any warning; the server starts another.
    pub(crate) fn kill_agent(&self) {
        let parent = format!("PPid:\t{}\n", self.child.id());
        let agent = fs::read_dir("/proc").unwrap().find_map(|entry| {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str()?.parse().ok()?;
            // Processes come and go while we look.
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            status.contains(&parent).then_some(number)
        });
        kill_process(Pid::from_raw(agent.unwrap()).unwrap(), Signal::KILL).unwrap();
    }

    /// The state of a task.
    pub(crate) fn state(&self, id: &str) -> String {
        let task = self.cortex(&["task", "show", id, "--json"]).exited(0).json();
        task["state"].as_str().unwrap().to_owned()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // In order: the server ends its agent.
        kill_process(pid(&self.child), Signal::TERM).ok();
        self.child.wait().ok();
    }
}

/// Says in a client's directory where the server is.
pub(crate) fn point(dir: &Path, url: &str) {
    private(&dir.join("endpoint.json"), &format!(r#"{{"version":1,"url":"{url}","pid":1}}"#));
}

/// Writes a file that only its owner may use, whole or not at all.
pub(crate) fn private(path: &Path, text: &str) {
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    fs::rename(part, path).unwrap();
}

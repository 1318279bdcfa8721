//! The local agent of `cortex up`: its own process, because it is the trust boundary; started from this executable and started
//! again when it dies. An agent that outlived an earlier server is left running: it reconnects by itself.

use crate::client::ENDPOINT_FILE;
use crate::error::CliError;
use crate::render;
use crate::serve::data_dir::DataDir;
use cortex_gateway::Registrar;
use cortex_model::Code;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// File in the agent's data directory that says that it joined.
const IDENTITY: &str = "identity/identity.json";
/// Exit code of an agent whose data directory is in use.
const AGENT_LOCKED: i32 = 75;
/// Longest wait for an agent that was asked to end.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Pauses before an agent is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How to start the agent.
pub(crate) struct LocalAgent {
    directory: PathBuf,
    endpoint: PathBuf,
    registrar: Registrar,
    slots: Option<u32>,
}

impl LocalAgent {
    /// The agent whose data lies in the server's data directory.
    pub(crate) fn new(dir: &DataDir, registrar: Registrar, slots: Option<u32>) -> LocalAgent {
        LocalAgent {
            directory: dir.join("agent"),
            endpoint: dir.join(ENDPOINT_FILE),
            registrar,
            slots,
        }
    }

    /// Where the owner's policy lies.
    pub(crate) fn policy_file(&self) -> PathBuf {
        self.directory.join("policy.toml")
    }

    /// Keeps an agent running until `stop`, then ends it, also one that an earlier server had started.
    pub(crate) async fn supervise(self, stop: CancellationToken) {
        let mut pause = RESTART.0;
        while !stop.is_cancelled() {
            let begun = tokio::time::Instant::now();
            if self.running().is_empty() {
                let started = match self.enrol(&stop).await {
                    Ok(()) => self.spawn(),
                    Err(e) => Err(std::io::Error::other(e.message)),
                };
                let ended = match started {
                    Ok(mut child) => tokio::select! {
                        status = child.wait() => status,
                        () = stop.cancelled() => return end(child).await,
                    },
                    Err(e) => Err(e),
                };
                self.report(ended);
            }
            if begun.elapsed() > RESTART.1 {
                pause = RESTART.0;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(RESTART.1);
        }
        self.end_earlier().await;
    }

    /// Agents of this data directory, by their command lines: one that outlived its server is found here.
    fn running(&self) -> Vec<Pid> {
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        let ours = |pid: i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
            let dir = self.directory.as_os_str().as_encoded_bytes();
            words.get(1..3).is_some_and(|w| w == [b"__agent".as_slice(), b"run"])
                && words.windows(2).any(|w| w[0] == b"--data-dir" && w[1] == dir)
        };
        processes
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| ours(*pid))
            .filter_map(Pid::from_raw)
            .collect()
    }

    async fn end_earlier(&self) {
        let begun = tokio::time::Instant::now();
        for pid in self.running() {
            kill_process(pid, Signal::INT).ok();
        }
        while begun.elapsed() < STOP_GRACE && !self.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has the agent join like every other machine, with a token that is good once, unless it has.
    async fn enrol(&self, stop: &CancellationToken) -> Result<(), CliError> {
        if self.directory.join(IDENTITY).exists() {
            return Ok(());
        }
        let failed = |e: std::io::Error| CliError::new(Code::AgentUnable, e.to_string());
        let token = self.registrar.join_token().await?;
        let text = std::fs::read_to_string(&self.endpoint).map_err(failed)?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| CliError::internal(e.to_string()))?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(["__agent", "join", value["url"].as_str().unwrap_or_default()])
            .args(["--token-file", "-", "--data-dir"])
            .arg(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(token.reveal().as_bytes()).await.map_err(failed)?;
        }
        let ended = tokio::select! {
            ended = child.wait_with_output() => ended.map_err(failed)?,
            () = stop.cancelled() => return Ok(()),
        };
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        Err(CliError::new(Code::AgentUnable, format!("it could not join: {}", said.trim())))
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["__agent", "run", "--starter-policy", "--data-dir"])
            .arg(&self.directory)
            .arg("--endpoint-file")
            .arg(&self.endpoint)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(slots) = self.slots {
            command.args(["--slots", &slots.to_string()]);
        }
        if std::env::var_os("CORTEX_LOG").is_none() {
            command.env("CORTEX_LOG", "warn");
        }
        // A process group of its own: Ctrl-C in the terminal reaches the server, which ends the agent in order.
        command.process_group(0);
        command.spawn()
    }

    fn report(&self, ended: std::io::Result<ExitStatus>) {
        match ended {
            Ok(status) if status.code() == Some(AGENT_LOCKED) => {
                tracing::info!(
                    "an agent of this data directory is running already; it reconnects by itself"
                );
            }
            Ok(status) => render::note(&format!("the agent ended ({status}); starting it again")),
            Err(e) => render::note(&format!("the agent cannot be started: {e}")),
        }
    }
}

async fn end(mut child: Child) {
    if let Some(pid) = child.id().and_then(|p| i32::try_from(p).ok()).and_then(Pid::from_raw) {
        kill_process(pid, Signal::INT).ok();
    }
    if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
        child.kill().await.ok();
    }
}

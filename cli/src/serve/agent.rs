//! The local agent of `cortex up`: its own process, because it is the trust boundary; started from this executable and started
//! again when it dies. An agent that outlived an earlier server is left running: it reconnects by itself.

use crate::client::ENDPOINT_FILE;
use crate::render;
use crate::serve::data_dir::{AGENT_TOKEN_FILE, DataDir};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

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
    token: PathBuf,
    slots: Option<u32>,
}

impl LocalAgent {
    /// The agent whose data lies in the server's data directory.
    pub(crate) fn new(dir: &DataDir, slots: Option<u32>) -> LocalAgent {
        LocalAgent {
            directory: dir.join("agent"),
            endpoint: dir.join(ENDPOINT_FILE),
            token: dir.join(AGENT_TOKEN_FILE),
            slots,
        }
    }

    /// Where the owner's policy lies.
    pub(crate) fn policy_file(&self) -> PathBuf {
        self.directory.join("policy.toml")
    }

    /// Keeps an agent running until `stop`, then ends it.
    pub(crate) async fn supervise(self, stop: CancellationToken) {
        let mut pause = RESTART.0;
        while !stop.is_cancelled() {
            let begun = tokio::time::Instant::now();
            let ended = match self.spawn() {
                Ok(mut child) => tokio::select! {
                    status = child.wait() => status,
                    () = stop.cancelled() => return end(child).await,
                },
                Err(e) => Err(e),
            };
            if begun.elapsed() > RESTART.1 {
                pause = RESTART.0;
            }
            self.report(ended);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(RESTART.1);
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["__agent", "run", "--starter-policy", "--data-dir"])
            .arg(&self.directory)
            .arg("--endpoint-file")
            .arg(&self.endpoint)
            .arg("--token-file")
            .arg(&self.token)
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
    if let Some(pid) =
        child.id().and_then(|p| i32::try_from(p).ok()).and_then(rustix::process::Pid::from_raw)
    {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
    if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
        child.kill().await.ok();
    }
}

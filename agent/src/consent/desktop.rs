//! Tells the owner's desktop that a task asks, by `notify-send`. It only announces: nothing can be answered there, and nothing that a
//! task has said is in it, so that no task can put words into the owner's mind.

use crate::facts::resolve_program;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// What a notification needs of the owner's session; one of the first three must be there.
const SESSION: [&str; 5] =
    ["DBUS_SESSION_BUS_ADDRESS", "WAYLAND_DISPLAY", "DISPLAY", "XDG_RUNTIME_DIR", "HOME"];

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program: the one that `agent.toml` names, or the one in the system's directories. Never one of `PATH`: a task could have
/// put it there.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, String> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => resolve_program(b"notify-send").map(|found| found.path),
    }
}

/// Announces a question. Nobody waits for it.
pub(super) fn announce(program: Result<PathBuf, String>, id: u64) {
    tokio::spawn(async move {
        if let Err(why) = send(program, id).await {
            tracing::warn!(id, why, "the desktop could not be told that a task asks");
        }
    });
}

async fn send(program: Result<PathBuf, String>, id: u64) -> Result<(), String> {
    let session = |name: &&str| std::env::var_os(name).is_some();
    if !SESSION[..3].iter().any(session) {
        return Err("this agent was not started in a desktop session".to_owned());
    }
    let inherited = SESSION.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let status = Command::new(program?)
        .args(["--app-name=cortex", "--urgency=critical", "Cortex: a task asks"])
        .arg(format!("cortex-agent consent show {id}"))
        .env_clear()
        .envs(inherited)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(PATIENCE, status).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("notify-send: {status}")),
        Ok(Err(err)) => Err(format!("notify-send: {err}")),
        Err(_) => Err("notify-send did not end".to_owned()),
    }
}

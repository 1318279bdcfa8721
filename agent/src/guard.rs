//! The guard: a tiny process of the agent's own program that outlives it for a moment. It holds one end of a
//! pipe; when the agent dies, however that happens, the pipe closes and the guard ends every process that the
//! agent had started. It costs nothing per command, unlike a launcher in front of each.
//!
//! Should the guard be killed too, the agent's next start ends what is left before it takes work.

use crate::processes::{Belongs, end_all, signal_group};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The hidden subcommand that runs [`main`].
pub const SUBCOMMAND: &str = "__guard";

/// The agent's end.
#[derive(Debug)]
pub struct Guard {
    pipe: Mutex<ChildStdin>,
    /// Never waited for: it ends after the agent.
    _child: Child,
}

impl Guard {
    /// Starts the guard. `program` is this program with the arguments that lead to [`main`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &[OsString], mark: &str) -> io::Result<Self> {
        let (first, rest) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(first)
            .args(rest)
            .env_clear()
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        pipe.write_all(format!("{mark}\n").as_bytes())?;
        Ok(Self { pipe: Mutex::new(pipe), _child: child })
    }

    /// A process group was started.
    pub fn add(&self, group: i32) {
        self.tell(&format!("+{group}\n"));
    }

    /// A process group is gone.
    pub fn remove(&self, group: i32) {
        self.tell(&format!("-{group}\n"));
    }

    fn tell(&self, line: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = pipe.write_all(line.as_bytes()) {
            tracing::warn!(%error, "the guard process is gone; the next start ends what is left");
        }
    }
}

/// The guard's own life: reads until the agent is gone, then ends its processes.
#[must_use]
pub fn main() -> ExitCode {
    let mut lines = io::stdin().lock().lines();
    let Some(Ok(mark)) = lines.next() else { return ExitCode::FAILURE };
    let mut groups = BTreeSet::new();
    for line in lines.map_while(Result::ok) {
        match line.split_at_checked(1) {
            Some(("+", group)) => drop(group.parse().map(|group: i32| groups.insert(group))),
            Some(("-", group)) => drop(group.parse().map(|group: i32| groups.remove(&group))),
            Some(_) | None => {}
        }
    }
    for group in groups {
        signal_group(group, Signal::KILL);
    }
    drop(end_all(Belongs::Agent(&mark), Duration::from_secs(10)));
    ExitCode::SUCCESS
}

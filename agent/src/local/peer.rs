//! Who is at the other end of the owner's socket. A task must never answer its own question or steer its agent: who speaks is the
//! same user, no descendant of the agent, carries no mark of it, and lives in the same namespaces. The token, which every
//! sandbox hides, comes on top.

use crate::sandbox::peer_process;
use cortex_agent_core::environment::AGENT_MARK;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use tokio::net::UnixStream;

/// How far a chain of parents is followed.
const ANCESTORS: usize = 64;

/// A process that was looked at.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) pid: i32,
    pub(super) exe: String,
    /// Of the kernel's clock: with the pid it names one process for ever, nearly.
    started: u64,
    /// Names it without doubt, where the kernel can do that.
    handle: Option<OwnedFd>,
}

impl Peer {
    /// Looks at a peer by what the kernel says of its end of the socket. `mark` is that of this agent's tasks.
    ///
    /// # Errors
    /// Why it may not speak.
    pub(super) fn admit(stream: &UnixStream, mark: &str) -> Result<Self, String> {
        let unseen = || "it is a process that cannot be seen from here".to_owned();
        let credentials = stream.peer_cred().map_err(|err| err.to_string())?;
        let own = rustix::process::geteuid().as_raw();
        if credentials.uid() != own && credentials.uid() != 0 {
            return Err("it belongs to another user".to_owned());
        }
        let handle = peer_process(stream.as_fd()).map_err(|_| "it is gone".to_owned())?;
        let pid = match &handle {
            Some(handle) => named_by(handle),
            None => credentials.pid(),
        };
        let pid = pid.filter(|pid| *pid > 0).ok_or_else(unseen)?;
        let (_, started) = stat(pid).ok_or_else(unseen)?;
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|_| unseen())?;
        let peer = Self { pid, exe: exe.to_string_lossy().into_owned(), started, handle };
        peer.is_a_stranger_to_tasks(mark)?;
        if peer.is_still_there() { Ok(peer) } else { Err("it is gone".to_owned()) }
    }

    fn is_a_stranger_to_tasks(&self, mark: &str) -> Result<(), String> {
        let agent = i32::try_from(std::process::id()).map_err(|err| err.to_string())?;
        let mut ancestor = self.pid;
        for _ in 0..ANCESTORS {
            if ancestor == agent {
                return Err("it was started by the agent".to_owned());
            }
            if is_marked(ancestor, mark) {
                return Err("it carries the mark of a task".to_owned());
            }
            match stat(ancestor) {
                Some((parent, _)) if parent > 0 => ancestor = parent,
                Some(_) | None => break,
            }
        }
        for name in ["pid", "user", "mnt"] {
            let of = |who: &str| {
                std::fs::read_link(PathBuf::from("/proc").join(who).join("ns").join(name)).ok()
            };
            if of(&self.pid.to_string()) != of("self") {
                return Err("it lives in a namespace of its own".to_owned());
            }
        }
        Ok(())
    }

    /// Whether it is still the same process that was looked at. Where the kernel gives no handle, a process that took its number
    /// within one tick of its clock would pass.
    pub(super) fn is_still_there(&self) -> bool {
        match &self.handle {
            Some(handle) => {
                let mut fds = [PollFd::new(handle, PollFlags::IN)];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                // It can be read once the process has ended.
                poll(&mut fds, Some(&now)).is_ok_and(|ready| ready == 0)
            }
            None => stat(self.pid).is_some_and(|(_, started)| started == self.started),
        }
    }

    /// How it is known, for the log.
    pub(super) fn known_by(&self) -> &'static str {
        if self.handle.is_some() { "handle" } else { "number and start time" }
    }
}

/// The number of the process that a handle means; `None` if it has ended or lives elsewhere.
fn named_by(handle: &OwnedFd) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// Parent and start time. The name in the middle may hold anything, so they are counted from its end.
fn stat(pid: i32) -> Option<(i32, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// Whether a process was given the mark of this journal's agents when it began.
fn is_marked(pid: i32, mark: &str) -> bool {
    let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    let journal = mark.split_once('.').map_or(mark, |(journal, _)| journal);
    let own = format!("{AGENT_MARK}={journal}");
    environ.split(|byte| *byte == 0).any(|variable| variable.starts_with(own.as_bytes()))
}

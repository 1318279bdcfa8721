//! Who is at the other end of the owner's socket. A task must never answer its own question: who answers is the same user,
//! no descendant of the agent, carries no mark of it, and lives in the same namespaces. The token, which every sandbox
//! hides, comes on top.

use cortex_agent_core::environment::AGENT_MARK;
use std::path::PathBuf;

/// How far a chain of parents is followed.
const ANCESTORS: usize = 64;

/// A process that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) pid: i32,
    /// Of the kernel's clock: with the pid it names one process for ever.
    started: u64,
    pub(super) exe: String,
}

impl Peer {
    /// Looks at a peer by what the kernel says of its end of the socket.
    ///
    /// # Errors
    /// Why it may not answer.
    pub(super) fn admit(uid: u32, pid: Option<i32>, mark: &str) -> Result<Self, String> {
        let own = rustix::process::geteuid().as_raw();
        if uid != own && uid != 0 {
            return Err("it belongs to another user".to_owned());
        }
        let pid =
            pid.filter(|pid| *pid > 0).ok_or("it is a process that cannot be seen from here")?;
        let peer = Self::look(pid).ok_or("it is a process that cannot be seen from here")?;
        let agent = i32::try_from(std::process::id()).map_err(|err| err.to_string())?;
        let mut ancestor = pid;
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
            if of(&pid.to_string()) != of("self") {
                return Err("it lives in a namespace of its own".to_owned());
            }
        }
        Ok(peer)
    }

    fn look(pid: i32) -> Option<Self> {
        let (_, started) = stat(pid)?;
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(Self { pid, started, exe: exe.to_string_lossy().into_owned() })
    }

    /// Whether the same process still lives under this number.
    pub(super) fn is_still_there(&self) -> bool {
        stat(self.pid).is_some_and(|(_, started)| started == self.started)
    }
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

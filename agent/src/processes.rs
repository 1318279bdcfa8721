//! Finding and ending processes of attempts. A process belongs to an attempt by its process group, or by the
//! marks in its environment, which also reach those that left the group.
//!
//! Reads `/proc`; where there is none, only process groups can be ended and nothing can be counted.

use cortex_agent_core::environment::{AGENT_MARK, ATTEMPT, TASK_MARK};
use cortex_model::AttemptKey;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A live process that carries an agent's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its id.
    pub pid: i32,
    /// Its process group.
    pub group: i32,
    /// `<incarnation>.<session>` of the agent that started it.
    pub agent: String,
    /// `<workspace>/<task>/<attempt>`.
    pub attempt: String,
}

/// What makes a process one of ours.
#[derive(Clone, Copy, Debug)]
pub enum Belongs<'a> {
    /// Started for this attempt, or in this process group.
    Attempt {
        /// Mark of the agent.
        agent: &'a str,
        /// The attempt.
        key: &'a AttemptKey,
        /// The group that its first process leads.
        group: i32,
    },
    /// Started by any agent whose mark begins like this.
    Agent(&'a str),
}

impl Belongs<'_> {
    fn holds(&self, process: &Marked) -> bool {
        match self {
            Self::Attempt { agent, key, group } => {
                process.group == *group
                    || (process.agent == *agent && process.attempt == key.to_string())
            }
            Self::Agent(prefix) => process.agent.starts_with(prefix),
        }
    }
}

/// Every live process of this machine that `belongs` holds for.
#[must_use]
pub fn find(belongs: Belongs<'_>) -> Vec<Marked> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(look)
        .filter(|process| belongs.holds(process))
        .collect()
}

/// What `/proc` says of a live process. Zombies are not alive.
fn look(pid: i32) -> Option<Marked> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows the last one is plain.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    let group = fields.nth(1)?.parse().ok()?;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let marks: BTreeMap<&[u8], &[u8]> = environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            Some((&entry[..at], &entry[at + 1..]))
        })
        .collect();
    let mark = |name: &str| {
        let value = marks.get(name.as_bytes()).copied().unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let attempt = format!("{}/{}", mark(TASK_MARK), mark(ATTEMPT));
    Some(Marked { pid, group, agent: mark(AGENT_MARK), attempt })
}

/// Sends a signal to every process of a group that is left.
pub fn signal_group(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        // It fails only when nobody is left.
        kill_process_group(group, signal).ok();
    }
}

/// Whether anything is left of a group; a process that nobody waited for counts.
#[must_use]
pub fn group_exists(group: i32) -> bool {
    Pid::from_raw(group).is_some_and(|group| test_kill_process_group(group).is_ok())
}

/// Ends every process that `belongs` holds for, and looks again until none is left or `patience` is over.
/// Says how many it had to end and how many are left. Blocks.
#[must_use]
pub fn end_all(belongs: Belongs<'_>, patience: Duration) -> Ended {
    let deadline = Instant::now() + patience;
    let mut seen = std::collections::BTreeMap::new();
    let mut pause = Duration::from_millis(1);
    loop {
        let left = find(belongs);
        for process in &left {
            seen.insert(process.pid, process.attempt.clone());
            if let Some(pid) = Pid::from_raw(process.pid) {
                // It fails when the process has just ended, which is what we want.
                kill_process(pid, Signal::KILL).ok();
            }
        }
        if left.is_empty() || Instant::now() >= deadline {
            return Ended { seen, survivors: left };
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What [`end_all`] did.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Processes that were found alive, with their attempts.
    pub seen: BTreeMap<i32, String>,
    /// Processes that could not be ended.
    pub survivors: Vec<Marked>,
}

impl Ended {
    /// How many were found of an attempt, and how many of these are left.
    #[must_use]
    pub fn of(&self, key: &AttemptKey) -> (u32, u32) {
        let name = key.to_string();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let seen = self.seen.values().filter(|attempt| **attempt == name).count();
        let left = self.survivors.iter().filter(|process| process.attempt == name).count();
        (count(seen), count(left))
    }
}

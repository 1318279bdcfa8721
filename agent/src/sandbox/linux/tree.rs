//! The processes of a task, as `/proc` shows them: to count what they use, and to end them where no namespace does it.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;

/// One process, as far as limits need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) parent: i32,
    pub(super) threads: u32,
    /// Processor time, in ticks of the kernel.
    pub(super) ticks: u64,
    /// Memory that is present, in pages.
    pub(super) pages: u64,
}

/// Every live process that this one can see, or only those below it.
pub(super) fn processes(below: Option<i32>) -> BTreeMap<i32, Seen> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let all: BTreeMap<i32, Seen> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, look(pid)?)))
        .collect();
    let Some(root) = below else {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        return all.into_iter().filter(|(pid, _)| *pid != own).collect();
    };
    let is_below = |mut pid: i32| {
        // A chain of parents is short; a loop cannot be, but a process may end while it is followed.
        for _ in 0..all.len() {
            match all.get(&pid) {
                Some(seen) if seen.parent == root => return true,
                Some(seen) => pid = seen.parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|(pid, _)| is_below(**pid)).map(|(pid, seen)| (*pid, *seen)).collect()
}

fn look(pid: i32) -> Option<Seen> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse(&stat)
}

/// Reads a line of `/proc/PID/stat`. Zombies are not alive.
fn parse(stat: &str) -> Option<Seen> {
    // The name, in parentheses, may hold anything; what follows the last one is plain.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X" | "x") {
        return None;
    }
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Seen {
        parent: fields.get(1)?.parse().ok()?,
        threads: u32::try_from(number(17)?).unwrap_or(u32::MAX),
        ticks: number(11)? + number(12)?,
        pages: number(21)?,
    })
}

/// Sends a signal to each.
pub(super) fn signal(processes: &BTreeMap<i32, Seen>, signal: Signal) {
    for pid in processes.keys().filter_map(|pid| Pid::from_raw(*pid)) {
        // It fails when the process has just ended.
        kill_process(pid, signal).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_past_a_name_that_imitates_one() {
        let line = "7 (a) R 1 (b) S 3 7 7 0 -1 4 1 2 3 4 10 5 0 0 20 0 2 0 99 4096 33 0";
        let seen = Seen { parent: 3, threads: 2, ticks: 15, pages: 33 };
        assert_eq!(parse(line), Some(seen));
        assert_eq!(parse(&line.replace(") S 3", ") Z 3")), None);
        assert_eq!(parse("7 (a"), None);
    }

    #[test]
    fn a_child_is_seen_below_its_parent() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read x"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(processes(Some(own))[&pid].parent, own);
        assert!(!processes(None).contains_key(&own));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!processes(Some(own)).contains_key(&pid));
    }
}

//! Processes of this machine, found by a text in their command line or environment, which for tests is
//! their own temporary directory. It never touches a process that does not carry that text.

use rustix::process::{Pid, Signal, kill_process};

/// Live processes whose command line holds `text`.
pub(crate) fn with_argument(text: &str) -> Vec<i32> {
    find(|pid| holds(pid, "cmdline", text))
}

/// Live processes that belong to a directory: by command line or environment.
pub(crate) fn of_directory(dir: &std::path::Path) -> Vec<i32> {
    let text = dir.to_string_lossy();
    find(|pid| holds(pid, "cmdline", &text) || holds(pid, "environ", &text))
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, signal).ok();
    }
}

/// Whether the process lives. A zombie does not.
pub(crate) fn alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X' | 'x'))
}

fn find(wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own && alive(*pid) && wanted(*pid))
        .collect()
}

fn holds(pid: i32, file: &str, text: &str) -> bool {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

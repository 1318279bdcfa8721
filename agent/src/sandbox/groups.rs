//! Control groups: where the agent has some of its own, the kernel holds processor time, memory and the number of
//! processes exactly. Version 2 where a part of the tree is delegated to the agent (a systemd unit with
//! `Delegate=yes`), version 1 as root. Without either the launcher does what it can, which is called `approx`.

use cortex_agent_core::plan::Limits;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Length of one period of the processor limit, microseconds.
const PERIOD_US: u64 = 100_000;

/// Which limits a group holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) cpu: bool,
    pub(super) memory: bool,
    pub(super) pids: bool,
}

/// Where groups of tasks can be made.
#[derive(Debug)]
pub(super) struct Groups {
    held: Held,
    places: Places,
    next: AtomicU64,
}

#[derive(Debug)]
enum Places {
    None,
    /// One directory below which the groups of tasks are.
    V2(PathBuf),
    /// One for each controller.
    V1 {
        cpu: Option<PathBuf>,
        memory: Option<PathBuf>,
        pids: Option<PathBuf>,
    },
}

/// The group of one task; removed when dropped, if it is empty.
#[derive(Debug)]
pub(super) struct Group {
    dirs: Vec<PathBuf>,
    pub(super) held: Held,
}

impl Groups {
    /// Finds out what there is, by making it. `own` are the processes of the agent itself.
    pub(super) fn find(own: &[u32]) -> Self {
        let (held, places) =
            version_2(own).or_else(version_1).unwrap_or((Held::default(), Places::None));
        Self { held, places, next: AtomicU64::new(0) }
    }

    /// Which limits can be held.
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// Makes a group for the limits that it can hold. `None`: there is nothing for it to do.
    pub(super) fn make(&self, limits: &Limits) -> io::Result<Option<Group>> {
        let held = Held {
            cpu: self.held.cpu && limits.cpu_percent.is_some(),
            memory: self.held.memory && limits.memory.is_some(),
            pids: self.held.pids && limits.pids.is_some(),
        };
        if held == Held::default() {
            return Ok(None);
        }
        let name = format!("task-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut group = Group { dirs: Vec::new(), held };
        match &self.places {
            Places::None => return Ok(None),
            Places::V2(base) => {
                let dir = group.add(base, &name)?;
                if let (true, Some(percent)) = (held.cpu, limits.cpu_percent) {
                    set(&dir, "cpu.max", &format!("{} {PERIOD_US}", quota(percent)))?;
                }
                if let (true, Some(memory)) = (held.memory, limits.memory) {
                    set(&dir, "memory.max", &memory.to_string())?;
                    // Not there without swap; and whoever is out of memory goes as a whole.
                    set(&dir, "memory.swap.max", "0").ok();
                    set(&dir, "memory.oom.group", "1").ok();
                }
                if let (true, Some(pids)) = (held.pids, limits.pids) {
                    // Process 1 of the task is one more.
                    set(&dir, "pids.max", &(u64::from(pids) + 1).to_string())?;
                }
            }
            Places::V1 { cpu, memory, pids } => {
                if let (true, Some(base), Some(percent)) = (held.cpu, cpu, limits.cpu_percent) {
                    let dir = group.add(base, &name)?;
                    set(&dir, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
                    set(&dir, "cpu.cfs_quota_us", &quota(percent).to_string())?;
                }
                if let (true, Some(base), Some(bytes)) = (held.memory, memory, limits.memory) {
                    let dir = group.add(base, &name)?;
                    set(&dir, "memory.limit_in_bytes", &bytes.to_string())?;
                    set(&dir, "memory.memsw.limit_in_bytes", &bytes.to_string()).ok();
                }
                if let (true, Some(base), Some(most)) = (held.pids, pids, limits.pids) {
                    let dir = group.add(base, &name)?;
                    set(&dir, "pids.max", &(u64::from(most) + 1).to_string())?;
                }
            }
        }
        Ok(Some(group))
    }
}

impl Group {
    fn add(&mut self, base: &Path, name: &str) -> io::Result<PathBuf> {
        let dir = base.join(name);
        // A former agent of this name may have left one behind.
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.dirs.push(dir.clone());
        Ok(dir)
    }

    /// Open files through which a process enters the group.
    pub(super) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |dir: &PathBuf| {
            let file = std::fs::OpenOptions::new().write(true).open(dir.join("cgroup.procs"))?;
            Ok(OwnedFd::from(file))
        };
        self.dirs.iter().map(open).collect()
    }

    /// Most memory that was used, bytes; 0 where nobody counts.
    pub(super) fn memory(&self) -> u64 {
        self.number("memory.peak").or_else(|| self.number("memory.max_usage_in_bytes")).unwrap_or(0)
    }

    /// The limit over which the kernel has ended or refused something; empty if none.
    pub(super) fn broke(&self) -> &'static str {
        let word = |file: &str, word: &str| {
            self.dirs.iter().filter_map(|dir| std::fs::read_to_string(dir.join(file)).ok()).any(
                |text| {
                    text.lines().any(|line| {
                        line.strip_prefix(word)
                            .and_then(|rest| rest.trim().parse::<u64>().ok())
                            .is_some_and(|count| count > 0)
                    })
                },
            )
        };
        if word("memory.events", "oom_kill ") || word("memory.oom_control", "oom_kill ") {
            return "memory";
        }
        ""
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.dirs
            .iter()
            .find_map(|dir| std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // What is still in it keeps it; the kernel gives nothing up by that.
            std::fs::remove_dir(dir).ok();
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let dirs: Vec<&PathBuf> = match &self.places {
            // The agent sits beside its tasks.
            Places::None | Places::V2(_) => Vec::new(),
            Places::V1 { cpu, memory, pids } => [cpu, memory, pids].into_iter().flatten().collect(),
        };
        for dir in dirs {
            std::fs::remove_dir(dir).ok();
        }
    }
}

fn quota(percent: u32) -> u64 {
    u64::from(percent) * PERIOD_US / 100
}

fn set(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    std::fs::write(dir.join(file), value)
        .map_err(|err| io::Error::new(err.kind(), format!("{file}: {err}")))
}

/// A delegated part of the unified tree, with no processes in it but the agent's.
fn version_2(own: &[u32]) -> Option<(Held, Places)> {
    let dir = directory("cgroup2", "")?;
    let has = |text: &str| {
        let all: Vec<&str> = text.split_ascii_whitespace().collect();
        let has = |name| all.contains(&name);
        Held { cpu: has("cpu"), memory: has("memory"), pids: has("pids") }
    };
    let held = has(&std::fs::read_to_string(dir.join("cgroup.controllers")).ok()?);
    if held == Held::default() {
        return None;
    }
    // Controllers can be given on only by a group without processes. Those of others are not ours to move.
    let inside = std::fs::read_to_string(dir.join("cgroup.procs")).ok()?;
    let inside: Vec<u32> = inside.lines().filter_map(|line| line.parse().ok()).collect();
    if !inside.iter().all(|pid| own.contains(pid)) {
        return None;
    }
    let seat = dir.join("cortex-agent");
    std::fs::create_dir(&seat).or_else(|err| seat.exists().then_some(()).ok_or(err)).ok()?;
    for pid in inside {
        set(&seat, "cgroup.procs", &pid.to_string()).ok()?;
    }
    let mut wanted = Vec::new();
    for (name, there) in [("+cpu", held.cpu), ("+memory", held.memory), ("+pids", held.pids)] {
        if there {
            wanted.push(name);
        }
    }
    set(&dir, "cgroup.subtree_control", &wanted.join(" ")).ok()?;
    Some((held, Places::V2(dir)))
}

/// A directory of its own below the agent's in each hierarchy; only root can make one.
fn version_1() -> Option<(Held, Places)> {
    let own = format!("cortex-{}", std::process::id());
    let place = |controller: &str| {
        let dir = directory("cgroup", controller)?.join(&own);
        std::fs::create_dir(&dir).ok()?;
        Some(dir)
    };
    let (cpu, memory, pids) = (place("cpu"), place("memory"), place("pids"));
    let held = Held { cpu: cpu.is_some(), memory: memory.is_some(), pids: pids.is_some() };
    (held != Held::default()).then_some((held, Places::V1 { cpu, memory, pids }))
}

/// The agent's own directory in a hierarchy: the unified one, or that of a controller.
fn directory(kind: &str, controller: &str) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    locate(&mounts, &groups, kind, controller)
}

/// Reads both tables.
fn locate(mounts: &str, groups: &str, kind: &str, controller: &str) -> Option<PathBuf> {
    let named =
        |list: &str| controller.is_empty() || list.split(',').any(|name| name == controller);
    let (root, mount) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let (found, options) = (after.next()?, after.nth(1)?);
        let fields: Vec<&str> = before.split(' ').collect();
        (found == kind && named(options)).then_some((*fields.get(3)?, *fields.get(4)?))
    })?;
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, list, path) = (fields.next()?, fields.next()?, fields.next()?);
        let right =
            if controller.is_empty() { list.is_empty() } else { named(list) && !list.is_empty() };
        right.then_some(path)
    })?;
    // What is mounted may itself be a part of the tree, as in a container.
    let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    Some(Path::new(mount).join(below.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 20 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 20 0:27 /docker/abc /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
32 20 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
    const GROUPS: &str = "\
8:pids:/
4:memory:/docker/abc/inner
2:cpu,cpuacct:/
0::/user.slice/a.scope";

    #[test]
    fn the_agents_own_place_is_found_in_every_hierarchy() {
        let find = |kind, controller| {
            locate(MOUNTS, GROUPS, kind, controller).map(|path| path.to_string_lossy().into_owned())
        };
        assert_eq!(find("cgroup", "cpu").as_deref(), Some("/sys/fs/cgroup/cpu/"));
        assert_eq!(find("cgroup", "memory").as_deref(), Some("/sys/fs/cgroup/memory/inner"));
        assert_eq!(find("cgroup", "pids"), None);
        let unified = find("cgroup2", "");
        assert_eq!(unified.as_deref(), Some("/sys/fs/cgroup/unified/user.slice/a.scope"));
    }
}

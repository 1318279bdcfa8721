//! Child processes and what the kernel says about them: CPU time, memory. Linux only, by /proc.

use anyhow::{Context as _, bail};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A process that ends with its owner: it is killed, and reads the end of its standard input.
pub(crate) struct Proc {
    name: &'static str,
    child: Child,
    out: Option<BufReader<ChildStdout>>,
    _in: Option<ChildStdin>,
}

impl Proc {
    /// Starts it. Its standard error is passed through only when `CORTEX_BENCH_VERBOSE` is set.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(name: &'static str, command: &mut Command) -> anyhow::Result<Proc> {
        let verbose = std::env::var_os("CORTEX_BENCH_VERBOSE").is_some();
        let stderr = if verbose { Stdio::inherit() } else { Stdio::null() };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let (out, input) = (child.stdout.take().map(BufReader::new), child.stdin.take());
        Ok(Proc { name, child, out, _in: input })
    }

    /// The next line it prints.
    ///
    /// # Errors
    /// When it ends before it printed one.
    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if let Some(out) = &mut self.out {
            out.read_line(&mut line)?;
        }
        if line.is_empty() {
            bail!("{} ended early (CORTEX_BENCH_VERBOSE=1 shows why)", self.name);
        }
        Ok(line.trim().to_owned())
    }

    /// Reads and drops what it prints from now on, so that it never waits for a reader.
    pub(crate) fn drain(&mut self) {
        if let Some(mut out) = self.out.take() {
            std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        }
    }

    /// Whether it still runs.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// User and system time of a process and its ended threads.
///
/// # Errors
/// When there is no such process.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    ticks(pid, 2)
}

/// The same together with that of the children whose end it has awaited.
///
/// # Errors
/// When there is no such process.
pub(crate) fn cpu_with_children(pid: u32) -> anyhow::Result<Duration> {
    ticks(pid, 4)
}

/// What is measured of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watched {
    /// All of it.
    Process(u32),
    /// Those of its threads that have this name.
    Thread(u32, &'static str),
}

impl Watched {
    /// User and system time so far.
    ///
    /// # Errors
    /// When there is no such process or thread.
    pub(crate) fn cpu(self) -> anyhow::Result<Duration> {
        match self {
            Watched::Process(pid) => cpu(pid),
            Watched::Thread(pid, name) => cpu_of_threads(pid, name),
        }
    }
}

fn cpu_of_threads(pid: u32, name: &str) -> anyhow::Result<Duration> {
    let mut spent = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        // A thread may end while it is looked at.
        if std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            spent.push(ticks_in(&task.join("stat"), 2)?);
        }
    }
    anyhow::ensure!(!spent.is_empty(), "process {pid} has no thread {name:?}");
    Ok(spent.iter().sum())
}

/// The first so many of user and system time, and those of ended children.
fn ticks(pid: u32, count: usize) -> anyhow::Result<Duration> {
    ticks_in(Path::new(&format!("/proc/{pid}/stat")), count)
}

fn ticks_in(file: &Path, count: usize) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    // The program's name may hold blanks; the fields after it do not.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(count).map(|f| f.parse::<u64>().unwrap_or(0)).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Resident memory of a process, KiB.
///
/// # Errors
/// When there is no such process.
pub(crate) fn rss_kib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid}"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib = line.trim().trim_end_matches("kB").trim();
    kib.parse().with_context(|| format!("VmRSS {kib:?}"))
}

/// Allows as many open files as the system lets us; children inherit it.
///
/// # Errors
/// When even the allowed maximum is refused.
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = Rlimit { current: now.maximum, maximum: now.maximum };
    setrlimit(Resource::Nofile, most).context("raising the limit of open files")
}

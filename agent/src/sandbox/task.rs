//! A sandbox that works, and the tasks in it.

use super::groups::{Group, Groups};
use super::launcher::{Launcher, News, Running};
use super::leftovers::{Hold, Leftovers, remove_tree};
use super::message::{Ask, Broke, Exited, Failed, Report};
use super::plan::Strengths;
use super::proxy::Rules;
use super::{Armed, End, Remains, Used, plan, probe, proxy};
use crate::exec::limit;
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{HostPort, Level, NetMode, TmpDir};
use cortex_model::limits::{REPOSITORIES_MAX, REPOSITORY_GAPS_MAX};
use cortex_model::{Code, Fault, LimitUse, NewRepositories};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long processes that were killed may take to disappear.
const PATIENCE: Duration = Duration::from_secs(12);
/// The same once more, after their init was killed too.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Starts processes, confined.
#[derive(Debug)]
pub struct Sandbox {
    launcher: Launcher,
    armed: Armed,
    groups: Groups,
    leftovers: Arc<Leftovers>,
}

impl Sandbox {
    /// Starts the launcher and finds out what the machine can enforce. `program` is this program with the arguments
    /// that lead to [`super::main`]. Call it from a thread that lives as long as tasks shall.
    ///
    /// # Errors
    /// The launcher cannot be started.
    pub async fn start(program: &[OsString]) -> io::Result<Self> {
        let launcher = Launcher::start(program)?;
        let armed = probe::probe(&launcher).await;
        let own = launcher.pid().into_iter().chain([std::process::id()]).collect::<Vec<_>>();
        Ok(Self { launcher, armed, groups: Groups::find(&own), leftovers: Arc::default() })
    }

    /// What the machine can enforce.
    #[must_use]
    pub fn armed(&self) -> &Armed {
        &self.armed
    }

    /// The level at which a plan would run.
    ///
    /// # Errors
    /// It needs more than the machine can enforce: nothing may be started.
    pub fn level(&self, plan: &ProcessPlan) -> Result<Level, Fault> {
        let level = plan::level(plan, &self.armed)?;
        plan::enforceable(plan, self.strengths(level))?;
        Ok(level)
    }

    /// The limits that are held exactly at the level of this machine, by name.
    #[must_use]
    pub fn exact_limits(&self) -> Vec<&'static str> {
        let Strengths { cpu, memory, pids } = self.strengths(self.armed.level);
        let all = [("cpu", cpu), ("memory", memory), ("pids", pids)];
        let exact = all.into_iter().filter(|(_, strength)| *strength == "hard");
        exact.map(|(name, _)| name).chain(["wall", "output", "file_size"]).collect()
    }

    fn strengths(&self, level: Level) -> Strengths {
        plan::strengths(level, self.groups.held(), rustix::process::geteuid().is_root())
    }

    /// The limits of a plan, with what was used of each and how well it was held.
    pub(crate) fn limits(&self, plan: &ProcessPlan, used: Used, ran: Duration) -> Vec<LimitUse> {
        let limits = &plan.limits;
        let held = self.strengths(self.level(plan).unwrap_or(Level::None));
        let share = u64::try_from(u128::from(used.cpu_us) * 100 / ran.as_micros().max(1));
        let all = [
            ("cpu", limits.cpu_percent.map(u64::from), share.unwrap_or(u64::MAX), held.cpu),
            ("memory", limits.memory, used.memory, held.memory),
            ("pids", limits.pids.map(u64::from), u64::from(used.pids), held.pids),
            ("file_size", limits.file_size, 0, "hard"),
        ];
        let set = all.into_iter().filter_map(|(name, most, used, strength)| {
            most.map(|most| limit(name, most, used, strength))
        });
        set.collect()
    }

    /// Starts what a plan says.
    ///
    /// # Errors
    /// It needs more than the machine can enforce, or the launcher does not work.
    pub fn launch(&self, process: &ProcessPlan) -> Result<Task, Fault> {
        let level = self.level(process)?;
        let failed =
            |what: &str, err: io::Error| Fault::new(Code::SandboxFailed, format!("{what}: {err}"));
        let mut spec = plan::spec(process, level);
        let mut doors = Vec::new();
        let group =
            self.groups.make(&process.limits).map_err(|err| failed("control group", err))?;
        if let Some(group) = &group {
            doors = group.doors().map_err(|err| failed("control group", err))?;
            let leave = |held: bool, value: u32| if held { 0 } else { value };
            spec.cpu_percent = leave(group.held.cpu, spec.cpu_percent);
            spec.pids = leave(group.held.pids, spec.pids);
            spec.memory = if group.held.memory { 0 } else { spec.memory };
        }
        let network = Network::new(&process.net);
        if let Network::Domains(_, token) = &network {
            match &mut spec.browser {
                // The driver alone is told; the browser's processes need not know.
                Some(order) => order.token.clone_from(token),
                None => spec.env.extend(plan::proxy_variables(token)),
            }
        }
        let hold = self.leftovers.hold(&process.view.protect);
        let feed = !process.stdin.is_empty();
        let look = (!spec.look.is_empty()).then(NewRepositories::default);
        let running = self.launcher.launch(&spec, level == Level::Full, feed, doors);
        let tmp = match &process.tmp {
            TmpDir::Own(path) => Some(path.clone()),
            TmpDir::Shared(_) => None,
        };
        Ok(Task {
            running: running.map_err(|err| failed("the launcher", err))?,
            level,
            program: process.program.display().to_string(),
            exited: None,
            closed: false,
            lost: false,
            hold: Some(hold),
            group,
            network,
            serving: JoinSet::new(),
            tmp,
            terminal: None,
            looked: look.is_none(),
            remains: Remains { repositories: look, ..Remains::default() },
        })
    }
}

/// What the agent serves inside a task's network.
#[derive(Debug)]
enum Network {
    /// Nothing.
    Nothing,
    /// These ports of the machine's loopback.
    Loopback(Vec<u16>),
    /// These names, for whoever shows the token.
    Domains(Vec<HostPort>, String),
}

impl Network {
    fn new(net: &NetMode) -> Self {
        match net {
            NetMode::None | NetMode::Full => Self::Nothing,
            NetMode::Loopback { ports } => Self::Loopback(ports.clone()),
            NetMode::Domains { allow } => {
                Self::Domains(allow.clone(), uuid::Uuid::new_v4().simple().to_string())
            }
        }
    }

    /// Serves on the sockets that an init has made, in the order of its ports.
    fn serve(&self, sockets: Vec<OwnedFd>, serving: &mut JoinSet<()>) -> io::Result<()> {
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(listener)?);
        }
        match self {
            Self::Nothing => {}
            Self::Loopback(ports) => {
                for (listener, port) in listeners.into_iter().zip(ports) {
                    serving.spawn(proxy::pass(listener, *port));
                }
            }
            Self::Domains(allow, token) => {
                for listener in listeners {
                    serving.spawn(proxy::serve(listener, Rules::new(allow.clone(), token)));
                }
            }
        }
        Ok(())
    }
}

/// A process that was started in a sandbox, with all its descendants.
#[derive(Debug)]
pub struct Task {
    running: Running,
    level: Level,
    program: String,
    exited: Option<Exited>,
    /// Its init has said its last word.
    closed: bool,
    /// Its init was killed from outside.
    lost: bool,
    hold: Option<Hold>,
    group: Option<Group>,
    network: Network,
    /// What serves the task's network; ends with it.
    serving: JoinSet<()>,
    /// A directory of its own, which goes with it.
    tmp: Option<PathBuf>,
    /// Our end of its terminal, until it is taken.
    terminal: Option<OwnedFd>,
    /// New repositories were looked for to the end, or need not be.
    looked: bool,
    remains: Remains,
}

impl Task {
    /// The level at which it runs.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Its three streams; once.
    pub fn streams(
        &mut self,
    ) -> (Option<pipe::Sender>, Option<pipe::Receiver>, Option<pipe::Receiver>) {
        (self.running.stdin.take(), self.running.stdout.take(), self.running.stderr.take())
    }

    /// Our end of its terminal, for a plan that gives it one; once.
    ///
    /// # Errors
    /// How it ended before there was one.
    pub async fn terminal(&mut self) -> Result<OwnedFd, End> {
        loop {
            if let Some(terminal) = self.terminal.take() {
                return Ok(terminal);
            }
            match self.running.news().await {
                News::Report(report, fds) => {
                    if let Some(end) = self.hear(*report, fds) {
                        return Err(end);
                    }
                }
                News::Closed => {
                    self.lost = true;
                    return Err(End::Lost);
                }
            }
        }
    }

    /// Waits until the program has ended. May be dropped and asked again, until it has answered.
    pub async fn ended(&mut self) -> End {
        loop {
            match self.running.news().await {
                News::Report(report, fds) => {
                    if let Some(end) = self.hear(*report, fds) {
                        return end;
                    }
                }
                News::Closed => {
                    self.lost = true;
                    return End::Lost;
                }
            }
        }
    }

    fn hear(&mut self, report: Report, mut fds: Vec<OwnedFd>) -> Option<End> {
        let Report { failed, exited, gone, made, listening, terminal, found, looked, .. } = report;
        if terminal {
            self.terminal = fds.pop();
        }
        if let (Some(hold), false) = (&self.hold, made.is_empty()) {
            hold.made(PathBuf::from(OsString::from_vec(made)));
        }
        if let Some(repositories) = &mut self.remains.repositories {
            if !found.is_empty() && repositories.paths.len() < REPOSITORIES_MAX {
                repositories.paths.push(found);
            }
            if let Some(looked) = looked {
                self.looked = true;
                repositories.gaps = looked.gaps;
                repositories.gaps.truncate(REPOSITORY_GAPS_MAX);
            }
        }
        if listening && let Err(error) = self.network.serve(fds, &mut self.serving) {
            tracing::error!(%error, "a task's network cannot be served");
        }
        if let Some(failed) = failed {
            return Some(End::Never(self.never(&failed)));
        }
        if let Some(gone) = gone {
            self.closed = true;
            self.remains.survivors = gone.survivors;
            self.used(gone.used);
        }
        if let Some(exited) = exited {
            self.exited = Some(exited);
            self.closed = !exited.others;
            self.used(exited.used);
            return Some(End::Status(ExitStatus::from_raw(exited.status)));
        }
        // Everything went at once, the program with it.
        self.closed.then_some(End::Lost)
    }

    fn used(&mut self, used: super::message::Used) {
        let now = &mut self.remains.used;
        *now = Used {
            cpu_us: now.cpu_us.max(used.cpu_us),
            memory: now.memory.max(used.memory),
            pids: now.pids.max(used.pids),
        };
        match used.broke {
            broke if broke == Broke::Memory as u32 => self.remains.killed_by = "memory",
            broke if broke == Broke::Pids as u32 => self.remains.killed_by = "pids",
            _ => {}
        }
    }

    fn never(&self, failed: &Failed) -> Fault {
        let Failed { stage, error, errno } = failed;
        if stage == "exec" || stage == "working directory" {
            return Fault::new(Code::SpawnFailed, format!("{}: {error}", self.program));
        }
        let message = format!("the sandbox could not be set up: {stage}: {error} ({errno})");
        Fault::new(Code::SandboxFailed, message)
    }

    /// Asks every process to end.
    pub fn terminate(&self) {
        self.running.ask(Ask::Terminate);
    }

    /// Ends every process.
    pub fn kill(&self) {
        self.running.ask(Ask::Kill);
    }

    /// Lets every process stand still.
    pub fn pause(&self) {
        self.running.ask(Ask::Pause);
    }

    /// Lets every process go on.
    pub fn resume(&self) {
        self.running.ask(Ask::Resume);
    }

    /// Ends what is left of the tree and returns when the kernel says that nothing is.
    pub async fn clean_up(&mut self) -> Remains {
        if !self.closed && !self.lost {
            self.kill();
            self.lost |= timeout(PATIENCE, self.last_word()).await.is_err();
        }
        if self.lost {
            // Process 1 of a namespace takes all others along, and is gone only after them.
            self.running.kill_init();
            let gone = timeout(LAST_PATIENCE, self.running.init_gone()).await;
            self.remains.survivors = u32::from(gone.is_err());
            self.remains.unwatched = self.level != Level::Full;
        }
        if let (false, Some(repositories)) = (self.looked, &mut self.remains.repositories) {
            self.looked = true;
            repositories.gaps.push("nobody looked to the end".to_owned());
        }
        self.serving.shutdown().await;
        if let Some(group) = &self.group {
            self.remains.used.memory = self.remains.used.memory.max(group.memory());
            let broke = group.broke();
            if self.remains.killed_by.is_empty() && !broke.is_empty() {
                self.remains.killed_by = broke;
            }
        }
        if self.remains.survivors == 0 {
            drop(self.hold.take());
            drop(self.group.take());
            if let Some(tmp) = self.tmp.take() {
                remove(tmp).await;
            }
        }
        self.remains.clone()
    }

    async fn last_word(&mut self) {
        while !self.closed {
            match self.running.news().await {
                News::Report(report, fds) => drop(self.hear(*report, fds)),
                News::Closed => self.lost = true,
            }
            if self.lost {
                return;
            }
        }
    }
}

/// Removes a directory that is mostly empty.
async fn remove(tmp: PathBuf) {
    if std::fs::remove_dir(&tmp).is_ok() {
        return;
    }
    let removed = tokio::task::spawn_blocking(move || remove_tree(&tmp)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "a task's temporary directory cannot be removed");
    }
}

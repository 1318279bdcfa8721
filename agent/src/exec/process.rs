//! A running program with everything it started: in the sandbox, or, where the plan asks for none, in a process group
//! of its own.

use crate::guard::Guard;
use crate::processes::{Belongs, end_all, group_exists, signal_group};
use crate::sandbox::{End, Remains, Sandbox, Task};
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{Confine, Level};
use cortex_model::{AttemptKey, Code, Fault};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// How long ended processes may take to disappear.
const PATIENCE: Duration = Duration::from_secs(5);

/// No process group has this number.
const NO_GROUP: i32 = -1;

/// The ends of a program's streams.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: Option<pipe::Receiver>,
    /// Our end of its terminal, in place of all three.
    pub(super) terminal: Option<OwnedFd>,
}

/// See the module.
pub(super) enum Process {
    Confined { task: Box<Task>, mark: String, key: AttemptKey, early: Option<End> },
    Plain(Box<Plain>),
}

/// A process group.
pub(super) struct Plain {
    child: Child,
    group: i32,
    mark: String,
    key: AttemptKey,
    _watched: Watched,
}

/// What it takes to start one.
pub(super) struct Start<'a> {
    pub(super) key: &'a AttemptKey,
    pub(super) mark: String,
    pub(super) guard: Option<Arc<Guard>>,
    pub(super) sandbox: Option<&'a Sandbox>,
}

/// The level at which a plan would run.
///
/// # Errors
/// It asks for more than there is: nothing may be started.
pub(crate) fn level(sandbox: Option<&Sandbox>, plan: &ProcessPlan) -> Result<Level, Fault> {
    match (sandbox, plan.confine) {
        (Some(sandbox), _) => sandbox.level(plan),
        (None, Confine::Never) => Ok(Level::None),
        (None, Confine::AtLeast(_)) => {
            Err(Fault::new(Code::SandboxUnavailable, "this agent was started without a launcher"))
        }
    }
}

impl Process {
    pub(super) async fn start(
        plan: &ProcessPlan,
        start: Start<'_>,
    ) -> Result<(Self, Streams), Fault> {
        level(start.sandbox, plan)?;
        if let (Some(sandbox), Confine::AtLeast(_)) = (start.sandbox, plan.confine) {
            let mut task = sandbox.launch(plan)?;
            let (mark, key) = (start.mark, start.key.clone());
            let (mut early, mut streams) = (None, Streams::default());
            if plan.terminal.is_some() {
                match task.terminal().await {
                    Ok(terminal) => streams.terminal = Some(terminal),
                    Err(end) => early = Some(end),
                }
            } else {
                (streams.stdin, streams.stdout, streams.stderr) = task.streams();
            }
            return Ok((Self::Confined { task: Box::new(task), mark, key, early }, streams));
        }
        if plan.terminal.is_some() {
            let why =
                "a program gets a terminal from the launcher only, and this one is started without";
            return Err(Fault::new(Code::NoTerminal, why));
        }
        let failed = |err: io::Error| {
            Fault::new(Code::SpawnFailed, format!("{}: {err}", plan.program.display()))
        };
        let command = command(plan);
        let piped = !plan.stdin.is_empty();
        // The thread that starts a program stands still until the program has begun: not the one that serves all others.
        let spawned = tokio::task::spawn_blocking(move || spawn(command, piped)).await;
        let spawned = spawned.unwrap_or_else(|err| Err(io::Error::other(err)));
        let (child, streams) = spawned.map_err(failed)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        let watched = Watched::new(start.guard, group);
        let (mark, key) = (start.mark, start.key.clone());
        let plain = Plain { child, group, mark, key, _watched: watched };
        Ok((Self::Plain(Box::new(plain)), streams))
    }

    /// Waits until the program has ended. May be dropped and asked again, until it has answered.
    pub(super) async fn ended(&mut self) -> End {
        match self {
            Self::Confined { task, early, .. } => match early.take() {
                Some(end) => end,
                None => task.ended().await,
            },
            Self::Plain(plain) => match plain.child.wait().await {
                Ok(status) => End::Status(status),
                // Nobody else may wait for it; if somebody did, how it ended is lost.
                Err(_) => End::Status(ExitStatus::from_raw(0xff00)),
            },
        }
    }

    pub(super) fn terminate(&self) {
        match self {
            Self::Confined { task, .. } => task.terminate(),
            Self::Plain(plain) => signal_group(plain.group, Signal::TERM),
        }
    }

    pub(super) fn kill(&self) {
        match self {
            Self::Confined { task, .. } => task.kill(),
            Self::Plain(plain) => signal_group(plain.group, Signal::KILL),
        }
    }

    /// Ends whatever is left of the tree and says how much could not be ended. `easy`: it ended by itself and its
    /// pipes are closed; then an empty process group leaves nothing to look for.
    pub(super) async fn clean_up(&mut self, easy: bool) -> Remains {
        match self {
            Self::Confined { task, mark, key, .. } => {
                let mut remains = task.clean_up().await;
                if remains.unwatched {
                    remains.survivors += end_marked(mark, key, NO_GROUP).await;
                }
                remains
            }
            Self::Plain(plain) => {
                if easy && !group_exists(plain.group) {
                    return Remains::default();
                }
                signal_group(plain.group, Signal::KILL);
                let survivors = end_marked(&plain.mark, &plain.key, plain.group).await;
                Remains { survivors, ..Remains::default() }
            }
        }
    }
}

/// Ends what carries the marks of an attempt; says how much could not be ended.
async fn end_marked(mark: &str, key: &AttemptKey, group: i32) -> u32 {
    let (mark, key) = (mark.to_owned(), key.clone());
    let ended = tokio::task::spawn_blocking(move || {
        end_all(Belongs::Attempt { agent: &mark, key: &key, group }, PATIENCE)
    });
    let survivors = ended.await.map_or(1, |ended| ended.survivors.len());
    u32::try_from(survivors).unwrap_or(u32::MAX)
}

fn command(plan: &ProcessPlan) -> std::process::Command {
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let mut command = std::process::Command::new(&plan.program);
    if let Some((name, arguments)) = plan.argv.split_first() {
        command.arg0(text(name)).args(arguments.iter().map(|argument| text(argument)));
    }
    command
        .current_dir(&plan.cwd)
        .env_clear()
        .envs(plan.env.iter().map(|(name, value)| (name, text(value))))
        .process_group(0);
    command
}

/// Pipes of our own, so that each end is made ready for the runtime once.
fn spawn(mut command: std::process::Command, piped: bool) -> io::Result<(Child, Streams)> {
    let (stdout, its_stdout) = read_end()?;
    let (stderr, its_stderr) = read_end()?;
    let (stdin, its_stdin) = if piped {
        let (read, write) = io::pipe()?;
        (Some(pipe::Sender::from_owned_fd(write.into())?), read.into())
    } else {
        (None, Stdio::null())
    };
    command.stdin(its_stdin).stdout(its_stdout).stderr(its_stderr);
    // The command holds the other ends until it is dropped, here.
    let child = Command::from(command).kill_on_drop(true).spawn()?;
    Ok((child, Streams { stdin, stdout: Some(stdout), stderr: Some(stderr), terminal: None }))
}

fn read_end() -> io::Result<(pipe::Receiver, Stdio)> {
    let (read, write) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(read.into())?, write.into()))
}

/// Tells the guard process for as long as it lives.
struct Watched {
    guard: Option<Arc<Guard>>,
    group: i32,
}

impl Watched {
    fn new(guard: Option<Arc<Guard>>, group: i32) -> Self {
        if let Some(guard) = &guard {
            guard.add(group);
        }
        Self { guard, group }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.remove(self.group);
        }
    }
}

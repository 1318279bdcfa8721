//! Runs one program: its own process group, its own environment, pipes for all three streams, output into the
//! spool. It ends when the program has ended and its pipes are drained, or when it is stopped and the whole tree
//! is gone.

use super::{Announce, Stop, Surroundings};
use crate::guard::Guard;
use crate::processes::{Belongs, end_all, group_exists, signal_group};
use crate::spool::Spool;
use cortex_agent_core::ProcessPlan;
use cortex_model::limits::OUTPUT_LINGER_MS;
use cortex_model::task::Stream;
use cortex_model::{AttemptKey, Code, Ending, Fault};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// The same while the agent itself is going away.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// From the polite signal to the one that cannot be refused.
const GRACE: Duration = Duration::from_secs(5);

/// How long output is still read after the program has ended: something it left behind may hold the pipe.
const DRAIN: Duration = Duration::from_millis(500);

/// How long ended processes may take to disappear.
const PATIENCE: Duration = Duration::from_secs(5);

const FIRST_READ: usize = 8 * 1024;
const LARGE_READ: usize = 64 * 1024;

pub(super) async fn run(
    key: &AttemptKey,
    plan: &ProcessPlan,
    timeout_ms: u64,
    surroundings: Surroundings,
) -> Ending {
    let Surroundings { spool, mark, guard, stop, events } = surroundings;
    let announce = Announce::new(key, &events);
    let mut child = match spawn(plan) {
        Ok(child) => child,
        Err(err) => {
            let program = plan.program.display();
            let fault = Fault::new(Code::SpawnFailed, format!("{program}: {err}"));
            return Ending::SpawnFailed(fault.into());
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
    let watched = Watched::new(guard, group);
    let mut run = Run {
        stdout: Reader::new(child.stdout.take(), Stream::Stdout),
        stderr: Reader::new(child.stderr.take(), Stream::Stderr),
        child,
        group,
        spool: &spool,
        stop: Some(stop),
        stopping: None,
        status: None,
        killed: false,
        flush_at: None,
        give_up_at: None,
    };
    let feed = feed(run.child.stdin.take(), &plan.stdin);
    follow(&mut run, feed, &announce).await;
    let survivors = run.clean_up(&mark, key).await;
    drop(watched);
    run.ending(timeout_ms, survivors)
}

/// Reads output and feeds input until the program is over. Input that nobody reads does not hold it up.
async fn follow(run: &mut Run<'_>, feed: impl Future<Output = ()>, announce: &Announce) {
    let mut feed = std::pin::pin!(feed);
    let mut steps = std::pin::pin!(async { while run.step(announce).await {} });
    let mut fed = false;
    loop {
        tokio::select! {
            () = &mut feed, if !fed => fed = true,
            () = &mut steps => return,
        }
    }
}

fn spawn(plan: &ProcessPlan) -> std::io::Result<Child> {
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let mut command = std::process::Command::new(&plan.program);
    if let Some((name, arguments)) = plan.argv.split_first() {
        command.arg0(text(name)).args(arguments.iter().map(|argument| text(argument)));
    }
    command
        .current_dir(&plan.cwd)
        .env_clear()
        .envs(plan.env.iter().map(|(name, value)| (name, text(value))))
        .process_group(0)
        .stdin(if plan.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Command::from(command).kill_on_drop(true).spawn()
}

/// A program need not read its input; a closed pipe is its choice.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        drop(stdin.write_all(input).await);
    }
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

/// One end of a pipe; `None` when it is closed.
struct Reader<R> {
    pipe: Option<R>,
    stream: Stream,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(pipe: Option<R>, stream: Stream) -> Self {
        Self { pipe, stream, buffer: Vec::new() }
    }

    /// Reads what is there; 0 at the end. Never resolves when the pipe is closed.
    async fn read(&mut self) -> usize {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        if self.buffer.is_empty() {
            self.buffer.resize(FIRST_READ, 0);
        }
        let read = pipe.read(&mut self.buffer).await.unwrap_or(0);
        if read == 0 {
            self.pipe = None;
        }
        read
    }

    /// Keeps what was read. True when a whole chunk waits.
    fn keep(&mut self, read: usize, spool: &Spool) -> bool {
        let full = spool.append(self.stream, &self.buffer[..read]);
        if read == self.buffer.len() && read < LARGE_READ {
            self.buffer.resize(LARGE_READ, 0);
        }
        full
    }
}

struct Run<'a> {
    stdout: Reader<ChildStdout>,
    stderr: Reader<ChildStderr>,
    child: Child,
    group: i32,
    spool: &'a Spool,
    stop: Option<oneshot::Receiver<Stop>>,
    stopping: Option<Stop>,
    status: Option<ExitStatus>,
    /// The signal that cannot be refused was sent.
    killed: bool,
    /// When what was read is announced at the latest.
    flush_at: Option<Instant>,
    /// While stopping: when patience ends. After the end: until when pipes are drained.
    give_up_at: Option<Instant>,
}

enum Happened {
    Read(Stream, usize),
    Ended(ExitStatus),
    Stop(Stop),
    Flush,
    GiveUp,
}

impl Run<'_> {
    /// Waits for one thing and deals with it. False when there is nothing more to wait for.
    async fn step(&mut self, announce: &Announce) -> bool {
        if self.status.is_some() && self.stdout.pipe.is_none() && self.stderr.pipe.is_none() {
            return false;
        }
        match self.wait().await {
            Happened::Read(_, 0) => {}
            Happened::Read(stream, read) => {
                let full = match stream {
                    Stream::Stdout => self.stdout.keep(read, self.spool),
                    Stream::Stderr => self.stderr.keep(read, self.spool),
                };
                if full {
                    self.flush(announce).await;
                } else if self.flush_at.is_none() && self.spool.has_pending() {
                    self.flush_at = Some(in_ms(OUTPUT_LINGER_MS));
                }
            }
            Happened::Flush => self.flush(announce).await,
            Happened::Ended(status) => {
                self.status = Some(status);
                self.give_up_at = Some(Instant::now() + DRAIN);
            }
            Happened::Stop(stop) => {
                self.stop = None;
                if self.status.is_none() {
                    self.stopping = Some(stop);
                    signal_group(self.group, Signal::TERM);
                    let grace = if stop == Stop::Shutdown { LAST_GRACE } else { GRACE };
                    self.give_up_at = Some(Instant::now() + grace);
                }
            }
            Happened::GiveUp if self.status.is_some() || self.killed => return false,
            Happened::GiveUp => {
                self.killed = true;
                signal_group(self.group, Signal::KILL);
                self.give_up_at = Some(Instant::now() + PATIENCE);
            }
        }
        true
    }

    async fn wait(&mut self) -> Happened {
        tokio::select! {
            read = self.stdout.read() => Happened::Read(Stream::Stdout, read),
            read = self.stderr.read() => Happened::Read(Stream::Stderr, read),
            status = self.child.wait(), if self.status.is_none() => match status {
                Ok(status) => Happened::Ended(status),
                // Nobody else may wait for it; if somebody did, how it ended is lost.
                Err(_) => Happened::Ended(ExitStatus::from_raw(0xff00)),
            },
            stop = stopped(&mut self.stop) => Happened::Stop(stop),
            () = at(self.flush_at) => Happened::Flush,
            () = at(self.give_up_at) => Happened::GiveUp,
        }
    }

    async fn flush(&mut self, announce: &Announce) {
        self.flush_at = None;
        announce.grown(self.spool.flush()).await;
    }

    /// Ends whatever is left of the tree and says how much could not be ended. After an ordinary end with
    /// closed pipes and an empty group there is nothing to look for.
    async fn clean_up(&mut self, mark: &str, key: &AttemptKey) -> u32 {
        let drained = self.stdout.pipe.is_none() && self.stderr.pipe.is_none();
        if self.stopping.is_none() && drained && !group_exists(self.group) {
            return 0;
        }
        signal_group(self.group, Signal::KILL);
        let (mark, key, group) = (mark.to_owned(), key.clone(), self.group);
        let ended = tokio::task::spawn_blocking(move || {
            end_all(Belongs::Attempt { agent: &mark, key: &key, group }, PATIENCE)
        });
        let survivors = ended.await.map_or(1, |ended| ended.survivors.len());
        u32::try_from(survivors).unwrap_or(u32::MAX)
    }

    fn ending(&self, timeout_ms: u64, survivors: u32) -> Ending {
        if survivors > 0 {
            tracing::error!(survivors, "processes of a task could not be ended");
        }
        match (self.stopping, self.status) {
            (Some(stop), _) => stop.ending(timeout_ms, survivors),
            (None, Some(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => Ending::Exited { code },
                (None, signal) => Ending::Signaled { signal: signal.unwrap_or(0) },
            },
            (None, None) => Ending::Interrupted { found: "its end was not seen".to_owned() },
        }
    }
}

/// Resolves when the attempt is to be stopped; never when nobody can ask any more.
async fn stopped(stop: &mut Option<oneshot::Receiver<Stop>>) -> Stop {
    match stop {
        Some(asked) => match asked.await {
            Ok(stop) => stop,
            Err(_) => {
                *stop = None;
                std::future::pending().await
            }
        },
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

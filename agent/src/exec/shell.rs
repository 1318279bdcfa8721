//! Runs one program: its own environment, pipes for all three streams, output into the spool. It ends when the program
//! has ended and its pipes are drained, or when it is stopped and the whole tree is gone.

use super::process::{Process, Start, Streams};
use super::terminal::{Keys, Master};
use super::{Announce, Done, Stop, Surroundings};
use crate::journal::{IntentGuard, Terminal};
use crate::sandbox::{End, Remains};
use crate::spool::Spool;
use cortex_agent_core::ProcessPlan;
use cortex_model::Ending;
use cortex_model::limits::{OUTPUT_LINGER_MS, TERMINAL_LINGER_MS};
use cortex_model::task::Stream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// The same while the agent itself is going away.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// From the polite signal to the one that cannot be refused.
const GRACE: Duration = Duration::from_secs(5);

/// How long output is still read after the program has ended: something it left behind may hold the pipe.
const DRAIN: Duration = Duration::from_millis(500);

/// How long the end of a program is waited for that was killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program that has written so many times more than is kept is ended.
const RUNAWAY: u64 = 64;

const FIRST_READ: usize = 8 * 1024;
const LARGE_READ: usize = 64 * 1024;

pub(super) async fn run(
    guard: &IntentGuard,
    plan: &ProcessPlan,
    timeout_ms: u64,
    surroundings: Surroundings,
) -> Done {
    let key = guard.key();
    let Surroundings { spool, mark, guard: keeper, sandbox, stop, typing, events } = surroundings;
    let announce = Announce::new(key, &events);
    let start = Start { key, mark, guard: keeper, sandbox: sandbox.as_deref() };
    let (process, streams) = match Process::start(plan, start).await {
        Ok(started) => started,
        Err(fault) => return Done::never(fault),
    };
    let Streams { stdin, stdout, stderr, terminal } = streams;
    let master = terminal.map(Master::new).transpose();
    let master = master.unwrap_or_else(|error| {
        // What it writes is lost, how it ends is not.
        tracing::error!(%error, attempt = %key, "a terminal cannot be watched");
        None
    });
    let mut keys = typing.map(|typing| Keys::new(typing, Terminal::of(guard), events.clone()));
    let terminal = master.clone().map(Source::Terminal);
    let mut run = Run {
        stdout: Reader::new(terminal.or(stdout.map(Source::Pipe)), Stream::Stdout),
        stderr: Reader::new(stderr.map(Source::Pipe), Stream::Stderr),
        linger_ms: if plan.terminal.is_some() { TERMINAL_LINGER_MS } else { OUTPUT_LINGER_MS },
        process,
        spool: &spool,
        most_read: plan.limits.output.saturating_mul(RUNAWAY),
        read: 0,
        stop: Some(stop),
        stopping: None,
        runaway: false,
        end: None,
        killed: false,
        flush_at: None,
        give_up_at: None,
    };
    match (&mut keys, &master) {
        (Some(keys), Some(master)) => follow(&mut run, keys.serve(master), &announce).await,
        (Some(_) | None, _) => follow(&mut run, feed(stdin, &plan.stdin), &announce).await,
    }
    if let Some(keys) = keys {
        keys.close().await;
    }
    let mut remains = run.clean_up().await;
    if run.runaway && remains.killed_by.is_empty() {
        remains.killed_by = "output";
    }
    Done { ending: run.ending(timeout_ms, remains.survivors), remains }
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

/// A program need not read its input; a closed pipe is its choice.
async fn feed(stdin: Option<pipe::Sender>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        drop(stdin.write_all(input).await);
    }
}

/// Where output comes from.
enum Source {
    Pipe(pipe::Receiver),
    Terminal(Arc<Master>),
}

/// One end of a pipe; `None` when it is closed.
struct Reader {
    pipe: Option<Source>,
    stream: Stream,
    buffer: Vec<u8>,
}

impl Reader {
    fn new(pipe: Option<Source>, stream: Stream) -> Self {
        Self { pipe, stream, buffer: Vec::new() }
    }

    /// Reads what is there; 0 at the end. Never resolves when the pipe is closed.
    async fn read(&mut self) -> usize {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        if self.buffer.is_empty() {
            self.buffer.resize(FIRST_READ, 0);
        }
        let read = match pipe {
            Source::Pipe(pipe) => pipe.read(&mut self.buffer).await.unwrap_or(0),
            Source::Terminal(master) => master.read(&mut self.buffer).await,
        };
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
    stdout: Reader,
    stderr: Reader,
    /// How long output is gathered before it is announced, milliseconds.
    linger_ms: u64,
    process: Process,
    spool: &'a Spool,
    /// Output after which the program is taken for one that does not know what it does, bytes.
    most_read: u64,
    read: u64,
    stop: Option<oneshot::Receiver<Stop>>,
    stopping: Option<Stop>,
    /// It was ended because of its output.
    runaway: bool,
    end: Option<End>,
    /// The signal that cannot be refused was sent.
    killed: bool,
    /// When what was read is announced at the latest.
    flush_at: Option<Instant>,
    /// While stopping: when patience ends. After the end: until when pipes are drained.
    give_up_at: Option<Instant>,
}

enum Happened {
    Read(Stream, usize),
    Ended(End),
    Stop(Stop),
    Flush,
    GiveUp,
}

impl Run<'_> {
    /// Waits for one thing and deals with it. False when there is nothing more to wait for.
    async fn step(&mut self, announce: &Announce) -> bool {
        if self.end.is_some() && self.stdout.pipe.is_none() && self.stderr.pipe.is_none() {
            return false;
        }
        match self.wait().await {
            Happened::Read(_, 0) => {}
            Happened::Read(stream, read) => {
                self.count(read);
                let full = match stream {
                    Stream::Stdout => self.stdout.keep(read, self.spool),
                    Stream::Stderr => self.stderr.keep(read, self.spool),
                };
                if full {
                    self.flush(announce).await;
                } else if self.flush_at.is_none() && self.spool.has_pending() {
                    self.flush_at = Some(in_ms(self.linger_ms));
                }
            }
            Happened::Flush => self.flush(announce).await,
            Happened::Ended(end) => {
                self.end = Some(end);
                self.give_up_at = Some(Instant::now() + DRAIN);
            }
            Happened::Stop(stop) => {
                self.stop = None;
                if self.end.is_none() {
                    self.stopping = Some(stop);
                    self.process.terminate();
                    let grace = if stop == Stop::Shutdown { LAST_GRACE } else { GRACE };
                    self.give_up_at = Some(Instant::now() + grace);
                }
            }
            Happened::GiveUp if self.end.is_some() || self.killed => return false,
            Happened::GiveUp => {
                self.kill();
            }
        }
        true
    }

    async fn wait(&mut self) -> Happened {
        tokio::select! {
            read = self.stdout.read() => Happened::Read(Stream::Stdout, read),
            read = self.stderr.read() => Happened::Read(Stream::Stderr, read),
            end = self.process.ended(), if self.end.is_none() => Happened::Ended(end),
            stop = stopped(&mut self.stop) => Happened::Stop(stop),
            () = at(self.flush_at) => Happened::Flush,
            () = at(self.give_up_at) => Happened::GiveUp,
        }
    }

    async fn flush(&mut self, announce: &Announce) {
        self.flush_at = None;
        announce.grown(self.spool.flush()).await;
    }

    fn kill(&mut self) {
        self.killed = true;
        self.process.kill();
        self.give_up_at = Some(Instant::now() + PATIENCE);
    }

    fn count(&mut self, read: usize) {
        self.read = self.read.saturating_add(read as u64);
        if self.read > self.most_read && !self.killed {
            self.runaway = true;
            self.kill();
        }
    }

    /// Ends whatever is left of the tree and says how much could not be ended.
    async fn clean_up(&mut self) -> Remains {
        let drained = self.stdout.pipe.is_none() && self.stderr.pipe.is_none();
        self.process.clean_up(self.stopping.is_none() && drained).await
    }

    fn ending(&self, timeout_ms: u64, survivors: u32) -> Ending {
        if survivors > 0 {
            tracing::error!(survivors, "processes of a task could not be ended");
        }
        match (&self.end, self.stopping) {
            (Some(End::Never(fault)), _) => Ending::SpawnFailed(fault.clone().into()),
            (_, Some(stop)) => stop.ending(timeout_ms, survivors),
            (Some(End::Status(status)), None) => by_itself(*status),
            (Some(End::Lost), None) => {
                let found = "it was ended from outside the sandbox; its end was not seen";
                Ending::Interrupted { found: found.to_owned() }
            }
            (None, None) => Ending::Interrupted { found: "its end was not seen".to_owned() },
        }
    }
}

fn by_itself(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited { code },
        (None, signal) => Ending::Signaled { signal: signal.unwrap_or(0) },
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

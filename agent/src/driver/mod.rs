//! The agent's one loop: it feeds the tunnel machine and the worker's books with what happens, and does what they
//! say. It decides nothing itself and never waits for a disk or a process.

mod actions;
mod audit;
mod identity;
mod leaving;
mod offers;
mod owner;
mod rest;

pub use leaving::Stop;

use crate::attempt::Event;
use crate::clock::Ticks;
use crate::config::{self, Config};
use crate::consent::Consent;
use crate::exec;
use crate::facts;
use crate::journal_start;
use crate::local::Question;
use crate::lock;
use crate::locks::LockTable;
use crate::manifest;
use crate::policy::PolicyFile;
use crate::start::{Started, start};
use crate::tunnel::{Dialed, Link};
use cortex_agent_core::policy::Machine;
use cortex_agent_core::{Policy, Worker};
use cortex_model::limits::KNOWN_ATTEMPTS_MAX;
use cortex_model::limits::enrol::REFUSED_RETRY_MS;
use cortex_model::proto::{
    AttemptPhase, GatewayFrame, JournalHead, KnownAttempt, Manifest, TerminalInput,
};
use cortex_model::{AttemptKey, Code, Fault};
use cortex_tunnel::{AgentConfig, AgentEnd, DisconnectReason, HelloState};
use identity::{Errand, Keeping};
use leaving::Leaving;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Events of attempts that wait for the driver; attempts wait when it is full.
const EVENTS: usize = 1024;

/// How long a leaving agent waits for attempts that it interrupted to end and for their outcomes to be heard.
const LEAVE: Duration = Duration::from_secs(5);

/// Runs an agent until it is asked to stop.
///
/// # Errors
/// It cannot start: the data directory, the journal or the configuration.
pub async fn run(mut config: Config, stop: Stop) -> Result<(), Fault> {
    config::prepare(&config.data_dir)?;
    let _lock = lock::take(&config.data_dir).await?;
    if !identity::settle(&mut config, &stop.when_done).await? {
        return Ok(());
    }
    loop {
        let started = start(&config).await?;
        if !started.closed {
            return work(config, started, &stop).await;
        }
        // Connected, and unable: until the journal can be opened again.
        tokio::select! {
            () = journal_start::mended(&config) => {}
            ended = work(config.clone(), started, &stop) => return ended,
        }
        tracing::info!("the journal can be opened again");
    }
}

async fn work(config: Config, started: Started, stop: &Stop) -> Result<(), Fault> {
    let mut policy = PolicyFile::open(&config.policy, &config.data_dir);
    let digest = policy.current().map(|policy| policy.digest().to_owned()).unwrap_or_default();
    if !started.closed {
        let opened = started.journal.session_open(&started.session, &digest);
        opened.map_err(|err| err.to_fault())?;
        pin(&config, &started).await?;
        // What was recovered belongs to the head that opens the audit.
        started.journal.flush().await.map_err(|err| err.to_fault())?;
    }
    let probed = manifest::probe(&config.labels).await;
    let node = started.journal.node().to_owned();
    tracing::info!(node, session = started.session, server = config.server, "agent started");
    let mut driver = Driver::new(config, started, policy, probed);
    driver.listen();
    if !driver.started.closed {
        let waiting = driver.consent.reopen(&driver.started.journal).await;
        driver.reopen(waiting.map_err(|err| err.to_fault())?);
    }
    driver.serve(stop).await;
    driver.close().await;
    driver.farewell()
}

/// The owner's word on whose countersignatures count comes before anything that a gateway says.
async fn pin(config: &Config, started: &Started) -> Result<(), Fault> {
    // What the server said when the machine joined is for its first journal: a later one may have been begun because the mirror changed.
    let named = config.named_mirror.as_ref().filter(|_| !started.journal.follows_another());
    let Some(key) = config.mirror.as_ref().or(named) else { return Ok(()) };
    started.journal.pin_mirror(key).await.map_err(|err| err.to_fault())?;
    let Some(key) = &config.mirror else { return Ok(()) };
    let pinned = started.journal.mirror().map_err(|err| err.to_fault())?;
    if pinned.as_ref() == Some(key) {
        return Ok(());
    }
    let other = pinned.map_or("another".to_owned(), |key| key.name().to_owned());
    let message =
        format!("the journal is countersigned by {other}, agent.toml names {}", key.name());
    Err(Fault::new(Code::Usage, message).with_hint(
        "if the mirror has really changed, begin a new journal: 'cortex-agent journal recover --force'",
    ))
}

struct Driver {
    config: Config,
    started: Started,
    policy: PolicyFile,
    /// SHA-256 of the policy that was recorded last.
    loaded: Option<String>,
    probed: Manifest,
    /// What it can enforce.
    machine: Machine,
    end: AgentEnd,
    worker: Worker,
    consent: Arc<Consent>,
    /// Paths that attempts hold.
    locks: Arc<LockTable>,
    /// What the owner agreed to and what waits for a slot.
    resuming: VecDeque<(AttemptKey, oneshot::Sender<Arc<Policy>>)>,
    ticks: Ticks,
    link: Option<Link>,
    dialing: Option<JoinHandle<Result<Dialed, Fault>>>,
    keeping: Keeping,
    /// Claims that wait for their Go, read once.
    claims: BTreeMap<u64, offers::Parsed>,
    /// How to stop what runs.
    stops: BTreeMap<AttemptKey, oneshot::Sender<exec::Stop>>,
    /// Terminals of what runs.
    terminals: BTreeMap<AttemptKey, mpsc::Sender<TerminalInput>>,
    /// Attempts whose outcome nobody acknowledged yet.
    unacked: BTreeSet<AttemptKey>,
    events: mpsc::Sender<Event>,
    happened: mpsc::Receiver<Event>,
    /// What the last hello said that this node can do.
    said: Manifest,
    /// When to compare that with the policy next.
    look_at: Instant,
    /// Something was done since memory was given back.
    worked: bool,
    /// Head, slots and free slots that the machine was told last.
    told: (u64, u32, u32),
    /// What the owner asks on this machine.
    asked: Option<mpsc::Receiver<Question>>,
    /// The owner wants no work to be taken.
    paused: bool,
    /// Who waits until everything has ended.
    stopping: Vec<owner::Stopping>,
    audit: audit::Audit,
}

/// What woke the loop up.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time; a box would cost an allocation per frame"
)]
enum Woke {
    Frame(Result<GatewayFrame, Fault>),
    Room,
    Event(Option<Event>),
    Dialed(Result<Dialed, Fault>),
    Asked(Question),
    /// There is more to send upstream, or an answer was stored.
    Audit(Option<audit::Kept>),
    Errand(Errand),
    Time,
    Stop,
    Hurry,
}

impl Driver {
    fn new(config: Config, started: Started, policy: PolicyFile, probed: Manifest) -> Self {
        let mut end = AgentEnd::new(AgentConfig {
            node: started.journal.node().to_owned(),
            incarnation: started.journal.incarnation().to_owned(),
            session: started.session.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let mut unacked = BTreeSet::new();
        for restored in &started.restored {
            if restored.outcome.is_some() {
                unacked.insert(restored.key.clone());
            }
            end.restore(restored.clone());
        }
        let (events, happened) = mpsc::channel(EVENTS);
        let worker = Worker::new(config.slots);
        let paused = owner::is_paused(&config.data_dir);
        let audit = audit::Audit::new(&started.journal);
        let consent = Consent::start(&config.data_dir, config.notify.as_deref());
        let machine = facts::machine(started.sandbox.as_deref());
        let locks = LockTable::new(&config.data_dir);
        Self {
            locks,
            audit,
            machine,
            config,
            started,
            policy,
            loaded: None,
            probed,
            end,
            worker,
            consent,
            resuming: VecDeque::new(),
            ticks: Ticks::new(),
            link: None,
            dialing: None,
            keeping: Keeping::default(),
            claims: BTreeMap::new(),
            stops: BTreeMap::new(),
            terminals: BTreeMap::new(),
            unacked,
            events,
            happened,
            said: Manifest::default(),
            look_at: Instant::now(),
            worked: true,
            told: (0, 0, 0),
            asked: None,
            paused,
            stopping: Vec::new(),
        }
    }

    /// Works until it is asked to stop, then until what runs has ended, or patience is over.
    async fn serve(&mut self, stop: &Stop) {
        let mut leaving = Leaving::No;
        loop {
            self.resume();
            self.settle();
            let done = self.worker.active().next().is_none() && self.all_heard();
            let late = leaving.until().is_some_and(|until| Instant::now() >= until);
            match leaving {
                Leaving::Draining(_) if late && !done => leaving = self.interrupt(),
                Leaving::Draining(_) | Leaving::Ending(_) if late || done => return,
                Leaving::No | Leaving::Draining(_) | Leaving::Ending(_) => {}
            }
            match self.wait(stop, leaving).await {
                Woke::Frame(Ok(frame)) => self.take(frame),
                Woke::Frame(Err(fault)) => self.lost(&fault),
                Woke::Dialed(result) => self.dialed(result),
                Woke::Event(Some(event)) => {
                    self.event(event);
                    self.tell_stopped();
                }
                Woke::Asked(question) => self.asked(question),
                Woke::Errand(errand) => self.errand_done(errand),
                Woke::Audit(kept) => self.audit_kept(kept),
                Woke::Room | Woke::Time | Woke::Event(None) => {}
                Woke::Stop => leaving = self.leave(),
                Woke::Hurry => leaving = self.interrupt(),
            }
            self.look();
            if self.keep() && leaving == Leaving::No {
                self.leave();
                leaving = self.interrupt();
            }
            let now = self.ticks.now();
            self.end.handle_timeout(now);
            for key in self.worker.expired(now) {
                self.stop(&key, exec::Stop::Timeout);
            }
        }
    }

    /// Nothing is left to say that the gateway could hear.
    fn all_heard(&self) -> bool {
        self.link.is_none() || (self.unacked.is_empty() && !self.end.has_frame())
    }

    async fn wait(&mut self, stop: &Stop, leaving: Leaving) -> Woke {
        let times =
            [self.end.poll_timeout(), self.worker.poll_timeout(), self.audit.poll_timeout()];
        let tick = times.into_iter().flatten().min();
        let wake = tick.map(|tick| Instant::from_std(self.ticks.instant(tick)));
        let look = self.link.is_some().then_some(self.look_at);
        let wake = [wake, leaving.until(), look, self.keep_at()].into_iter().flatten().min();
        let has_frame = self.end.has_frame();
        let up = self.link.as_ref().map(|link| link.up().clone());
        tokio::select! {
            event = self.happened.recv() => Woke::Event(event),
            frame = next(&mut self.link) => Woke::Frame(frame),
            () = room(up.as_ref()), if has_frame && up.is_some() => Woke::Room,
            result = dialed(&mut self.dialing) => Woke::Dialed(result),
            question = asked(&mut self.asked) => Woke::Asked(question),
            kept = self.audit.wait() => Woke::Audit(kept),
            errand = identity::done(&mut self.keeping) => Woke::Errand(errand),
            () = sleep_until(wake) => Woke::Time,
            () = stop.when_done.cancelled(), if leaving == Leaving::No => Woke::Stop,
            () = stop.now.cancelled(), if matches!(leaving, Leaving::Draining(_)) => Woke::Hurry,
        }
    }

    /// Does all that the machine asks for, and sends what there is room for.
    fn settle(&mut self) {
        loop {
            let size = self.started.journal.size();
            let (slots, free) = (self.worker.slots(), self.worker.slots_free());
            if self.told != (size, slots, free) {
                self.told = (size, slots, free);
                let head = self.head();
                self.end.update(slots, free, head);
            }
            let now = self.ticks.now();
            while let Some(action) = self.end.poll_action(now) {
                self.act(action);
            }
            self.audit_send(now);
            if !self.send() {
                return;
            }
        }
    }

    /// Sends frames while the transport has room. True if something was sent, so that there may be more to do.
    fn send(&mut self) -> bool {
        let mut sent = false;
        while self.end.has_frame() {
            let Some(link) = &self.link else { break };
            let Ok(permit) = link.up().try_reserve() else { break };
            match self.end.poll_frame() {
                Some(frame) => permit.send(frame),
                None => break,
            }
            sent = true;
        }
        sent
    }

    fn head(&self) -> JournalHead {
        self.started.journal.head()
    }

    fn dialed(&mut self, result: Result<Dialed, Fault>) {
        self.dialing = None;
        match result {
            Ok(dialed) => {
                self.connected_as(dialed.holds);
                self.link = Some(Link::open(dialed));
                let hello = self.hello();
                self.end.connected(hello, self.ticks.now());
            }
            Err(fault) => self.lost(&fault),
        }
    }

    fn hello(&mut self) -> HelloState {
        self.said = self.manifest();
        let known = self.worker.running().chain(&self.unacked).collect::<BTreeSet<_>>();
        let attempts = known.into_iter().take(KNOWN_ATTEMPTS_MAX).map(|key| KnownAttempt {
            workspace: key.task.workspace.to_string(),
            task_id: key.task.task.to_string(),
            attempt: key.attempt,
            phase: AttemptPhase::Known.into(),
        });
        HelloState {
            manifest: self.said.clone(),
            journal: self.head(),
            attempts: attempts.collect(),
            slots: self.worker.slots(),
            slots_free: self.worker.slots_free(),
        }
    }

    fn manifest(&mut self) -> Manifest {
        let policy = self.policy().ok();
        let mut manifest = manifest::under(&self.probed, policy.as_deref(), &self.machine);
        manifest.unable = self.unable().as_ref().map(manifest::unable);
        manifest.narrowed = self.policy.held().told();
        manifest
    }

    fn take(&mut self, frame: GatewayFrame) {
        if let Err(error) = self.end.handle_frame(frame, self.ticks.now()) {
            tracing::error!(%error, "the gateway broke the protocol");
        }
    }

    /// The connection, or the attempt to get one, is gone.
    fn lost(&mut self, fault: &Fault) {
        tracing::warn!(error = %fault, hint = fault.hint, "not connected");
        if !fault.code.retryable() {
            self.end.hold_off(REFUSED_RETRY_MS);
        }
        self.drop_link();
    }

    fn disconnect(&mut self, reason: &DisconnectReason) {
        if *reason == DisconnectReason::TokenStale {
            let fault =
                Fault::new(Code::TunnelTokenStale, "no newer tunnel token was taken in time");
            tracing::warn!(error = %fault, hint = fault.hint, "connecting anew");
        }
        tracing::info!(?reason, "disconnecting");
        self.drop_link();
    }

    fn drop_link(&mut self) {
        self.link = None;
        self.worked = true;
        self.keeping.connection_lost();
        if let Some(dialing) = self.dialing.take() {
            dialing.abort();
        }
        self.end.disconnected(self.ticks.now(), fastrand::u64(..));
    }

    fn leave(&mut self) -> Leaving {
        let running = self.worker.running().count();
        tracing::info!(running, "the agent is leaving");
        self.worker.leave();
        self.suspend();
        self.end.leaving("the agent is shutting down");
        Leaving::Draining(Instant::now() + Duration::from_secs(self.config.stop_grace_secs))
    }

    /// Ends what still runs.
    fn interrupt(&mut self) -> Leaving {
        self.end_all(exec::Stop::Shutdown);
        Leaving::Ending(Instant::now() + LEAVE)
    }

    async fn close(&mut self) {
        if self.started.closed || self.started.journal.contradicted() {
            return;
        }
        let clean = self.worker.active().next().is_none();
        let closed = self.started.journal.session_close(&self.started.session, clean).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the end of the session could not be recorded");
        }
    }
}

async fn next(link: &mut Option<Link>) -> Result<GatewayFrame, Fault> {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

async fn room(up: Option<&mpsc::Sender<cortex_model::proto::AgentFrame>>) {
    match up {
        Some(up) => drop(up.reserve().await),
        None => std::future::pending().await,
    }
}

async fn dialed(dialing: &mut Option<JoinHandle<Result<Dialed, Fault>>>) -> Result<Dialed, Fault> {
    match dialing {
        Some(handle) => match handle.await {
            Ok(result) => result,
            Err(err) => Err(Fault::new(Code::Internal, err.to_string())),
        },
        None => std::future::pending().await,
    }
}

/// The next question of the owner; never, if there is no socket for it.
async fn asked(questions: &mut Option<mpsc::Receiver<Question>>) -> Question {
    if let Some(asked) = questions
        && let Some(question) = asked.recv().await
    {
        return question;
    }
    *questions = None;
    std::future::pending().await
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

//! One task that owns the fold: it is fed by the log, by presence and by answers, and hands out proposals. No locks, and no
//! hop that is not needed: whatever is ready is taken in before the next proposal.

use crate::carry::{Outcome, carry};
use crate::membership::Membership;
use crate::presence::{Change, Presence, node_view};
use cortex_log::{EventLog, KvChange, LogError, Message, Recorded, Space, Tail};
use cortex_model::proto as pb;
use cortex_model::{TaskId, TaskKey, UnixMillis, Workspace, wire};
use cortex_scheduler_core::{RecordedCommit, Scheduler};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, select};
use futures::{FutureExt, StreamExt};
use prost::Message as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Heartbeat among schedulers.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Proposals under way at a time.
const CARRIED_MAX: usize = 4096;
/// Things taken in before the next proposal.
const BATCH: usize = 512;
/// After this long every gateway that lives has been heard.
const PRESENCE_COMPLETE: Duration = Duration::from_secs(3);
/// How long a gateway may take for a snapshot of its nodes.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);

/// Settings of one scheduler.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name, a token, unique among those that share a log.
    pub name: String,
}

type Tails = futures::stream::SelectAll<BoxStream<'static, (u32, Result<Tail, LogError>)>>;

enum Carried {
    Proposal(Outcome),
    Snapshot(Option<pb::PresenceSnapshot>),
    Nothing,
}

struct Driver {
    log: Arc<dyn EventLog>,
    me: Arc<str>,
    core: Scheduler,
    /// When this fold began: presence is complete once every gateway had time to be heard.
    begun: Instant,
    /// Last revision applied, by shard.
    applied: Vec<u64>,
    presence: Presence,
    members: Membership,
    /// Shards whose history has been read to its end.
    caught_up: u32,
    carried: FuturesUnordered<BoxFuture<'static, Carried>>,
}

/// Schedules until `stop` is cancelled. Dying at any moment loses offers, nothing else.
///
/// # Errors
/// When the log cannot be followed at all.
pub async fn run(
    log: Arc<dyn EventLog>,
    config: Config,
    stop: CancellationToken,
) -> Result<(), LogError> {
    loop {
        let driver = Driver {
            log: log.clone(),
            me: config.name.as_str().into(),
            core: Scheduler::new(fastrand::u32(..)),
            begun: Instant::now(),
            applied: vec![0; log.shards() as usize],
            presence: Presence::default(),
            members: Membership::new(&config.name),
            caught_up: 0,
            carried: FuturesUnordered::new(),
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            ended = driver.drive() => match ended {
                Ok(()) | Err(LogError::Closed) => return Ok(()),
                // State is a fold: it is built anew.
                Err(e) => tracing::warn!(error = %e, "following the log broke off; starting again"),
            },
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

impl Driver {
    async fn drive(mut self) -> Result<(), LogError> {
        // Presence first: what is announced while the log is read must not be missed.
        // Not `cx.p.>`: whoever listens to a snapshot's subject would count as somebody who answers it.
        let beats = self.log.subscribe("cx.p.hb.*").await?;
        let mut presence = select(self.log.subscribe("cx.p.d.*").await?, beats);
        let mut schedulers = self.log.subscribe("cx.s.hb.*").await?;
        let mut explains = self.log.subscribe("cx.s.explain").await?;
        let mut known = self.log.kv_watch("CX_NODES").await?;
        let mut tails = follow(&self.log).await?;
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.propose();
            tokio::select! {
                // Who is there comes first: it is little, and a busy log must not make the living look dead.
                biased;
                Some(m) = schedulers.next() => self.member(&m),
                Some(m) = presence.next() => self.announced(&m),
                _ = beat.tick() => self.beat()?,
                Some(m) = explains.next() => self.explain(&m),
                Some(c) = self.carried.next(), if !self.carried.is_empty() => {
                    self.came(c);
                    while let Some(Some(c)) = self.carried.next().now_or_never() {
                        self.came(c);
                    }
                }
                r = tails.next() => match r {
                    Some((shard, r)) => {
                        self.tailed(shard, r?);
                        self.drain(&mut tails)?;
                    }
                    None => return Err(LogError::Closed),
                },
                change = known.next() => match change {
                    Some(change) => self.remembered(change?),
                    None => return Err(LogError::Closed),
                },
                () = sleep_until(wake), if wake.is_some() => {}
            }
        }
    }

    /// Takes in what is ready, so that one proposal sees all of it.
    fn drain(&mut self, tails: &mut Tails) -> Result<(), LogError> {
        for _ in 0..BATCH {
            match tails.next().now_or_never() {
                Some(Some((shard, r))) => self.tailed(shard, r?),
                Some(None) => return Err(LogError::Closed),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn tailed(&mut self, shard: u32, t: Tail) {
        match t {
            Tail::Event(r) => {
                if let Some(applied) = self.applied.get_mut(shard as usize) {
                    *applied = r.rev;
                }
                if let Some(r) = recorded(shard, &r)
                    && let Err(violation) = self.core.apply(&r)
                {
                    tracing::error!(task = %r.task, %violation, "impossible history; nothing more is done with the task");
                }
            }
            Tail::CaughtUp => {
                self.caught_up += 1;
                if self.caught_up == self.log.shards() {
                    tracing::info!(
                        open_tasks = self.core.open_tasks(),
                        "the log has been read; dispatching"
                    );
                    self.own();
                }
            }
        }
    }

    /// Starts what the core proposes; returns when it wants to be asked again.
    fn propose(&mut self) -> Option<UnixMillis> {
        let now = wall();
        // Answers must not drown in new questions.
        if self.carried.len() >= CARRIED_MAX {
            return None;
        }
        for p in self.core.propose(now) {
            let (log, me) = (self.log.clone(), self.me.clone());
            self.carried.push(carry(log, me, p).map(Carried::Proposal).boxed());
        }
        self.core.next_wakeup()
    }

    fn came(&mut self, c: Carried) {
        let now = wall();
        match c {
            Carried::Proposal(Outcome::Offered { id, answer }) => {
                self.core.offer_answered(id, answer, now);
            }
            Carried::Proposal(Outcome::Appended { task, result }) => {
                self.core.appended(&task, result, now);
            }
            Carried::Proposal(Outcome::Queried { id, phase, incarnation, journal_size }) => {
                self.core.query_answered(id, phase, &incarnation, journal_size, now);
            }
            Carried::Proposal(Outcome::Cancelled { task, phase }) => {
                self.core.cancel_answered(&task, phase, now);
            }
            Carried::Snapshot(Some(s)) => {
                let changes = self.presence.snapshot(&s, Instant::now());
                self.changed(changes);
            }
            Carried::Proposal(Outcome::Nothing) | Carried::Snapshot(None) | Carried::Nothing => {}
        }
    }

    fn beat(&mut self) -> Result<(), LogError> {
        if self.has_read() && self.members.left_behind(&self.applied, Instant::now()) {
            tracing::error!("other schedulers hear of the log what this one does not");
            return Err(LogError::Timeout);
        }
        let applied = self.applied.clone();
        let hb = pb::SchedulerHeartbeat { scheduler: self.me.to_string(), applied };
        let (log, subject) = (self.log.clone(), format!("cx.s.hb.{}", self.me));
        // Who still reads the history dispatches nothing, and must not be counted on.
        if self.has_read() {
            self.carried.push(
                async move {
                    if let Err(e) = log.publish(&subject, hb.encode_to_vec().into()).await {
                        tracing::debug!(error = %e, "a heartbeat was not sent");
                    }
                    Carried::Nothing
                }
                .boxed(),
            );
        }
        let gone = self.presence.expire(Instant::now());
        self.changed(gone);
        self.own();
        if self.begun.elapsed() >= PRESENCE_COMPLETE {
            self.core.presence_complete(wall());
        }
        let c = self.core.counters();
        metrics::gauge!("cortex_scheduler_open_tasks").set(self.core.open_tasks() as f64);
        metrics::counter!("cortex_scheduler_decisions_total").absolute(c.decisions);
        metrics::counter!("cortex_scheduler_nodes_examined_total").absolute(c.examined);
        metrics::gauge!("cortex_scheduler_quarantined").set(self.core.quarantined().count() as f64);
        Ok(())
    }

    /// Whether every shard's history has been read to its end.
    fn has_read(&self) -> bool {
        self.caught_up >= self.log.shards()
    }

    /// Dispatches only what it has read to the end.
    fn own(&mut self) {
        if self.has_read() {
            let owned = self.members.owned(self.log.shards(), &self.applied, Instant::now());
            self.core.owns(owned);
        }
    }

    fn member(&mut self, m: &Message) {
        if let Ok(hb) = pb::SchedulerHeartbeat::decode(m.body.clone()) {
            self.members.heard(&hb.scheduler, hb.applied, Instant::now());
        }
    }

    fn announced(&mut self, m: &Message) {
        let now = Instant::now();
        if m.subject.starts_with("cx.p.hb.") {
            let Ok(hb) = pb::PresenceHeartbeat::decode(m.body.clone()) else { return };
            if self.presence.heartbeat(&hb, now) {
                self.ask_snapshot(&hb.gateway);
            }
        } else if m.subject.starts_with("cx.p.d.") {
            let Ok(delta) = pb::PresenceDelta::decode(m.body.clone()) else { return };
            match self.presence.delta(&delta, now) {
                Some(changes) => self.changed(changes),
                None => self.ask_snapshot(&delta.gateway),
            }
        }
    }

    fn ask_snapshot(&mut self, gateway: &str) {
        let (log, gateway) = (self.log.clone(), gateway.to_owned());
        self.carried
            .push(async move { Carried::Snapshot(snapshot(log.as_ref(), &gateway).await) }.boxed());
    }

    fn changed(&mut self, changes: Vec<Change>) {
        let now = wall();
        for change in changes {
            match change {
                Change::Up(view) => self.core.node_up(view, now),
                Change::Gone { node: (workspace, node), session, gateway } => {
                    self.core.node_gone(&workspace, &node, &session, &gateway, now);
                }
            }
        }
    }

    fn remembered(&mut self, change: KvChange) {
        if let KvChange::Put { entry, .. } = change
            && let Ok(p) = pb::NodePresence::decode(entry.value)
            && let Ok(view) = node_view(&p, &"".into())
        {
            self.core.node_known(view, wall());
        }
    }

    /// Answers for tasks of its own shards; other schedulers answer for theirs.
    fn explain(&mut self, m: &Message) {
        let Ok(r) = pb::ExplainRequest::decode(m.body.clone()) else { return };
        let (Ok(workspace), Ok(task)) = (Workspace::parse(&r.workspace), TaskId::parse(&r.task_id))
        else {
            return;
        };
        let key = TaskKey { workspace, task };
        if self.core.task(&key).is_some() && !self.core.owns_task(&key) {
            return;
        }
        let Some(e) = self.core.explain(&key, wall()) else { return };
        let nodes = e.nodes.into_iter().map(|v| pb::NodeVerdict {
            node: v.node.to_string(),
            eligible: v.eligible,
            online: v.online,
            lacks: v.lacks,
        });
        let answer = pb::ExplainTaskResponse {
            summary: e.summary,
            suggestions: e.suggestions,
            nodes: nodes.collect(),
            more_nodes: e.more_nodes,
            queued_ahead: e.queued_ahead,
        };
        let (log, to) = (self.log.clone(), m.clone());
        self.carried.push(
            async move {
                if let Err(e) = log.reply(&to, answer.encode_to_vec().into()).await {
                    tracing::debug!(error = %e, "an explanation was not sent");
                }
                Carried::Nothing
            }
            .boxed(),
        );
    }
}

/// Every shard's history, then what comes.
async fn follow(log: &Arc<dyn EventLog>) -> Result<Tails, LogError> {
    let mut all = futures::stream::SelectAll::new();
    for shard in 0..log.shards() {
        let tail = log.tail(Space::Task, shard, 0).await?;
        all.push(tail.map(move |r| (shard, r)).boxed());
    }
    Ok(all)
}

fn recorded(shard: u32, r: &Recorded) -> Option<RecordedCommit> {
    let task = TaskKey {
        workspace: Workspace::parse(r.key.ws()).ok()?,
        task: TaskId::parse(r.key.id()).ok()?,
    };
    match wire::decode_commit(r.commit.body.clone()) {
        Ok(commit) => {
            Some(RecordedCommit { task, shard, revision: r.rev, at: UnixMillis(r.at_ms), commit })
        }
        Err(fault) => {
            tracing::error!(%task, revision = r.rev, error = %fault, "a commit cannot be read; its task stands still");
            None
        }
    }
}

/// All pages of a gateway's nodes as one.
async fn snapshot(log: &dyn EventLog, gateway: &str) -> Option<pb::PresenceSnapshot> {
    let mut whole: Option<pb::PresenceSnapshot> = None;
    let mut after = String::new();
    loop {
        let ask = pb::PresenceSnapshotRequest { after };
        let subject = format!("cx.p.snap.{gateway}");
        let answer =
            log.request(&subject, ask.encode_to_vec().into(), SNAPSHOT_TIMEOUT).await.ok()?;
        let page = pb::PresenceSnapshot::decode(answer).ok()?;
        after = page.next_after.clone();
        match &mut whole {
            // Changes between pages come again as deltas after the first page's version.
            Some(w) if w.epoch == page.epoch => w.nodes.extend(page.nodes),
            Some(_) => return None,
            None => whole = Some(page),
        }
        if after.is_empty() {
            return whole;
        }
    }
}

async fn sleep_until(at: Option<UnixMillis>) {
    match at {
        Some(at) => tokio::time::sleep(Duration::from_millis(at.since(wall()))).await,
        None => std::future::pending().await,
    }
}

fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

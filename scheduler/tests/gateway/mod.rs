//! A gateway with its nodes, as small as the contract allows: it announces presence, answers offers, questions and cancels,
//! and appends what a gateway appends.

use cortex_log::{CommitId, EventLog, Expect, Key, LogError, MemoryLog, Message, Space, Tail};
use cortex_model::ids::{SessionId, TaskId};
use cortex_model::proto as pb;
use cortex_model::{
    Action, Actor, ActorKind, Commit, Ending, Event, Incarnation, NodeId, Outcome, RetryPolicy,
    TaskKey, TaskSpec, UnixMillis, Workspace, wire,
};
use cortex_scheduler_core::decide::{self, Claimant, NewTask, Offered, OutcomeDecision, Submit};
use cortex_scheduler_core::{TaskView, decide::started};
use futures::StreamExt;
use pb::dispatch_reply::Body as Reply;
use pb::dispatch_request::Body as Ask;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

pub(crate) fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

pub(crate) fn node_id(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

pub(crate) fn actor() -> Actor {
    Actor {
        kind: ActorKind::Human,
        id: "ann".into(),
        model: String::new(),
        on_behalf_of: String::new(),
    }
}

/// Submits as a gateway does.
pub(crate) async fn submit(
    log: &MemoryLog,
    name: &str,
    change: impl FnOnce(&mut TaskSpec),
) -> TaskKey {
    let mut spec = TaskSpec {
        action: Action::Echo { payload: b"hi".to_vec() },
        require: BTreeSet::new(),
        node: None,
        priority: 0,
        safe_to_repeat: false,
        retry: RetryPolicy::default(),
        run_timeout_ms: 0,
        deadline_ms: 0,
        node_lost_grace_ms: 0,
        output_limit_bytes: 0,
        labels: BTreeMap::new(),
        locks: Vec::new(),
        lock_timeout_ms: 0,
    };
    change(&mut spec);
    let task =
        TaskKey { workspace: Workspace::parse("w").unwrap(), task: TaskId::parse(name).unwrap() };
    let new =
        NewTask { spec, idempotency_key: name.into(), actor: actor(), now: UnixMillis(wall()) };
    let Submit::Create(commit) = decide::submit(None, &new) else { panic!("it is new") };
    put(log, &task, Expect::Absent, &commit).await.unwrap();
    task
}

/// Appends events where the task was read.
pub(crate) async fn append(
    log: &MemoryLog,
    v: &TaskView,
    events: Vec<Event>,
) -> Result<u64, LogError> {
    put(log, &v.key, Expect::At(v.revision), &Commit { n: v.n + 1, events }).await
}

async fn put(log: &MemoryLog, task: &TaskKey, e: Expect, c: &Commit) -> Result<u64, LogError> {
    let record = cortex_log::Commit {
        id: CommitId::generate(),
        kind: "test".into(),
        n: c.n,
        body: wire::encode_commit(c),
    };
    log.append(&log_key(task), e, record).await
}

fn log_key(task: &TaskKey) -> Key {
    Key::new(Space::Task, task.workspace.as_str(), task.task.as_str()).unwrap()
}

/// Follows the log until the task is as wanted.
pub(crate) async fn until(
    log: &MemoryLog,
    task: &TaskKey,
    wanted: impl Fn(&TaskView) -> bool,
) -> TaskView {
    let key = log_key(task);
    let mut tail = log.tail(Space::Task, key.shard(log.shards()), 0).await.unwrap();
    let mut view = None;
    let follow = async {
        while let Some(item) = tail.next().await {
            let Tail::Event(r) = item.unwrap() else { continue };
            if *r.key != key {
                continue;
            }
            let commit = wire::decode_commit(r.commit.body).unwrap();
            TaskView::apply(&mut view, task, r.rev, UnixMillis(r.at_ms), &commit).unwrap();
            if view.as_ref().is_some_and(&wanted) {
                return;
            }
        }
    };
    let ended = tokio::time::timeout(super::PATIENCE, follow).await;
    assert!(ended.is_ok(), "{task} did not come to what was wanted: {view:?}");
    view.unwrap()
}

async fn read(log: &MemoryLog, task: &TaskKey) -> TaskView {
    let mut view = None;
    for r in log.read(&log_key(task), 0).await.unwrap() {
        let commit = wire::decode_commit(r.commit.body).unwrap();
        TaskView::apply(&mut view, task, r.rev, UnixMillis(r.at_ms), &commit).unwrap();
    }
    view.unwrap()
}

/// A node and how it behaves.
#[derive(Clone)]
pub(crate) struct Node {
    name: String,
    session: String,
    slots: u32,
    abilities: Vec<String>,
    forgets_claims: bool,
    runs_until_cancelled: bool,
}

impl Node {
    pub(crate) fn new(name: &str, session: &str) -> Node {
        Node {
            name: name.into(),
            session: session.into(),
            slots: 1,
            abilities: vec!["echo".into()],
            forgets_claims: false,
            runs_until_cancelled: false,
        }
    }

    pub(crate) fn slots(mut self, slots: u32) -> Node {
        self.slots = slots;
        self
    }

    pub(crate) fn with(mut self, ability: &str) -> Node {
        self.abilities.push(ability.into());
        self
    }

    /// Claims, and dies before it may start.
    pub(crate) fn forgets_claims(mut self) -> Node {
        self.forgets_claims = true;
        self
    }

    pub(crate) fn runs_until_cancelled(mut self) -> Node {
        self.runs_until_cancelled = true;
        self
    }

    pub(crate) fn presence(&self) -> pb::NodePresence {
        let capability =
            |name: &String| pb::Capability { name: name.clone(), ..Default::default() };
        let capabilities = self.abilities.iter().map(capability).collect();
        pb::NodePresence {
            workspace: "w".into(),
            node: self.name.clone(),
            session: self.session.clone(),
            incarnation: "life-1".into(),
            generation: 1,
            slots: self.slots,
            slots_free: self.slots,
            manifest: Some(pb::Manifest { capabilities, ..Default::default() }),
            connected_at_ms: wall(),
            ..Default::default()
        }
    }
}

struct State {
    version: u64,
    nodes: BTreeMap<String, pb::NodePresence>,
    begun: u32,
}

pub(crate) struct Gateway {
    log: MemoryLog,
    name: String,
    state: Arc<Mutex<State>>,
    dead: CancellationToken,
}

impl Gateway {
    /// Heartbeats and snapshots until it dies.
    pub(crate) async fn start(log: &MemoryLog, name: &str) -> Gateway {
        let state = State { version: 0, nodes: BTreeMap::new(), begun: 0 };
        let state = Arc::new(Mutex::new(state));
        let dead = CancellationToken::new();
        let g = Gateway { log: log.clone(), name: name.into(), state, dead };
        let mut asks = log.subscribe(&format!("cx.p.snap.{name}")).await.unwrap();
        let (log, name, state, dead) =
            (g.log.clone(), g.name.clone(), g.state.clone(), g.dead.clone());
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(200));
            loop {
                tokio::select! {
                    () = dead.cancelled() => return,
                    _ = beat.tick() => {
                        let hb = heartbeat(&name, &state);
                        log.publish(&format!("cx.p.hb.{name}"), hb.into()).await.unwrap();
                    }
                    Some(m) = asks.next() => {
                        let page = snapshot(&name, &state);
                        log.reply(&m, page.into()).await.unwrap();
                    }
                }
            }
        });
        g
    }

    pub(crate) fn dies(&self) {
        self.dead.cancel();
    }

    pub(crate) fn begun(&self) -> u32 {
        self.state.lock().unwrap().begun
    }

    pub(crate) async fn connect(&self, node: Node) {
        let presence = node.presence();
        self.serve(node).await;
        self.announce(presence).await;
    }

    /// As if its delta were lost.
    pub(crate) async fn connect_silently(&self, node: Node) {
        self.change(node.presence());
        self.serve(node).await;
    }

    pub(crate) async fn announce(&self, presence: pb::NodePresence) {
        let version = self.change(presence.clone());
        let delta = pb::PresenceDelta {
            gateway: self.name.clone(),
            epoch: "e1".into(),
            version,
            changed: vec![presence],
            gone: Vec::new(),
        };
        let subject = format!("cx.p.d.{}", self.name);
        self.log.publish(&subject, delta.encode_to_vec().into()).await.unwrap();
    }

    fn change(&self, presence: pb::NodePresence) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.nodes.insert(presence.node.clone(), presence);
        state.version += 1;
        state.version
    }

    async fn serve(&self, node: Node) {
        let subject = format!("cx.n.w.{}.{}", node.name, node.session);
        let mut asks = self.log.subscribe(&subject).await.unwrap();
        let (log, state, gateway) = (self.log.clone(), self.state.clone(), self.name.clone());
        tokio::spawn(async move {
            let mut held: Vec<TaskKey> = Vec::new();
            while let Some(m) = asks.next().await {
                let ask = pb::DispatchRequest::decode(m.body.clone()).unwrap();
                match ask.body.unwrap() {
                    Ask::Offer(o) => {
                        if let Some(task) = claim(&log, &m, &gateway, &node, o).await {
                            state.lock().unwrap().begun += 1;
                            if node.runs_until_cancelled {
                                held.push(task);
                            } else {
                                report(&log, &task, &node, Ending::Exited { code: 0 }).await;
                            }
                        }
                    }
                    Ask::Query(q) => answer(&log, &m, known(&held, &q)).await,
                    Ask::Terminal(_) => unreachable!("nobody types here"),
                    Ask::Cancel(c) => {
                        let task = TaskId::parse(&c.task_id).unwrap();
                        let phase = pb::AttemptPhase::Known.into();
                        let reply = pb::CancelAnswer { query_id: c.query_id, phase };
                        answer(&log, &m, Reply::CancelAnswer(reply)).await;
                        if let Some(at) = held.iter().position(|k| k.task == task) {
                            let ending = Ending::Cancelled { never_started: false, survivors: 0 };
                            report(&log, &held.remove(at), &node, ending).await;
                        }
                    }
                }
            }
        });
    }
}

/// The node takes the offer; the gateway appends `Started` at the fence. None when that came too late, or nothing runs.
async fn claim(
    log: &MemoryLog,
    m: &Message,
    gateway: &str,
    node: &Node,
    o: pb::DispatchOffer,
) -> Option<TaskKey> {
    let offer = o.offer.unwrap();
    wire::task::spec(offer.spec.clone().unwrap()).unwrap();
    let taken =
        pb::Claim { offer_id: offer.offer_id, attempt: offer.attempt, ..Default::default() };
    answer(log, m, Reply::Claim(taken)).await;
    let task = TaskKey {
        workspace: Workspace::parse(&offer.workspace).unwrap(),
        task: TaskId::parse(&offer.task_id).unwrap(),
    };
    let offered = Offered {
        attempt: offer.attempt,
        next_n: o.next_n,
        by: "s".into(),
        at: UnixMillis(o.offered_at_ms),
        reason: o.reason,
        refused: Vec::new(),
    };
    let claimant = Claimant {
        node: node_id(&node.name),
        incarnation: Incarnation::parse("life-1").unwrap(),
        session: SessionId::parse(&node.session).unwrap(),
        gateway: gateway.into(),
    };
    let commit = started(offered, claimant, UnixMillis(wall()));
    let landed = put(log, &task, Expect::At(offer.fence), &commit).await.is_ok();
    (landed && !node.forgets_claims).then_some(task)
}

async fn report(log: &MemoryLog, task: &TaskKey, node: &Node, ending: Ending) {
    loop {
        let v = read(log, task).await;
        let outcome = Outcome { journal_seq: 1, ..Outcome::without_run(ending.clone()) };
        let now = UnixMillis(wall());
        let decision = decide::outcome(&v, &node_id(&node.name), v.attempt, &outcome, now);
        let OutcomeDecision::Append(events) = decision else { panic!("{decision:?}") };
        if append(log, &v, events).await.is_ok() {
            return;
        }
    }
}

fn known(held: &[TaskKey], q: &pb::Query) -> Reply {
    let holds = held.iter().any(|k| k.task.as_str() == q.task_id);
    let phase = if holds { pb::AttemptPhase::Known } else { pb::AttemptPhase::Unknown };
    Reply::QueryAnswer(pb::QueryAnswer {
        query_id: q.query_id,
        phase: phase.into(),
        journal: Some(pb::JournalHead::default()),
        incarnation: "life-1".into(),
    })
}

async fn answer(log: &MemoryLog, m: &Message, body: Reply) {
    let reply = pb::DispatchReply { body: Some(body) };
    log.reply(m, reply.encode_to_vec().into()).await.unwrap();
}

fn heartbeat(name: &str, state: &Mutex<State>) -> Vec<u8> {
    let state = state.lock().unwrap();
    let nodes = state.nodes.len() as u32;
    let (gateway, epoch) = (name.to_owned(), "e1".to_owned());
    pb::PresenceHeartbeat { gateway, epoch, version: state.version, nodes }.encode_to_vec()
}

fn snapshot(name: &str, state: &Mutex<State>) -> Vec<u8> {
    let state = state.lock().unwrap();
    let page = pb::PresenceSnapshot {
        gateway: name.into(),
        epoch: "e1".into(),
        version: state.version,
        nodes: state.nodes.values().cloned().collect(),
        next_after: String::new(),
    };
    page.encode_to_vec()
}

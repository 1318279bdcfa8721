//! Everything about one task, as a fold over its commits. State changes only in [`TaskView::apply`], which checks the
//! aggregate's invariants; it never decides what should happen next.
//!
//! ```text
//!                       AttemptReleased
//!           +-------------------------------------+
//!           v                                     |
//! Submitted -> PENDING --Started--> RUNNING ------+--OutcomeUnknown--> INDETERMINATE
//!                |                     |                                |  Resolved, late report
//!                +----- Finished ------+-----------------------> over <-+
//! ```

use cortex_model::event::{
    Archived, AttemptReleased, ConsentAnswered, ConsentAsked, Finished, OutcomeUnknown, Started,
    Submitted,
};
use cortex_model::ids::SessionId;
use cortex_model::{
    Actor, Commit, Ending, Event, Incarnation, NodeId, Outcome, ReleaseReason, ResolveAs, TaskKey,
    TaskSpec, TaskState, UnixMillis,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// One task as its history tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// Which task.
    pub key: TaskKey,
    /// What was asked.
    pub spec: Arc<TaskSpec>,
    /// Who asked.
    pub actor: Actor,
    /// Under which key.
    pub idempotency_key: String,
    /// Hash of the request.
    pub request_hash: Vec<u8>,
    /// Version of that hash.
    pub request_version: u32,
    /// When it was submitted, by the gateway's clock.
    pub submitted_at: UnixMillis,
    /// Where it stands.
    pub state: TaskState,
    /// Current or last attempt; 0 before the first.
    pub attempt: u32,
    /// The current or last attempt's start.
    pub started: Option<StartedAttempt>,
    /// Nodes of the attempts before the current one.
    pub earlier: BTreeMap<u32, NodeId>,
    /// Attempts that the node never began; they do not count as tries.
    pub not_started: u32,
    /// Not to be offered before.
    pub retry_at: Option<UnixMillis>,
    /// What the current attempt asks the owner of its node; none when it waits for no answer.
    pub asking: Option<Arc<ConsentAsked>>,
    /// Questions of the current attempt so far, and the number of the last one that was answered.
    pub asked: (u32, u64),
    /// Somebody wants it stopped.
    pub cancel_requested: bool,
    /// The result, once there is one; for an INDETERMINATE task what the node reported.
    pub outcome: Option<Arc<Outcome>>,
    /// Outcomes of attempts that were released after they ended, by attempt.
    pub released: BTreeMap<u32, Arc<Outcome>>,
    /// Late reports that are recorded: attempt and entry in the node's journal.
    pub late: BTreeSet<(u32, u64)>,
    /// When it was over.
    pub ended_at: Option<UnixMillis>,
    /// What is known about an INDETERMINATE task.
    pub evidence: String,
    /// Revision of the last commit.
    pub revision: u64,
    /// Position of the last commit, counted from 1.
    pub n: u64,
    /// End of patience.
    pub deadline_at: Option<UnixMillis>,
}

/// Where and when an attempt started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedAttempt {
    /// The node.
    pub node: NodeId,
    /// Life of its journal.
    pub incarnation: Incarnation,
    /// Connection that claimed.
    pub session: SessionId,
    /// Gateway's clock.
    pub at: UnixMillis,
    /// Revision of `Started`: the attempt's fence.
    pub fence: u64,
}

/// A history that cannot be: the log lost or doubled something, or a program is wrong. The task is quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Revision of the commit that does not fit.
    pub revision: u64,
    /// Which invariant it breaks.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} breaks an invariant: {}", self.revision, self.why)
    }
}

impl std::error::Error for Violation {}

impl TaskView {
    /// Applies the next commit. On a violation the view is left as it was.
    ///
    /// # Errors
    /// When the commit does not continue this history.
    pub fn apply(
        view: &mut Option<TaskView>,
        key: &TaskKey,
        revision: u64,
        at: UnixMillis,
        commit: &Commit,
    ) -> Result<(), Violation> {
        if let Some(v) = view {
            return v.advance(revision, at, commit);
        }
        *view = Some(TaskView::begin(key, revision, at, commit)?);
        Ok(())
    }

    /// The task as its first commit makes it.
    ///
    /// # Errors
    /// When a history cannot begin with this commit.
    pub fn begin(
        key: &TaskKey,
        revision: u64,
        at: UnixMillis,
        commit: &Commit,
    ) -> Result<TaskView, Violation> {
        let broken = |why: String| Violation { revision, why };
        let mut v = match commit.events.first() {
            Some(Event::Submitted(_)) if commit.n != 1 => {
                return Err(broken(format!("Submitted in commit {}", commit.n)));
            }
            Some(Event::Submitted(s)) => first(key, s),
            Some(Event::Archived(a)) => archived(key, a),
            Some(other) => return Err(broken(format!("{} before Submitted", other.name()))),
            None => return Err(broken("a commit without events".to_owned())),
        };
        for event in &commit.events[1..] {
            v.step(revision, at, event).map_err(broken)?;
        }
        (v.revision, v.n) = (revision, commit.n);
        Ok(v)
    }

    /// Applies the next commit. On a violation the view is left as it was.
    ///
    /// # Errors
    /// When the commit does not continue this history.
    pub fn advance(
        &mut self,
        revision: u64,
        at: UnixMillis,
        commit: &Commit,
    ) -> Result<(), Violation> {
        let broken = |why: String| Violation { revision, why };
        if let [Event::Archived(a)] = commit.events.as_slice() {
            *self = archived(&self.key, a);
        } else if commit.n != self.n + 1 {
            return Err(broken(format!("commit {} where {} was due", commit.n, self.n + 1)));
        }
        match commit.events.as_slice() {
            [] => return Err(broken("a commit without events".to_owned())),
            [Event::Archived(_)] => {}
            // One step checks before it changes anything.
            [event] => self.step(revision, at, event).map_err(broken)?,
            events => {
                let mut next = self.clone();
                for event in events {
                    next.step(revision, at, event).map_err(broken)?;
                }
                *self = next;
            }
        }
        (self.revision, self.n) = (revision, commit.n);
        Ok(())
    }

    /// The node of the current or last attempt.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        self.started.as_ref().map(|s| &s.node)
    }

    /// The node that an attempt was given to: only its reports of that attempt are heard.
    #[must_use]
    pub fn node_of(&self, attempt: u32) -> Option<&NodeId> {
        if attempt == self.attempt { self.node() } else { self.earlier.get(&attempt) }
    }

    /// The outcome of an attempt, as far as it is recorded.
    #[must_use]
    pub fn outcome_of(&self, attempt: u32) -> Option<&Outcome> {
        match self.released.get(&attempt) {
            Some(o) => Some(o),
            None if attempt == self.attempt => self.outcome.as_deref(),
            None => None,
        }
    }

    /// Whether any attempt ever began, as far as is known.
    #[must_use]
    pub fn began(&self) -> bool {
        self.attempt > self.not_started
    }

    /// Whether its node has something to do about it: it runs there, or may still run there and is to be stopped.
    #[must_use]
    pub fn concerns_node(&self) -> bool {
        let doubtful = self.state == TaskState::Indeterminate && self.cancel_requested;
        self.state == TaskState::Running || doubtful
    }

    /// Whether another attempt may follow the current one.
    #[must_use]
    pub fn attempts_left(&self) -> bool {
        self.attempt.saturating_sub(self.not_started) < self.spec.max_attempts()
    }
}

impl TaskView {
    fn step(&mut self, revision: u64, at: UnixMillis, event: &Event) -> Result<(), String> {
        match event {
            Event::Submitted(_) => return Err("a second Submitted".to_owned()),
            Event::Archived(_) => return Err("Archived beside other events".to_owned()),
            Event::Started(s) => start(self, s, revision)?,
            Event::AttemptReleased(r) => release(self, r)?,
            Event::CancelRequested(_) => {
                open(self, "CancelRequested")?;
                self.cancel_requested = true;
            }
            Event::Finished(f) => finish(self, f, at)?,
            Event::OutcomeUnknown(u) => unknown(self, u)?,
            Event::ConsentAsked(a) => ask(self, a)?,
            Event::ConsentAnswered(a) => answered(self, a)?,
            Event::LateOutcome(l) => {
                if l.attempt == 0 || l.attempt > self.attempt {
                    return Err(format!("LateOutcome of attempt {} that never started", l.attempt));
                }
                self.late.insert((l.attempt, l.outcome.journal_seq));
            }
            Event::Resolved(r) => {
                if self.state != TaskState::Indeterminate {
                    return Err(format!("Resolved while {}", self.state.name()));
                }
                match r.resolve_as {
                    ResolveAs::Succeeded => over(self, TaskState::Succeeded, r.at),
                    ResolveAs::Failed => over(self, TaskState::Failed, r.at),
                    // AttemptReleased follows in the same commit. Who wants another try no longer wants it stopped.
                    ResolveAs::Retry => self.cancel_requested = false,
                }
            }
        }
        Ok(())
    }
}

fn archived(key: &TaskKey, a: &Archived) -> TaskView {
    let mut v = first(key, &a.submitted);
    v.state = a.state;
    v.attempt = a.attempts;
    v.outcome = a.outcome.clone().map(Arc::new);
    v.ended_at = Some(a.at);
    v
}

fn first(key: &TaskKey, s: &Submitted) -> TaskView {
    let deadline_at = (s.spec.deadline_ms > 0).then(|| s.at + s.spec.deadline_ms);
    TaskView {
        key: key.clone(),
        spec: Arc::new(s.spec.clone()),
        actor: s.actor.clone(),
        idempotency_key: s.idempotency_key.clone(),
        request_hash: s.request_hash.clone(),
        request_version: s.request_version,
        submitted_at: s.at,
        state: TaskState::Pending,
        attempt: 0,
        started: None,
        earlier: BTreeMap::new(),
        not_started: 0,
        retry_at: None,
        asking: None,
        asked: (0, 0),
        cancel_requested: false,
        outcome: None,
        released: BTreeMap::new(),
        late: BTreeSet::new(),
        ended_at: None,
        evidence: String::new(),
        revision: 0,
        n: 0,
        deadline_at,
    }
}

fn open(v: &TaskView, what: &str) -> Result<(), String> {
    if v.state.is_over() { Err(format!("{what} while {}", v.state.name())) } else { Ok(()) }
}

fn current(v: &TaskView, attempt: u32, what: &str) -> Result<(), String> {
    if attempt == v.attempt {
        Ok(())
    } else {
        Err(format!("{what} of attempt {attempt} while {} is current", v.attempt))
    }
}

fn start(v: &mut TaskView, s: &Started, revision: u64) -> Result<(), String> {
    if v.state != TaskState::Pending {
        return Err(format!("Started while {}", v.state.name()));
    }
    if s.attempt != v.attempt + 1 {
        return Err(format!("Started attempt {} after attempt {}", s.attempt, v.attempt));
    }
    v.state = TaskState::Running;
    v.attempt = s.attempt;
    v.retry_at = None;
    v.asked = (0, 0);
    if let Some(before) = v.started.take() {
        v.earlier.insert(v.attempt - 1, before.node);
    }
    v.started = Some(StartedAttempt {
        node: s.node.clone(),
        incarnation: s.incarnation.clone(),
        session: s.session.clone(),
        at: s.at,
        fence: revision,
    });
    Ok(())
}

fn release(v: &mut TaskView, r: &AttemptReleased) -> Result<(), String> {
    current(v, r.attempt, "AttemptReleased")?;
    let resolved = r.reason == ReleaseReason::Resolved;
    let from = if resolved { TaskState::Indeterminate } else { TaskState::Running };
    // An INDETERMINATE attempt that reports after all may be released too.
    if v.state != from && !(v.state == TaskState::Indeterminate && r.outcome.is_some()) {
        return Err(format!("AttemptReleased while {}", v.state.name()));
    }
    let repeats = match r.reason {
        ReleaseReason::NotStarted | ReleaseReason::Resolved => true,
        ReleaseReason::Interrupted | ReleaseReason::NodeLost => v.spec.safe_to_repeat,
        // Ended for certain, and the author asked for another attempt.
        ReleaseReason::TimedOut | ReleaseReason::Exited => r.outcome.is_some(),
    };
    if !repeats {
        return Err(format!("{:?} released a task that is not safe to repeat", r.reason));
    }
    v.state = TaskState::Pending;
    v.asking = None;
    v.not_started += u32::from(r.reason == ReleaseReason::NotStarted);
    v.retry_at = Some(r.retry_at);
    v.evidence.clear();
    v.outcome = None;
    if let Some(o) = &r.outcome {
        v.released.insert(r.attempt, Arc::new(o.clone()));
    }
    Ok(())
}

fn finish(v: &mut TaskView, f: &Finished, at: UnixMillis) -> Result<(), String> {
    open(v, "Finished")?;
    if v.state == TaskState::Pending {
        if f.attempt != 0 {
            return Err(format!("Finished attempt {} while PENDING", f.attempt));
        }
    } else {
        current(v, f.attempt, "Finished")?;
    }
    let state = match &f.outcome.ending {
        Ending::Exited { code: 0 } => TaskState::Succeeded,
        Ending::Exited { .. }
        | Ending::Signaled { .. }
        | Ending::SpawnFailed(_)
        | Ending::Timeout { .. }
        | Ending::Interrupted { .. } => TaskState::Failed,
        Ending::Cancelled { .. } => TaskState::Cancelled,
        Ending::Denied { .. } => TaskState::Denied,
        Ending::Expired { .. } => TaskState::Expired,
    };
    v.outcome = Some(Arc::new(f.outcome.clone()));
    v.evidence.clear();
    over(v, state, at);
    Ok(())
}

fn unknown(v: &mut TaskView, u: &OutcomeUnknown) -> Result<(), String> {
    current(v, u.attempt, "OutcomeUnknown")?;
    if v.state != TaskState::Running {
        return Err(format!("OutcomeUnknown while {}", v.state.name()));
    }
    v.state = TaskState::Indeterminate;
    v.asking = None;
    v.evidence = u.evidence.clone();
    v.outcome = u.outcome.clone().map(Arc::new);
    Ok(())
}

fn ask(v: &mut TaskView, a: &ConsentAsked) -> Result<(), String> {
    waits_on(v, a.attempt, &a.node, "ConsentAsked")?;
    v.asked.0 += 1;
    v.asking = Some(Arc::new(a.clone()));
    Ok(())
}

fn answered(v: &mut TaskView, a: &ConsentAnswered) -> Result<(), String> {
    waits_on(v, a.attempt, &a.node, "ConsentAnswered")?;
    if v.asking.as_ref().is_none_or(|asked| asked.question != a.question) {
        return Err(format!("ConsentAnswered to question {} that does not wait", a.question));
    }
    v.asking = None;
    v.asked.1 = a.question;
    Ok(())
}

fn waits_on(v: &TaskView, attempt: u32, node: &NodeId, what: &str) -> Result<(), String> {
    current(v, attempt, what)?;
    if v.state != TaskState::Running || v.node() != Some(node) {
        return Err(format!("{what} of node {node} while {}", v.state.name()));
    }
    Ok(())
}

fn over(v: &mut TaskView, state: TaskState, at: UnixMillis) {
    v.state = state;
    v.asking = None;
    v.retry_at = None;
    v.ended_at = Some(at);
}

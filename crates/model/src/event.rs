//! What can happen to a task: the events of the log, past tense. They say what happened and never
//! what to do about it; decisions are in the scheduler's core.

use crate::ids::{Incarnation, NodeId, SessionId};
use crate::task::{Actor, Outcome, TaskSpec};
use crate::time::UnixMillis;

/// Events of one task that were appended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// 1, 2, 3... per task; a gap means that the log lost something.
    pub n: u64,
    /// At least one.
    pub events: Vec<Event>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The task exists.
    Submitted(Box<Submitted>),
    /// A node claimed it.
    Started(Box<Started>),
    /// The attempt will not produce the result; the task waits again.
    AttemptReleased(Box<AttemptReleased>),
    /// Somebody wants it stopped.
    CancelRequested(CancelRequested),
    /// It is over.
    Finished(Box<Finished>),
    /// It started and nobody can say how it ended.
    OutcomeUnknown(Box<OutcomeUnknown>),
    /// A report of an attempt that is not current any more.
    LateOutcome(Box<LateOutcome>),
    /// An operator settled it.
    Resolved(Resolved),
    /// Older history was archived.
    Archived(Box<Archived>),
    /// The node's owner is asked first.
    ConsentAsked(Box<ConsentAsked>),
    /// The owner's answer, or that none is needed any more.
    ConsentAnswered(ConsentAnswered),
}

impl Event {
    /// The event's name, as in headers and histories.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::Submitted(_) => "Submitted",
            Event::Started(_) => "Started",
            Event::AttemptReleased(_) => "AttemptReleased",
            Event::CancelRequested(_) => "CancelRequested",
            Event::Finished(_) => "Finished",
            Event::OutcomeUnknown(_) => "OutcomeUnknown",
            Event::LateOutcome(_) => "LateOutcome",
            Event::Resolved(_) => "Resolved",
            Event::Archived(_) => "Archived",
            Event::ConsentAsked(_) => "ConsentAsked",
            Event::ConsentAnswered(_) => "ConsentAnswered",
        }
    }
}

/// See [`Event::Submitted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// What was asked.
    pub spec: TaskSpec,
    /// The key it was asked under.
    pub idempotency_key: String,
    /// Hash of the request (see `request`).
    pub request_hash: Vec<u8>,
    /// Version of that hash.
    pub request_version: u32,
    /// Who asked.
    pub actor: Actor,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// See [`Event::Started`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// 1, 2, 3...
    pub attempt: u32,
    /// Where.
    pub node: NodeId,
    /// Life of that node's journal.
    pub incarnation: Incarnation,
    /// Session that claimed.
    pub session: SessionId,
    /// Scheduler that offered.
    pub offered_by: String,
    /// When it offered.
    pub offered_at: UnixMillis,
    /// Why this node.
    pub reason: String,
    /// Offers before that were not taken.
    pub refused: Vec<RefusedOffer>,
    /// Gateway's clock.
    pub at: UnixMillis,
    /// Gateway that appended it.
    pub gateway: String,
}

/// An offer that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedOffer {
    /// By whom.
    pub node: NodeId,
    /// Why.
    pub why: String,
    /// When.
    pub at: UnixMillis,
}

/// See [`Event::AttemptReleased`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptReleased {
    /// Which.
    pub attempt: u32,
    /// Why.
    pub reason: ReleaseReason,
    /// Not again before.
    pub retry_at: UnixMillis,
    /// How it ended, if it did.
    pub outcome: Option<Outcome>,
    /// What this rests on.
    pub evidence: String,
    /// Clock of whoever appended it.
    pub at: UnixMillis,
}

/// Why an attempt was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseReason {
    /// The node itself says that it never began.
    NotStarted,
    /// Agent or machine died; the task is safe to repeat.
    Interrupted,
    /// The node was silent too long; the task is safe to repeat.
    NodeLost,
    /// Run timeout, retry wanted.
    TimedOut,
    /// Failed, retry wanted.
    Exited,
    /// An operator said so.
    Resolved,
}

/// See [`Event::CancelRequested`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRequested {
    /// Who.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// See [`Event::Finished`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// 0 if none was running.
    pub attempt: u32,
    /// How.
    pub outcome: Outcome,
    /// Clock of whoever appended it.
    pub at: UnixMillis,
}

/// See [`Event::OutcomeUnknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeUnknown {
    /// Which.
    pub attempt: u32,
    /// What is known.
    pub evidence: String,
    /// Clock of whoever appended it.
    pub at: UnixMillis,
    /// What the node reported, if it did.
    pub outcome: Option<Outcome>,
}

/// See [`Event::LateOutcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateOutcome {
    /// Which.
    pub attempt: u32,
    /// What it says.
    pub outcome: Outcome,
    /// Who says it.
    pub node: NodeId,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// See [`Event::Resolved`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The decision.
    pub resolve_as: ResolveAs,
    /// Why.
    pub reason: String,
    /// Who.
    pub actor: Actor,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// How an operator settles an INDETERMINATE task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveAs {
    /// Its effects are there.
    Succeeded,
    /// They are not, and it shall not run again.
    Failed,
    /// Run it again.
    Retry,
}

/// See [`Event::Archived`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The first event, whole, so that a repeated submit is still recognised.
    pub submitted: Submitted,
    /// The state it ended in.
    pub state: TaskState,
    /// The result.
    pub outcome: Option<Outcome>,
    /// Attempts it took.
    pub attempts: u32,
    /// Commits that were replaced.
    pub commits: u64,
    /// When.
    pub at: UnixMillis,
    /// Where the full history is kept.
    pub reference: String,
}

/// See [`Event::ConsentAsked`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentAsked {
    /// Which attempt waits.
    pub attempt: u32,
    /// Whose owner is asked.
    pub node: NodeId,
    /// Number of the question on the node.
    pub question: u64,
    /// The rule that asks.
    pub rule: String,
    /// What strict mode sees in it.
    pub classes: Vec<String>,
    /// Node's clock.
    pub asked_at: UnixMillis,
    /// When no answer becomes a no, by the node's clock; none: as long as the task lives.
    pub until: Option<UnixMillis>,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// See [`Event::ConsentAnswered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentAnswered {
    /// Which attempt waited.
    pub attempt: u32,
    /// Whose owner was asked.
    pub node: NodeId,
    /// Number of the question.
    pub question: u64,
    /// What came of it.
    pub answer: ConsentAnswer,
    /// Node's clock.
    pub answered_at: UnixMillis,
    /// Gateway's clock.
    pub at: UnixMillis,
}

/// What came of a question to a node's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentAnswer {
    /// The owner agreed.
    Allowed,
    /// The owner said no.
    Refused,
    /// Nobody answered in time.
    Expired,
    /// Nobody needs the answer any more.
    Withdrawn,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Waits for a node.
    Pending,
    /// A node has it.
    Running,
    /// Started; nobody knows how it ended.
    Indeterminate,
    /// Over: exit code 0.
    Succeeded,
    /// Over: anything else that ran.
    Failed,
    /// Over: on request.
    Cancelled,
    /// Over: the owner's policy said no.
    Denied,
    /// Over: its deadline passed.
    Expired,
}

impl TaskState {
    /// Whether nothing will happen to the task any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, TaskState::Pending | TaskState::Running | TaskState::Indeterminate)
    }

    /// The state's name, as shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Pending => "PENDING",
            TaskState::Running => "RUNNING",
            TaskState::Indeterminate => "INDETERMINATE",
            TaskState::Succeeded => "SUCCEEDED",
            TaskState::Failed => "FAILED",
            TaskState::Cancelled => "CANCELLED",
            TaskState::Denied => "DENIED",
            TaskState::Expired => "EXPIRED",
        }
    }
}

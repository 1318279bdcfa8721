//! One attempt from Go to its durable outcome, as a task of its own that tells the driver what happens.

use crate::clock::unix_now;
use crate::exec::{Stop, Surroundings, launch, level};
use crate::guard::Guard;
use crate::journal::{IntentDraft, Journal, JournalError, Receipt, RefusalDraft};
use crate::sandbox::Sandbox;
use crate::spool::Spool;
use cortex_agent_core::plan::{Level, Operation};
use cortex_agent_core::{Decision, ExecPlan, Request};
use cortex_audit::{SignedNote, record};
use cortex_model::{Action, Actor, AttemptKey, Code, Ending, Fault, Outcome};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What happens to an attempt, in order.
#[derive(Debug)]
pub(crate) enum Event {
    /// The intent is durable; the run timeout counts.
    Intended { key: AttemptKey, timeout_ms: u64 },
    /// The spool has grown.
    Output { key: AttemptKey, end: u64 },
    /// The outcome is durable, or cannot be written.
    Ended { key: AttemptKey, result: Result<Box<Receipt>, JournalError> },
}

/// What an attempt needs of the agent.
pub(crate) struct Job {
    pub(crate) key: AttemptKey,
    pub(crate) fence: u64,
    pub(crate) actor: Option<Actor>,
    pub(crate) policy: String,
    /// The checkpoint that came with Go, compared with the journal.
    pub(crate) floor: Result<Option<SignedNote>, JournalError>,
    pub(crate) journal: Journal,
    pub(crate) spool: Arc<Spool>,
    pub(crate) mark: String,
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) sandbox: Option<Arc<Sandbox>>,
    pub(crate) stop: oneshot::Receiver<Stop>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Job {
    /// Starts what was allowed, or records what was not.
    pub(crate) async fn run(self, decision: Decision, action: Action) {
        let (key, events) = (self.key.clone(), self.events.clone());
        let result = match decision.plan {
            Some(plan) => match self.level(&plan) {
                Ok(level) => self.start(decision.rule, plan, level).await,
                Err(fault) => self.refuse("sandbox".to_owned(), Some(fault), action).await,
            },
            None => self.refuse(decision.rule, decision.fault, action).await,
        };
        tell(&events, Event::Ended { key, result: result.map(Box::new) }).await;
    }

    /// How strongly the plan will be confined; an error if that is less than it asks for.
    fn level(&self, plan: &ExecPlan) -> Result<Level, Fault> {
        match plan.operation() {
            Operation::Process(process) => level(self.sandbox.as_deref(), process),
            Operation::Echo(_) => Ok(Level::None),
        }
    }

    async fn start(
        self,
        rule: String,
        plan: ExecPlan,
        level: Level,
    ) -> Result<Receipt, JournalError> {
        let Self {
            key, fence, actor, policy, journal, spool, mark, guard: keeper, sandbox, ..
        } = self;
        let timeout_ms = plan.timeout_ms();
        let unenforced = sandbox.as_ref().map(|sandbox| sandbox.armed().gaps(level));
        let confined = record::Sandbox {
            level: level.word().to_owned(),
            unenforced: unenforced.unwrap_or_default(),
        };
        let (floor, plan) = (self.floor?, Arc::new(plan));
        let attempt = key.clone();
        let draft =
            IntentDraft { key: attempt, fence, actor, rule, policy, confined, plan, floor };
        let guard = journal.intent(draft).await?;
        tell(&self.events, Event::Intended { key, timeout_ms }).await;
        let (stop, events) = (self.stop, self.events);
        let surroundings = Surroundings { spool, mark, guard: keeper, sandbox, stop, events };
        let (guard, outcome) = launch(guard, surroundings).await;
        journal.outcome(guard, outcome).await
    }

    async fn refuse(
        self,
        rule: String,
        fault: Option<Fault>,
        action: Action,
    ) -> Result<Receipt, JournalError> {
        let fault = fault.unwrap_or_else(|| Fault::new(Code::NotAllowed, "it is not allowed"));
        let code = fault.code.as_str().to_owned();
        // Not there is not the same as not allowed.
        let ending = if matches!(fault.code, Code::ProgramNotFound | Code::BadCwd) {
            Ending::SpawnFailed(fault.into())
        } else {
            Ending::Denied { error: fault.into(), rule: rule.clone() }
        };
        let mut outcome = Outcome::without_run(ending);
        outcome.ended_at_ms = unix_now().0;
        let Self { key, fence, actor, policy, journal, .. } = self;
        let draft = RefusalDraft { key, fence, actor, rule, policy, code, action, outcome };
        journal.refuse(draft).await
    }
}

/// The driver may be gone; what is durable stays so.
async fn tell(events: &mpsc::Sender<Event>, event: Event) {
    drop(events.send(event).await);
}

/// What the policy is asked about.
pub(crate) fn request<'a>(
    key: &'a AttemptKey,
    fence: u64,
    action: &'a Action,
    timeout_ms: u64,
    output_limit: u64,
) -> Request<'a> {
    Request { key, fence, action, timeout_ms, output_limit }
}

//! One attempt from Go to its durable outcome, as a task of its own that tells the driver what happens.

use crate::asking::No;
use crate::clock::unix_now;
use crate::consent::{Consent, Open};
use crate::exec::{Stop, Surroundings, Typing, launch, level};
use crate::facts::{Scene, gather};
use crate::guard::Guard;
use crate::holding::Holds;
use crate::journal::{IntentDraft, Journal, JournalError, Receipt, RefusalDraft};
use crate::locks::{Held, LockTable};
use crate::sandbox::Sandbox;
use crate::spool::Spool;
use cortex_agent_core::mask::Mask;
use cortex_agent_core::plan::{Level, Operation};
use cortex_agent_core::policy::Fingerprint;
use cortex_agent_core::{Decision, ExecPlan, Policy, Request, decide};
use cortex_audit::record::Approval;
use cortex_audit::{SignedNote, record};
use cortex_model::limits::TERMINAL_WAITING_MAX;
use cortex_model::proto::{ConsentReport, TerminalAnswer, TerminalInput};
use cortex_model::{Action, Actor, AttemptKey, Code, Ending, Fault, HeldLock, Outcome, PathLock};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How often an attempt is asked about: what was agreed to may have changed meanwhile.
const ROUNDS: usize = 4;

/// What the owner is told where something changed between the answer and the start.
const CHANGED: &str = "you agreed to it, but something that was agreed to has changed since";

/// Whether a plan can be started.
enum Ready {
    Starts(Level),
    /// It has to be decided on again first.
    Anew,
    /// Not here.
    Weak(Fault),
}

/// What happens to an attempt, in order.
#[derive(Debug)]
pub(crate) enum Event {
    /// It waits for the owner, and needs no slot.
    Asking { key: AttemptKey, report: Box<ConsentReport> },
    /// It waits no longer.
    Answered { report: Box<ConsentReport> },
    /// It waits for paths that others hold, and needs no slot.
    Waiting { key: AttemptKey },
    /// It need not wait any more: it wants a slot again, and the policy as it is then.
    Agreed { key: AttemptKey, resume: oneshot::Sender<Arc<Policy>> },
    /// It was given up before anything of it was recorded.
    Withdrawn { key: AttemptKey },
    /// The agent is going away; it waits for the owner, and waits on when the agent has been started again.
    Suspended { key: AttemptKey },
    /// The intent is durable; the run timeout counts.
    Intended { key: AttemptKey, timeout_ms: u64, terminal: Option<mpsc::Sender<TerminalInput>> },
    /// What became of what somebody typed.
    Typed { answer: TerminalAnswer },
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
    /// The checkpoint that came with Go, compared with the journal.
    pub(crate) floor: Result<Option<SignedNote>, JournalError>,
    /// The same as it came.
    pub(crate) floor_text: String,
    pub(crate) action: Action,
    pub(crate) timeout_ms: u64,
    pub(crate) output_limit: u64,
    /// The policy that counts; one that allows nothing if it broke since the claim.
    pub(crate) policy: Arc<Policy>,
    pub(crate) scene: Scene,
    pub(crate) consent: Arc<Consent>,
    /// The question that it waited with when the last agent ended.
    pub(crate) open: Option<Open>,
    /// Why the owner is asked again; empty if that is not so.
    pub(crate) note: String,
    /// It has no slot yet.
    pub(crate) slotless: bool,
    /// When the task's own time is over, Unix milliseconds.
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) journal: Journal,
    pub(crate) spool: Arc<Spool>,
    pub(crate) mark: String,
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) sandbox: Option<Arc<Sandbox>>,
    /// The owner's answer that this rests on, in the journal.
    pub(crate) approval: Option<Approval>,
    pub(crate) stop: oneshot::Receiver<Stop>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) locks: Arc<LockTable>,
    /// Paths that the task asks for.
    pub(crate) own: Vec<PathLock>,
    pub(crate) lock_timeout_ms: u64,
    /// What it holds, given back with it.
    pub(crate) held: Option<Held>,
    /// Of that, what it asked for itself.
    pub(crate) holding: Vec<HeldLock>,
}

impl Job {
    /// Decides; asks the owner where the policy says so; starts what is allowed, or records what is not.
    pub(crate) async fn run(mut self) {
        let (key, events, consent) =
            (self.key.clone(), self.events.clone(), Arc::clone(&self.consent));
        let result = match self.refused_before() {
            Some((rule, no)) => self.given_up(rule, no).await,
            None => self.rounds().await,
        };
        let event = match result {
            Some(result) => Event::Ended { key, result: result.map(Box::new) },
            None if consent.keeps(&key) => Event::Suspended { key },
            None => Event::Withdrawn { key },
        };
        tell(&events, event).await;
    }

    async fn rounds(mut self) -> Option<Result<Receipt, JournalError>> {
        let mut agreed = None;
        for _ in 0..ROUNDS {
            let decision = self.decide(agreed).await;
            let (effect, trail) = (decision.effect, &decision.trail);
            tracing::debug!(attempt = %self.key, ?effect, ?trail, "decided");
            let Decision { plan, proposal, rule, fault, fingerprint, classes, .. } = decision;
            let next = match (plan, proposal) {
                (Some(plan), _) => match self.ready(&plan).await {
                    Ok(Ready::Starts(level)) => return Some(self.start(rule, plan, level).await),
                    Ok(Ready::Anew) => Ok(()),
                    Ok(Ready::Weak(fault)) => {
                        return Some(self.refuse("sandbox".to_owned(), Some(fault)).await);
                    }
                    Err(no) => Err(no),
                },
                (None, None) => match self.nothing_to_ask().await {
                    Ok(()) => return Some(self.refuse(rule, fault).await),
                    Err(no) => Err(no),
                },
                (None, Some(mut proposal)) => {
                    if agreed.is_some() {
                        CHANGED.clone_into(&mut self.note);
                    }
                    let asked = self.ask_about(&mut proposal, fingerprint, classes, rule.clone());
                    let consulted = match asked.await {
                        Ok(question) => self.consult(question).await,
                        Err(no) => Err(no),
                    };
                    consulted.map(|fingerprint| agreed = Some(fingerprint))
                }
            };
            if let Err(no) = next {
                return self.given_up(rule, no).await;
            }
        }
        let why = "what was agreed to changed again and again before it could start";
        Some(self.refuse(String::new(), Some(Fault::new(Code::ConsentNeeded, why))).await)
    }

    /// What still has to be had before a plan can start: a slot, if it has none, enough of a sandbox, and its locks.
    async fn ready(&mut self, plan: &ExecPlan) -> Result<Ready, No> {
        self.nothing_to_ask().await?;
        if self.slotless {
            self.resume().await?;
            return Ok(Ready::Anew);
        }
        let level = match self.level(plan) {
            Ok(level) => level,
            Err(fault) => return Ok(Ready::Weak(fault)),
        };
        Ok(match self.hold(plan).await? {
            Holds::Now => Ready::Starts(level),
            // What it was decided on may be another thing by now.
            Holds::Anew => Ready::Anew,
        })
    }

    /// The owner need not be asked any more what was asked before the restart.
    async fn nothing_to_ask(&mut self) -> Result<(), No> {
        match self.open.take() {
            Some(open) => self.lapse(open).await,
            None => Ok(()),
        }
    }

    /// Somebody gave the task up while it waited: nothing ran.
    pub(crate) async fn cancelled(self, rule: String) -> Result<Receipt, JournalError> {
        let ending = Ending::Cancelled { never_started: false, survivors: 0 };
        self.record(rule, "cancelled".to_owned(), ending).await
    }

    /// On fresh facts, away from the loop: the disk may be slow.
    async fn decide(&self, consent: Option<Fingerprint>) -> Decision {
        let gathered = match &self.action {
            // It touches nothing: there is nothing on the disk to look for.
            Action::Echo { .. } => Ok(gather(&self.policy, &self.action, &self.scene)),
            Action::Shell(_) | Action::File(_) | Action::Browser(_) => {
                let (policy, action, scene) =
                    (Arc::clone(&self.policy), self.action.clone(), self.scene.clone());
                tokio::task::spawn_blocking(move || gather(&policy, &action, &scene)).await
            }
        };
        let request = Request {
            key: &self.key,
            fence: self.fence,
            action: &self.action,
            timeout_ms: self.timeout_ms,
            output_limit: self.output_limit,
            consent,
        };
        // Facts that could not be gathered are none, and without facts nothing is allowed.
        let mut facts = gathered.unwrap_or_default();
        facts.fences = self.holding.iter().map(|lock| lock.fence).collect();
        decide(&self.policy, &facts, &request)
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
        self.spool.bound(plan.output_limit());
        if let Operation::Process(process) = plan.operation() {
            match Mask::new(&process.secrets) {
                Ok(Some(mask)) => self.spool.mask(&mask),
                Ok(None) => {}
                Err(why) => {
                    let fault = Fault::new(
                        Code::SecretUnavailable,
                        format!("the secrets cannot be masked: {why}"),
                    );
                    return self.refuse(rule, Some(fault)).await;
                }
            }
        }
        let Self {
            key,
            fence,
            actor,
            policy,
            journal,
            spool,
            mark,
            guard: keeper,
            sandbox,
            approval,
            consent,
            ..
        } = self;
        let timeout_ms = plan.timeout_ms();
        let unenforced = sandbox.as_ref().map(|sandbox| match plan.operation() {
            Operation::Process(process) => sandbox.armed().gaps_of(level, process),
            Operation::Echo(_) => sandbox.armed().gaps(level),
        });
        let confined = record::Sandbox {
            level: level.word().to_owned(),
            unenforced: unenforced.unwrap_or_default(),
        };
        let policy = policy.digest().to_owned();
        let (floor, plan) = (self.floor?, Arc::new(plan));
        let draft = IntentDraft {
            key: key.clone(),
            fence,
            actor,
            rule,
            policy,
            confined,
            plan,
            floor,
            approval,
        };
        let guard = journal.intent(draft).await?;
        consent.forget(&key);
        let (typing, terminal) = match guard.plan().operation() {
            Operation::Process(process) if process.terminal.is_some() => {
                let (sender, says) = mpsc::channel(TERMINAL_WAITING_MAX);
                (Some(Typing { says, journal: journal.clone() }), Some(sender))
            }
            Operation::Process(_) | Operation::Echo(_) => (None, None),
        };
        tell(&self.events, Event::Intended { key, timeout_ms, terminal }).await;
        let (stop, events) = (self.stop, self.events);
        let surroundings =
            Surroundings { spool, mark, guard: keeper, sandbox, stop, typing, events };
        let (guard, mut outcome) = launch(guard, surroundings).await;
        outcome.locks = self.holding;
        let receipt = journal.outcome(guard, outcome).await;
        // Only now may the next one begin.
        drop(self.held);
        receipt
    }

    pub(crate) async fn refuse(
        self,
        rule: String,
        fault: Option<Fault>,
    ) -> Result<Receipt, JournalError> {
        let fault = fault.unwrap_or_else(|| Fault::new(Code::NotAllowed, "it is not allowed"));
        let code = fault.code.as_str().to_owned();
        // Not there is not the same as not allowed.
        let ending = if matches!(
            fault.code,
            Code::ProgramNotFound | Code::BadCwd | Code::LockTimeout | Code::LockUnusable
        ) {
            Ending::SpawnFailed(fault.into())
        } else {
            Ending::Denied { error: fault.into(), rule: rule.clone() }
        };
        self.record(rule, code, ending).await
    }

    /// What did not start, durable.
    async fn record(
        self,
        rule: String,
        code: String,
        ending: Ending,
    ) -> Result<Receipt, JournalError> {
        let mut outcome = Outcome::without_run(ending);
        outcome.ended_at_ms = unix_now().0;
        let Self { key, fence, actor, action, policy, journal, approval: answer, .. } = self;
        let policy = policy.digest().to_owned();
        let draft = RefusalDraft { key, fence, actor, rule, policy, code, action, outcome, answer };
        journal.refuse(draft).await
    }
}

/// The driver may be gone; what is durable stays so.
pub(crate) async fn tell(events: &mpsc::Sender<Event>, event: Event) {
    drop(events.send(event).await);
}

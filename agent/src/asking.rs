//! An attempt that needs its owner: the question is durable in the journal before it is shown, and the answer before anything
//! rests on it. It waits without a slot, for as long as that takes.

use crate::attempt::{Event, Job, tell};
use crate::clock::unix_now;
use crate::consent::{By, Open, Settled, Standing};
use crate::exec::Stop;
use crate::journal::{Answer, AnswerDraft, AskDraft, Asked, JournalError};
use cortex_agent_core::consent::{self, Question, Scope, Verdict};
use cortex_agent_core::policy::{Channel, ClassSet, Fingerprint, Proposal};
use cortex_audit::record::Approval;
use cortex_model::limits::CONSENT_WORD_MAX;
use cortex_model::proto::{ConsentAnswer, ConsentReport, Offer};
use cortex_model::task::RetryPolicy;
use cortex_model::{Action, Actor, ActorKind, Code, Fault, TaskSpec};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;

/// What the owner is told where a question is asked again after a restart.
const ANEW: &str = "it was asked before the agent was restarted, and something has changed since";
/// The same, where the owner had agreed.
const ANEW_AGREED: &str =
    "you agreed before the agent was restarted, but something that was agreed to has changed since";

/// Longest description of who answered, bytes.
const WHO_MAX: usize = 200;

/// Why the owner's word did not come.
pub(crate) enum No {
    Fault(Fault),
    Stopped(Stop),
    Journal(JournalError),
}

impl Job {
    pub(crate) fn question(
        &self,
        proposal: &Proposal,
        fingerprint: Fingerprint,
        classes: ClassSet,
        rule: String,
    ) -> Question {
        let who = self.actor.as_ref().map_or_else(
            || "nobody known".to_owned(),
            |actor| match actor.on_behalf_of.as_str() {
                "" => actor.id.clone(),
                whom => format!("{} on behalf of {whom}", actor.id),
            },
        );
        let own_env = match &self.action {
            Action::Shell(shell) => shell.env.as_slice(),
            Action::Echo { .. } | Action::File(_) | Action::Browser(_) => &[],
        };
        let shown = consent::show(proposal, &classes, &self.key.to_string(), &who, own_env);
        let wait = self.policy.consent().and_then(|rules| rules.timeout_ms);
        let own = wait.map(|wait| unix_now().0.saturating_add(wait));
        let until_ms = [own, self.deadline_ms].into_iter().flatten().min();
        let (key, rememberable) = (self.key.clone(), proposal.rememberable);
        Question { key, fingerprint, classes, rule, shown, rememberable, until_ms }
    }

    /// The question that a proposal is, as it was asked before the agent was restarted if nothing has changed since.
    pub(crate) async fn ask_about(
        &mut self,
        proposal: &mut Proposal,
        fingerprint: Fingerprint,
        classes: ClassSet,
        rule: String,
    ) -> Result<Question, No> {
        let why = proposal.why.clone();
        proposal.why.extend(Some(self.note.clone()).filter(|note| !note.is_empty()));
        let question = self.question(proposal, fingerprint, classes.clone(), rule.clone());
        let Some(open) = self.open.take_if(|open| !open.is(&question)) else {
            let until_ms = match &self.open {
                Some(open) => open.until_ms,
                None => question.until_ms,
            };
            return Ok(Question { until_ms, ..question });
        };
        let agreed = open.given.as_ref().is_some_and(|given| given.answer == Answer::Allow);
        tracing::warn!(attempt = %self.key, id = open.id, agreed, "what was asked before the restart has changed: asking anew");
        self.note = if agreed { ANEW_AGREED } else { ANEW }.to_owned();
        self.lapse(open).await?;
        proposal.why = why;
        proposal.why.push(self.note.clone());
        Ok(self.question(proposal, fingerprint, classes, rule))
    }

    /// A question of before the restart is not asked any more.
    pub(crate) async fn lapse(&mut self, open: Open) -> Result<(), No> {
        if open.given.is_none() {
            self.note_answer(&open.asked, open.asked_ms, Answer::Withdrawn, None).await?;
            self.approval = None;
        }
        Ok(())
    }

    /// The no that the journal has to a question of before the restart, if it has one.
    pub(crate) fn refused_before(&mut self) -> Option<(String, No)> {
        let given = self.open.as_ref()?.given.clone()?;
        let verdict = match given.answer {
            Answer::Allow => return None,
            Answer::Deny => Verdict::Refused,
            Answer::Expired => Verdict::TimedOut,
            Answer::Withdrawn => {
                let rule = self.open.take()?.rule;
                return Some((rule, No::Stopped(Stop::Cancelled)));
            }
        };
        self.approval = Some(given.approval);
        let rule = self.open.take()?.rule;
        verdict.fault().map(|fault| (rule, No::Fault(fault)))
    }

    /// Asks the owner and waits.
    pub(crate) async fn consult(&mut self, question: Question) -> Result<Fingerprint, No> {
        let fingerprint = question.fingerprint;
        if let Some(approval) = self.consent.remembered(&question) {
            if let Some(open) = self.open.take() {
                self.lapse(open).await?;
            }
            self.approval = Some(approval);
            return Ok(fingerprint);
        }
        if let Err(fault) = self.consent.can_ask(self.policy.consent()) {
            if let Some(open) = self.open.take() {
                self.lapse(open).await?;
            }
            return Err(No::Fault(fault));
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open_anew(&question).await?,
        };
        let report = report(&question, &open);
        if let Some(given) = &open.given {
            self.consent.remember_again(&question, given);
            self.approval = Some(given.approval.clone());
            tell(&self.events, answered(&report, ConsentAnswer::Allowed)).await;
            self.resume().await?;
            return Ok(fingerprint);
        }
        let drawn = (open.id, open.code.clone(), open.asked_ms);
        match self.consent.ask(question, drawn, self.policy.consent()) {
            Ok(Standing::Waits(answer)) => self.wait_for(answer, &open, report).await,
            Ok(Standing::Agreed(approval)) => {
                self.note_answer(&open.asked, open.asked_ms, Answer::Withdrawn, None).await?;
                self.approval = Some(approval);
                Ok(fingerprint)
            }
            Err(fault) => {
                self.note_answer(&open.asked, open.asked_ms, Answer::Expired, None).await?;
                Err(No::Fault(fault))
            }
        }
    }

    /// Waits for the answer to a question that is asked.
    async fn wait_for(
        &mut self,
        mut answer: oneshot::Receiver<Settled>,
        open: &Open,
        report: ConsentReport,
    ) -> Result<Fingerprint, No> {
        let key = self.key.clone();
        let asking = Event::Asking { key: key.clone(), report: Box::new(report.clone()) };
        tell(&self.events, asking).await;
        let mut shutdown = false;
        let settled = tokio::select! {
            settled = &mut answer => settled.unwrap_or_default(),
            stop = stopped(&mut self.stop) => {
                self.consent.withdraw(&key);
                shutdown = stop == Stop::Shutdown && self.consent.keeps(&key);
                match answer.try_recv() {
                    // It was given just before.
                    Ok(settled) if shutdown => settled,
                    Err(_) if shutdown => return Err(No::Stopped(stop)),
                    Ok(_) | Err(_) => {
                        let withdrawn = Answer::Withdrawn;
                        self.note_answer(&open.asked, open.asked_ms, withdrawn, None).await?;
                        tell(&self.events, answered(&report, ConsentAnswer::Withdrawn)).await;
                        return Err(No::Stopped(stop));
                    }
                }
            }
        };
        let Settled { verdict, by, noted } = settled;
        let (word, said) = match verdict {
            Verdict::Allowed(_) => (Answer::Allow, ConsentAnswer::Allowed),
            Verdict::Refused => (Answer::Deny, ConsentAnswer::Refused),
            Verdict::TimedOut => (Answer::Expired, ConsentAnswer::Expired),
        };
        let approval = self.note_answer(&open.asked, open.asked_ms, word, by).await?;
        // Nobody waits to hear of a time that is over, and whoever asked may be gone.
        noted.map(|noted| noted.send(()));
        tell(&self.events, answered(&report, said)).await;
        if shutdown {
            return Err(No::Stopped(Stop::Shutdown));
        }
        let Verdict::Allowed(agreed) = verdict else {
            let refused = || Fault::new(Code::ConsentRefused, "it was refused");
            return Err(No::Fault(verdict.fault().unwrap_or_else(refused)));
        };
        self.consent.approved(agreed, &approval);
        self.resume().await?;
        Ok(agreed)
    }

    /// Draws a number for a question, and has it in the journal and on the disk before anybody sees it.
    async fn open_anew(&self, question: &Question) -> Result<Open, No> {
        let (id, code) = self.consent.draw(question).map_err(No::Fault)?;
        let asked = self.note_question(question).await?;
        let open = Open {
            id,
            code,
            asked_ms: unix_now().0,
            until_ms: question.until_ms,
            rule: question.rule.clone(),
            note: self.note.clone(),
            asked,
            given: None,
        };
        let (consent, incarnation) =
            (std::sync::Arc::clone(&self.consent), self.journal.incarnation().to_owned());
        let (kept, offer) = (open.clone(), self.as_offer());
        let written =
            tokio::task::spawn_blocking(move || consent.keep(&incarnation, &kept, &offer));
        if !matches!(written.await, Ok(Ok(()))) {
            tracing::warn!(
                id,
                "the question will not outlive this agent: it cannot be written down"
            );
        }
        Ok(open)
    }

    /// The task as a gateway offers it, to be read again when the agent has been restarted.
    fn as_offer(&self) -> Offer {
        let spec = TaskSpec {
            action: self.action.clone(),
            require: BTreeSet::new(),
            node: None,
            priority: 0,
            safe_to_repeat: false,
            retry: RetryPolicy::default(),
            run_timeout_ms: self.timeout_ms,
            deadline_ms: 0,
            node_lost_grace_ms: 0,
            output_limit_bytes: self.output_limit,
            labels: BTreeMap::new(),
            locks: self.own.clone(),
            lock_timeout_ms: self.lock_timeout_ms,
        };
        Offer {
            workspace: self.key.task.workspace.to_string(),
            task_id: self.key.task.task.to_string(),
            attempt: self.key.attempt,
            fence: self.fence,
            spec: Some((&spec).into()),
            actor: self.actor.as_ref().map(Into::into),
            deadline_at_ms: self.deadline_ms.unwrap_or(0),
            run_timeout_ms: self.timeout_ms,
            output_limit_bytes: self.output_limit,
            audit_floor: self.floor_text.clone(),
            ..Offer::default()
        }
    }

    /// Waits for a slot, and takes the policy as it is then.
    pub(crate) async fn resume(&mut self) -> Result<(), No> {
        let (resume, resumed) = oneshot::channel();
        tell(&self.events, Event::Agreed { key: self.key.clone(), resume }).await;
        tokio::select! {
            policy = resumed => match policy {
                Ok(policy) => (self.policy, self.slotless) = (policy, false),
                // The agent is going away.
                Err(_) => return Err(No::Stopped(Stop::Shutdown)),
            },
            stop = stopped(&mut self.stop) => return Err(No::Stopped(stop)),
        }
        Ok(())
    }

    /// The question, durable before anybody sees it.
    async fn note_question(&self, question: &Question) -> Result<Asked, No> {
        let scopes: &[&str] =
            if question.rememberable { &["once", "task", "session", "until"] } else { &["once"] };
        let lines = question.shown.lines.iter().flat_map(|line| [line.as_str(), "\n"]);
        let draft = AskDraft {
            ask: uuid::Uuid::new_v4().to_string(),
            key: self.key.clone(),
            actor: self.actor.clone(),
            rule: question.rule.clone(),
            policy: self.policy.digest().to_owned(),
            text: lines.collect(),
            fingerprint: question.fingerprint.hex(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expires_ms: question.until_ms,
        };
        self.journal.consent_asked(draft).await.map_err(No::Journal)
    }

    /// The answer, durable before anything rests on it; the attempt's own records will name it.
    async fn note_answer(
        &mut self,
        asked: &Asked,
        since_ms: u64,
        answer: Answer,
        by: Option<By>,
    ) -> Result<Approval, No> {
        let scope = by.as_ref().map(|by| match by.scope {
            Scope::Once => ("once", None),
            Scope::Task => ("task", None),
            Scope::Session => ("session", None),
            Scope::Until(until_ms) => ("until", Some(until_ms)),
        });
        let channel = by.as_ref().map(|by| match by.channel {
            Channel::Socket => "cli",
            Channel::Tty => "tty",
            Channel::Desktop => "desktop",
        });
        let draft = AnswerDraft {
            answer,
            who: by.as_ref().map(|by| Actor {
                kind: ActorKind::Human,
                id: by.who.chars().take(WHO_MAX / 4).collect(),
                model: String::new(),
                on_behalf_of: String::new(),
            }),
            channel: channel.map(str::to_owned),
            latency_ms: unix_now().0.saturating_sub(since_ms),
            scope: scope.map(|(word, _)| word.to_owned()),
            expires_ms: scope.and_then(|(_, until_ms)| until_ms),
        };
        let noted = self.journal.consent_answered(asked, draft).await.map_err(No::Journal)?;
        self.approval = Some(noted.clone());
        Ok(noted)
    }
}

/// What is told upstream of a question that waits.
fn report(question: &Question, open: &Open) -> ConsentReport {
    ConsentReport {
        question: open.id,
        workspace: question.key.task.workspace.to_string(),
        task_id: question.key.task.task.to_string(),
        attempt: question.key.attempt,
        rule: question.rule.chars().take(CONSENT_WORD_MAX / 4).collect(),
        classes: question.classes.iter().map(|class| class.word().to_owned()).collect(),
        asked_at_ms: open.asked_ms,
        until_ms: question.until_ms.unwrap_or(0),
        ..ConsentReport::default()
    }
}

/// The same once it waits no longer.
fn answered(report: &ConsentReport, answer: ConsentAnswer) -> Event {
    let (answer, answered_at_ms) = (answer.into(), unix_now().0);
    Event::Answered { report: Box::new(ConsentReport { answer, answered_at_ms, ..report.clone() }) }
}

/// Resolves when the attempt is to be stopped; never when nobody can ask any more.
pub(crate) async fn stopped(stop: &mut oneshot::Receiver<Stop>) -> Stop {
    match stop.await {
        Ok(stop) => stop,
        Err(_) => std::future::pending().await,
    }
}

//! An attempt that needs its owner: the question is durable in the journal before it is shown, and the answer before anything
//! rests on it. It waits without a slot, for as long as that takes.

use crate::attempt::{Event, Job, tell};
use crate::clock::unix_now;
use crate::consent::{By, Settled, Standing};
use crate::exec::Stop;
use crate::journal::{Answer, AnswerDraft, AskDraft, Asked, JournalError};
use cortex_agent_core::consent::{self, Question, Scope, Verdict};
use cortex_agent_core::policy::{Channel, ClassSet, Fingerprint, Proposal};
use cortex_audit::record::Approval;
use cortex_model::limits::CONSENT_WORD_MAX;
use cortex_model::proto::{ConsentAnswer, ConsentReport};
use cortex_model::{Action, Actor, ActorKind, Code, Fault};
use tokio::sync::oneshot;

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
            Action::Echo { .. } | Action::File(_) => &[],
        };
        let shown = consent::show(proposal, &classes, &self.key.to_string(), &who, own_env);
        let wait = self.policy.consent().and_then(|rules| rules.timeout_ms);
        let own = wait.map(|wait| unix_now().0.saturating_add(wait));
        let until_ms = [own, self.deadline_ms].into_iter().flatten().min();
        let (key, rememberable) = (self.key.clone(), proposal.rememberable);
        Question { key, fingerprint, classes, rule, shown, rememberable, until_ms }
    }

    /// Asks the owner and waits.
    pub(crate) async fn consult(&mut self, question: Question) -> Result<Fingerprint, No> {
        let fingerprint = question.fingerprint;
        if let Some(approval) = self.consent.remembered(&question) {
            self.approval = Some(approval);
            return Ok(fingerprint);
        }
        self.consent.can_ask(self.policy.consent()).map_err(No::Fault)?;
        let asked = self.note_question(&question).await?;
        let (since, report) = (unix_now().0, report(&question));
        let standing = self.consent.ask(question, self.policy.consent());
        let (id, answer) = match standing {
            Ok(Standing::Waits { id, answer }) => (id, answer),
            Ok(Standing::Agreed(approval)) => {
                self.note_answer(&asked, since, Answer::Withdrawn, None).await?;
                self.approval = Some(approval);
                return Ok(fingerprint);
            }
            Err(fault) => {
                self.note_answer(&asked, since, Answer::Expired, None).await?;
                return Err(No::Fault(fault));
            }
        };
        let key = self.key.clone();
        let report = ConsentReport { question: id, ..report };
        let asking = Event::Asking { key: key.clone(), report: Box::new(report.clone()) };
        tell(&self.events, asking).await;
        let settled = tokio::select! {
            settled = answer => settled.unwrap_or(Settled { verdict: Verdict::TimedOut, by: None }),
            stop = stopped(&mut self.stop) => {
                self.consent.withdraw(&key);
                self.note_answer(&asked, since, Answer::Withdrawn, None).await?;
                tell(&self.events, answered(&report, ConsentAnswer::Withdrawn)).await;
                return Err(No::Stopped(stop));
            }
        };
        let (word, said) = match settled.verdict {
            Verdict::Allowed(_) => (Answer::Allow, ConsentAnswer::Allowed),
            Verdict::Refused => (Answer::Deny, ConsentAnswer::Refused),
            Verdict::TimedOut => (Answer::Expired, ConsentAnswer::Expired),
        };
        let approval = self.note_answer(&asked, since, word, settled.by).await?;
        tell(&self.events, answered(&report, said)).await;
        let Verdict::Allowed(agreed) = settled.verdict else {
            let refused = || Fault::new(Code::ConsentRefused, "it was refused");
            return Err(No::Fault(settled.verdict.fault().unwrap_or_else(refused)));
        };
        self.consent.approved(agreed, &approval);
        self.resume().await?;
        Ok(agreed)
    }

    /// Waits for a slot, and takes the policy as it is then.
    pub(crate) async fn resume(&mut self) -> Result<(), No> {
        let (resume, resumed) = oneshot::channel();
        tell(&self.events, Event::Agreed { key: self.key.clone(), resume }).await;
        tokio::select! {
            policy = resumed => match policy {
                Ok(policy) => self.policy = policy,
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
fn report(question: &Question) -> ConsentReport {
    ConsentReport {
        workspace: question.key.task.workspace.to_string(),
        task_id: question.key.task.task.to_string(),
        attempt: question.key.attempt,
        rule: question.rule.chars().take(CONSENT_WORD_MAX / 4).collect(),
        classes: question.classes.iter().map(|class| class.word().to_owned()).collect(),
        asked_at_ms: unix_now().0,
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

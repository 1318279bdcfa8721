//! Asking the owner: which questions wait, which answers count, which are remembered. A session without time and
//! randomness of its own. What it is not sure of is a no.

mod escape;
mod shown;

pub use escape::escape;
pub use shown::{Shown, show};

use crate::policy::{Class, ClassSet, Fingerprint, Remember};
use cortex_audit::record::Approval;
use cortex_model::limits::{
    CONSENT_GRANT_MAX_MS, CONSENT_GRANT_USES, CONSENT_GRANTS_MAX, CONSENT_LINES_SHOWN,
    CONSENT_QUEUE_MAX,
};
use cortex_model::{AttemptKey, Code, Fault};
use std::collections::BTreeMap;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The attempt that waits.
    pub key: AttemptKey,
    /// What an answer is bound to.
    pub fingerprint: Fingerprint,
    /// What strict mode sees.
    pub classes: ClassSet,
    /// The rule that asks.
    pub rule: String,
    /// What the owner is shown.
    pub shown: Shown,
    /// Whether the answer may count for more than this question.
    pub rememberable: bool,
    /// When it is over, Unix milliseconds; `None`: with the task.
    pub until_ms: Option<u64>,
}

/// A question that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What is asked.
    pub question: Question,
    /// When it was asked, Unix milliseconds.
    pub asked_ms: u64,
    /// What the owner must type to agree to something destructive.
    pub code: Option<String>,
    /// How many of its lines were shown.
    seen: usize,
}

/// For how long an answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For this question.
    Once,
    /// For other attempts of the same task.
    Task,
    /// Until the agent ends.
    Session,
    /// Until this time, Unix milliseconds.
    Until(u64),
}

impl Scope {
    fn word(self) -> Remember {
        match self {
            Self::Once => Remember::Once,
            Self::Task => Remember::Task,
            Self::Session => Remember::Session,
            Self::Until(_) => Remember::Until,
        }
    }
}

/// An answer that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it is about, and nothing else.
    pub fingerprint: Fingerprint,
    /// The task, if it counts for that only: `<workspace>/<task>`.
    pub task: Option<String>,
    /// When it ends, Unix milliseconds; `None`: with the agent.
    pub until_ms: Option<u64>,
    /// How often it was used.
    pub used: u32,
    /// The first line of what was shown.
    pub title: String,
    /// Where the answer stands in the journal. Until it does it counts for nothing.
    pub approval: Option<Approval>,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The owner agreed to exactly this.
    Allowed(Fingerprint),
    /// The owner said no.
    Refused,
    /// Nobody answered in time.
    TimedOut,
}

impl Verdict {
    /// Why nothing starts; `None` when it may.
    #[must_use]
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Allowed(_) => None,
            Self::Refused => Some(Fault::new(Code::ConsentRefused, "the node's owner said no")),
            Self::TimedOut => {
                Some(Fault::new(Code::ConsentTimedOut, "the node's owner did not answer in time"))
            }
        }
    }
}

/// What happens when something is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It waits under this number.
    Waits(u64),
    /// An answer that is remembered counts: its number.
    Granted(u64),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Desk {
    waiting: BTreeMap<u64, Waiting>,
    grants: BTreeMap<u64, Grant>,
    last: u64,
}

/// Characters that nobody confuses.
const CODE: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

impl Desk {
    /// The number of the next question, and what its owner must type if it is about something destructive, made of `random`.
    pub fn draw(&mut self, question: &Question, random: u32) -> (u64, Option<String>) {
        let code = question.classes.contains(&Class::Destructive).then(|| {
            let letter = |shift: u32| char::from(CODE[((random >> shift) & 31) as usize]);
            [0, 5, 10, 15].map(letter).into_iter().collect()
        });
        self.last += 1;
        (self.last, code)
    }

    /// Asks under a number that was drawn, also before the agent was started, or finds that it was answered.
    ///
    /// # Errors
    /// Too many wait.
    pub fn ask(
        &mut self,
        id: u64,
        question: Question,
        code: Option<String>,
        now_ms: u64,
        asked_ms: u64,
    ) -> Result<Asked, Fault> {
        if let Some((id, _)) = self.granted(&question, now_ms) {
            return Ok(Asked::Granted(id));
        }
        if self.waiting.len() >= CONSENT_QUEUE_MAX {
            let message =
                format!("{CONSENT_QUEUE_MAX} questions wait for the node's owner already");
            return Err(Fault::new(Code::ConsentQueueFull, message));
        }
        self.last = self.last.max(id);
        self.waiting.insert(id, Waiting { question, asked_ms, code, seen: 0 });
        Ok(Asked::Waits(id))
    }

    /// A remembered answer to exactly this, with its number. It is counted.
    pub fn granted(&mut self, question: &Question, now_ms: u64) -> Option<(u64, Approval)> {
        self.grants.retain(|_, grant| {
            grant.until_ms.is_none_or(|until| now_ms < until) && grant.used < CONSENT_GRANT_USES
        });
        let task = question.key.task.to_string();
        let fits = |grant: &Grant| {
            grant.fingerprint == question.fingerprint
                && grant.approval.is_some()
                && grant.task.as_ref().is_none_or(|only| *only == task)
        };
        let (id, grant) = self.grants.iter_mut().find(|(_, grant)| fits(grant))?;
        let approval = grant.approval.clone()?;
        grant.used += 1;
        Some((*id, approval))
    }

    /// An answer to this stands in the journal: from now on what is remembered of it counts.
    pub fn approve(&mut self, fingerprint: Fingerprint, approval: &Approval) {
        let open =
            |grant: &&mut Grant| grant.fingerprint == fingerprint && grant.approval.is_none();
        for grant in self.grants.values_mut().filter(open) {
            grant.approval = Some(approval.clone());
        }
    }

    /// What waits, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = (u64, &Waiting)> {
        self.waiting.iter().map(|(id, waiting)| (*id, waiting))
    }

    /// A question's lines, all of them or as many as fit on a screen, and how many more there are.
    ///
    /// # Errors
    /// There is no such question.
    pub fn look(&mut self, id: u64, all: bool) -> Result<(Vec<String>, usize), Fault> {
        let waiting = self.waiting.get_mut(&id).ok_or_else(|| missing(id))?;
        let lines = &waiting.question.shown.lines;
        let count = if all { lines.len() } else { lines.len().min(CONSENT_LINES_SHOWN) };
        waiting.seen = waiting.seen.max(count);
        Ok((lines[..count].to_vec(), lines.len() - count))
    }

    /// The owner agrees. `most` is the longest scope that the policy allows.
    ///
    /// # Errors
    /// The answer does not fit; the question stays.
    pub fn allow(
        &mut self,
        id: u64,
        code: &str,
        scope: Scope,
        most: Remember,
        now_ms: u64,
    ) -> Result<(AttemptKey, Verdict), Fault> {
        let bad = |why: String| Fault::new(Code::ConsentBadAnswer, why);
        let waiting = self.waiting.get(&id).ok_or_else(|| missing(id))?;
        let question = &waiting.question;
        if question.until_ms.is_some_and(|until| now_ms >= until) {
            return Err(missing(id));
        }
        if waiting.seen == 0 {
            return Err(bad(format!("question {id} was not looked at yet")));
        }
        if waiting.seen < question.shown.lines.len() {
            let more = question.shown.lines.len() - waiting.seen;
            return Err(bad(format!("{more} more lines of question {id} were not looked at yet")));
        }
        if waiting.code.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(code)) {
            return Err(bad(format!(
                "question {id} is about something destructive and needs its code"
            )));
        }
        if scope != Scope::Once {
            self.check_scope(question, scope, most, now_ms).map_err(bad)?;
        }
        let Some(Waiting { question, .. }) = self.waiting.remove(&id) else {
            return Err(missing(id));
        };
        let verdict = Verdict::Allowed(question.fingerprint);
        if scope != Scope::Once {
            self.last += 1;
            let grant = Grant {
                fingerprint: question.fingerprint,
                task: (scope == Scope::Task).then(|| question.key.task.to_string()),
                until_ms: if let Scope::Until(until) = scope { Some(until) } else { None },
                used: 0,
                title: question.shown.lines.first().cloned().unwrap_or_default(),
                approval: None,
            };
            self.grants.insert(self.last, grant);
        }
        Ok((question.key, verdict))
    }

    fn check_scope(
        &self,
        question: &Question,
        scope: Scope,
        most: Remember,
        now_ms: u64,
    ) -> Result<(), String> {
        if !question.rememberable {
            return Err(
                "what runs code, is opaque or uses other rights is never remembered".to_owned()
            );
        }
        if scope.word() > most {
            return Err("the policy does not let an answer be remembered for so long".to_owned());
        }
        if let Scope::Until(until) = scope
            && (until <= now_ms || until > now_ms + CONSENT_GRANT_MAX_MS)
        {
            return Err("an answer can be remembered for 30 days at most".to_owned());
        }
        if self.grants.len() >= CONSENT_GRANTS_MAX {
            return Err("too many answers are remembered".to_owned());
        }
        Ok(())
    }

    /// The owner says no.
    ///
    /// # Errors
    /// There is no such question.
    pub fn refuse(&mut self, id: u64) -> Result<(AttemptKey, Verdict), Fault> {
        let waiting = self.waiting.remove(&id).ok_or_else(|| missing(id))?;
        Ok((waiting.question.key, Verdict::Refused))
    }

    /// Nobody needs the answer any more.
    pub fn withdraw(&mut self, key: &AttemptKey) {
        self.waiting.retain(|_, waiting| waiting.question.key != *key);
    }

    /// Questions whose time is over; each is named once.
    pub fn expired(&mut self, now_ms: u64) -> Vec<(AttemptKey, Verdict)> {
        let due =
            |waiting: &Waiting| waiting.question.until_ms.is_some_and(|until| now_ms >= until);
        let ids: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| due(waiting)).map(|(id, _)| *id).collect();
        let over = ids.into_iter().filter_map(|id| self.waiting.remove(&id));
        over.map(|waiting| (waiting.question.key, Verdict::TimedOut)).collect()
    }

    /// When the next question's time is over, Unix milliseconds.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.waiting.values().filter_map(|waiting| waiting.question.until_ms).min()
    }

    /// Answers that are remembered.
    pub fn grants(&self) -> impl Iterator<Item = (u64, &Grant)> {
        self.grants.iter().map(|(id, grant)| (*id, grant))
    }

    /// Takes a remembered answer back.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn revoke(&mut self, id: u64) -> Result<(), Fault> {
        let gone = || Fault::new(Code::ConsentNotFound, format!("no answer {id} is remembered"));
        self.grants.remove(&id).map(drop).ok_or_else(gone)
    }

    /// The highest number that a question or an answer ever had.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Puts back what was remembered beyond the end of an agent: answers with a time of their own. No number up to `last` is given
    /// again, so that an answer never meets another question than the one that was looked at.
    pub fn restore(&mut self, last: u64, grants: impl IntoIterator<Item = Grant>) {
        self.last = self.last.max(last);
        for grant in
            grants.into_iter().take(CONSENT_GRANTS_MAX).filter(|grant| grant.until_ms.is_some())
        {
            self.last += 1;
            self.grants.insert(self.last, grant);
        }
    }
}

fn missing(id: u64) -> Fault {
    Fault::new(Code::ConsentNotFound, format!("no question {id} waits"))
}

#[cfg(test)]
mod tests;

//! Asking the owner of this machine: questions of attempts wait here, the owner answers over the local socket or on the terminal
//! that the agent was started on. What a question means and which answer counts is decided in the core.

mod answers;
mod client;
mod desktop;
mod kept;
mod store;
mod tty;

pub(crate) use answers::Act;
pub(crate) use client::ConsentCommand;
pub(crate) use kept::Open;
pub(crate) use store::write as write_file;

use crate::clock::unix_now;
use cortex_agent_core::consent::{Asked, Desk, Question, Scope, Verdict};
use cortex_agent_core::policy::{Channel, ConsentRules, Fingerprint, Remember};
use cortex_audit::record::Approval;
use cortex_model::{AttemptKey, Code, Fault};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Directory of remembered answers, below the agent's data.
const DIR: &str = "consent";

/// The one queue of an agent.
#[derive(Debug)]
pub(crate) struct Consent {
    inner: Mutex<Inner>,
    /// Something waits, or waits no longer.
    changed: Notify,
    store: PathBuf,
    /// What tells the owner's desktop that a task asks, or why there is nothing.
    notify: Result<PathBuf, String>,
}

#[derive(Debug, Default)]
struct Inner {
    desk: Desk,
    answers: BTreeMap<AttemptKey, Asker>,
    /// Attempts whose question is on the disk, with its number.
    kept: BTreeMap<AttemptKey, u64>,
    /// Where the owner can be reached.
    open: BTreeSet<Channel>,
    /// The longest scope that the policy allows.
    most: Remember,
}

/// An attempt that waits.
#[derive(Debug)]
struct Asker {
    answer: oneshot::Sender<Settled>,
    /// Where the policy lets it be answered.
    channels: BTreeSet<Channel>,
}

/// What became of a question that waited.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) verdict: Verdict,
    /// Who said so; `None` when nobody did.
    pub(crate) by: Option<By>,
    /// To be told when the answer is durable: whoever gave it is told only then.
    pub(crate) noted: Option<oneshot::Sender<()>>,
}

impl Default for Settled {
    fn default() -> Self {
        Self { verdict: Verdict::TimedOut, by: None, noted: None }
    }
}

/// Resolves when an answer is durable.
type Noted = oneshot::Receiver<()>;

/// An answer's author.
#[derive(Debug)]
pub(crate) struct By {
    pub(crate) who: String,
    pub(crate) channel: Channel,
    pub(crate) scope: Scope,
}

/// How an attempt stands with the owner.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It was agreed to before, as the journal says.
    Agreed(Approval),
    /// It waits.
    Waits(oneshot::Receiver<Settled>),
}

impl Consent {
    /// A desk on which nobody can answer yet: see [`Consent::open`].
    pub(crate) fn start(data_dir: &Path, notify: Option<&Path>) -> Arc<Self> {
        let dir = data_dir.join(DIR);
        if let Err(error) = store::make_dir(&dir) {
            tracing::warn!(%error, "answers are not remembered beyond the end of this agent");
        }
        let store = dir.join("grants.json");
        let (inner, changed, notify) = (Mutex::default(), Notify::new(), desktop::find(notify));
        let consent = Arc::new(Self { inner, changed, store, notify });
        let (last, grants) = store::load(&consent.store);
        consent.lock().desk.restore(last, grants);
        tokio::spawn(expire(Arc::clone(&consent)));
        if tty::start(&consent) {
            consent.open(Channel::Tty);
        }
        consent
    }

    /// From now on the owner can be reached there.
    pub(crate) fn open(&self, channel: Channel) {
        self.lock().open.insert(channel);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that was given before and counts for this too. It is used up once.
    pub(crate) fn remembered(&self, question: &Question) -> Option<Approval> {
        let mut inner = self.lock();
        let (grant, approval) = inner.desk.granted(question, unix_now().0)?;
        tracing::info!(attempt = %question.key, grant, "the owner agreed to this before");
        store::save(&self.store, &inner.desk);
        Some(approval)
    }

    /// An answer stands in the journal: what is to be remembered of it counts from now on.
    pub(crate) fn approved(&self, fingerprint: Fingerprint, approval: &Approval) {
        let mut inner = self.lock();
        inner.desk.approve(fingerprint, approval);
        store::save(&self.store, &inner.desk);
    }

    /// Whether the owner can be asked at all.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn can_ask(&self, rules: Option<&ConsentRules>) -> Result<(), Fault> {
        let unavailable = |why: &str| Fault::new(Code::ConsentUnavailable, why);
        let rules = rules.ok_or_else(|| unavailable("the policy knows no consent"))?;
        if !self.lock().open.is_disjoint(&rules.channels) {
            return Ok(());
        }
        let only_announces = || rules.channels.iter().all(|one| *one == Channel::Desktop);
        Err(unavailable(if rules.channels.is_empty() {
            "the policy names no channel on which the owner could be asked"
        } else if only_announces() {
            "the policy names only the channel desktop, which announces and cannot be answered"
        } else {
            "the owner can be reached on none of the channels that the policy names"
        }))
    }

    /// The number of the next question, never given before, and what must be typed to agree to it.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub(crate) fn draw(&self, question: &Question) -> Result<(u64, Option<String>), Fault> {
        let unavailable =
            |err: std::io::Error| Fault::new(Code::ConsentUnavailable, err.to_string());
        let random = u32::from_be_bytes(store::random::<4>().map_err(unavailable)?);
        let mut inner = self.lock();
        let drawn = inner.desk.draw(question, random);
        store::save(&self.store, &inner.desk);
        Ok(drawn)
    }

    /// Asks the owner, now or again.
    ///
    /// # Errors
    /// There is no way to ask, or too many wait.
    pub(crate) fn ask(
        &self,
        question: Question,
        (id, code, asked_ms): (u64, Option<String>, u64),
        rules: Option<&ConsentRules>,
    ) -> Result<Standing, Fault> {
        let unavailable = |why: &str| Fault::new(Code::ConsentUnavailable, why);
        self.can_ask(rules)?;
        let rules = rules.ok_or_else(|| unavailable("the policy knows no consent"))?;
        let (key, rule) = (question.key.clone(), question.rule.clone());
        let mut inner = self.lock();
        inner.most = rules.remember;
        let standing = match inner.desk.ask(id, question, code, unix_now().0, asked_ms)? {
            Asked::Granted(id) => {
                let grant = inner.desk.grants().find(|(other, _)| *other == id);
                let approval = grant.and_then(|(_, grant)| grant.approval.clone());
                Standing::Agreed(approval.ok_or_else(|| unavailable("the answer is gone"))?)
            }
            Asked::Waits(id) => {
                let (answer, receiver) = oneshot::channel();
                let channels = rules.channels.clone();
                if channels.contains(&Channel::Desktop) {
                    desktop::announce(self.notify.clone(), id);
                }
                inner.answers.insert(key.clone(), Asker { answer, channels });
                tracing::info!(attempt = %key, id, rule, "waits for the owner: cortex-agent consent show {id}");
                Standing::Waits(receiver)
            }
        };
        drop(inner);
        self.changed.notify_waiters();
        Ok(standing)
    }

    /// Nobody needs the answer any more.
    pub(crate) fn withdraw(&self, key: &AttemptKey) {
        let mut inner = self.lock();
        inner.desk.withdraw(key);
        inner.answers.remove(key);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Tells the attempt. What is returned resolves when the answer is durable; it fails when the attempt has just been given up.
    fn settle(
        &self,
        inner: &mut Inner,
        (key, verdict): (AttemptKey, Verdict),
        by: Option<By>,
    ) -> Noted {
        tracing::info!(attempt = %key, verdict = ?verdict, by = ?by, "the question is answered");
        let (noted, durable) = oneshot::channel();
        if let Some(asker) = inner.answers.remove(&key) {
            asker.answer.send(Settled { verdict, by, noted: Some(noted) }).ok();
        }
        self.changed.notify_waiters();
        durable
    }

    fn allow(
        &self,
        id: u64,
        code: &str,
        scope: Scope,
        channel: Channel,
        by: &str,
    ) -> Result<Noted, Fault> {
        let mut inner = self.lock();
        inner.may_answer(id, channel)?;
        let most = inner.most;
        let answered = inner.desk.allow(id, code, scope, most, unix_now().0)?;
        let by = By { who: by.to_owned(), channel, scope };
        Ok(self.settle(&mut inner, answered, Some(by)))
    }

    fn refuse(&self, id: u64, channel: Channel, by: &str) -> Result<Noted, Fault> {
        let mut inner = self.lock();
        inner.may_answer(id, channel)?;
        let answered = inner.desk.refuse(id)?;
        let by = By { who: by.to_owned(), channel, scope: Scope::Once };
        Ok(self.settle(&mut inner, answered, Some(by)))
    }

    fn revoke(&self, id: u64) -> Result<(), Fault> {
        let mut inner = self.lock();
        inner.desk.revoke(id)?;
        store::save(&self.store, &inner.desk);
        Ok(())
    }
}

impl Inner {
    /// Only where the policy says so can a question be answered.
    fn may_answer(&self, id: u64, channel: Channel) -> Result<(), Fault> {
        let waiting = self.desk.waiting().find(|(other, _)| *other == id);
        let asker = waiting.and_then(|(_, waiting)| self.answers.get(&waiting.question.key));
        match asker {
            Some(asker) if !asker.channels.contains(&channel) => {
                let why = "the policy does not let this question be answered here";
                Err(Fault::new(Code::ConsentNotYours, why))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Answers with no what nobody answers in time.
async fn expire(consent: Arc<Consent>) {
    loop {
        let changed = consent.changed.notified();
        let now = unix_now().0;
        let next = {
            let mut inner = consent.lock();
            for over in inner.desk.expired(now) {
                drop(consent.settle(&mut inner, over, None));
            }
            inner.desk.next_timeout()
        };
        match next {
            // A clock that is set does not make a question live longer than a minute too long.
            Some(until) => {
                let wait =
                    std::time::Duration::from_millis(until.saturating_sub(now).clamp(1, 60_000));
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
            None => changed.await,
        }
    }
}

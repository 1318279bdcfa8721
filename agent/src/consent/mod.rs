//! Asking the owner of this machine: questions of attempts wait here, the owner answers over a local socket. What a question
//! means and which answer counts is decided in the core.

mod client;
mod peer;
mod socket;
mod store;

pub(crate) use client::ConsentCommand;

use crate::clock::unix_now;
use cortex_agent_core::consent::{Asked, Desk, Question, Scope, Verdict};
use cortex_agent_core::policy::{ConsentRules, Fingerprint, Remember};
use cortex_model::{AttemptKey, Code, Fault};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Directory of the socket, its token and remembered answers, below the agent's data.
const DIR: &str = "consent";

/// The one queue of an agent.
#[derive(Debug)]
pub(crate) struct Consent {
    inner: Mutex<Inner>,
    /// Something waits, or waits no longer.
    changed: Notify,
    /// Mark of this agent's processes: who carries it cannot answer.
    mark: String,
    store: PathBuf,
    open: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Inner {
    desk: Desk,
    answers: BTreeMap<AttemptKey, oneshot::Sender<Verdict>>,
    /// The longest scope that the policy allows.
    most: Remember,
}

/// How an attempt stands with the owner.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It was agreed to before.
    Agreed(Fingerprint),
    /// It waits.
    Waits(oneshot::Receiver<Verdict>),
}

impl Consent {
    /// Opens the socket and waits for the owner. Where that is not possible, every question is answered with no, and why.
    pub(crate) fn start(data_dir: &Path, mark: &str) -> Arc<Self> {
        let dir = data_dir.join(DIR);
        let store = dir.join("grants.json");
        let consent = Arc::new(Self {
            inner: Mutex::default(),
            changed: Notify::new(),
            mark: mark.to_owned(),
            store,
            open: Mutex::new(Some("the socket is not open yet".to_owned())),
        });
        match socket::open(&dir) {
            Ok((listener, token)) => {
                consent.lock().desk.restore(store::load(&consent.store));
                *consent.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
                tokio::spawn(socket::serve(listener, token, Arc::clone(&consent)));
                tokio::spawn(expire(Arc::clone(&consent)));
            }
            Err(why) => {
                tracing::warn!(why, "the owner cannot be asked on this machine");
                *consent.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
        }
        consent
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the owner, unless they have answered this before.
    ///
    /// # Errors
    /// There is no way to ask, or too many wait.
    pub(crate) fn ask(
        &self,
        question: Question,
        rules: Option<&ConsentRules>,
    ) -> Result<Standing, Fault> {
        let unavailable = |why: &str| Fault::new(Code::ConsentUnavailable, why);
        let rules = rules.ok_or_else(|| unavailable("the policy knows no consent"))?;
        if !rules.channels.contains(&cortex_agent_core::policy::Channel::Socket) {
            return Err(unavailable(
                "the policy names no channel on which this agent can ask its owner",
            ));
        }
        if let Some(why) = self.open.lock().unwrap_or_else(PoisonError::into_inner).as_deref() {
            return Err(unavailable(why));
        }
        let random =
            u32::from_be_bytes(store::random::<4>().map_err(|err| unavailable(&err.to_string()))?);
        let (key, fingerprint, rule) =
            (question.key.clone(), question.fingerprint, question.rule.clone());
        let mut inner = self.lock();
        inner.most = rules.remember;
        let standing = match inner.desk.ask(question, random, unix_now().0)? {
            Asked::Granted(grant) => {
                tracing::info!(attempt = %key, grant, "the owner agreed to this before");
                Standing::Agreed(fingerprint)
            }
            Asked::Waits(id) => {
                let (sender, receiver) = oneshot::channel();
                inner.answers.insert(key.clone(), sender);
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

    fn settle(&self, inner: &mut Inner, (key, verdict): (AttemptKey, Verdict), by: &str) {
        tracing::info!(attempt = %key, verdict = ?verdict, by, "the question is answered");
        if let Some(answer) = inner.answers.remove(&key) {
            // It fails when the attempt has just been cancelled.
            answer.send(verdict).ok();
        }
        self.changed.notify_waiters();
    }

    fn allow(&self, id: u64, code: &str, scope: Scope, by: &str) -> Result<(), Fault> {
        let mut inner = self.lock();
        let most = inner.most;
        let answered = inner.desk.allow(id, code, scope, most, unix_now().0)?;
        self.settle(&mut inner, answered, by);
        store::save(&self.store, inner.desk.grants().map(|(_, grant)| grant));
        Ok(())
    }

    fn refuse(&self, id: u64, by: &str) -> Result<(), Fault> {
        let mut inner = self.lock();
        let answered = inner.desk.refuse(id)?;
        self.settle(&mut inner, answered, by);
        Ok(())
    }

    fn revoke(&self, id: u64) -> Result<(), Fault> {
        let mut inner = self.lock();
        inner.desk.revoke(id)?;
        store::save(&self.store, inner.desk.grants().map(|(_, grant)| grant));
        Ok(())
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
                consent.settle(&mut inner, over, "nobody");
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

//! What the machine asks for and what attempts tell, done at once.

use super::Driver;
use crate::attempt::Event;
use crate::exec::{Stop, nobody};
use crate::spool::Spool;
use crate::start::key;
use cortex_agent_core::Policy;
use cortex_audit::record::{Config, PolicyLoaded};
use cortex_model::proto::{ConsentReport, Narrowing, OutputChunk, TerminalInput};
use cortex_model::{AttemptKey, Code};
use cortex_tunnel::AgentAction;
use std::sync::Arc;

impl Driver {
    pub(super) fn act(&mut self, action: AgentAction) {
        match action {
            AgentAction::Connect => {
                let dial = super::identity::dial(&self.config);
                self.dialing = Some(tokio::spawn(dial.dial()));
            }
            AgentAction::Disconnect(reason) => self.disconnect(&reason),
            AgentAction::Welcomed { gateway, workspace, now_ms, .. } => {
                tracing::info!(gateway, workspace, "connected");
                self.worked = true;
                self.audit_open(now_ms);
            }
            AgentAction::Refused { error, fatal } => {
                let cortex_model::proto::Error { code, message, hint, .. } = error;
                if fatal {
                    tracing::error!(code, message, hint, "the gateway refuses this node");
                    if code == Code::NodeRevoked.as_str() {
                        self.end_all(Stop::Cancelled);
                    }
                } else {
                    tracing::warn!(code, message, hint, "the gateway refused the connection");
                }
            }
            AgentAction::Offer(mut offer) => self.offered(&mut offer),
            AgentAction::Go { key, go } => self.go(&key, &go),
            AgentAction::NoGo { offer_id, .. } => {
                self.claims.remove(&offer_id);
                self.worker.no_go(offer_id);
            }
            AgentAction::Terminal(input) => self.typed(*input),
            AgentAction::Query(query) => self.query(&query),
            AgentAction::Cancel(cancel) => self.cancel(&cancel),
            AgentAction::TokenAccepted { expires_at_ms, .. } => {
                tracing::debug!(expires_at_ms, "the gateway took the newer token");
            }
            AgentAction::RenewNow { within_ms } => self.renew_within(within_ms),
            AgentAction::Narrow(narrowing) => self.narrow(&narrowing),
            AgentAction::Drain { grace_ms } => tracing::info!(grace_ms, "the gateway drains"),
            AgentAction::OutcomeAcked(key) => self.acked(key),
            AgentAction::OutputAcked { .. } => {}
            AgentAction::DiscardOutput(key) | AgentAction::Released(key) => {
                if let Some(spool) = self.started.owned.remove(&key) {
                    spool.remove();
                }
            }
            AgentAction::Audit(news) => self.audit_heard(*news),
            AgentAction::ReadSpool { key, offset, max } => self.read_spool(&key, offset, max),
        }
    }

    /// Passes on what somebody typed. A terminal that has too much to do takes nothing of it: they say it again.
    fn typed(&mut self, input: TerminalInput) {
        let (id, key) = (input.query_id, key(&input.workspace, &input.task_id, input.attempt));
        let terminal = key.ok().and_then(|key| self.terminals.get(&key));
        if terminal.is_none_or(|terminal| terminal.try_send(input).is_err()) {
            self.end.answer_terminal(nobody(id));
        }
    }

    fn read_spool(&mut self, key: &AttemptKey, offset: u64, max: usize) {
        let spool = self.started.owned.get(key);
        match spool.map(|spool| spool.read(offset, max)) {
            Some(Ok(Some(chunk))) => {
                if let Err(error) = self.end.output_data(key, OutputChunk::from(&chunk)) {
                    tracing::error!(%error, attempt = %key, "a chunk of output was refused");
                }
            }
            Some(Ok(None)) | None => {
                tracing::error!(attempt = %key, offset, "output is missing");
                self.end.output_lost(key);
            }
            Some(Err(error)) => {
                tracing::error!(%error, attempt = %key, offset, "output cannot be read");
                self.end.output_lost(key);
            }
        }
    }

    /// The journal forgets what it owed; should that fail, the outcome is sent again another day.
    fn acked(&mut self, key: AttemptKey) {
        self.unacked.remove(&key);
        let journal = self.started.journal.clone();
        tokio::spawn(async move {
            if let Err(error) = journal.acked(&key).await {
                tracing::warn!(%error, attempt = %key, "an acknowledgement could not be noted");
            }
        });
    }

    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Typed { answer } => drop(self.end.answer_terminal(answer)),
            Event::Intended { key, timeout_ms, terminal } => {
                if let Some(terminal) = terminal {
                    self.terminals.insert(key.clone(), terminal);
                }
                self.unacked.insert(key.clone());
                self.worker.intended(&key, timeout_ms, self.ticks.now());
            }
            Event::Asking { key, report } => {
                self.worker.asking(&key);
                self.consent_said(*report);
            }
            Event::Answered { report } => self.consent_said(*report),
            Event::Waiting { key } => self.worker.asking(&key),
            Event::Agreed { key, resume } => self.resuming.push_back((key, resume)),
            Event::Suspended { key } => {
                self.worker.suspended(&key);
                self.stops.remove(&key);
            }
            Event::Withdrawn { key } => {
                self.worker.ended(&key);
                self.stops.remove(&key);
            }
            Event::Output { key, end } => self.end.output_available(&key, end),
            Event::Ended { key, result } => {
                // Before anybody can be told that it never started.
                self.consent.forget(&key);
                self.worker.ended(&key);
                self.terminals.remove(&key);
                self.stops.remove(&key);
                match result {
                    Ok(receipt) => {
                        self.unacked.insert(key.clone());
                        if let Err(error) = self.end.outcome(receipt.report) {
                            tracing::error!(%error, attempt = %key, "an outcome cannot be told");
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, attempt = %key, "an attempt could not be recorded");
                        self.unacked.remove(&key);
                    }
                }
            }
        }
    }

    fn consent_said(&mut self, report: ConsentReport) {
        if let Err(error) = self.end.consent(report) {
            tracing::error!(%error, "what waits for the owner cannot be told");
        }
    }

    /// Lets attempts go on that the owner agreed to, as there are slots.
    pub(super) fn resume(&mut self) {
        while let Some((key, resume)) = self.resuming.pop_front() {
            let over = !self.worker.running().any(|running| *running == key);
            if over {
                continue;
            }
            if !self.worker.agreed(&key) {
                self.resuming.push_front((key, resume));
                return;
            }
            let policy = self.policy().unwrap_or_else(|_| Arc::new(Policy::nothing()));
            // It fails when the attempt has just been stopped.
            resume.send(policy).ok();
        }
    }

    pub(super) fn stop(&mut self, key: &AttemptKey, why: Stop) {
        if let Some(stop) = self.stops.remove(key) {
            // It fails when the attempt has just ended by itself.
            stop.send(why).ok();
        }
    }

    /// A server takes something away from what the owner allows, or gives it back. What came and what counts of it is recorded.
    fn narrow(&mut self, sent: &Narrowing) {
        let before = self.policy.held();
        let Some(held) = before.take(sent) else { return };
        if let Err(error) = held.save(&self.config.data_dir) {
            tracing::error!(%error, "what the server takes away is held to until the agent ends only");
        }
        let record = Config { what: held.line(), old: before.digest(), new: held.digest() };
        tracing::info!(what = record.what, "the server narrows the policy");
        self.policy.hold(held);
        // The gateway learns what counts with a new hello.
        self.look_at = tokio::time::Instant::now();
        if self.started.closed {
            return;
        }
        let journal = self.started.journal.clone();
        tokio::spawn(async move {
            if let Err(error) = journal.record(record, Vec::new()).await {
                tracing::error!(%error, "what the server takes away could not be recorded");
            }
        });
    }

    /// A policy that was not known before is recorded, before any attempt is decided by it.
    pub(super) fn note_policy(&mut self, policy: &Policy) {
        let now = Some(policy.digest().to_owned());
        if self.loaded == now || self.started.closed {
            return;
        }
        let previous = std::mem::replace(&mut self.loaded, now);
        let trigger = if previous.is_none() { "start" } else { "reload" };
        let loaded = PolicyLoaded {
            policy: policy.digest().to_owned(),
            previous,
            format: policy.version().into(),
            rules: policy.rule_count() as u64,
            source: self.config.policy.to_string_lossy().into_owned(),
            trigger: trigger.to_owned(),
        };
        let journal = self.started.journal.clone();
        if trigger == "start" {
            // With the session.
            if let Err(error) = journal.announce(loaded) {
                tracing::error!(%error, "the policy could not be recorded");
            }
            return;
        }
        tokio::spawn(async move {
            if let Err(error) = journal.policy_loaded(loaded).await {
                tracing::error!(%error, "the policy could not be recorded");
            }
        });
    }

    /// Who waits for the owner waits on when the agent has been started again, and keeps nobody.
    pub(super) fn suspend(&mut self) {
        let kept = self.worker.running().filter(|key| self.consent.keeps(key));
        let kept: Vec<AttemptKey> = kept.cloned().collect();
        for key in &kept {
            if self.worker.stop(key) {
                self.stop(key, Stop::Shutdown);
            }
        }
    }

    /// Ends everything that runs, and names it.
    pub(super) fn end_all(&mut self, why: Stop) -> Vec<AttemptKey> {
        let running: Vec<AttemptKey> = self.worker.running().cloned().collect();
        for key in &running {
            if self.worker.stop(key) {
                self.stop(key, why);
            }
        }
        running
    }

    pub(super) fn own(&mut self, key: &AttemptKey, limit: u64) -> Arc<Spool> {
        let spool = self.started.spools.create(key, limit);
        self.started.owned.insert(key.clone(), Arc::clone(&spool));
        spool
    }
}

//! What the agent reports about attempts, on its way into the log: output first, then the outcome.

use super::Shared;
use super::connection::{Connection, Done, RETRY, RETRY_MAX};
use super::flow::{Flow, Next};
use crate::ingest;
use cortex_log::{LogError, OutputKey};
use cortex_model::proto as pb;
use cortex_model::{AttemptKey, Fault, NodeId, Outcome, wire};
use cortex_tunnel::AckMode;
use futures::FutureExt;
use std::time::Duration;

/// How long the log may take to show whose an attempt is, before the agent is told to come again.
const VET_MAX: Duration = Duration::from_secs(30);

impl Connection {
    pub(super) fn outcome(&mut self, key: AttemptKey, report: pb::OutcomeReport) {
        match wire::task::outcome(report.outcome.unwrap_or_default()) {
            Ok(outcome) => {
                let flow = self.flows.entry(key.clone()).or_default();
                if flow.outcome(Box::new(outcome)) {
                    self.end.outcome_replaced();
                }
                self.advance(&key);
            }
            Err(fault) => {
                tracing::error!(attempt = %key, error = %fault, "an outcome cannot be read");
                self.end.refuse((&fault).into(), 0);
            }
        }
    }

    /// Does what is next for an attempt's reports.
    pub(super) fn advance(&mut self, key: &AttemptKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        match flow.next() {
            Next::Store(chunks) => self.store(key.clone(), chunks),
            Next::AskEnd => self.store(key.clone(), Vec::new()),
            Next::Resend(from) => self.end.ack_output(key, from, AckMode::Resend),
            Next::Consent(report) => self.record_consent(key.clone(), report, Duration::ZERO),
            Next::Finish(outcome) => self.finish(key.clone(), outcome, Duration::ZERO),
            Next::Nothing => {}
        }
    }

    /// Stores chunks; with none it asks for the durable end. Before the first of an attempt the log is asked whose it is.
    pub(super) fn store(&mut self, key: AttemptKey, chunks: Vec<pb::OutputChunk>) {
        let (Some(peer), Some(flow)) = (&self.peer, self.flows.get(&key)) else { return };
        let (shared, node, vetted) = (self.shared.clone(), peer.node.clone(), flow.is_vetted());
        self.work.push(
            async move {
                let bytes = chunks.iter().map(|c| c.data.len() as u64).sum();
                if !vetted {
                    match vet(&shared, &node, &key).await {
                        Ok(true) => {}
                        Ok(false) => return Done::Foreign { key, bytes },
                        Err(fault) => return Done::Doubtful { key, fault },
                    }
                }
                shared.seats.may_act().await;
                let mut result = store_once(shared.log.as_ref(), &key, &chunks).await;
                while !matches!(result, Ok(_) | Err(LogError::OutputGap { .. })) {
                    tracing::warn!(attempt = %key, ?result, "output was not stored; trying again");
                    tokio::time::sleep(RETRY).await;
                    shared.seats.may_act().await;
                    result = store_once(shared.log.as_ref(), &key, &chunks).await;
                }
                Done::Stored { key, bytes, result }
            }
            .boxed(),
        );
    }

    pub(super) fn consent(&mut self, key: AttemptKey, report: Box<pb::ConsentReport>) {
        self.flows.entry(key.clone()).or_default().consent(report);
        self.advance(&key);
    }

    pub(super) fn record_consent(
        &mut self,
        key: AttemptKey,
        report: Box<pb::ConsentReport>,
        after: Duration,
    ) {
        let Some(peer) = &self.peer else { return };
        let (shared, node) = (self.shared.clone(), peer.node.clone());
        self.work.push(
            async move {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                let result = ingest::consent(&shared.tasks, &node, &key, &report).await;
                Done::Consented { key, report, after, result }
            }
            .boxed(),
        );
    }

    pub(super) fn consent_recorded(
        &mut self,
        key: AttemptKey,
        report: Box<pb::ConsentReport>,
        after: Duration,
        result: Result<(), Fault>,
    ) {
        if let Err(fault) = result {
            tracing::warn!(attempt = %key, error = %fault, "a word about consent was not stored; trying again");
            return self.record_consent(key, report, (2 * after).clamp(RETRY, RETRY_MAX));
        }
        self.end.ack_consent(&report);
        if self.flows.get_mut(&key).is_some_and(Flow::consented) {
            self.flows.remove(&key);
        }
        self.advance(&key);
    }

    pub(super) fn finish(&mut self, key: AttemptKey, outcome: Box<Outcome>, after: Duration) {
        let Some(peer) = &self.peer else { return };
        let (shared, node) = (self.shared.clone(), peer.node.clone());
        self.work.push(
            async move {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                shared.seats.may_act().await;
                let result = ingest::outcome(&shared.tasks, &node, &key, &outcome).await;
                Done::Finished { key, outcome, after, result }
            }
            .boxed(),
        );
    }
}

/// Whether the attempt is the node's own; asks again while the log does not say.
async fn vet(shared: &Shared, node: &NodeId, key: &AttemptKey) -> Result<bool, Fault> {
    let begun = tokio::time::Instant::now();
    loop {
        match ingest::is_of(&shared.tasks, node, key).await {
            Err(_) if begun.elapsed() < VET_MAX => tokio::time::sleep(RETRY).await,
            settled => return settled,
        }
    }
}

async fn store_once(
    log: &dyn cortex_log::EventLog,
    key: &AttemptKey,
    chunks: &[pb::OutputChunk],
) -> Result<u64, LogError> {
    let output = OutputKey::new(key.task.workspace.as_str(), key.task.task.as_str(), key.attempt)?;
    if chunks.is_empty() {
        return log.output_end(&output).await;
    }
    let chunk = |c: &pb::OutputChunk| cortex_log::OutputChunk {
        stream: u8::try_from(c.stream).unwrap_or(0),
        offset: c.offset,
        data: c.data.clone(),
    };
    log.append_output(&output, chunks.iter().map(chunk).collect()).await
}

//! What an agent still owes upstream: output and outcomes that were not acknowledged. It survives
//! reconnects: output goes on from the last acknowledged offset, outcomes are sent again. It never
//! holds output for longer than it takes to send it; the bytes stay in the driver's spool.
//!
//! An outcome follows the last byte of its output on the same connection. Attempts take turns, one
//! chunk each.

use crate::agent_actions::AgentAction;
use crate::credit::Purse;
use crate::frame::{check_chunk, output_report};
use cortex_model::AttemptKey;
use cortex_model::limits::{OUTCOMES_IN_FLIGHT_MAX, OUTPUT_CHUNK_MAX, OUTPUT_READ_AHEAD};
use cortex_model::proto::{OutcomeReport, OutputAck, OutputChunk, OutputReport};
use std::collections::{BTreeMap, VecDeque};
use thiserror::Error;

/// What an agent that was restarted still owes for one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// The attempt.
    pub key: AttemptKey,
    /// Bytes of output that were acknowledged; may be less than is true upstream.
    pub acked: u64,
    /// Bytes of output in the spool, from its beginning.
    pub end: u64,
    /// Its outcome, if it has one that was not acknowledged.
    pub outcome: Option<OutcomeReport>,
    /// Its outcome was acknowledged; only output is owed.
    pub outcome_acked: bool,
}

/// The driver answered `ReadSpool` with a chunk that cannot be sent. The output of the attempt waits
/// until more of it is announced or the connection changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a chunk of {got} bytes where 1 to {max} of one stream were asked for")]
pub struct BadChunk {
    /// Bytes in the chunk.
    pub got: u64,
    /// Bytes that were asked for.
    pub max: u64,
}

/// Where an outcome is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// There is none yet.
    #[default]
    Running,
    /// It waits for its output, or for a connection.
    Waiting,
    /// It is in `Delivery::outcomes`.
    Ready,
    /// It was sent on this connection.
    Sent,
    Acked,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    offset: u64,
    max: u64,
}

#[derive(Debug, Default)]
struct Attempt {
    /// Bytes in the spool.
    end: u64,
    /// Bytes acknowledged.
    acked: u64,
    /// Bytes sent on this connection, counted from the beginning of the output.
    sent: u64,
    /// Bytes sent, or read and about to be sent.
    next: u64,
    read: Option<Read>,
    /// In `Delivery::runnable`.
    queued: bool,
    /// Nobody wants the output, or nobody can have it.
    discarded: bool,
    /// The spool failed: what comes after this will never be delivered.
    lost_from: Option<u64>,
    stage: Stage,
    /// From `Waiting` to `Sent`.
    outcome: Option<Box<OutcomeReport>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    attempts: BTreeMap<AttemptKey, Attempt>,
    /// Attempts with output to read, in turn.
    runnable: VecDeque<AttemptKey>,
    /// Attempts whose outcome may be sent.
    outcomes: VecDeque<AttemptKey>,
    /// Read and not sent.
    chunks: VecDeque<(AttemptKey, OutputChunk)>,
    reads: usize,
    outcomes_in_flight: usize,
    purse: Purse,
    connected: bool,
}

impl Delivery {
    pub(crate) fn len(&self) -> usize {
        self.attempts.len()
    }

    pub(crate) fn restore(&mut self, restored: Restored, actions: &mut VecDeque<AgentAction>) {
        let Restored { key, acked, end, outcome, outcome_acked } = restored;
        let attempt = self.attempts.entry(key.clone()).or_default();
        attempt.end = end;
        attempt.acked = acked.min(end);
        attempt.stage = match &outcome {
            Some(_) => Stage::Waiting,
            None if outcome_acked => Stage::Acked,
            None => Stage::Running,
        };
        let inline = outcome.as_ref().is_some_and(has_inline);
        attempt.outcome = outcome.map(Box::new);
        self.rewind(&key, acked.min(end));
        if inline {
            self.drop_output(&key);
        }
        self.release(&key, actions);
    }

    /// The spool of an attempt has grown to `end`. It never shrinks; a smaller `end` is ignored.
    pub(crate) fn output_available(&mut self, key: &AttemptKey, end: u64) {
        let attempt = match self.attempts.get_mut(key) {
            Some(attempt) => attempt,
            None => self.attempts.entry(key.clone()).or_default(),
        };
        if attempt.discarded || end <= attempt.end {
            return;
        }
        attempt.end = end;
        self.hold_back(key);
        self.wake(key);
    }

    /// The attempt has ended. Output inside the outcome replaces what is in the spool.
    pub(crate) fn outcome(&mut self, key: AttemptKey, report: OutcomeReport) {
        let inline = has_inline(&report);
        let attempt = self.attempts.entry(key.clone()).or_default();
        // The first word about an attempt is the only one.
        if attempt.stage != Stage::Running {
            return;
        }
        attempt.stage = Stage::Waiting;
        attempt.outcome = Some(Box::new(report));
        if inline {
            self.drop_output(&key);
        }
        self.wake(&key);
    }

    /// No more output of this attempt is sent, and its outcome does not wait for any.
    pub(crate) fn drop_output(&mut self, key: &AttemptKey) {
        self.purge(key);
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.discarded = true;
            attempt.acked = attempt.end;
            attempt.next = attempt.end;
            attempt.sent = attempt.end;
            self.wake(key);
        }
    }

    pub(crate) fn connected(&mut self, credit: u64) {
        self.purse.reset(credit);
        self.connected = true;
        let keys: Vec<AttemptKey> = self.attempts.keys().cloned().collect();
        for key in &keys {
            self.wake(key);
        }
    }

    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
        self.purse.reset(0);
        self.runnable.clear();
        self.outcomes.clear();
        self.chunks.clear();
        self.reads = 0;
        self.outcomes_in_flight = 0;
        for attempt in self.attempts.values_mut() {
            attempt.sent = attempt.acked;
            attempt.next = attempt.acked;
            attempt.read = None;
            attempt.queued = false;
            if matches!(attempt.stage, Stage::Ready | Stage::Sent) {
                attempt.stage = Stage::Waiting;
            }
        }
    }

    pub(crate) fn credit(&mut self, bytes: u64) {
        self.purse.add(bytes);
    }

    /// The next piece of a spool to read, if there is credit and room for it.
    pub(crate) fn next_read(&mut self) -> Option<(AttemptKey, u64, usize)> {
        while self.can_read() {
            let key = self.runnable.pop_front()?;
            let Some(attempt) = self.attempts.get_mut(&key) else { continue };
            attempt.queued = false;
            if attempt.read.is_some() || attempt.next >= attempt.end {
                continue;
            }
            let offset = attempt.next;
            let max = self.purse.take((attempt.end - offset).min(OUTPUT_CHUNK_MAX as u64));
            attempt.read = Some(Read { offset, max });
            self.reads += 1;
            return Some((key, offset, max as usize));
        }
        None
    }

    fn can_read(&self) -> bool {
        self.connected
            && !self.purse.is_empty()
            && self.reads + self.chunks.len() < OUTPUT_READ_AHEAD
    }

    /// The answer to a read. One that nobody waits for any more is dropped.
    pub(crate) fn output_data(
        &mut self,
        key: &AttemptKey,
        chunk: OutputChunk,
    ) -> Result<(), BadChunk> {
        let Some(attempt) = self.attempts.get_mut(key) else { return Ok(()) };
        let Some(read) = attempt.read.filter(|read| read.offset == chunk.offset) else {
            return Ok(());
        };
        attempt.read = None;
        self.reads -= 1;
        let got = chunk.data.len() as u64;
        if attempt.next != read.offset {
            self.purse.add(read.max);
            self.wake(key);
            return Ok(());
        }
        if check_chunk(&chunk).is_err() || got > read.max {
            self.purse.add(read.max);
            return Err(BadChunk { got, max: read.max });
        }
        self.purse.add(read.max - got);
        attempt.next += got;
        self.chunks.push_back((key.clone(), chunk));
        self.wake(key);
        Ok(())
    }

    pub(crate) fn has_frame(&self) -> bool {
        !self.chunks.is_empty() || self.can_send_outcome()
    }

    fn can_send_outcome(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes_in_flight < OUTCOMES_IN_FLIGHT_MAX
    }

    pub(crate) fn next_outcome(&mut self) -> Option<OutcomeReport> {
        if !self.can_send_outcome() {
            return None;
        }
        let attempt = self.attempts.get_mut(&self.outcomes.pop_front()?)?;
        attempt.stage = Stage::Sent;
        self.outcomes_in_flight += 1;
        let mut report = attempt.outcome.as_deref().cloned()?;
        attempt.admit_loss(&mut report);
        Some(report)
    }

    /// The spool cannot be read any more. The outcome does not wait for the rest, and says that it will not come; one that was
    /// sent without saying so is sent again.
    pub(crate) fn output_lost(&mut self, key: &AttemptKey) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.lost_from.get_or_insert(attempt.acked);
        if attempt.stage == Stage::Sent {
            attempt.stage = Stage::Waiting;
            self.outcomes_in_flight -= 1;
        }
        self.drop_output(key);
    }

    /// Takes a ready outcome out of its queue: there is output to send before it, or no need for it.
    /// Rare, so looking through the queue does no harm.
    fn hold_back(&mut self, key: &AttemptKey) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if attempt.stage == Stage::Ready {
            attempt.stage = Stage::Waiting;
            self.outcomes.retain(|ready| ready != key);
        }
    }

    pub(crate) fn next_output(&mut self) -> Option<OutputReport> {
        let (key, chunk) = self.chunks.pop_front()?;
        if let Some(attempt) = self.attempts.get_mut(&key) {
            attempt.sent += chunk.data.len() as u64;
            self.wake(&key);
        }
        Some(output_report(&key, chunk))
    }

    /// False if nothing is known of such an outcome.
    pub(crate) fn outcome_acked(
        &mut self,
        key: &AttemptKey,
        actions: &mut VecDeque<AgentAction>,
    ) -> bool {
        self.hold_back(key);
        let Some(attempt) = self.attempts.get_mut(key) else { return false };
        match attempt.stage {
            Stage::Running | Stage::Acked => return false,
            Stage::Sent => self.outcomes_in_flight -= 1,
            Stage::Waiting | Stage::Ready => {}
        }
        attempt.stage = Stage::Acked;
        attempt.outcome = None;
        actions.push_back(AgentAction::OutcomeAcked(key.clone()));
        self.release(key, actions);
        true
    }

    /// False if the acknowledgement says nothing new.
    pub(crate) fn output_acked(
        &mut self,
        key: &AttemptKey,
        ack: &OutputAck,
        actions: &mut VecDeque<AgentAction>,
    ) -> bool {
        let Some(attempt) = self.attempts.get_mut(key) else { return false };
        if ack.discard {
            if attempt.discarded {
                return false;
            }
            self.drop_output(key);
            actions.push_back(AgentAction::DiscardOutput(key.clone()));
            self.release(key, actions);
            return true;
        }
        if attempt.discarded {
            return false;
        }
        // Upstream may hold more than a spool that lost its unsynced tail in a power cut.
        let offset = ack.offset.min(attempt.end);
        let news = offset > attempt.acked;
        if news {
            attempt.acked = offset;
            actions.push_back(AgentAction::OutputAcked { key: key.clone(), offset });
        }
        if ack.resend || offset > attempt.sent {
            self.rewind(key, offset);
        }
        self.release(key, actions);
        news || ack.resend
    }

    /// Sending goes on from `offset`, back or forward.
    fn rewind(&mut self, key: &AttemptKey, offset: u64) {
        self.purge(key);
        self.hold_back(key);
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.next = offset;
            attempt.sent = offset;
            self.wake(key);
        }
    }

    /// Takes back what was read and not sent, with its credit. Short, since `chunks` is.
    fn purge(&mut self, key: &AttemptKey) {
        let purse = &mut self.purse;
        self.chunks.retain(|(owner, chunk)| {
            let keep = owner != key;
            if !keep {
                purse.add(chunk.data.len() as u64);
            }
            keep
        });
    }

    /// Puts an attempt into the queues in which it has something to do.
    fn wake(&mut self, key: &AttemptKey) {
        if !self.connected {
            return;
        }
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if attempt.next < attempt.end && attempt.read.is_none() && !attempt.queued {
            attempt.queued = true;
            self.runnable.push_back(key.clone());
        }
        if attempt.sent >= attempt.end && attempt.stage == Stage::Waiting {
            attempt.stage = Stage::Ready;
            self.outcomes.push_back(key.clone());
        }
    }

    /// Forgets an attempt for which nothing is owed.
    fn release(&mut self, key: &AttemptKey, actions: &mut VecDeque<AgentAction>) {
        let Some(attempt) = self.attempts.get(key) else { return };
        if attempt.stage == Stage::Acked && attempt.acked >= attempt.end {
            self.reads -= usize::from(attempt.read.is_some());
            if let Some(read) = attempt.read {
                self.purse.add(read.max);
            }
            self.purge(key);
            self.attempts.remove(key);
            actions.push_back(AgentAction::Released(key.clone()));
        }
    }
}

impl Attempt {
    /// Says in a report how much of what was kept will never be delivered: a gateway would wait for it for ever.
    fn admit_loss(&self, report: &mut OutcomeReport) {
        if has_inline(report) || (self.discarded && self.lost_from.is_none()) {
            return;
        }
        let Some(output) = report.outcome.as_mut().and_then(|o| o.output.as_mut()) else { return };
        let total = output.stdout_bytes.saturating_add(output.stderr_bytes);
        output.lost_bytes = total.saturating_sub(self.lost_from.unwrap_or(self.end));
    }
}

/// Whether the outcome carries the whole output, so that the spool need not be sent.
fn has_inline(report: &OutcomeReport) -> bool {
    report.outcome.as_ref().is_some_and(|outcome| !outcome.inline_output.is_empty())
}

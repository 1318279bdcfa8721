//! What one attempt reports through one connection: its output in order, then its outcome, each acknowledged only when
//! durable. Pure bookkeeping; the connection does the storing.

use cortex_model::Outcome;
use cortex_model::proto as pb;
use std::collections::VecDeque;

/// Chunks stored together, at most.
const BATCH_CHUNKS: usize = 16;

/// The state of one attempt's reports.
#[derive(Default)]
pub(super) struct Flow {
    queue: VecDeque<pb::OutputChunk>,
    /// Something of this attempt is being stored.
    busy: bool,
    /// Chunks beyond this offset are dropped until it is met.
    resend_from: Option<u64>,
    /// The durable end, once known on this connection.
    durable: Option<u64>,
    /// The newest word about the owner's consent that is not durable yet.
    consent: Option<Box<pb::ConsentReport>>,
    outcome: Option<Box<Outcome>>,
}

/// What to do next for an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Store these chunks.
    Store(Vec<pb::OutputChunk>),
    /// Ask the log how much it has.
    AskEnd,
    /// Output is missing: ask the node to send again from here.
    Resend(u64),
    /// Store what is said about consent.
    Consent(Box<pb::ConsentReport>),
    /// Store the outcome.
    Finish(Box<Outcome>),
    /// Wait.
    Nothing,
}

impl Flow {
    /// A chunk came. False when it is dropped because an earlier one is missing.
    pub(super) fn chunk(&mut self, chunk: pb::OutputChunk) -> bool {
        if let Some(from) = self.resend_from {
            if chunk.offset > from {
                return false;
            }
            self.resend_from = None;
        }
        self.queue.push_back(chunk);
        true
    }

    /// The outcome came. True when it replaces one that came before.
    pub(super) fn outcome(&mut self, outcome: Box<Outcome>) -> bool {
        // What is missing is looked at anew: the node may say that it will not come.
        self.resend_from = None;
        self.outcome.replace(outcome).is_some()
    }

    /// Something about the owner's consent came: it replaces what came before.
    pub(super) fn consent(&mut self, report: Box<pb::ConsentReport>) {
        self.consent = Some(report);
    }

    /// What was said about consent is settled. True when nothing else of the attempt is under way.
    pub(super) fn consented(&mut self) -> bool {
        self.busy = false;
        self.consent.is_none()
            && self.outcome.is_none()
            && self.queue.is_empty()
            && self.durable.is_none()
    }

    /// Whether the log said on this connection that the attempt is the node's own.
    pub(super) fn is_vetted(&self) -> bool {
        self.durable.is_some()
    }

    /// Nothing more is stored: the bytes that waited, and the outcome if it had come.
    pub(super) fn end(self) -> (u64, Option<Box<Outcome>>) {
        (self.queue.iter().map(|c| c.data.len() as u64).sum(), self.outcome)
    }

    /// Chunks were stored up to `end`.
    pub(super) fn stored(&mut self, end: u64) {
        self.busy = false;
        self.durable = Some(end);
    }

    /// The log lacks what comes before the chunks: returns the dropped bytes.
    pub(super) fn gap(&mut self, expected: u64) -> u64 {
        self.busy = false;
        self.durable = Some(expected);
        self.resend_from = Some(expected);
        self.queue.drain(..).map(|c| c.data.len() as u64).sum()
    }

    /// What to do now. Marks the attempt busy when that takes time.
    pub(super) fn next(&mut self) -> Next {
        if self.busy {
            return Next::Nothing;
        }
        // What was asked comes before what became of it.
        if let Some(report) = self.consent.take() {
            self.busy = true;
            return Next::Consent(report);
        }
        if !self.queue.is_empty() {
            self.busy = true;
            let n = self.queue.len().min(BATCH_CHUNKS);
            return Next::Store(self.queue.drain(..n).collect());
        }
        let Some(outcome) = &mut self.outcome else { return Next::Nothing };
        let total = if outcome.inline_output.is_empty() { outcome.output.total() } else { 0 };
        let coming = total.saturating_sub(outcome.output.lost_bytes);
        match self.durable {
            None if total > 0 => {
                self.busy = true;
                Next::AskEnd
            }
            Some(end) if end < coming => match self.resend_from.replace(end) {
                Some(asked) if asked == end => Next::Nothing,
                _ => Next::Resend(end),
            },
            durable => {
                if outcome.output.lost_bytes > 0 {
                    // The node may not have heard how much arrived.
                    outcome.output.lost_bytes = total.saturating_sub(durable.unwrap_or(total));
                }
                self.busy = true;
                self.outcome.take().map_or(Next::Nothing, Next::Finish)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_model::Ending;
    use cortex_model::task::OutputSummary;

    fn chunk(offset: u64, len: usize) -> pb::OutputChunk {
        pb::OutputChunk { stream: 1, offset, data: vec![b'x'; len].into() }
    }

    fn outcome(total: u64) -> Box<Outcome> {
        let mut o = Outcome::without_run(Ending::Exited { code: 0 });
        o.output = OutputSummary { stdout_bytes: total, ..OutputSummary::default() };
        Box::new(o)
    }

    #[test]
    fn the_outcome_waits_for_the_output_before_it() {
        let mut f = Flow::default();
        assert!(f.chunk(chunk(0, 5)));
        f.outcome(outcome(5));
        assert_eq!(f.next(), Next::Store(vec![chunk(0, 5)]));
        assert_eq!(f.next(), Next::Nothing);
        f.stored(5);
        assert_eq!(f.next(), Next::Finish(outcome(5)));
        assert_eq!(f.next(), Next::Nothing);
    }

    #[test]
    fn output_that_was_acknowledged_on_an_earlier_connection_is_looked_up() {
        let mut f = Flow::default();
        f.outcome(outcome(5));
        assert_eq!(f.next(), Next::AskEnd);
        f.stored(3);
        assert_eq!(f.next(), Next::Resend(3));
        assert_eq!(f.next(), Next::Nothing);
        assert!(f.chunk(chunk(3, 2)));
        assert_eq!(f.next(), Next::Store(vec![chunk(3, 2)]));
        f.stored(5);
        assert_eq!(f.next(), Next::Finish(outcome(5)));
    }

    #[test]
    fn what_the_node_lost_is_not_waited_for_and_is_said_to_be_lost() {
        let mut lost = outcome(9);
        lost.output.lost_bytes = 6;
        let mut f = Flow::default();
        f.outcome(lost.clone());
        assert_eq!(f.next(), Next::AskEnd);
        f.stored(2);
        assert_eq!(f.next(), Next::Resend(2), "one more byte can come");
        assert!(f.chunk(chunk(2, 2)));
        assert_eq!(f.next(), Next::Store(vec![chunk(2, 2)]));
        f.stored(4);
        let Next::Finish(told) = f.next() else { panic!("all that can come is there") };
        assert_eq!(told.output.lost_bytes, 5, "one byte more had arrived than the node knew of");
        let mut f = Flow::default();
        f.outcome(outcome(9));
        assert_eq!(f.next(), Next::AskEnd);
        f.stored(2);
        assert_eq!(f.next(), Next::Resend(2));
        assert!(f.outcome(lost), "the node admits it only now");
        assert_eq!(f.next(), Next::Resend(2));
    }

    #[test]
    fn after_a_gap_later_chunks_are_dropped_until_the_missing_one_comes() {
        let mut f = Flow::default();
        assert!(f.chunk(chunk(10, 5)));
        assert!(matches!(f.next(), Next::Store(_)));
        assert!(f.chunk(chunk(15, 5)));
        assert_eq!(f.gap(2), 5);
        assert!(!f.chunk(chunk(20, 5)));
        assert!(f.chunk(chunk(2, 5)));
        assert_eq!(f.next(), Next::Store(vec![chunk(2, 5)]));
    }

    #[test]
    fn what_was_asked_is_stored_before_what_became_of_it_and_only_the_newest_word() {
        let report = |question| Box::new(pb::ConsentReport { question, ..Default::default() });
        let mut f = Flow::default();
        f.outcome(outcome(0));
        f.consent(report(1));
        f.consent(report(2));
        assert_eq!(f.next(), Next::Consent(report(2)));
        assert_eq!(f.next(), Next::Nothing);
        assert!(!f.consented(), "the outcome waits");
        assert_eq!(f.next(), Next::Finish(outcome(0)));
    }

    #[test]
    fn an_outcome_without_output_or_with_all_of_it_inside_does_not_wait() {
        let mut f = Flow::default();
        f.outcome(outcome(0));
        assert_eq!(f.next(), Next::Finish(outcome(0)));
    }
}

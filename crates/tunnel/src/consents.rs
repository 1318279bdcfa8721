//! What the agent has to tell about its owner's consent: of each attempt the newest report, until it is acknowledged.

use cortex_model::AttemptKey;
use cortex_model::limits::UNDELIVERED_ATTEMPTS_MAX;
use cortex_model::proto::{ConsentAck, ConsentAnswer, ConsentReport};
use std::collections::{BTreeMap, VecDeque};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Consents {
    owed: BTreeMap<AttemptKey, ConsentReport>,
    /// To be sent on this connection, in the order in which it was said.
    unsent: VecDeque<AttemptKey>,
}

impl Consents {
    /// Replaces what was said before. As many attempts as can run at all fit in; one more drops the report: its outcome still says
    /// what came of it.
    pub(crate) fn say(&mut self, key: AttemptKey, report: ConsentReport) {
        if self.owed.len() >= UNDELIVERED_ATTEMPTS_MAX && !self.owed.contains_key(&key) {
            return;
        }
        if !self.unsent.contains(&key) {
            self.unsent.push_back(key.clone());
        }
        self.owed.insert(key, report);
    }

    /// The next report to send on this connection.
    pub(crate) fn next(&mut self) -> Option<ConsentReport> {
        let key = self.unsent.pop_front()?;
        self.owed.get(&key).cloned()
    }

    pub(crate) fn has_frame(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// True if that was said last. What is older than that is not owed any more either.
    pub(crate) fn acked(&mut self, key: &AttemptKey, ack: &ConsentAck) -> bool {
        let last = self.owed.get(key).is_some_and(|report| {
            let answered = report.answer != i32::from(ConsentAnswer::Unspecified);
            report.question == ack.question && answered == ack.answered
        });
        if last {
            self.owed.remove(key);
            self.unsent.retain(|unsent| unsent != key);
        }
        last
    }

    /// The connection is gone: everything that is owed is said again on the next.
    pub(crate) fn disconnected(&mut self) {
        self.unsent = self.owed.keys().cloned().collect();
    }
}

//! What of the journal is sent upstream next. The mirror says where to go on; what it did not answer when a connection
//! ended is sent again, and it knows records that it has. Nothing here reads the journal or believes an answer: the
//! caller verified it.

use cortex_model::Tick;
use std::collections::BTreeMap;

/// How long the first record that waits may wait for company, milliseconds. A batch costs a signature, a verification, a
/// synced write and a cosignature on its way, whatever its size.
pub const LINGER_MS: u64 = 200;

/// So many records that wait are company enough.
pub const LINGER_RECORDS: u64 = 1024;

/// An upload without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Records up to this number, which is not among them.
    Records(u64),
    /// Openings of records up to this number.
    Openings(u64),
    /// Evidence.
    Evidence,
}

/// See the module. One lives for the whole process; each connection begins with [`Upload::begin`].
#[derive(Debug, Default)]
pub struct Upload {
    /// The mirror has said where to go on.
    open: bool,
    next: u64,
    next_openings: u64,
    wait_until: Option<Tick>,
    /// Records below this wait, the first of them since then.
    stored: u64,
    since: Option<Tick>,
    sent: BTreeMap<u64, Sent>,
}

impl Upload {
    /// A new connection: nothing is known until the mirror speaks.
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// The mirror said where the log stands. What is under way is not sent twice, unless it says otherwise.
    pub fn state(&mut self, resume_from: u64, openings_from: u64) {
        let under_way = self.sent.values().any(|sent| matches!(sent, Sent::Records(_)));
        if !self.open || !under_way || resume_from > self.next {
            self.next = resume_from;
        }
        let under_way = self.sent.values().any(|sent| matches!(sent, Sent::Openings(_)));
        if !self.open || !under_way || openings_from > self.next_openings {
            self.next_openings = openings_from;
        }
        self.open = true;
    }

    /// No more uploads on this connection.
    pub fn stop(&mut self) {
        self.open = false;
    }

    /// The records below `stored` can be read.
    pub fn stored(&mut self, stored: u64, now: Tick) {
        self.stored = stored;
        self.since = (self.next < stored).then(|| self.since.unwrap_or(now));
    }

    /// The first record to send, if there is one and it is time.
    #[must_use]
    pub fn records(&self, now: Tick) -> Option<u64> {
        let since = self.since.filter(|_| self.may(now) && self.next < self.stored)?;
        let many = self.stored - self.next >= LINGER_RECORDS;
        (many || now >= since + LINGER_MS).then_some(self.next)
    }

    /// The first record whose openings are to be sent, if there is one below `cosigned`.
    #[must_use]
    pub fn openings(&self, cosigned: u64, now: Tick) -> Option<u64> {
        (self.may(now) && self.next_openings < cosigned).then_some(self.next_openings)
    }

    fn may(&self, now: Tick) -> bool {
        self.open && self.wait_until.is_none_or(|until| now >= until)
    }

    /// When a pause that the mirror asked for ends, or what waits has waited long enough.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        let due = self.since.map(|since| since + LINGER_MS);
        self.wait_until.or(due).filter(|_| self.open)
    }

    /// The pause is over.
    pub fn handle_timeout(&mut self, now: Tick) {
        if self.wait_until.is_some_and(|until| now >= until) {
            self.wait_until = None;
        }
    }

    /// Something was sent.
    pub fn sent(&mut self, id: u64, what: Sent) {
        match what {
            Sent::Records(end) => {
                self.next = end;
                // What comes after it waits for room, not for company.
                self.since = self.since.filter(|_| end < self.stored);
            }
            Sent::Openings(end) => self.next_openings = end,
            Sent::Evidence => {}
        }
        self.sent.insert(id, what);
    }

    /// An answer came: what it was about.
    pub fn answered(&mut self, id: u64) -> Option<Sent> {
        self.sent.remove(&id)
    }

    /// An upload was not taken: go on from `from`, after a pause.
    pub fn resend(&mut self, id: u64, from: u64, after_ms: u64, now: Tick) {
        match self.sent.remove(&id) {
            Some(Sent::Records(_)) => self.next = self.next.min(from),
            Some(Sent::Openings(_)) => self.next_openings = self.next_openings.min(from),
            Some(Sent::Evidence) | None => return,
        }
        if after_ms > 0 {
            self.wait_until = Some(now + after_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first record to send of `stored`, at a time when nothing waits for company any more.
    fn next(upload: &mut Upload, stored: u64, now: u64) -> Option<u64> {
        upload.stored(stored, Tick(now));
        upload.records(Tick(now.max(LINGER_MS)))
    }

    #[test]
    fn nothing_is_sent_before_the_mirror_speaks_and_then_from_where_it_says() {
        let mut upload = Upload::default();
        assert_eq!(next(&mut upload, 9, 0), None);
        upload.state(4, 2);
        assert_eq!(next(&mut upload, 9, 0), Some(4));
        assert_eq!(next(&mut upload, 4, 0), None);
        assert_eq!(upload.openings(4, Tick(0)), Some(2));
        upload.stored(9, Tick(0));
        upload.sent(1, Sent::Records(9));
        upload.sent(2, Sent::Openings(4));
        assert_eq!(next(&mut upload, 9, 0), None);
        assert_eq!(upload.openings(4, Tick(0)), None);
        assert_eq!(upload.answered(1), Some(Sent::Records(9)));
        assert_eq!(upload.answered(1), None);
        // A new connection knows nothing of the old one.
        upload.begin();
        assert_eq!(next(&mut upload, 9, 0), None);
    }

    #[test]
    fn a_few_records_wait_for_company_and_many_do_not() {
        let mut upload = Upload::default();
        upload.state(0, 0);
        upload.stored(1, Tick(50));
        assert_eq!((upload.records(Tick(50)), upload.poll_timeout()), (None, Some(Tick(250))));
        // Those that join do not prolong it.
        upload.stored(2, Tick(240));
        assert_eq!((upload.records(Tick(249)), upload.records(Tick(250))), (None, Some(0)));
        upload.sent(1, Sent::Records(2));
        upload.stored(2, Tick(250));
        assert_eq!(upload.poll_timeout(), None);
        upload.stored(2 + LINGER_RECORDS, Tick(300));
        assert_eq!(upload.records(Tick(300)), Some(2));
        // What did not fit into a batch goes with the next, at once.
        upload.sent(2, Sent::Records(100));
        upload.stored(2 + LINGER_RECORDS, Tick(500));
        assert_eq!(upload.records(Tick(500)), Some(100));
    }

    #[test]
    fn what_is_lost_upstream_is_sent_again() {
        let mut upload = Upload::default();
        upload.state(0, 0);
        upload.stored(8, Tick(0));
        upload.sent(1, Sent::Records(5));
        upload.sent(2, Sent::Records(8));
        // A state while batches are under way does not send them twice.
        upload.state(5, 0);
        assert_eq!(next(&mut upload, 8, 0), None);
        upload.resend(1, 0, 100, Tick(210));
        upload.stored(8, Tick(210));
        assert_eq!((upload.records(Tick(309)), upload.poll_timeout()), (None, Some(Tick(310))));
        upload.handle_timeout(Tick(310));
        assert_eq!(next(&mut upload, 8, 410), Some(0));
        // The second was refused for the gap before it: it asks for nothing earlier.
        upload.resend(2, 0, 0, Tick(410));
        assert_eq!(next(&mut upload, 8, 410), Some(0));
        upload.sent(3, Sent::Records(8));
        upload.answered(3);
        // Storage lost records although all was answered.
        upload.state(2, 0);
        upload.stored(8, Tick(410));
        assert_eq!(upload.records(Tick(410 + LINGER_MS)), Some(2));
        upload.stop();
        assert_eq!(upload.records(Tick(1000)), None);
    }
}

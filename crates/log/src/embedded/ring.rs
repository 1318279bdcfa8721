//! The last commits of a space in memory, so that live tails never read the disk. Bounded in
//! number and in bytes; it forgets the oldest.

use crate::types::{Recorded, Rev};
use std::collections::VecDeque;

const RECORDS: usize = 16 * 1024;
const BYTES: usize = 32 * 1024 * 1024;

pub(super) struct Ring {
    records: VecDeque<Recorded>,
    bytes: usize,
    /// Every commit after this one is here.
    floor: Rev,
}

impl Ring {
    pub(super) fn new(head: Rev) -> Ring {
        Ring { records: VecDeque::new(), bytes: 0, floor: head }
    }

    pub(super) fn push(&mut self, recorded: Recorded) {
        self.bytes += recorded.commit.body.len();
        self.records.push_back(recorded);
        while self.records.len() > RECORDS || self.bytes > BYTES {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.commit.body.len();
            self.floor = oldest.rev;
        }
    }

    /// Takes out what a compaction replaced.
    pub(super) fn remove(&mut self, revs: &[Rev]) {
        if revs.iter().any(|rev| *rev > self.floor) {
            self.records.retain(|r| !revs.contains(&r.rev));
            self.bytes = self.records.iter().map(|r| r.commit.body.len()).sum();
        }
    }

    /// The next commits after `after`; `None` when some of them are on disk only.
    pub(super) fn after(&self, after: Rev, limit: usize) -> Option<Vec<Recorded>> {
        if after < self.floor {
            return None;
        }
        let first = self.records.partition_point(|r| r.rev <= after);
        Some(self.records.range(first..).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, Space};
    use crate::types::{Commit, CommitId};
    use std::sync::Arc;

    fn recorded(rev: Rev, size: usize) -> Recorded {
        let key = Arc::new(Key::new(Space::Task, "w", "a").unwrap());
        let id = CommitId::from_bytes([0; 16]);
        let commit = Commit { id, kind: "k".into(), n: 1, body: vec![0; size].into() };
        Recorded { key, rev, at_ms: 0, commit }
    }

    #[test]
    fn it_says_when_it_cannot_know() {
        let mut ring = Ring::new(10);
        assert_eq!(ring.after(9, 9), None);
        assert_eq!(ring.after(10, 9), Some(vec![]));
        ring.push(recorded(12, 1));
        assert_eq!(ring.after(10, 9).unwrap().len(), 1);
        assert_eq!(ring.after(12, 9).unwrap().len(), 0);
    }

    #[test]
    fn it_is_bounded_in_bytes_and_in_records() {
        let mut ring = Ring::new(0);
        ring.push(recorded(1, BYTES));
        ring.push(recorded(2, 1));
        assert_eq!(ring.after(0, 9), None);
        assert_eq!(ring.after(1, 9).unwrap().len(), 1);
        for rev in 3..=(RECORDS as u64 + 3) {
            ring.push(recorded(rev, 1));
        }
        assert_eq!(ring.after(2, 9), None);
        assert_eq!(ring.after(3, usize::MAX).unwrap().len(), RECORDS);
    }

    #[test]
    fn compacted_commits_leave() {
        let mut ring = Ring::new(0);
        (1..=4).for_each(|rev| ring.push(recorded(rev, 1)));
        ring.remove(&[1, 3]);
        let left: Vec<Rev> = ring.after(0, 9).unwrap().iter().map(|r| r.rev).collect();
        assert_eq!(left, [2, 4]);
    }
}

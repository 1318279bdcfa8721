//! Which commits the index on disk does not list yet. An aggregate's place in the index is as good as random, so an entry written
//! at once costs a page of its own; written behind, in the order of the index, neighbours share pages and an aggregate's
//! commits become one change.
//!
//! It sweeps through the order again and again: what was there when a sweep began is on disk when it ends, so after a crash only
//! the commits since then are read again. Nothing here is durable, and nothing touches a disk.

use crate::types::Rev;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Entries that any transaction may write.
const LEAST: usize = 64;

#[derive(Debug)]
pub(super) struct Unindexed {
    /// Entries that are kept back before any is written.
    window: usize,
    /// Subject to its revisions, ascending.
    entries: BTreeMap<String, Vec<Rev>>,
    count: usize,
    /// The last subject that this sweep has written.
    cursor: Option<String>,
    /// The last revision when this sweep began, if one is under way.
    begun_at: Rev,
    /// Every commit up to this one is listed on disk.
    indexed: Rev,
}

/// Entries to write next, with what holds once they are durable.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) entries: Vec<(String, Rev)>,
    /// Every commit up to this one is listed then.
    pub(super) indexed: Rev,
    begun_at: Rev,
    ends_sweep: bool,
}

impl Unindexed {
    /// With the revision up to which the index is complete.
    pub(super) fn new(window: usize, indexed: Rev) -> Unindexed {
        Unindexed {
            window,
            entries: BTreeMap::new(),
            count: 0,
            cursor: None,
            begun_at: indexed,
            indexed,
        }
    }

    pub(super) fn insert(&mut self, subject: &str, rev: Rev) {
        match self.entries.get_mut(subject) {
            Some(revs) => revs.push(rev),
            None => drop(self.entries.insert(subject.to_owned(), vec![rev])),
        }
        self.count += 1;
    }

    /// The subject's revisions that are not listed on disk, ascending.
    pub(super) fn of(&self, subject: &str) -> &[Rev] {
        self.entries.get(subject).map_or(&[], Vec::as_slice)
    }

    /// What a transaction of so many appends, up to `last`, writes beside them, if anything: what is above the window, but never
    /// much more than it adds, so that no transaction is much longer than others.
    pub(super) fn slice(&self, appended: usize, last: Rev) -> Option<Slice> {
        let wanted = self.count.saturating_sub(self.window).min(2 * appended + LEAST);
        if wanted == 0 {
            return None;
        }
        let begin = self.cursor.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.entries.range::<str, _>((begin, Bound::Unbounded)).peekable();
        let mut entries = Vec::with_capacity(wanted);
        while entries.len() < wanted
            && let Some((subject, revs)) = rest.next()
        {
            entries.extend(revs.iter().map(|rev| (subject.clone(), *rev)));
        }
        let ends_sweep = rest.peek().is_none();
        let begun_at = if self.cursor.is_none() { last } else { self.begun_at };
        let indexed = if ends_sweep { begun_at } else { self.indexed };
        Some(Slice { entries, indexed, begun_at, ends_sweep })
    }

    /// The slice is durable.
    pub(super) fn written(&mut self, slice: Slice) {
        for (subject, _) in &slice.entries {
            // A slice holds all of a subject, so the first of its entries takes them out.
            self.count -= self.entries.remove(subject).map_or(0, |revs| revs.len());
        }
        (self.indexed, self.begun_at) = (slice.indexed, slice.begun_at);
        self.cursor = slice.entries.into_iter().next_back().map(|(subject, _)| subject);
        if slice.ends_sweep {
            self.cursor = None;
        }
    }

    /// Forgets a commit: it is listed, or gone.
    pub(super) fn remove(&mut self, subject: &str, rev: Rev) {
        let Some(revs) = self.entries.get_mut(subject) else { return };
        let before = revs.len();
        revs.retain(|other| *other != rev);
        self.count -= before - revs.len();
        if revs.is_empty() {
            self.entries.remove(subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const WINDOW: usize = 4096;

    /// Appends from a seed, and checks after each transaction that a crash there would lose no entry.
    fn run(seed: u64) {
        let mut random = seed;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut unindexed = Unindexed::new(WINDOW, 0);
        // `relied_on`: entries that nobody would read again, since they count as listed.
        let (mut disk, mut all, mut relied_on) = (BTreeSet::new(), Vec::new(), 0);
        let (mut most, mut lag) = (0, 0);
        for _ in 0..600 {
            let appended = next(400);
            for _ in 0..appended {
                let entry = (format!("s{}", next(5_000)), all.len() as Rev + 1);
                unindexed.insert(&entry.0, entry.1);
                all.push(entry);
            }
            let last = all.len() as Rev;
            if let Some(slice) = unindexed.slice(appended as usize, last) {
                disk.extend(slice.entries.iter().cloned());
                let listed = slice.indexed as usize;
                assert!(listed >= relied_on, "seed {seed}: what was listed stays listed");
                let lost = all[relied_on..listed].iter().find(|entry| !disk.contains(*entry));
                assert_eq!(lost, None, "seed {seed}: listed up to {listed}");
                relied_on = listed;
                unindexed.written(slice);
            }
            most = most.max(unindexed.count);
            lag = lag.max(all.len() - relied_on);
        }
        for entry in all {
            let here = unindexed.of(&entry.0).contains(&entry.1);
            assert_ne!(here, disk.contains(&entry), "seed {seed}: {entry:?}");
        }
        assert!(most <= WINDOW + 400, "seed {seed}: {most}");
        assert!(lag <= 5 * WINDOW, "seed {seed}: {lag}");
        assert!(relied_on > 0, "seed {seed}: no sweep ended");
    }

    #[test]
    fn a_crash_after_any_transaction_loses_no_entry() {
        (1..=5).for_each(run);
    }

    #[test]
    fn nothing_is_written_below_the_window() {
        let mut unindexed = Unindexed::new(WINDOW, 7);
        (8..8 + WINDOW as Rev).for_each(|rev| unindexed.insert(&format!("s{rev}"), rev));
        assert!(unindexed.slice(400, 99_999).is_none());
        unindexed.insert("one more", 99_999);
        let slice = unindexed.slice(400, 99_999).unwrap();
        assert_eq!((slice.entries.len(), slice.indexed), (1, 7));
    }

    #[test]
    fn what_a_crash_left_to_do_is_done_bit_by_bit() {
        let mut unindexed = Unindexed::new(10, 0);
        (1..=10_000).for_each(|rev| unindexed.insert(&format!("s{rev}"), rev));
        let slice = unindexed.slice(5, 10_000).unwrap();
        assert_eq!(slice.entries.len(), 2 * 5 + LEAST);
    }

    #[test]
    fn what_was_compacted_is_forgotten() {
        let mut unindexed = Unindexed::new(WINDOW, 0);
        unindexed.insert("a", 1);
        unindexed.insert("a", 2);
        unindexed.remove("a", 1);
        assert_eq!((unindexed.of("a"), unindexed.count), ([2].as_slice(), 1));
        unindexed.remove("a", 2);
        unindexed.remove("a", 2);
        assert_eq!((unindexed.of("a").len(), unindexed.entries.len(), unindexed.count), (0, 0, 0));
    }
}

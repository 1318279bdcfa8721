//! Verifies journals: form, chain and roots, signatures and quorum, age, gaps, meaning, each with a verdict of its
//! own. It reads every source once, record by record, and compares several. Nothing is ever VERIFIED without a
//! policy that says whom to believe.

mod code;
mod lines;
mod meaning;
mod notes;
mod openings;
mod record;
mod report;
mod single;
mod source;
mod words;

pub use code::{Code, Finding, MAX_FINDINGS, Verdict};
pub use lines::{Bodies, Line, Lines, Text, Unreadable};
pub use meaning::{MAX_AHEAD_US, MAX_BOOTS, MAX_CONSENTS};
pub use openings::MAX_MISSING;
pub use report::{Compared, Freshness, Report, SCHEMA, SourceReport, Word};
pub use single::verify_proof;

use crate::note::SignedNote;
use crate::policy::Policy;
use source::{Run, Step};

/// What a verifier believes and asks for.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Whose signatures count. Got by another way than the journal.
    pub policy: Option<Policy>,
    /// Checkpoints that were seen before.
    pub since: Vec<SignedNote>,
    /// The time now and the greatest age of the newest cosignature, both in seconds.
    pub max_age: Option<(u64, u64)>,
    /// Every commitment must have its opening or be redacted.
    pub require_openings: bool,
}

/// One copy of a journal.
pub struct Source<'s> {
    /// Its records.
    pub records: Box<dyn Lines + 's>,
    /// Its openings, lines of `<seq> <opening>`.
    pub openings: Option<Box<dyn Lines + 's>>,
    /// Its cosigned notes.
    pub checkpoints: Vec<Vec<u8>>,
    /// The node's newest note, which need not be cosigned.
    pub head: Option<Vec<u8>>,
    /// `frontier.json` of a pruned journal.
    pub frontier: Option<Vec<u8>>,
}

/// Verifies one or more copies of a journal.
#[must_use]
pub fn verify(sources: Vec<Source<'_>>, trust: &Trust) -> Report {
    let mut runs: Vec<Run<'_>> =
        sources.into_iter().map(|source| Run::new(source, trust)).collect();
    let mut differences = vec![None; runs.len()];
    while let Some(seq) = runs.iter().filter_map(Run::next).min() {
        let mut first: Option<crate::Leaf> = None;
        for (run, difference) in runs.iter_mut().zip(&mut differences) {
            if run.next() != Some(seq) {
                continue;
            }
            let Step::Record(leaf) = run.step() else { continue };
            match first {
                None => first = Some(leaf),
                Some(first) if first != leaf && difference.is_none() => *difference = Some(seq),
                Some(_) => {}
            }
        }
    }
    runs.iter_mut().for_each(Run::end);
    let compared = (runs.len() > 1).then(|| compare(&runs, &differences));
    Report::new(runs.into_iter().map(Run::report).collect(), compared)
}

/// What the copies have in common.
fn compare(runs: &[Run<'_>], differences: &[Option<u64>]) -> Compared {
    let shortest = runs.iter().min_by_key(|run| run.size());
    let first = differences.iter().flatten().min().copied();
    let signed = |run: &Run<'_>, seq: u64| run.signed_size().is_some_and(|size| size > seq);
    // The first copy is one side of every comparison. Copies of two journals are no fork.
    let forked = |(run, seq): (&Run<'_>, &Option<u64>)| {
        let Some((first, seq)) = runs.first().zip(*seq) else { return false };
        first.origin() == run.origin() && signed(first, seq) && signed(run, seq)
    };
    let fork = runs.iter().zip(differences).any(forked);
    Compared {
        size: shortest.map_or(0, Run::size),
        root: shortest.filter(|_| first.is_none()).map(Run::root),
        finding: first.map(|seq| Finding {
            code: if fork { Code::Fork } else { Code::Differs },
            seq: Some(seq),
        }),
    }
}

#[cfg(test)]
mod tests;

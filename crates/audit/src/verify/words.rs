//! A report in words that an auditor understands without reading the specification. Programs read the JSON.

use super::report::{SourceReport, Word};
use super::{Report, Verdict};
use crate::stamp::rfc3339;

impl Verdict {
    /// What it means, in one clause.
    #[must_use]
    pub fn means(self) -> &'static str {
        match self {
            Self::Verified => "every check passed against keys that you brought",
            Self::Fork => "two histories were signed; keep both copies, they prove it",
            Self::Invalid => "the records are not what was signed",
            Self::Rollback => "the journal was shortened",
            Self::Unanchored => {
                "nobody that you believe vouches for this; pass --policy with keys from elsewhere"
            }
            Self::Semantic => "the records are genuine and contradict each other",
            Self::Incomplete => "what is there is genuine, but something is missing or too old",
            Self::Unreadable => "it could not be read; nothing was concluded",
        }
    }
}

impl Report {
    /// The whole report. `names` says where each source came from.
    #[must_use]
    pub fn lines(&self, names: &[String]) -> Vec<String> {
        let mut out = Vec::new();
        for (source, name) in self.sources.iter().zip(names) {
            out.push(name.clone());
            out.extend(source.lines().into_iter().map(|line| format!("  {line}")));
        }
        if let Some(compared) = &self.compared {
            out.push(match &compared.finding {
                Some(finding) => format!("compared: {finding}"),
                None => format!("compared: the same in all copies, {} records", compared.size),
            });
        }
        out.push(format!("{}: {}", self.verdict.word(), self.verdict.means()));
        out
    }
}

impl SourceReport {
    /// The five verdicts about one source, and what was found.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (first, end) = self.range;
        let log = self.log.map_or("unknown".to_owned(), |log| log.to_string());
        let records = match end.saturating_sub(first) {
            0 => "no record could be read".to_owned(),
            _ => format!("records {first} to {}", end.saturating_sub(1)),
        };
        let mut out = vec![
            format!("journal       {log}, {records}"),
            format!(
                "integrity     {}",
                say(
                    self.integrity,
                    "no record was changed, dropped, inserted or moved: each follows the one before",
                    "the bytes are not those that were signed"
                )
            ),
            format!("authenticity  {}", authenticity(self.authenticity)),
            format!("freshness     {}", freshness(self)),
            format!(
                "completeness  {}",
                say(self.completeness, "nothing is missing", "something is missing or too old")
            ),
            format!(
                "semantics     {}",
                say(
                    self.semantics,
                    "the records agree with each other",
                    "records contradict each other"
                )
            ),
        ];
        if self.opened + self.redacted > 0 {
            out.push(format!(
                "openings      {} fit their hashes, {} were erased on purpose",
                self.opened, self.redacted
            ));
        }
        let unknown = self.unknown_kinds.iter();
        out.extend(unknown.map(|(kind, n)| format!("unknown       {n} records of kind {kind:?}")));
        let found = self.findings.iter();
        out.extend(found.map(|finding| format!("found         {finding} [{}]", finding.code)));
        out
    }
}

fn freshness(source: &SourceReport) -> String {
    let fresh = &source.freshness;
    match (fresh.verdict, fresh.cosigned_size) {
        (Word::Rollback, _) => "records are missing at the end".to_owned(),
        (_, Some(size)) => {
            let when = fresh.at.map_or("a time that nobody stated".to_owned(), |at| {
                rfc3339(at.saturating_mul(1_000_000)).replace(".000000", "")
            });
            let tail = match fresh.tail_uncosigned {
                0 => "nothing came after that".to_owned(),
                1 => "1 record after that is vouched for by nobody yet".to_owned(),
                tail => format!("{tail} records after that are vouched for by nobody yet"),
            };
            format!("countersigned up to {size} at {when}; {tail}")
        }
        (_, None) => "nothing that you believe has countersigned it".to_owned(),
    }
}

fn authenticity(word: Word) -> &'static str {
    let bad = if word == Word::Fork {
        "the journal's key signed two histories"
    } else {
        "nobody that you believe vouches for it"
    };
    say(word, "signed by a key that you believe", bad)
}

fn say(word: Word, good: &'static str, bad: &'static str) -> &'static str {
    match word {
        Word::Ok => good,
        Word::Unknown => "not known: it was not reached",
        Word::Invalid
        | Word::Unanchored
        | Word::Fork
        | Word::Rollback
        | Word::Incomplete
        | Word::Partial
        | Word::Contradiction => bad,
    }
}

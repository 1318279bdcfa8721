//! The report of a verification, and its JSON (`schemas/audit-verify-report.schema.json`).

use super::code::{Finding, Verdict};
use crate::canonical::Value;
use crate::leaf::Leaf;
use crate::tree::Hash;
use std::collections::BTreeMap;

/// Names the form of the JSON.
pub const SCHEMA: &str = "cortex-audit-verify/1";

/// One of the five verdicts about a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Checked and right.
    Ok,
    /// Not reached, so nothing is said.
    Unknown,
    /// Integrity: bytes, form, chain or root are wrong.
    Invalid,
    /// Authenticity: nobody who is trusted vouches for it.
    Unanchored,
    /// Authenticity: two histories were signed.
    Fork,
    /// Freshness: shorter than what was signed.
    Rollback,
    /// Completeness: something is missing or too old.
    Incomplete,
    /// Completeness: only one record was looked at.
    Partial,
    /// Semantics: the records contradict each other.
    Contradiction,
}

impl Word {
    /// As it stands in the JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
            Self::Unanchored => "unanchored",
            Self::Fork => "fork",
            Self::Rollback => "rollback",
            Self::Incomplete => "incomplete",
            Self::Partial => "partial",
            Self::Contradiction => "contradiction",
        }
    }
}

/// How new the newest checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// [`Word::Ok`], [`Word::Rollback`] or [`Word::Unknown`].
    pub verdict: Word,
    /// Size of the newest checkpoint that fits and that the policy takes.
    pub cosigned_size: Option<u64>,
    /// Size of the newest checkpoint that fits and that the journal's key signed.
    pub signed_size: Option<u64>,
    /// When its quorum was complete, seconds since 1970.
    pub at: Option<u64>,
    /// Records above it.
    pub tail_uncosigned: u64,
}

/// What was found about one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// The journal's id.
    pub log: Option<Leaf>,
    /// Its origin.
    pub origin: Option<String>,
    /// First record, and behind the last one that is in its place.
    pub range: (u64, u64),
    /// Bytes, form, chain, roots, openings.
    pub integrity: Word,
    /// Who vouches.
    pub authenticity: Word,
    /// How new, and whether shortened.
    pub freshness: Freshness,
    /// Whether anything is missing.
    pub completeness: Word,
    /// Whether the records make sense together.
    pub semantics: Word,
    /// Openings that fit.
    pub opened: u64,
    /// Commitments whose openings were erased on purpose.
    pub redacted: u64,
    /// Kinds that this version does not know, and how often.
    pub unknown_kinds: BTreeMap<String, u64>,
    /// All that was found, in the order in which it was found.
    pub findings: Vec<Finding>,
}

/// What several sources have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The smallest size.
    pub size: u64,
    /// The root at that size, if they agree.
    pub root: Option<Hash>,
    /// `fork` or `differs`, at the first difference.
    pub finding: Option<Finding>,
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The worst of all.
    pub verdict: Verdict,
    /// One for each source.
    pub sources: Vec<SourceReport>,
    /// Set if there were several.
    pub compared: Option<Compared>,
}

impl SourceReport {
    /// The worst that was found.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.code.verdict());
        verdicts.min().unwrap_or(Verdict::Verified)
    }

    /// The first record whose bytes, form, place or root are wrong.
    #[must_use]
    pub fn first_bad(&self) -> Option<Finding> {
        let bad = |finding: &&Finding| finding.code.verdict() == Verdict::Invalid;
        self.findings
            .iter()
            .filter(bad)
            .min_by_key(|finding| (finding.seq.is_none(), finding.seq))
            .copied()
    }

    fn to_value(&self) -> Value {
        let number = |number: Option<u64>| number.map_or(Value::Null, Value::number);
        let word = |word: Word| Value::from(word.word());
        let fresh = &self.freshness;
        let kinds = self.unknown_kinds.iter().map(|(kind, count)| {
            Value::map([("kind", Value::from(kind.as_str())), ("count", Value::number(*count))])
        });
        Value::map([
            ("verdict", Value::from(self.verdict().word())),
            ("log", self.log.map_or(Value::Null, |log| Value::from(log.to_string()))),
            ("origin", self.origin.as_deref().map_or(Value::Null, Value::from)),
            ("range", Value::List(vec![Value::number(self.range.0), Value::number(self.range.1)])),
            ("integrity", word(self.integrity)),
            ("authenticity", word(self.authenticity)),
            (
                "freshness",
                Value::map([
                    ("verdict", word(fresh.verdict)),
                    ("cosigned_size", number(fresh.cosigned_size)),
                    ("signed_size", number(fresh.signed_size)),
                    ("at", number(fresh.at)),
                    ("tail_uncosigned", Value::number(fresh.tail_uncosigned)),
                ]),
            ),
            ("completeness", word(self.completeness)),
            ("semantics", word(self.semantics)),
            ("opened", Value::number(self.opened)),
            ("redacted", Value::number(self.redacted)),
            ("unknown_kinds", Value::List(kinds.collect())),
            ("first_bad", self.first_bad().as_ref().map_or(Value::Null, finding)),
            ("findings", Value::List(self.findings.iter().map(finding).collect())),
        ])
    }
}

fn finding(found: &Finding) -> Value {
    Value::map([
        ("code", Value::from(found.code.word())),
        ("seq", found.seq.map_or(Value::Null, Value::number)),
        ("why", Value::from(found.code.why())),
    ])
}

impl Report {
    pub(crate) fn new(sources: Vec<SourceReport>, compared: Option<Compared>) -> Self {
        let found = compared.as_ref().and_then(|compared| compared.finding);
        let verdicts = sources.iter().map(SourceReport::verdict);
        let verdict = verdicts.chain(found.map(|finding| finding.code.verdict())).min();
        // Nothing was looked at: nothing was verified.
        Self { verdict: verdict.unwrap_or(Verdict::Unreadable), sources, compared }
    }

    /// The JSON of the report, in canonical form.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let compared = self.compared.as_ref().map_or(Value::Null, |compared| {
            Value::map([
                ("size", Value::number(compared.size)),
                ("root", compared.root.map_or(Value::Null, |root| Value::from(root.to_base64()))),
                ("finding", compared.finding.as_ref().map_or(Value::Null, finding)),
            ])
        });
        Value::map([
            ("schema", Value::from(SCHEMA)),
            ("verdict", Value::from(self.verdict.word())),
            ("exit", Value::from(u32::from(self.verdict.exit()))),
            ("sources", Value::List(self.sources.iter().map(SourceReport::to_value).collect())),
            ("compared", compared),
        ])
    }
}

//! What a verifier can find, under stable codes, and which verdict and exit code each leads to. The table is that of
//! `docs/journal-format.md`, section 9.

use std::fmt;

/// A verdict about a journal, worst first: the first that was found gives the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Two histories were signed.
    Fork,
    /// Bytes, form, chain or root are wrong.
    Invalid,
    /// Shorter than something that was signed.
    Rollback,
    /// Nobody who is trusted vouches for it.
    Unanchored,
    /// The records contradict each other.
    Semantic,
    /// Something is missing or too old.
    Incomplete,
    /// It could not be read.
    Unreadable,
    /// Every requested check passed.
    Verified,
}

impl Verdict {
    /// The word in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fork => "FORK",
            Self::Invalid => "INVALID",
            Self::Rollback => "ROLLBACK",
            Self::Unanchored => "UNANCHORED",
            Self::Semantic => "SEMANTIC",
            Self::Incomplete => "INCOMPLETE",
            Self::Unreadable => "UNREADABLE",
            Self::Verified => "VERIFIED",
        }
    }

    /// The exit code of a program that reports it.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Invalid => 1,
            Self::Unanchored => 3,
            Self::Fork => 4,
            Self::Rollback => 5,
            Self::Incomplete => 6,
            Self::Semantic => 7,
            Self::Unreadable => 8,
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $verdict:ident, $why:literal;)*) => {
        /// What was found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $why] $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The verdict that it leads to.
            #[must_use]
            pub fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)* }
            }

            /// The same for people.
            #[must_use]
            pub fn why(self) -> &'static str {
                match self { $(Self::$name => $why,)* }
            }
        }
    };
}

codes! {
    RecordLine = "record.line", Invalid, "the last line does not end with a newline";
    RecordSize = "record.size", Invalid, "the record is larger than the format allows";
    RecordCanonical = "record.canonical", Invalid, "the record is not canonical JSON";
    RecordVersion = "record.version", Invalid, "the record is not of format cortex-audit/1";
    RecordField = "record.field", Invalid, "a field of the record is missing, unknown or malformed";
    RecordSeq = "record.seq", Invalid, "another record belongs here: one was deleted, inserted or moved";
    RecordLog = "record.log", Invalid, "the record belongs to another journal";
    RecordPrev = "record.prev", Invalid, "the record does not follow the one before it: one of both was changed";
    RecordGenesis = "record.genesis", Invalid, "the first record is no genesis, or a later one is";
    Root = "root", Invalid, "the records up to here are not those that were signed";
    Opening = "opening", Invalid, "an opening fits no commitment of its record";
    Frontier = "frontier", Invalid, "the frontier of the pruned journal is malformed or not what was signed";
    Differs = "differs", Invalid, "the sources have different records here";
    Proof = "proof", Invalid, "the proof does not lead from the record to the signed root";
    PolicyNone = "policy.none", Unanchored, "no policy says whom to believe";
    LogUnknown = "log.unknown", Unanchored, "the policy lists no key of this journal";
    NoteNone = "note.none", Unanchored, "no checkpoint that can be believed covers the records";
    NoteMalformed = "note.malformed", Unanchored, "a checkpoint is malformed";
    NoteOrigin = "note.origin", Unanchored, "a checkpoint is of another journal";
    NoteUnsigned = "note.unsigned", Unanchored, "a checkpoint lacks the signature of the journal's key";
    NoteFalse = "note.false", Unanchored, "a signature under a known name is false";
    NoteUntrusted = "note.untrusted", Unanchored, "the journal's key is none that the policy trusts";
    NoteQuorum = "note.quorum", Unanchored, "a checkpoint lacks the cosignatures that the policy requires";
    Fork = "fork", Fork, "two histories were signed with the journal's key";
    Truncated = "truncated", Rollback, "records are missing at the end: a signed checkpoint reaches further";
    Rollback = "rollback", Rollback, "the journal is shorter than a checkpoint that was seen before";
    Pruned = "pruned", Incomplete, "older records are gone and no cosigned checkpoint vouches for them";
    Stale = "stale", Incomplete, "the newest cosignature is older than allowed";
    Openings = "openings", Incomplete, "openings are missing that were not redacted";
    Empty = "empty", Incomplete, "there are no records";
    Data = "data", Semantic, "a field that the checks need is malformed";
    OutcomeUnmatched = "outcome.unmatched", Semantic, "an outcome answers no open intent";
    OutcomeHash = "outcome.hash", Semantic, "an outcome names its intent with another hash";
    RecoveryUnmatched = "recovery.unmatched", Semantic, "a recovery is about no open intent";
    RecoveryHash = "recovery.hash", Semantic, "a recovery names its intent with another hash";
    IntentFloor = "intent.floor", Semantic, "started although the journal was shorter than the floor of the dispatch";
    IntentDenied = "intent.denied", Semantic, "started although the rules said deny";
    IntentApproval = "intent.approval", Semantic, "started on an approval that does not exist";
    ConsentUnmatched = "consent.unmatched", Semantic, "an answer without its question";
    ConsentMismatch = "consent.mismatch", Semantic, "an answer to something else than was asked";
    ClockMono = "clock.mono", Semantic, "the time since boot went back";
    ClockBoot = "clock.boot", Semantic, "an earlier boot returned";
    ClockFuture = "clock.future", Semantic, "a record claims a time after its cosignature";
    Rotation = "rotation", Semantic, "a change of the key that is not proven";
    Closed = "closed", Semantic, "a record follows the closing of the journal";
    Unreadable = "unreadable", Unreadable, "an input/output error; nothing was concluded";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something that was found, and at which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// The record at which it shows, where there is one.
    pub seq: Option<u64>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "record {seq}: {}", self.code.why()),
            None => f.write_str(self.code.why()),
        }
    }
}

/// Findings of one source, each once; of contradictions the first [`MAX_FINDINGS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

/// Most findings in a report of one source; what is found beyond is dropped, unless its code was not found yet.
pub const MAX_FINDINGS: usize = 100;

impl Findings {
    pub(crate) fn add(&mut self, code: Code, seq: Option<u64>) {
        let finding = Finding { code, seq };
        let room = self.0.len() < MAX_FINDINGS || !self.has(code);
        if room && !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    pub(crate) fn has(&self, code: Code) -> bool {
        self.0.iter().any(|finding| finding.code == code)
    }

    pub(crate) fn any(&self, verdict: Verdict) -> bool {
        self.0.iter().any(|finding| finding.code.verdict() == verdict)
    }
}

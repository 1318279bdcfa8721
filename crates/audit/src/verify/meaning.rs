//! Whether records make sense together: outcomes answer intents, consents answer questions, clocks go forward. Memory
//! grows with what is open at a time, not with the journal.

use super::code::{Code, Findings};
use super::record::Checked;
use crate::entry::kind;
use crate::leaf::Leaf;
use crate::scan::{member, plain, unsigned};
use std::collections::{BTreeMap, VecDeque};

/// Questions and answers that are remembered, each.
pub const MAX_CONSENTS: usize = 65_536;
/// Boots that are remembered.
pub const MAX_BOOTS: usize = 64;
/// How far a record may be ahead of its cosignature, microseconds.
pub const MAX_AHEAD_US: u64 = 300_000_000;

/// The books over one journal.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    /// First record that can be known: above 0 in a pruned journal.
    start: u64,
    open: BTreeMap<u64, Leaf>,
    asked: BTreeMap<u64, Asked>,
    allowed: BTreeMap<u64, Leaf>,
    /// Below these, questions and answers were forgotten.
    forgotten: (u64, u64),
    boot: String,
    mono: u64,
    left: VecDeque<String>,
    /// The latest wall clock so far, and its record.
    latest: Option<(u64, u64)>,
    closed: bool,
}

/// An open question: its leaf, and the raw digests of what was shown and would run.
#[derive(Debug)]
struct Asked {
    leaf: Leaf,
    shown: Vec<u8>,
    fingerprint: Vec<u8>,
}

/// The intent that a record answers: `None` within for a recovery about something else.
type Answered = Option<(u64, Leaf)>;

impl Meaning {
    pub(crate) fn new(start: u64) -> Self {
        Self { start, forgotten: (start, start), ..Self::default() }
    }

    /// Takes the next record.
    pub(crate) fn push(&mut self, record: &Checked<'_>, findings: &mut Findings) {
        let mut add = |code| findings.add(code, Some(record.seq));
        if self.closed {
            add(Code::Closed);
        }
        if let Some(code) = self.clock(record) {
            add(code);
        }
        if let Err(code) = self.kind(record) {
            add(code);
        }
    }

    /// A cosignature at `time` (seconds) covers all records so far.
    pub(crate) fn cosigned(&mut self, time: u64, findings: &mut Findings) {
        if let Some((at, seq)) = self.latest
            && at > time.saturating_mul(1_000_000).saturating_add(MAX_AHEAD_US)
        {
            findings.add(Code::ClockFuture, Some(seq));
        }
    }

    fn clock(&mut self, record: &Checked<'_>) -> Option<Code> {
        if self.latest.is_none_or(|(at, _)| record.at > at) {
            self.latest = Some((record.at, record.seq));
        }
        let mono = std::mem::replace(&mut self.mono, record.mono);
        if self.boot == record.boot {
            return (record.mono < mono).then_some(Code::ClockMono);
        }
        let returned = self.left.iter().any(|boot| boot == record.boot);
        let before = std::mem::replace(&mut self.boot, record.boot.to_owned());
        if !before.is_empty() {
            self.left.push_back(before);
        }
        if self.left.len() > MAX_BOOTS {
            self.left.pop_front();
        }
        returned.then_some(Code::ClockBoot)
    }

    fn kind(&mut self, record: &Checked<'_>) -> Result<(), Code> {
        match record.kind {
            kind::INTENT => {
                // What cannot be judged is still open: its outcome is to be expected.
                self.open.insert(record.seq, record.leaf);
                self.intent(record)
            }
            kind::OUTCOME => match answered(record.data).ok_or(Code::Data)? {
                None => Err(Code::Data),
                Some((seq, _)) if seq < self.start => Ok(()),
                Some((seq, leaf)) => match self.open.remove(&seq) {
                    None => Err(Code::OutcomeUnmatched),
                    Some(open) if open != leaf => Err(Code::OutcomeHash),
                    Some(_) => Ok(()),
                },
            },
            kind::RECOVERY => match answered(record.data).ok_or(Code::Data)? {
                None => Ok(()),
                Some((seq, _)) if seq < self.start => Ok(()),
                Some((seq, leaf)) => match self.open.get(&seq) {
                    None => Err(Code::RecoveryUnmatched),
                    Some(open) if *open != leaf => Err(Code::RecoveryHash),
                    Some(_) => Ok(()),
                },
            },
            kind::CONSENT_ASKED => self.ask(record),
            kind::CONSENT_ANSWERED => self.answer(record),
            kind::LOG_CLOSE => {
                self.closed = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn intent(&mut self, record: &Checked<'_>) -> Result<(), Code> {
        let auth = member(record.data, "auth").ok_or(Code::Data)?;
        let field = |key| member(auth, key).ok_or(Code::Data);
        let decision = plain(field("decision")?).ok_or(Code::Data)?;
        let (floor, approval) = (field("floor")?, field("approval")?);
        let floor = if floor == b"null" { 0 } else { unsigned(floor).ok_or(Code::Data)? };
        let approval = if approval == b"null" {
            None
        } else {
            let seq = member(approval, "seq").and_then(unsigned).ok_or(Code::Data)?;
            Some((seq, leaf(member(approval, "leaf")).ok_or(Code::Data)?))
        };
        if !matches!(decision, "allow" | "ask" | "deny") {
            return Err(Code::Data);
        }
        if floor > record.seq {
            return Err(Code::IntentFloor);
        }
        if decision == "deny" {
            return Err(Code::IntentDenied);
        }
        match approval {
            None if decision == "ask" => Err(Code::IntentApproval),
            Some((seq, leaf))
                if seq >= self.forgotten.1 && self.allowed.get(&seq) != Some(&leaf) =>
            {
                Err(Code::IntentApproval)
            }
            _ => Ok(()),
        }
    }

    fn ask(&mut self, record: &Checked<'_>) -> Result<(), Code> {
        let (shown, fingerprint) = bound(record.data).ok_or(Code::Data)?;
        let asked = Asked { leaf: record.leaf, shown, fingerprint };
        self.asked.insert(record.seq, asked);
        if self.asked.len() > MAX_CONSENTS
            && let Some((seq, _)) = self.asked.pop_first()
        {
            self.forgotten.0 = seq + 1;
        }
        Ok(())
    }

    fn answer(&mut self, record: &Checked<'_>) -> Result<(), Code> {
        let field = |key| member(record.data, key).ok_or(Code::Data);
        let seq = unsigned(field("asked")?).ok_or(Code::Data)?;
        let hash = leaf(Some(field("asked_hash")?)).ok_or(Code::Data)?;
        let answer = plain(field("answer")?).ok_or(Code::Data)?;
        let (shown, fingerprint) = bound(record.data).ok_or(Code::Data)?;
        let asked = self.asked.remove(&seq);
        if asked.is_none() && seq >= self.forgotten.0 {
            return Err(Code::ConsentUnmatched);
        }
        if asked.is_some_and(|asked| {
            asked.leaf != hash || asked.shown != shown || asked.fingerprint != fingerprint
        }) {
            return Err(Code::ConsentMismatch);
        }
        if answer == "allow" {
            self.allowed.insert(record.seq, record.leaf);
            if self.allowed.len() > MAX_CONSENTS
                && let Some((seq, _)) = self.allowed.pop_first()
            {
                self.forgotten.1 = seq + 1;
            }
        }
        Ok(())
    }
}

/// The intent that a record names; the outer `None` if that is malformed.
fn answered(data: &[u8]) -> Option<Answered> {
    let (intent, hash) = (member(data, "intent")?, member(data, "intent_hash")?);
    if intent == b"null" && hash == b"null" {
        return Some(None);
    }
    Some(Some((unsigned(intent)?, leaf(Some(hash))?)))
}

/// What a question or answer is bound to.
fn bound(data: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let digest = |key| Some(plain(member(data, key)?)?.as_bytes().to_vec());
    Some((digest("shown")?, digest("fingerprint")?))
}

fn leaf(raw: Option<&[u8]>) -> Option<Leaf> {
    Leaf::parse(plain(raw?)?)
}

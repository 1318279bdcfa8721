//! Openings against the commitments of the records that they belong to.

use super::code::{Code, Findings};
use super::lines::{Lines, Unreadable};
use crate::canonical;
use crate::commitment::{Commitment, Opening};
use crate::note::decimal;
use crate::record::commitments;
use std::collections::BTreeMap;

/// Commitments without opening that are remembered until a redaction names them.
pub const MAX_MISSING: usize = 1_000_000;

/// The openings of one source, read along with its records.
pub(crate) struct Openings<'s> {
    lines: Option<Box<dyn Lines + 's>>,
    next: Option<(u64, Commitment)>,
    required: bool,
    missing: BTreeMap<Commitment, u64>,
    too_many: bool,
    /// Openings that fit.
    pub(crate) opened: u64,
    /// Commitments that redactions name.
    pub(crate) redacted: u64,
}

impl<'s> Openings<'s> {
    pub(crate) fn new(lines: Option<Box<dyn Lines + 's>>, required: bool) -> Self {
        Self {
            lines,
            next: None,
            required,
            missing: BTreeMap::new(),
            too_many: false,
            opened: 0,
            redacted: 0,
        }
    }

    /// Compares the openings of a record with what it commits to.
    pub(crate) fn push(
        &mut self,
        seq: u64,
        data: &[u8],
        findings: &mut Findings,
    ) -> Result<(), Unreadable> {
        let mut given = Vec::new();
        while let Some(commitment) = self.of(seq, findings)? {
            given.push(commitment);
        }
        if !self.required && given.is_empty() {
            return Ok(());
        }
        let mut made = Vec::new();
        if let Ok(data) = canonical::parse(data) {
            commitments(&data, &mut made);
        }
        for commitment in &given {
            match made.contains(commitment) {
                true => self.opened += 1,
                false => findings.add(Code::Opening, Some(seq)),
            }
        }
        if self.required {
            for commitment in made.into_iter().filter(|made| !given.contains(made)) {
                self.too_many |= self.missing.len() == MAX_MISSING;
                if !self.too_many {
                    self.missing.entry(commitment).or_insert(seq);
                }
            }
        }
        Ok(())
    }

    /// A redaction names these.
    pub(crate) fn redact(&mut self, commitments: &[String]) {
        self.redacted += commitments.len() as u64;
        for text in commitments {
            if let Some(commitment) = Commitment::parse(text) {
                self.missing.remove(&commitment);
            }
        }
    }

    /// All records were read: what is left over, and what is missing.
    pub(crate) fn end(&mut self, findings: &mut Findings) -> Result<(), Unreadable> {
        while self.fill(findings)? {
            if let Some((seq, _)) = self.next.take() {
                findings.add(Code::Opening, Some(seq));
            }
        }
        if let Some(first) = self.missing.values().min() {
            findings.add(Code::Openings, Some(*first));
        }
        Ok(())
    }

    /// The next opening, if it is of this record. One of an earlier record comes too late.
    fn of(&mut self, seq: u64, findings: &mut Findings) -> Result<Option<Commitment>, Unreadable> {
        while self.fill(findings)? {
            match self.next.take() {
                Some((of, _)) if of < seq => findings.add(Code::Opening, Some(of)),
                Some((of, commitment)) if of == seq => return Ok(Some(commitment)),
                later => {
                    self.next = later;
                    break;
                }
            }
        }
        Ok(None)
    }

    fn fill(&mut self, findings: &mut Findings) -> Result<bool, Unreadable> {
        let Some(lines) = self.lines.as_mut().filter(|_| self.next.is_none()) else {
            return Ok(self.next.is_some());
        };
        let Some(line) = lines.next_line()? else {
            self.lines = None;
            return Ok(false);
        };
        self.next = line.ended.then(|| read(line.bytes)).flatten();
        if self.next.is_none() {
            findings.add(Code::Opening, None);
            self.lines = None;
        }
        Ok(self.next.is_some())
    }
}

/// Reads `<seq> <opening>`.
fn read(line: &[u8]) -> Option<(u64, Commitment)> {
    let (seq, opening) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let alphabet = |byte: u8| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let seq = decimal(seq).filter(|seq| *seq < canonical::MAX_INT.unsigned_abs())?;
    let plain = !opening.is_empty() && opening.bytes().all(alphabet);
    plain.then(|| (seq, Opening::from_stored(opening).commitment()))
}

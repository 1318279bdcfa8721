//! One copy of a journal while it is read.

use super::code::{Code, Findings, Verdict};
use super::lines::Lines;
use super::meaning::Meaning;
use super::notes::Notes;
use super::openings::Openings;
use super::record::{self, Checked};
use super::report::{Freshness, SourceReport, Word};
use super::{Source, Trust};
use crate::canonical::{self, Value};
use crate::entry::{Position, kind};
use crate::key::PublicKey;
use crate::leaf::Leaf;
use crate::note::Origin;
use crate::record::{ALG, KeyRotate, Redact};
use crate::tree::{Frontier, Hash};
use std::collections::BTreeMap;

/// Kinds of which unknown ones are counted, each.
const MAX_UNKNOWN_KINDS: usize = 16;

/// Reads one source.
pub(crate) struct Run<'s> {
    records: Box<dyn Lines + 's>,
    openings: Openings<'s>,
    notes: Notes<'s>,
    meaning: Meaning,
    findings: Findings,
    frontier: Frontier,
    /// Where the records begin.
    start: u64,
    expected: Position,
    state: State,
    trust: &'s Trust,
    unknown_kinds: BTreeMap<String, u64>,
}

/// Whether there is more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    /// At its end.
    Ended,
    /// At a fault: what follows cannot be judged.
    Stopped,
}

/// What a step found.
pub(crate) enum Step {
    /// A record that is in its place.
    Record(Leaf),
    /// Nothing more comes.
    Done,
}

impl<'s> Run<'s> {
    pub(crate) fn new(source: Source<'s>, trust: &'s Trust) -> Self {
        let mut findings = Findings::default();
        let notes = Notes::new(trust, &source.checkpoints, source.head.as_ref(), &mut findings);
        let mut run = Self {
            records: source.records,
            openings: Openings::new(source.openings, trust.require_openings),
            notes,
            meaning: Meaning::default(),
            findings,
            frontier: Frontier::new(),
            start: 0,
            expected: Position::GENESIS,
            state: State::Reading,
            trust,
            unknown_kinds: BTreeMap::new(),
        };
        if let Some(frontier) = source.frontier {
            run.begin_pruned(&frontier);
        }
        run
    }

    /// Number of the record that comes next; `None` when nothing does.
    pub(crate) fn next(&self) -> Option<u64> {
        (self.state == State::Reading).then_some(self.expected.seq)
    }

    pub(crate) fn size(&self) -> u64 {
        self.expected.seq
    }

    pub(crate) fn root(&self) -> Hash {
        self.frontier.root()
    }

    pub(crate) fn origin(&self) -> Option<&str> {
        self.notes.origin.as_deref()
    }

    pub(crate) fn signed_size(&self) -> Option<u64> {
        self.notes.signed_size
    }

    /// Takes up a pruned journal behind its frontier.
    fn begin_pruned(&mut self, bytes: &[u8]) {
        let Some((frontier, leaf)) = read_frontier(bytes) else {
            return self.stop(Code::Frontier, None);
        };
        self.start = frontier.size();
        self.meaning = Meaning::new(self.start);
        self.expected = Position { log: Leaf::ZERO, seq: self.start, prev: leaf };
        self.frontier = frontier;
        match self.notes.origin_at(self.start) {
            Some(origin) => self.notes.begin(origin, None, &mut self.findings),
            None => return self.findings.add(Code::Pruned, None),
        }
        let root = self.frontier.root();
        self.notes.reach(self.start, || root, &mut self.meaning, &mut self.findings);
        if self.notes.cosigned.is_none_or(|(size, _)| size != self.start) {
            self.findings.add(Code::Pruned, None);
        }
    }

    fn stop(&mut self, code: Code, seq: Option<u64>) {
        self.findings.add(code, seq);
        self.state = State::Stopped;
    }

    /// Reads the next record.
    pub(crate) fn step(&mut self) -> Step {
        let seq = self.expected.seq;
        let line = match self.records.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => {
                self.state = State::Ended;
                return Step::Done;
            }
            Err(_) => {
                self.stop(Code::Unreadable, None);
                return Step::Done;
            }
        };
        let first = seq == self.start;
        let pruned = self.start > 0;
        let checked = match line.ended {
            false => Err(Code::RecordLine),
            true => record::check(line.bytes).and_then(|(record, place)| {
                record::place(&place, &self.expected, first && pruned)?;
                if (record.kind == kind::GENESIS) != (seq == 0) {
                    return Err(Code::RecordGenesis);
                }
                Ok(record)
            }),
        };
        let checked = checked.and_then(|record| {
            if seq == 0 {
                let (origin, key) = genesis(&record).ok_or(Code::RecordGenesis)?;
                self.notes.begin(origin, Some(key), &mut self.findings);
            } else if first && !fits_origin(self.notes.origin.as_deref(), record.log) {
                return Err(Code::RecordLog);
            }
            Ok(record)
        });
        let record = match checked {
            Ok(record) => record,
            Err(code) => {
                self.stop(code, Some(seq));
                return Step::Done;
            }
        };
        let leaf = record.leaf;
        let log = if seq == 0 { leaf } else { record.log };
        self.expected = Position { log, seq: seq + 1, prev: leaf };
        self.frontier.push(leaf);
        self.meaning.push(&record, &mut self.findings);
        if self.openings.push(seq, record.data, &mut self.findings).is_err() {
            self.stop(Code::Unreadable, None);
            return Step::Done;
        }
        let (kind, data) = (record.kind, record.data);
        special(kind, data, seq, log, &mut self.notes, &mut self.openings, &mut self.findings);
        if !kind::ALL.contains(&kind)
            && (self.unknown_kinds.len() < MAX_UNKNOWN_KINDS
                || self.unknown_kinds.contains_key(kind))
        {
            *self.unknown_kinds.entry(kind.to_owned()).or_insert(0) += 1;
        }
        let frontier = &self.frontier;
        self.notes.reach(seq + 1, || frontier.root(), &mut self.meaning, &mut self.findings);
        Step::Record(leaf)
    }

    /// After the last record.
    pub(crate) fn end(&mut self) {
        let ended = self.state == State::Ended;
        let size = self.expected.seq;
        if ended && size == self.start {
            self.findings.add(Code::Empty, None);
        }
        if ended && self.openings.end(&mut self.findings).is_err() {
            self.stop(Code::Unreadable, None);
        }
        if size == 0 {
            let root = Hash::empty();
            self.notes.reach(0, || root, &mut self.meaning, &mut self.findings);
        }
        self.notes.end(size, ended, &mut self.meaning, &mut self.findings);
        if !ended {
            return;
        }
        let anchored = self.notes.cosigned.is_some();
        if !anchored && !self.findings.any(Verdict::Unanchored) {
            self.findings.add(Code::NoteNone, None);
        }
        if let Some((now, age)) = self.trust.max_age {
            let at = self.notes.cosigned.and_then(|(_, at)| at);
            if at.is_none_or(|at| now.saturating_sub(at) > age) {
                self.findings.add(Code::Stale, None);
            }
        }
    }

    pub(crate) fn report(self) -> SourceReport {
        let Self { findings, notes, expected, start, openings, state, .. } = self;
        let read = expected.seq > start;
        let done = state == State::Ended;
        let found = |verdict| findings.any(verdict);
        let word = |bad: bool, word: Word, known: bool| match (bad, known) {
            (true, _) => word,
            (false, true) => Word::Ok,
            (false, false) => Word::Unknown,
        };
        let cosigned = notes.cosigned;
        let authenticity = match found(Verdict::Fork) {
            true => Word::Fork,
            false => word(found(Verdict::Unanchored), Word::Unanchored, cosigned.is_some()),
        };
        SourceReport {
            log: (read && expected.log != Leaf::ZERO).then_some(expected.log),
            origin: notes.origin,
            range: (start, expected.seq),
            integrity: word(found(Verdict::Invalid), Word::Invalid, read && done),
            authenticity,
            freshness: Freshness {
                verdict: word(found(Verdict::Rollback), Word::Rollback, done && cosigned.is_some()),
                cosigned_size: cosigned.map(|(size, _)| size),
                signed_size: notes.signed_size,
                at: cosigned.and_then(|(_, at)| at),
                tail_uncosigned: expected.seq - cosigned.map_or(start, |(size, _)| size),
            },
            completeness: word(found(Verdict::Incomplete), Word::Incomplete, done),
            semantics: word(found(Verdict::Semantic), Word::Contradiction, read),
            opened: openings.opened,
            redacted: openings.redacted,
            unknown_kinds: self.unknown_kinds,
            findings: findings.0,
        }
    }
}

/// Kinds that say something to the verifier itself.
fn special(
    name: &str,
    data: &[u8],
    seq: u64,
    log: Leaf,
    notes: &mut Notes<'_>,
    openings: &mut Openings<'_>,
    findings: &mut Findings,
) {
    if name != kind::REDACT && name != kind::KEY_ROTATE {
        return;
    }
    let data = canonical::parse(data).unwrap_or(Value::Null);
    let malformed = match name {
        kind::REDACT => Redact::list(&data).map(|list| openings.redact(&list)).is_none(),
        _ => match KeyRotate::read(&data) {
            Err(_) => true,
            Ok(KeyRotate { old, new, pop }) => {
                if !notes.rotate((&old.0, &new.0, &pop.0), log, seq) {
                    findings.add(Code::Rotation, Some(seq));
                }
                false
            }
        },
    };
    if malformed {
        findings.add(Code::Data, Some(seq));
    }
}

/// Origin and key that a genesis commits to.
fn genesis(record: &Checked<'_>) -> Option<(String, PublicKey)> {
    let data = canonical::parse(record.data).ok()?;
    let text = |key| data.get(key)?.as_text();
    if text("alg") != Some(ALG) {
        return None;
    }
    let origin = Origin::new(text("domain")?, text("node")?, record.leaf)?;
    Some((origin.as_str().to_owned(), PublicKey::from_base64(text("pub")?)?))
}

/// A pruned journal's records carry the log that their origin abbreviates.
pub(crate) fn fits_origin(origin: Option<&str>, log: Leaf) -> bool {
    let Some(origin) = origin else { return true };
    let log = log.to_string();
    origin.rsplit_once('/').is_some_and(|(_, short)| short.len() == 32 && log.starts_with(short))
}

/// Reads `frontier.json`: the frontier, and the leaf of the last record before it.
fn read_frontier(bytes: &[u8]) -> Option<(Frontier, Leaf)> {
    let value = canonical::parse(bytes.strip_suffix(b"\n").unwrap_or(bytes)).ok()?;
    let Value::Map(map) = &value else { return None };
    let (size, Value::List(hashes)) = (map.get("size")?.as_u64()?, map.get("hashes")?) else {
        return None;
    };
    let leaf = Leaf::parse(map.get("leaf")?.as_text()?)?;
    let hashes: Option<Vec<Hash>> =
        hashes.iter().map(|hash| Hash::from_base64(hash.as_text()?)).collect();
    let frontier = Frontier::from_parts(size, hashes?)?;
    let last = frontier.hashes().last().copied();
    let fits = size > 0 && map.len() == 3 && (size & 1 == 0 || last == Some(Hash::from(leaf)));
    fits.then_some((frontier, leaf))
}

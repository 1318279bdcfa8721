//! Whom a verifier believes: a C2SP tlog-policy file, got by another way than the journal. It lists the keys of logs,
//! the keys of mirrors and witnesses, and which of them together make a checkpoint good (the quorum).

use crate::key::{KeyError, KeyKind, VerifierKey};
use crate::note::{NoteError, SignedNote};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Largest policy file, bytes.
pub const MAX_POLICY: usize = 16 * 1024 * 1024;
/// Most witnesses and groups, each.
pub const MAX_MEMBERS: usize = 1024;

/// A parsed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: BTreeMap<String, Vec<VerifierKey>>,
    witnesses: Vec<VerifierKey>,
    members: Vec<Member>,
    /// `None`: no cosignature is required.
    quorum: Option<usize>,
}

/// Something that a group or the quorum can name; groups refer to members before them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group { threshold: usize, members: Vec<usize> },
}

/// Why a policy file is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} of the policy: {why}")]
pub struct PolicyError {
    /// Counted from 1; behind the end for what is missing.
    pub line: usize,
    /// What is wrong there.
    pub why: PolicyFault,
}

/// What can be wrong in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyFault {
    /// A control character other than tab and newline, or the last line without newline.
    #[error("it is not a text file of lines")]
    Text,
    /// Neither `log`, `witness`, `group` nor `quorum` in their forms.
    #[error("it is no line of a policy")]
    Line,
    /// A malformed key.
    #[error("the key: {0}")]
    Key(#[from] KeyError),
    /// A log with a cosigner's key or the other way round.
    #[error("the key has the wrong signature type for this line")]
    Kind,
    /// The same public key twice.
    #[error("the key stands on another line already")]
    DuplicateKey,
    /// The same name twice, or the reserved name `none`.
    #[error("the name is taken")]
    DuplicateName,
    /// A name that no line above defines.
    #[error("no line above defines {0:?}")]
    Unknown(String),
    /// A member of two groups.
    #[error("{0:?} is a member already")]
    Member(String),
    /// Not within 1 and the number of members.
    #[error("the threshold is not between 1 and the number of members")]
    Threshold,
    /// No quorum line, or a second one.
    #[error("there must be exactly one quorum line")]
    Quorum,
    /// Too large.
    #[error("the policy is too large")]
    TooLarge,
}

/// What a policy says about a note whose log signature was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The quorum cosigned it.
    pub quorum: bool,
    /// The latest time (seconds since 1970) at or after which a whole quorum cosigned; `None` without a quorum or
    /// where none is required.
    pub at: Option<u64>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// See [`PolicyFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let end = |why| PolicyError { line: lines + 1, why };
        if bytes.len() > MAX_POLICY {
            return Err(end(PolicyFault::TooLarge));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| end(PolicyFault::Text))?;
        let control = |byte: u8| (byte < b' ' && byte != b'\t' && byte != b'\n') || byte == 0x7f;
        if text.bytes().any(control) || !(text.is_empty() || text.ends_with('\n')) {
            return Err(end(PolicyFault::Text));
        }
        let mut reader = Reader::default();
        for (index, line) in text.split('\n').enumerate() {
            reader.line(line).map_err(|why| PolicyError { line: index + 1, why })?;
        }
        let Some(quorum) = reader.quorum else { return Err(end(PolicyFault::Quorum)) };
        let Reader { logs, witnesses, members, .. } = reader;
        Ok(Self { logs, witnesses, members, quorum })
    }

    /// The keys listed for a journal's origin.
    #[must_use]
    pub fn log_keys(&self, origin: &str) -> &[VerifierKey] {
        self.logs.get(origin).map_or(&[], Vec::as_slice)
    }

    /// The keys of all witnesses and mirrors.
    #[must_use]
    pub fn witnesses(&self) -> &[VerifierKey] {
        &self.witnesses
    }

    /// Whether cosignatures are required at all.
    #[must_use]
    pub fn requires_cosignatures(&self) -> bool {
        self.quorum.is_some()
    }

    /// Verifies the cosignatures of all known witnesses and evaluates the quorum. The log's own signature is not
    /// looked at.
    ///
    /// # Errors
    /// A line under the name and id of a known witness is false: the note is to be thrown away.
    pub fn judge(&self, note: &SignedNote) -> Result<Judgement, NoteError> {
        let mut times = Vec::with_capacity(self.witnesses.len());
        for key in &self.witnesses {
            times.push(match note.verify_cosignature(key) {
                Ok(time) => Some(time),
                Err(NoteError::Missing) => None,
                Err(err) => return Err(err),
            });
        }
        let Some(quorum) = self.quorum else { return Ok(Judgement { quorum: true, at: None }) };
        let at = self.time(quorum, &times);
        Ok(Judgement { quorum: at.is_some(), at })
    }

    /// The latest time at or after which a member witnessed the note.
    fn time(&self, member: usize, times: &[Option<u64>]) -> Option<u64> {
        match self.members.get(member)? {
            Member::Witness(index) => *times.get(*index)?,
            Member::Group { threshold, members } => {
                let mut found: Vec<u64> =
                    members.iter().filter_map(|member| self.time(*member, times)).collect();
                found.sort_unstable_by(|a, b| b.cmp(a));
                found.get(threshold.checked_sub(1)?).copied()
            }
        }
    }
}

#[derive(Default)]
struct Reader {
    logs: BTreeMap<String, Vec<VerifierKey>>,
    witnesses: Vec<VerifierKey>,
    members: Vec<Member>,
    names: BTreeMap<String, usize>,
    keys: BTreeSet<(KeyKind, [u8; 32])>,
    used: BTreeSet<usize>,
    quorum: Option<Option<usize>>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), PolicyFault> {
        let items: Vec<&str> = line.split([' ', '\t']).filter(|item| !item.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] | ["log", key, _] => {
                let key = self.key(key, KeyKind::Log)?;
                self.logs.entry(key.name().to_owned()).or_default().push(key);
                Ok(())
            }
            ["witness", name, key] | ["witness", name, key, _] => {
                let key = self.key(key, KeyKind::Cosigner)?;
                self.witnesses.push(key);
                self.define(name, Member::Witness(self.witnesses.len() - 1))
            }
            ["group", name, threshold, members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => {
                let quorum = match *name {
                    "none" => None,
                    name => Some(self.find(name)?),
                };
                match self.quorum.replace(quorum) {
                    None => Ok(()),
                    Some(_) => Err(PolicyFault::Quorum),
                }
            }
            _ => Err(PolicyFault::Line),
        }
    }

    fn key(&mut self, text: &str, kind: KeyKind) -> Result<VerifierKey, PolicyFault> {
        let key = VerifierKey::parse(text)?;
        if key.kind() != kind {
            return Err(PolicyFault::Kind);
        }
        match self.keys.insert((kind, *key.key().as_bytes())) {
            true => Ok(key),
            false => Err(PolicyFault::DuplicateKey),
        }
    }

    fn group(&mut self, name: &str, threshold: &str, names: &[&str]) -> Result<(), PolicyFault> {
        let mut members = Vec::new();
        for name in names {
            let member = self.find(name)?;
            if !self.used.insert(member) {
                return Err(PolicyFault::Member((*name).to_owned()));
            }
            members.push(member);
        }
        let threshold = match threshold {
            "all" => members.len(),
            "any" => 1,
            number => crate::note::decimal(number)
                .and_then(|number| usize::try_from(number).ok())
                .ok_or(PolicyFault::Threshold)?,
        };
        if threshold == 0 || threshold > members.len() {
            return Err(PolicyFault::Threshold);
        }
        self.define(name, Member::Group { threshold, members })
    }

    fn define(&mut self, name: &str, member: Member) -> Result<(), PolicyFault> {
        if self.members.len() == 2 * MAX_MEMBERS {
            return Err(PolicyFault::TooLarge);
        }
        self.members.push(member);
        match name != "none" && self.names.insert(name.to_owned(), self.members.len() - 1).is_none()
        {
            true => Ok(()),
            false => Err(PolicyFault::DuplicateName),
        }
    }

    fn find(&self, name: &str) -> Result<usize, PolicyFault> {
        self.names.get(name).copied().ok_or_else(|| PolicyFault::Unknown(name.to_owned()))
    }
}

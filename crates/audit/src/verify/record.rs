//! One record at its place: form, envelope, chain. In the order of `docs/journal-format.md`, section 9.

use super::code::Code;
use crate::canonical;
use crate::entry::{FORMAT, MAX_BODY, Position};
use crate::leaf::Leaf;
use crate::scan::{self, plain, unsigned};
use crate::stamp::{is_uuid, parse_rfc3339};

/// A record whose envelope is right.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) seq: u64,
    pub(crate) log: Leaf,
    pub(crate) leaf: Leaf,
    pub(crate) kind: &'a str,
    /// Wall clock, microseconds since 1970.
    pub(crate) at: u64,
    pub(crate) mono: u64,
    pub(crate) boot: &'a str,
    /// The raw object.
    pub(crate) data: &'a [u8],
}

/// The members of a body in the order of their keys.
const KEYS: [&[u8]; 9] = [b"boot", b"data", b"kind", b"log", b"mono", b"prev", b"seq", b"t", b"v"];

/// Checks a body by itself.
pub(crate) fn check(body: &[u8]) -> Result<(Checked<'_>, Position), Code> {
    if body.len() > MAX_BODY {
        return Err(Code::RecordSize);
    }
    let mut raw: [&[u8]; 9] = [b""; 9];
    let mut unknown = false;
    scan::object(body, |key, value| match KEYS.iter().position(|known| *known == key) {
        Some(index) => raw[index] = value,
        None => unknown = true,
    })
    .ok_or(Code::RecordCanonical)?;
    let [boot, data, kind, log, mono, prev, seq, t, v] = raw;
    if plain(v) != Some(FORMAT) {
        return Err(Code::RecordVersion);
    }
    let hash = |raw| plain(raw).and_then(Leaf::parse).ok_or(Code::RecordField);
    let place = Position {
        log: hash(log)?,
        seq: unsigned(seq).ok_or(Code::RecordField)?,
        prev: hash(prev)?,
    };
    let boot = plain(boot).filter(|boot| is_uuid(boot)).ok_or(Code::RecordField)?;
    let at = plain(t).and_then(parse_rfc3339).ok_or(Code::RecordField)?;
    let mono = unsigned(mono).ok_or(Code::RecordField)?;
    let kind = plain(kind).filter(|kind| canonical::is_key(kind)).ok_or(Code::RecordField)?;
    if unknown || data.first() != Some(&b'{') {
        return Err(Code::RecordField);
    }
    let checked = Checked {
        seq: place.seq,
        log: place.log,
        leaf: Leaf::of(body),
        kind,
        at,
        mono,
        boot,
        data,
    };
    Ok((checked, place))
}

/// Checks that a record belongs at a place; the log of a pruned journal's first record is taken as it is.
pub(crate) fn place(found: &Position, expected: &Position, any_log: bool) -> Result<(), Code> {
    if found.seq != expected.seq {
        return Err(Code::RecordSeq);
    }
    if found.log != expected.log && !any_log {
        return Err(Code::RecordLog);
    }
    if found.prev != expected.prev {
        return Err(Code::RecordPrev);
    }
    Ok(())
}

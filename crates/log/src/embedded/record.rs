//! Bytes of a commit and of a value in the embedded log, version 1; `docs/log-format.md` explains
//! them. Encoding and decoding only.

use crate::error::{LogError, Result};
use crate::frame::{SUM, checksum, take};
use crate::key::{Key, Space};
use crate::types::{Commit, CommitId, KvEntry, Recorded, Rev};
use bytes::Bytes;
use std::sync::Arc;

const VERSION: u8 = 1;
/// Fixed part: version, time, commit id, n, three lengths.
const FIXED: usize = 1 + 8 + 16 + 8 + 3;

/// Lengths of names fit one byte: `Key` and `Commit::check` bound them.
pub(super) fn encode(rev: Rev, at_ms: u64, key: &Key, commit: &Commit) -> Vec<u8> {
    let names = [key.ws(), key.id(), &commit.kind];
    let size = FIXED + names.iter().map(|n| n.len()).sum::<usize>() + commit.body.len() + SUM;
    let mut out = Vec::with_capacity(size);
    out.push(VERSION);
    out.extend_from_slice(&at_ms.to_le_bytes());
    out.extend_from_slice(commit.id.as_bytes());
    out.extend_from_slice(&commit.n.to_le_bytes());
    out.extend(names.iter().map(|n| u8::try_from(n.len()).unwrap_or(u8::MAX)));
    for name in names {
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(&commit.body);
    let sum = checksum(&[key.space().letter().as_bytes(), &rev.to_le_bytes(), &out]);
    out.extend_from_slice(&sum);
    out
}

pub(super) fn decode(space: Space, rev: Rev, stored: &[u8]) -> Result<Recorded> {
    parse(space, rev, stored)
        .ok_or_else(|| LogError::Corrupt(format!("commit {rev} of space {}", space.letter())))
}

fn parse(space: Space, rev: Rev, stored: &[u8]) -> Option<Recorded> {
    let (content, sum) = stored.split_at_checked(stored.len().checked_sub(SUM)?)?;
    if checksum(&[space.letter().as_bytes(), &rev.to_le_bytes(), content]) != sum {
        return None;
    }
    let mut input = content;
    if take::<1>(&mut input)? != [VERSION] {
        return None;
    }
    let at_ms = u64::from_le_bytes(take(&mut input)?);
    let id = CommitId::from_bytes(take(&mut input)?);
    let n = u64::from_le_bytes(take(&mut input)?);
    let lengths: [u8; 3] = take(&mut input)?;
    let [ws, aggregate, kind] = lengths.map(usize::from);
    let ws = text(&mut input, ws)?;
    let aggregate = text(&mut input, aggregate)?;
    let kind = Arc::from(text(&mut input, kind)?);
    let key = Arc::new(Key::new(space, ws, aggregate).ok()?);
    let commit = Commit { id, kind, n, body: Bytes::copy_from_slice(input) };
    Some(Recorded { key, rev, at_ms, commit })
}

pub(super) fn encode_value(bucket: &str, key: &str, rev: Rev, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + value.len() + SUM);
    out.extend_from_slice(&rev.to_le_bytes());
    out.extend_from_slice(value);
    let sum = checksum(&[bucket.as_bytes(), &[0], key.as_bytes(), &[0], &out]);
    out.extend_from_slice(&sum);
    out
}

pub(super) fn decode_value(bucket: &str, key: &str, stored: &[u8]) -> Result<KvEntry> {
    let parse = || {
        let (content, sum) = stored.split_at_checked(stored.len().checked_sub(SUM)?)?;
        let mut input = content;
        let rev = u64::from_le_bytes(take(&mut input)?);
        let sound = checksum(&[bucket.as_bytes(), &[0], key.as_bytes(), &[0], content]) == sum;
        sound.then(|| KvEntry { rev, value: Bytes::copy_from_slice(input) })
    };
    parse().ok_or_else(|| LogError::Corrupt(format!("value {bucket}/{key}")))
}

fn text<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a str> {
    let (head, rest) = input.split_at_checked(len)?;
    *input = rest;
    std::str::from_utf8(head).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Key, Commit) {
        let key = Key::new(Space::Task, "default", "build-1").unwrap();
        let id = CommitId::parse("0193e8a0-7b1c-7def-8123-456789abcdef").unwrap();
        let body = Bytes::from_static(b"hello log");
        (key, Commit { id, kind: "Submitted".into(), n: 1, body })
    }

    fn golden(name: &str) -> Vec<u8> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/log/v1/");
        let text = std::fs::read_to_string(format!("{root}{name}")).unwrap();
        let digits: String = text.split_whitespace().collect();
        let pairs = digits.as_bytes().chunks(2);
        pairs.map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn a_commit_has_the_bytes_of_the_golden_file() {
        let (key, commit) = sample();
        let bytes = encode(42, 1_795_000_000_123, &key, &commit);
        assert_eq!(bytes, golden("commit.hex"));
        let back = decode(Space::Task, 42, &bytes).unwrap();
        assert_eq!((&*back.key, back.rev, back.at_ms), (&key, 42, 1_795_000_000_123));
        assert_eq!(back.commit, commit);
    }

    #[test]
    fn a_value_has_the_bytes_of_the_golden_file() {
        let bytes = encode_value("CX_CONF", "a.b", 7, b"value");
        assert_eq!(bytes, golden("value.hex"));
        let back = decode_value("CX_CONF", "a.b", &bytes).unwrap();
        assert_eq!(back, KvEntry { rev: 7, value: Bytes::from_static(b"value") });
    }

    #[test]
    fn any_changed_byte_is_noticed_and_so_is_a_record_in_another_place() {
        let (key, commit) = sample();
        let bytes = encode(42, 5, &key, &commit);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(decode(Space::Task, 42, &bad).is_err(), "byte {i}");
            assert!(decode(Space::Task, 42, &bytes[..i]).is_err(), "cut at {i}");
        }
        assert!(decode(Space::Task, 43, &bytes).is_err());
        assert!(decode(Space::Audit, 42, &bytes).is_err());
    }
}

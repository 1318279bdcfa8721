//! One ahead file: a header that says which part of the log it holds, then frames, then zeros up to its fixed
//! length. Everything is written into space that was written before, so that a sync moves data alone.

use super::frame::{self, Place, Scan, is_zero};
use super::items::{self, Item};
use crate::journal::backend::Backend;
use cortex_audit::Leaf;
use redb::StorageBackend as _;
use sha2::{Digest, Sha256};
use std::io;

/// Length of the header's block; frames begin behind it.
pub(crate) const BLOCK: usize = 4096;

const MAGIC: &[u8; 8] = b"CXAHEAD1";
const HEADER: usize = 128;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) place: Place,
    /// Size of the log where the file begins.
    pub(crate) base: u64,
    /// Leaf of the record before.
    pub(crate) leaf: Leaf,
    /// Records that were durable in the store when the file was begun.
    pub(crate) stored: u64,
}

/// One group that became durable.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) first: u64,
    pub(crate) stored: u64,
    pub(crate) items: Vec<Item>,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing; `clean` when it is zeros to the end.
    Free { clean: bool },
    /// A part of the log.
    Used {
        header: Header,
        groups: Vec<Group>,
        /// Where the next frame goes.
        end: usize,
        /// Nothing but zeros follows.
        clean: bool,
    },
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&self.place.generation.to_le_bytes());
        out[16..48].copy_from_slice(self.place.log.as_bytes());
        out[48..56].copy_from_slice(&self.base.to_le_bytes());
        out[56..88].copy_from_slice(self.leaf.as_bytes());
        out[88..96].copy_from_slice(&self.stored.to_le_bytes());
        let digest = Sha256::digest(&out[..96]);
        out[96..].copy_from_slice(&digest);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        if &header[..8] != MAGIC || Sha256::digest(&header[..96])[..] != header[96..] {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(header[at..at + 8].try_into().ok()?));
        let leaf = |at: usize| Some(Leaf::from_bytes(header[at..at + 32].try_into().ok()?));
        Some(Self {
            place: Place { log: leaf(16)?, generation: number(8)? },
            base: number(48)?,
            leaf: leaf(56)?,
            stored: number(88)?,
        })
    }
}

/// Reads a file.
///
/// # Errors
/// What is damaged in it, in words.
pub(crate) fn read(bytes: &[u8]) -> Result<Content, String> {
    let zero = |from: usize| is_zero(&bytes[from.min(bytes.len())..]);
    let block = bytes.get(..BLOCK).ok_or("it is too short")?;
    if is_zero(block) {
        return Ok(Content::Free { clean: zero(BLOCK) });
    }
    let header = Header::decode(block).ok_or("its header is damaged")?;
    if !is_zero(&block[HEADER..]) {
        return Err("its header is damaged".to_owned());
    }
    let (mut groups, mut at) = (Vec::new(), BLOCK);
    loop {
        match frame::scan(bytes, at, header.place) {
            Scan::Frame(frame, next) => {
                let items = items::decode(&frame.payload)?;
                groups.push(Group { first: frame.first, stored: frame.stored, items });
                at = next;
            }
            Scan::End => return Ok(Content::Used { header, groups, end: at, clean: zero(at) }),
            Scan::Damaged(what) => return Err(format!("{what} at byte {at} is damaged")),
        }
    }
}

/// Fills a file with zeros. The header goes first: a file that is half empty is no part of the log any more.
pub(crate) fn clear(backend: &Backend, length: usize) -> io::Result<()> {
    backend.write(0, &[0; BLOCK])?;
    backend.sync_data()?;
    let zeros = vec![0; 256 * 1024];
    let mut at = BLOCK;
    while at < length {
        let part = zeros.len().min(length - at);
        backend.write(at as u64, &zeros[..part])?;
        at += part;
    }
    backend.sync_data()
}

/// Writes zeros from `end` on, where a frame was begun and never finished.
pub(crate) fn clear_tail(backend: &Backend, end: usize, length: usize) -> io::Result<()> {
    backend.write(end as u64, &vec![0; length.saturating_sub(end)])?;
    backend.sync_data()
}

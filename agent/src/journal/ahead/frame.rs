//! One frame of an ahead file: a group of items that became durable together. Pure: bytes in, bytes out. It tells
//! a frame that was never finished (a crash: nobody was answered) from one that was finished and then damaged.
//!
//! The layout is specified in docs/journal-format.md, "Ahead files".

use cortex_audit::Leaf;
use sha2::{Digest, Sha256};

/// What storage writes whole or not at all.
pub(crate) const SECTOR: usize = 512;

const MAGIC: [u8; 4] = *b"CXF1";
const END: [u8; 4] = *b"1FXC";
const HEADER: usize = 40;
const TRAILER: usize = 36;
/// One byte that is not zero goes before so many bytes of payload: no whole sector of a frame is zero.
const STUFF: usize = 255;
const MARK: u8 = 1;

/// Which file a frame belongs to; a frame of another file, or of the same file's former life, is not valid in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) log: Leaf,
    pub(crate) generation: u64,
}

/// A frame as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Size of the log before it.
    pub(crate) first: u64,
    /// Records that were durable in the store when it was written.
    pub(crate) stored: u64,
    pub(crate) payload: Vec<u8>,
}

/// What stands at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// A whole frame, and where the next one begins.
    Frame(Frame, usize),
    /// Nothing was ever finished from here on.
    End,
    /// Something was finished here, and is not what was written.
    Damaged(&'static str),
}

/// Bytes of a frame with so much payload.
pub(crate) fn length(payload: usize) -> usize {
    HEADER + payload + payload.div_ceil(STUFF) + TRAILER
}

/// Adds a frame to `out`.
pub(crate) fn encode(place: Place, first: u64, stored: u64, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let stuffed = payload.len() + payload.len().div_ceil(STUFF);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&u32::try_from(stuffed).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&place.generation.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&stored.to_le_bytes());
    let check = header_check(place, &out[start..]);
    out.extend_from_slice(&check);
    for chunk in payload.chunks(STUFF) {
        out.push(MARK);
        out.extend_from_slice(chunk);
    }
    let digest = Sha256::digest(&out[start..]);
    out.extend_from_slice(&digest);
    out.extend_from_slice(&END);
}

/// Reads what stands at `at`.
pub(crate) fn scan(bytes: &[u8], at: usize, place: Place) -> Scan {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(header) = rest.get(..HEADER) else { return ended(bytes, at, place) };
    if is_zero(header) {
        return ended(bytes, at, place);
    }
    let whole = header[..4] == MAGIC && header_check(place, &header[..32]) == header[32..40];
    if !whole {
        // Of a frame that crosses a sector inside its header, the first part may be all that is there.
        return unfinished(bytes, at, at + HEADER, place, "the header of a frame");
    }
    let end = at + HEADER + number32(&header[4..8]) + TRAILER;
    let Some(frame) = bytes.get(at..end) else { return Scan::Damaged("a frame beyond the end") };
    let (body, trailer) = frame.split_at(frame.len() - TRAILER);
    if trailer[32..] != END || Sha256::digest(body)[..] != trailer[..32] {
        return unfinished(bytes, at, end, place, "a frame");
    }
    let mut payload = Vec::with_capacity(body.len() - HEADER);
    for chunk in body[HEADER..].chunks(STUFF + 1) {
        payload.extend_from_slice(&chunk[1..]);
    }
    let (first, stored) = (number64(&header[16..24]), number64(&header[24..32]));
    Scan::Frame(Frame { first, stored, payload }, end)
}

/// A frame that is not right: if one of its sectors was never written, it was never finished.
fn unfinished(bytes: &[u8], at: usize, end: usize, place: Place, what: &'static str) -> Scan {
    let mut from = at;
    while from < end {
        let next = ((from / SECTOR + 1) * SECTOR).min(end);
        if bytes.get(from..next).is_some_and(is_zero) {
            return ended(bytes, at, place);
        }
        from = next;
    }
    Scan::Damaged(what)
}

/// Each frame is synced before the next is written: behind a frame that is missing no whole header can stand.
fn ended(bytes: &[u8], at: usize, place: Place) -> Scan {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    if is_zero(rest) {
        return Scan::End;
    }
    let mut from = 0;
    while let Some(found) = rest[from..].iter().position(|byte| *byte == MAGIC[0]) {
        let header = rest.get(from + found..from + found + HEADER);
        let valid = header.is_some_and(|header| {
            header[..4] == MAGIC && header_check(place, &header[..32]) == header[32..40]
        });
        if valid {
            return Scan::Damaged("a frame is missing before others");
        }
        from += found + 1;
    }
    Scan::End
}

/// Whether bytes are all zero. Compares blocks, because files are large and mostly empty.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|block| block == &ZEROS[..block.len()])
}

fn header_check(place: Place, header: &[u8]) -> [u8; 8] {
    let digest = Sha256::new()
        .chain_update(place.log.as_bytes())
        .chain_update(place.generation.to_le_bytes())
        .chain_update(header)
        .finalize();
    let mut check = [0; 8];
    check.copy_from_slice(&digest[..8]);
    // Never all zero, so that it counts as written.
    check[7] |= 1;
    check
}

fn number64(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(bytes);
    u64::from_le_bytes(number)
}

fn number32(bytes: &[u8]) -> usize {
    let mut number = [0; 4];
    number.copy_from_slice(bytes);
    u32::from_le_bytes(number) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { log: Leaf::ZERO, generation: 3 };

    /// Two frames between zeros; where each begins and ends.
    fn file() -> (Vec<u8>, usize, usize, usize) {
        let mut bytes = vec![0; 700];
        encode(PLACE, 5, 4, &[0; 3000], &mut bytes);
        let second = bytes.len();
        encode(PLACE, 6, 4, b"second", &mut bytes);
        let end = bytes.len();
        bytes.resize(end + 2000, 0);
        (bytes, 700, second, end)
    }

    #[test]
    fn frames_follow_each_other_to_the_end() {
        let (bytes, first, second, end) = file();
        let frame = Frame { first: 5, stored: 4, payload: vec![0; 3000] };
        assert_eq!(second - first, length(3000));
        assert_eq!(scan(&bytes, first, PLACE), Scan::Frame(frame, second));
        let frame = Frame { first: 6, stored: 4, payload: b"second".to_vec() };
        assert_eq!(scan(&bytes, second, PLACE), Scan::Frame(frame, end));
        assert_eq!(scan(&bytes, end, PLACE), Scan::End);
        assert_eq!(scan(&bytes[..end], end, PLACE), Scan::End);
    }

    #[test]
    fn every_flipped_bit_of_a_finished_frame_is_damage_and_never_an_end() {
        let (good, first, second, end) = file();
        for at in first..end {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let start = if at < second { first } else { second };
            assert!(matches!(scan(&bytes, start, PLACE), Scan::Damaged(_)), "byte {at}");
        }
    }

    #[test]
    fn a_frame_with_any_sector_missing_was_never_finished() {
        let (good, _, second, end) = file();
        // Without the second frame: the first is the last.
        for (start, stop) in [(700, second), (second, end)] {
            let mut bytes = good.clone();
            bytes[stop..].fill(0);
            let sectors = (start / SECTOR)..stop.div_ceil(SECTOR);
            for lost in sectors {
                let mut torn = bytes.clone();
                let (from, to) = (start.max(lost * SECTOR), stop.min((lost + 1) * SECTOR));
                torn[from..to].fill(0);
                assert_eq!(scan(&torn, start, PLACE), Scan::End, "sector {lost}");
            }
            for cut in start..stop {
                let mut torn = bytes.clone();
                torn[cut.next_multiple_of(SECTOR).min(stop)..].fill(0);
                if cut.next_multiple_of(SECTOR) < stop {
                    assert_eq!(scan(&torn, start, PLACE), Scan::End, "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_frame_that_vanished_before_another_is_damage() {
        let (mut bytes, first, second, _) = file();
        bytes[first..second].fill(0);
        assert!(matches!(scan(&bytes, first, PLACE), Scan::Damaged(_)));
    }

    #[test]
    fn a_frame_of_another_log_or_generation_is_not_valid_here() {
        let (bytes, first, ..) = file();
        let other = Place { generation: 4, ..PLACE };
        assert!(matches!(scan(&bytes, first, other), Scan::Damaged(_)));
        let other = Place { log: Leaf::of(b"x"), ..PLACE };
        assert!(matches!(scan(&bytes, first, other), Scan::Damaged(_)));
    }
}

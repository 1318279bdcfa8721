//! The frame around each chunk in a spool file: what it is, where it belongs, and a check by which a torn
//! write is recognised. The check is against accidents, not against anybody.

use cortex_model::limits::OUTPUT_CHUNK_MAX;
use cortex_model::task::Stream;

/// Bytes before the data.
pub(super) const HEADER: usize = 24;

const MAGIC: u8 = 0xC7;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stream: Stream,
    pub(super) len: u32,
    pub(super) offset: u64,
    pub(super) check: u64,
}

impl Header {
    pub(super) fn of(stream: Stream, offset: u64, data: &[u8]) -> Self {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Self { stream, len, offset, check: check(data) }
    }

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0] = MAGIC;
        out[1] = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.check.to_le_bytes());
        out
    }

    /// `None` when this is no header.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let stream = match (bytes[0], bytes[1], bytes[2], bytes[3]) {
            (MAGIC, 1, 0, 0) => Stream::Stdout,
            (MAGIC, 2, 0, 0) => Stream::Stderr,
            _ => return None,
        };
        let len = u32::from_le_bytes(bytes[4..8].try_into().ok()?);
        let offset = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
        let check = u64::from_le_bytes(bytes[16..24].try_into().ok()?);
        let fits = (1..=OUTPUT_CHUNK_MAX).contains(&(len as usize));
        fits.then_some(Self { stream, len, offset, check })
    }

    pub(super) fn matches(&self, data: &[u8]) -> bool {
        self.len as usize == data.len() && self.check == check(data)
    }
}

/// Eight bytes at a time, so that it costs little beside the write.
fn check(data: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let words = data.chunks_exact(8);
    let rest = words.remainder();
    let mut sum = mix(FACTOR, data.len() as u64);
    for word in words {
        sum = mix(sum, u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    rest.iter().fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
}

//! The frame around a chunk of output, on disk and in JetStream; `docs/log-format.md` explains it.
//! Encoding and decoding only.

use crate::limits::OUTPUT_CHUNK_MAX;
use crate::output::OutputChunk;
use bytes::Bytes;

/// Length of the data, stream, offset.
pub(crate) const HEAD: usize = 4 + 1 + 8;
/// Length of a checksum.
pub(crate) const SUM: usize = 8;

pub(crate) struct Head {
    pub(crate) len: usize,
    pub(crate) stream: u8,
    pub(crate) offset: u64,
}

pub(crate) fn encode_frame(chunk: &OutputChunk, out: &mut Vec<u8>) {
    let start = out.len();
    // Chunks are at most 64 KiB: `check_chunks`.
    out.extend_from_slice(&u32::try_from(chunk.data.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.push(chunk.stream);
    out.extend_from_slice(&chunk.offset.to_le_bytes());
    out.extend_from_slice(&chunk.data);
    let sum = checksum(&[&out[start..]]);
    out.extend_from_slice(&sum);
}

pub(crate) fn frame_len(head: &Head) -> u64 {
    (HEAD + head.len + SUM) as u64
}

/// The head of a frame, or nothing when it cannot be one.
pub(crate) fn parse_head(bytes: &[u8]) -> Option<Head> {
    let mut input = bytes;
    let len = u32::from_le_bytes(take(&mut input)?) as usize;
    let [stream] = take(&mut input)?;
    let offset = u64::from_le_bytes(take(&mut input)?);
    let sound =
        (1..=OUTPUT_CHUNK_MAX).contains(&len) && matches!(stream, 1 | 2) && offset <= u64::MAX / 2;
    sound.then_some(Head { len, stream, offset })
}

/// The first frame of `bytes` and what is behind it; nothing when it is torn or damaged.
pub(crate) fn decode_frame(bytes: &Bytes) -> Option<(OutputChunk, Bytes)> {
    let head = parse_head(bytes)?;
    let end = HEAD + head.len;
    let sum = bytes.get(end..end + SUM)?;
    if checksum(&[&bytes[..end]]) != sum {
        return None;
    }
    let chunk =
        OutputChunk { stream: head.stream, offset: head.offset, data: bytes.slice(HEAD..end) };
    Some((chunk, bytes.slice(end + SUM..)))
}

/// The first eight bytes of BLAKE3 over all parts.
pub(crate) fn checksum(parts: &[&[u8]]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; SUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

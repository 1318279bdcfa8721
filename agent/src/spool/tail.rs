//! The end of output that is longer than its limit: the newest bytes, in memory, until the program is over. What they push out is
//! counted by whoever asks; nothing is written here.

use cortex_model::limits::{OUTPUT_CHUNK_MAX, OUTPUT_TAIL_MAX};
use cortex_model::task::Stream;
use std::collections::VecDeque;

/// How much of a limit is for the end: a quarter, at most a mebibyte. The rest is delivered while the program still writes.
pub(super) fn share(limit: u64) -> u64 {
    (limit / 4).min(OUTPUT_TAIL_MAX)
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pieces: VecDeque<(Stream, Vec<u8>)>,
    /// Bytes of the first piece that were pushed out.
    gone: usize,
    bytes: u64,
}

impl Tail {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes the newest bytes and says how many older ones had to go so that at most `room` stay.
    pub(super) fn push(&mut self, stream: Stream, data: &[u8], room: u64) -> u64 {
        let (mut rest, mut pushed) = (data, 0);
        let most = usize::try_from(room).unwrap_or(usize::MAX);
        if let Some(skip) = data.len().checked_sub(most) {
            rest = &data[skip..];
            pushed += skip as u64;
        }
        while !rest.is_empty() {
            let fits = match self.pieces.back() {
                Some((last, piece)) if *last == stream => OUTPUT_CHUNK_MAX - piece.len(),
                Some(_) | None => 0,
            };
            let (now, later) = rest.split_at(fits.min(rest.len()));
            match self.pieces.back_mut() {
                Some((_, piece)) if fits > 0 => piece.extend_from_slice(now),
                Some(_) | None => self.pieces.push_back((stream, Vec::new())),
            }
            self.bytes += now.len() as u64;
            rest = later;
        }
        while self.bytes > room {
            let Some((_, first)) = self.pieces.front() else { break };
            let has = (first.len() - self.gone) as u64;
            let out = has.min(self.bytes - room);
            self.bytes -= out;
            pushed += out;
            self.gone += usize::try_from(out).unwrap_or(usize::MAX);
            if out == has {
                self.pieces.pop_front();
                self.gone = 0;
            }
        }
        pushed
    }

    /// All of it, oldest first.
    pub(super) fn take(mut self) -> impl Iterator<Item = (Stream, Vec<u8>)> {
        if let Some((_, first)) = self.pieces.front_mut() {
            first.drain(..self.gone);
        }
        self.pieces.into_iter().filter(|(_, piece)| !piece.is_empty())
    }
}

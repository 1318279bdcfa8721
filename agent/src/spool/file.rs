//! One spool file: appending frames, finding an offset again, cutting off a torn end.

use super::frame::{HEADER, Header};
use cortex_model::limits::OUTPUT_CHUNK_MAX;
use cortex_model::task::{OutputChunk, Stream};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Distance in the file between two remembered places.
const INDEX_EVERY: u64 = 256 * 1024;

/// A place in the file at which a frame begins, and the output offset of its data.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    offset: u64,
    position: u64,
}

#[derive(Debug)]
pub(super) struct SpoolFile {
    file: Arc<File>,
    len: u64,
    /// Ascending; searched for the last place at or before an offset.
    index: Vec<Place>,
    /// Where the last read ended: reading on costs no search.
    cursor: Place,
}

impl SpoolFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file: Arc::new(file), len: 0, index: Vec::new(), cursor: Place::default() })
    }

    /// Reads a file from its beginning, gives each chunk away, and cuts off what is no whole chunk.
    pub(super) fn recover(path: &Path, chunk: &mut dyn FnMut(Stream, &[u8])) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        let total = file.metadata()?.len();
        let mut spool =
            Self { file: Arc::new(file), len: 0, index: Vec::new(), cursor: Place::default() };
        let mut offset = 0;
        let mut data = Vec::new();
        while let Some(header) = spool.header(spool.len, total)? {
            data.resize(header.len as usize, 0);
            spool.file.read_exact_at(&mut data, spool.len + HEADER as u64)?;
            if header.offset != offset || !header.matches(&data) {
                break;
            }
            chunk(header.stream, &data);
            spool.remember(offset);
            offset += u64::from(header.len);
            spool.len += HEADER as u64 + u64::from(header.len);
        }
        if spool.len < total {
            spool.file.set_len(spool.len)?;
        }
        Ok(spool)
    }

    /// Length of the file, frames included.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn handle(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Appends pieces whose first has the output offset `offset`, and says how long the file is. A
    /// failed write leaves the file as it was.
    pub(super) fn append(
        &mut self,
        mut offset: u64,
        pieces: &[(Stream, Vec<u8>)],
    ) -> io::Result<u64> {
        let before = (self.len, self.index.len());
        for (stream, data) in pieces {
            let header = Header::of(*stream, offset, data).encode();
            let mut frame = Vec::with_capacity(HEADER + data.len());
            frame.extend_from_slice(&header);
            frame.extend_from_slice(data);
            if let Err(err) = (&*self.file).write_all(&frame) {
                self.len = before.0;
                self.index.truncate(before.1);
                self.file.set_len(self.len)?;
                return Err(err);
            }
            self.remember(offset);
            offset += data.len() as u64;
            self.len += frame.len() as u64;
        }
        Ok(self.len)
    }

    fn remember(&mut self, offset: u64) {
        let due = self.index.last().is_none_or(|last| self.len - last.position >= INDEX_EVERY);
        if due {
            self.index.push(Place { offset, position: self.len });
        }
    }

    /// The header at a position; `None` where no whole frame lies before `end`.
    fn header(&self, position: u64, end: u64) -> io::Result<Option<Header>> {
        if end.saturating_sub(position) < HEADER as u64 {
            return Ok(None);
        }
        let mut bytes = [0; HEADER];
        self.file.read_exact_at(&mut bytes, position)?;
        let fits = |header: &Header| end - position >= HEADER as u64 + u64::from(header.len);
        Ok(Header::decode(&bytes).filter(fits))
    }

    pub(super) fn read(&mut self, offset: u64, max: usize) -> io::Result<Option<OutputChunk>> {
        let mut place = self.cursor;
        if place.offset > offset {
            place = Place::default();
        }
        let known = self.index.partition_point(|known| known.offset <= offset);
        if let Some(nearer) = known.checked_sub(1).map(|at| self.index[at])
            && nearer.offset > place.offset
        {
            place = nearer;
        }
        while let Some(header) = self.header(place.position, self.len)? {
            let end = header.offset + u64::from(header.len);
            if offset < end {
                self.cursor = place;
                let skip = offset - header.offset;
                let len = usize::try_from(end - offset).unwrap_or(usize::MAX);
                let mut data = vec![0; len.min(max).min(OUTPUT_CHUNK_MAX)];
                self.file.read_exact_at(&mut data, place.position + HEADER as u64 + skip)?;
                return Ok(Some(OutputChunk { stream: header.stream, offset, data: data.into() }));
            }
            let position = place.position + HEADER as u64 + u64::from(header.len);
            place = Place { offset: end, position };
        }
        Ok(None)
    }
}

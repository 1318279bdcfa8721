//! One file of output: frames behind a short header, appended only. Knows bytes and offsets; when
//! to sync, and who may read, is decided in `outputs`.

use crate::error::{LogError, Result};
use crate::frame::{HEAD, Head, SUM, decode_frame, encode_frame, frame_len, parse_head};
use crate::output::OutputChunk;
use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Begins every file: five letters, a zero byte, the version.
const MAGIC: [u8; 8] = *b"cxout\0\x01\0";
/// Every so many bytes a place to begin reading is remembered.
const MARK_EVERY: u64 = 1024 * 1024;
/// Frames this near to the end are checked when a file is opened: more than one sync can cover, so
/// all that a crash can have torn.
const CHECKED_TAIL: u64 = 32 * 1024 * 1024;

/// A frame begins at `place` in the file with offset `offset` of the output.
#[derive(Clone, Copy)]
struct Mark {
    offset: u64,
    place: u64,
}

pub(super) struct FrameFile {
    file: Arc<File>,
    /// End of the output, written but perhaps not synced.
    pub(super) end: u64,
    /// End of the file.
    len: u64,
    marks: Vec<Mark>,
}

/// Reads frames without holding anything up.
pub(super) struct FrameReader {
    file: Arc<File>,
    place: u64,
}

impl FrameFile {
    /// Makes a new file; the caller syncs it and its directory.
    pub(super) fn create(path: &Path) -> io::Result<FrameFile> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(&MAGIC, 0)?;
        let len = MAGIC.len() as u64;
        Ok(FrameFile { file: Arc::new(file), end: 0, len, marks: Vec::new() })
    }

    /// Opens a file and cuts off what a crash left half written. `None`: there is no file, or not
    /// even its header became durable.
    pub(super) fn open(path: &Path) -> Result<Option<FrameFile>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(LogError::backend(e)),
        };
        let size = file.metadata().map_err(LogError::backend)?.len();
        let mut magic = [0; MAGIC.len()];
        if size < MAGIC.len() as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut magic, 0).map_err(LogError::backend)?;
        if magic == [0; 8] {
            return Ok(None);
        }
        if magic != MAGIC {
            return Err(LogError::Corrupt(format!("{} is not an output file", path.display())));
        }
        let len = MAGIC.len() as u64;
        let mut found = FrameFile { file: Arc::new(file), end: 0, len, marks: Vec::new() };
        found.scan(size, path)?;
        // A killed process may have written what it did not get to sync.
        found.file.sync_data().map_err(LogError::backend)?;
        Ok(Some(found))
    }

    fn scan(&mut self, size: u64, path: &Path) -> Result<()> {
        while self.len < size {
            let near_end = size - self.len <= CHECKED_TAIL;
            let head = self.head_at(self.len, size)?.filter(|h| h.offset == self.end);
            let sound = match &head {
                Some(_) if !near_end => true,
                Some(head) => read_frame(&self.file, self.len, head)?.is_some(),
                None => false,
            };
            let Some(head) = head.filter(|_| sound) else {
                if !near_end {
                    let place = format!("{} at byte {}", path.display(), self.len);
                    return Err(LogError::Corrupt(place));
                }
                tracing::warn!(path = %path.display(), at = self.len, "cut off a torn end");
                return self.file.set_len(self.len).map_err(LogError::backend);
            };
            self.advance(&head);
        }
        Ok(())
    }

    fn head_at(&self, place: u64, size: u64) -> Result<Option<Head>> {
        if size - place < (HEAD + SUM) as u64 {
            return Ok(None);
        }
        let head = read_head(&self.file, place)?;
        Ok(head.filter(|h| place + frame_len(h) <= size))
    }

    fn advance(&mut self, head: &Head) {
        let due = self.marks.last().is_none_or(|m| self.len - m.place >= MARK_EVERY);
        if due {
            self.marks.push(Mark { offset: head.offset, place: self.len });
        }
        self.len += frame_len(head);
        self.end = head.offset + head.len as u64;
    }

    /// Writes chunks that continue at `end`. After an error the file is as before, or unusable.
    pub(super) fn append(&mut self, chunks: &[OutputChunk]) -> io::Result<u64> {
        let mut bytes = Vec::new();
        for chunk in chunks {
            encode_frame(chunk, &mut bytes);
        }
        if let Err(e) = self.file.write_all_at(&bytes, self.len) {
            self.file.set_len(self.len)?;
            return Err(e);
        }
        for c in chunks {
            self.advance(&Head { len: c.data.len(), stream: c.stream, offset: c.offset });
        }
        Ok(bytes.len() as u64)
    }

    pub(super) fn handle(&self) -> Arc<File> {
        self.file.clone()
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// A reader that begins at or before `from`.
    pub(super) fn reader(&self, from: u64) -> FrameReader {
        let behind = self.marks.partition_point(|m| m.offset <= from);
        let place = behind.checked_sub(1).map_or(MAGIC.len() as u64, |i| self.marks[i].place);
        FrameReader { file: self.file.clone(), place }
    }
}

impl FrameReader {
    /// Chunks from `from` up to `end`, which must be written already.
    pub(super) fn read(mut self, from: u64, end: u64, max: usize) -> Result<Vec<OutputChunk>> {
        let (mut out, mut bytes, mut at) = (Vec::new(), 0, 0);
        while at < end && (bytes < max || out.is_empty()) {
            let damaged = || LogError::Corrupt(format!("output at byte {}", self.place));
            let head = read_head(&self.file, self.place)?.ok_or_else(damaged)?;
            at = head.offset + head.len as u64;
            if at > from {
                let chunk = read_frame(&self.file, self.place, &head)?.ok_or_else(damaged)?;
                bytes += chunk.data.len();
                out.extend(chunk.starting_at(from));
            }
            self.place += frame_len(&head);
        }
        Ok(out)
    }
}

fn read_head(file: &File, place: u64) -> Result<Option<Head>> {
    let mut bytes = [0; HEAD];
    file.read_exact_at(&mut bytes, place).map_err(LogError::backend)?;
    Ok(parse_head(&bytes))
}

/// The chunk of a frame, or nothing when its checksum does not fit.
fn read_frame(file: &File, place: u64, head: &Head) -> Result<Option<OutputChunk>> {
    let mut bytes = vec![0; HEAD + head.len + SUM];
    file.read_exact_at(&mut bytes, place).map_err(LogError::backend)?;
    Ok(decode_frame(&Bytes::from(bytes)).map(|(chunk, _)| chunk))
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;

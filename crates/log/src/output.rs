//! Names and pieces of output: the bytes an attempt wrote. Which pieces are new, and what is
//! missing, is decided here for every backend; storage is not.

use crate::error::{LogError, Result};
use crate::key::{check_token, partition};
use crate::limits::{OUTPUT_APPEND_MAX, OUTPUT_CHUNK_MAX, OUTPUT_CHUNKS_MAX};
use bytes::Bytes;
use std::fmt;

/// Names the output of one attempt. Parts are tokens, as in [`crate::Key`]; attempts count from 1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputKey {
    ws: String,
    task: String,
    attempt: u32,
}

impl OutputKey {
    /// Checks the parts.
    ///
    /// # Errors
    /// [`LogError::BadName`] when a part is not a token.
    pub fn new(ws: impl Into<String>, task: impl Into<String>, attempt: u32) -> Result<OutputKey> {
        let (ws, task) = (ws.into(), task.into());
        check_token("workspace", &ws)?;
        check_token("task", &task)?;
        Ok(OutputKey { ws, task, attempt })
    }

    /// Owner.
    #[must_use]
    pub fn ws(&self) -> &str {
        &self.ws
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Which try of it.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The partition of its task, so that output lies where the task lies.
    #[must_use]
    pub fn vp(&self) -> u32 {
        partition(&self.ws, &self.task)
    }

    /// `cx.o.<vp>.<ws>.<task>.<attempt>`.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("cx.o.{}.{}.{}.{}", self.vp(), self.ws, self.task, self.attempt)
    }

    /// Reads what [`OutputKey::subject`] wrote.
    #[must_use]
    pub fn parse(subject: &str) -> Option<OutputKey> {
        let mut parts = subject.strip_prefix("cx.o.")?.split('.');
        let vp = parts.next()?;
        let (ws, task, attempt) = (parts.next()?, parts.next()?, parts.next()?);
        let key = OutputKey::new(ws, task, attempt.parse().ok()?).ok()?;
        (parts.next().is_none() && key.vp().to_string() == vp).then_some(key)
    }
}

impl fmt::Display for OutputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.ws, self.task, self.attempt)
    }
}

impl fmt::Debug for OutputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A piece of output, at most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// 1 is stdout, 2 is stderr.
    pub stream: u8,
    /// Offset of its first byte in the combined sequence of both streams.
    pub offset: u64,
    /// The bytes; never empty.
    pub data: Bytes,
}

impl OutputChunk {
    /// Offset after its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }

    /// The part from `from` on, or nothing when it lies before.
    #[must_use]
    pub fn starting_at(&self, from: u64) -> Option<OutputChunk> {
        if self.offset >= from {
            return Some(self.clone());
        }
        let skip = usize::try_from(from - self.offset).ok()?;
        (skip < self.data.len()).then(|| OutputChunk {
            stream: self.stream,
            offset: from,
            data: self.data.slice(skip..),
        })
    }
}

/// One output in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputInfo {
    /// Whose.
    pub key: OutputKey,
    /// About how many bytes it takes in storage.
    pub size: u64,
    /// When bytes were last added, milliseconds since 1970.
    pub modified_ms: u64,
}

/// Checks what a caller wants to append, before anything is looked up.
pub(crate) fn check_chunks(chunks: &[OutputChunk]) -> Result<()> {
    LogError::check_size("an append of output (chunks)", chunks.len(), OUTPUT_CHUNKS_MAX)?;
    let total = chunks.iter().map(|c| c.data.len()).sum();
    LogError::check_size("an append of output", total, OUTPUT_APPEND_MAX)?;
    for chunk in chunks {
        LogError::check_size("a chunk of output", chunk.data.len(), OUTPUT_CHUNK_MAX)?;
        let known = matches!(chunk.stream, 1 | 2);
        if !known || chunk.data.is_empty() || chunk.offset > u64::MAX / 2 {
            let text = format!("stream {} at {}", chunk.stream, chunk.offset);
            return Err(LogError::bad_name("chunk of output", &text));
        }
    }
    Ok(())
}

/// The parts of `chunks` that are new behind `end`, in order. A hole anywhere refuses all of them.
pub(crate) fn fresh(end: u64, chunks: &[OutputChunk]) -> Result<Vec<OutputChunk>> {
    let (mut at, mut out) = (end, Vec::with_capacity(chunks.len()));
    for chunk in chunks {
        if chunk.offset > at {
            return Err(LogError::OutputGap { expected: end });
        }
        if let Some(part) = chunk.starting_at(at) {
            at = part.end();
            out.push(part);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(offset: u64, data: &str) -> OutputChunk {
        OutputChunk { stream: 1, offset, data: Bytes::copy_from_slice(data.as_bytes()) }
    }

    #[test]
    fn known_bytes_are_dropped_and_new_ones_kept() {
        let got = fresh(4, &[chunk(0, "abc"), chunk(3, "def"), chunk(6, "g")]).unwrap();
        assert_eq!(got, vec![chunk(4, "ef"), chunk(6, "g")]);
    }

    #[test]
    fn a_hole_refuses_everything_and_names_the_end() {
        let got = fresh(4, &[chunk(4, "ef"), chunk(9, "x")]);
        assert_eq!(got, Err(LogError::OutputGap { expected: 4 }));
    }

    #[test]
    fn subjects_are_read_back() {
        let key = OutputKey::new("w", "t-1", 3).unwrap();
        assert_eq!(OutputKey::parse(&key.subject()), Some(key));
        assert_eq!(OutputKey::parse("cx.o.1.w.t"), None);
    }

    #[test]
    fn empty_chunks_and_unknown_streams_are_refused() {
        assert!(check_chunks(&[chunk(0, "")]).is_err());
        assert!(check_chunks(&[OutputChunk { stream: 3, ..chunk(0, "a") }]).is_err());
        assert!(check_chunks(&[chunk(0, "a")]).is_ok());
    }
}

//! Where a verifier gets its lines. A source is read once, in order, and never held as a whole.

use crate::entry::MAX_BODY;
use std::io::BufRead;

/// A source cannot be read any further.
#[derive(Debug)]
pub struct Unreadable(pub String);

/// A line of a source.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its bytes without the newline.
    pub bytes: &'a [u8],
    /// A newline followed.
    pub ended: bool,
}

/// Something that gives lines, one after the other.
pub trait Lines {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// The source cannot be read.
    fn next_line(&mut self) -> Result<Option<Line<'_>>, Unreadable>;
}

/// Lines held in memory, or read one by one from somewhere else than a text.
pub struct Bodies<I>(I, Vec<u8>);

impl<I: Iterator<Item = Result<Vec<u8>, Unreadable>>> Bodies<I> {
    /// Takes whole bodies, each as if a newline followed.
    pub fn new(bodies: impl IntoIterator<IntoIter = I>) -> Self {
        Self(bodies.into_iter(), Vec::new())
    }
}

impl<I: Iterator<Item = Result<Vec<u8>, Unreadable>>> Lines for Bodies<I> {
    fn next_line(&mut self) -> Result<Option<Line<'_>>, Unreadable> {
        match self.0.next() {
            None => Ok(None),
            Some(Err(err)) => Err(err),
            Some(Ok(body)) => {
                self.1 = body;
                Ok(Some(Line { bytes: &self.1, ended: true }))
            }
        }
    }
}

/// Longest line that is kept: what is longer is cut behind it, and is no record and no opening.
const MAX_LINE: usize = 1024 * 1024;
const _: () = assert!(MAX_BODY < MAX_LINE);

/// The lines of a text.
pub struct Text<R> {
    from: R,
    line: Vec<u8>,
}

impl<R: BufRead> Text<R> {
    /// Reads from a file or slice. A line is at most 1 MiB; the rest of a longer one is passed over.
    pub fn new(from: R) -> Self {
        Self { from, line: Vec::with_capacity(4096) }
    }
}

impl<R: BufRead> Lines for Text<R> {
    fn next_line(&mut self) -> Result<Option<Line<'_>>, Unreadable> {
        self.line.clear();
        let mut found = false;
        loop {
            let buffer = match self.from.fill_buf() {
                Ok(buffer) => buffer,
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(Unreadable(err.to_string())),
            };
            if buffer.is_empty() {
                let bytes = self.line.as_slice();
                return Ok(found.then_some(Line { bytes, ended: false }));
            }
            found = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.from.consume(used);
            if end.is_some() {
                return Ok(Some(Line { bytes: &self.line, ended: true }));
            }
        }
    }
}

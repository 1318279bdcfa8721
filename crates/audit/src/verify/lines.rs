//! Where a verifier gets its lines. A source is read once, in order, and never held as a whole.

use crate::entry::MAX_BODY;
use std::io::{BufRead, Read as _};

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
        let mut limited = (&mut self.from).take(MAX_LINE as u64 + 1);
        limited.read_until(b'\n', &mut self.line).map_err(unreadable)?;
        let mut ended = self.line.last() == Some(&b'\n');
        if ended {
            self.line.pop();
        } else if self.line.len() > MAX_LINE {
            self.line.truncate(MAX_LINE);
            ended = self.pass_over()?;
        } else if self.line.is_empty() {
            return Ok(None);
        }
        Ok(Some(Line { bytes: &self.line, ended }))
    }
}

impl<R: BufRead> Text<R> {
    /// Whether nothing comes any more.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn is_over(&mut self) -> Result<bool, Unreadable> {
        Ok(self.from.fill_buf().map_err(unreadable)?.is_empty())
    }

    /// Passes over the rest of a line; whether it ends with a newline.
    fn pass_over(&mut self) -> Result<bool, Unreadable> {
        let mut rest = Vec::new();
        loop {
            rest.clear();
            let mut limited = (&mut self.from).take(MAX_LINE as u64);
            limited.read_until(b'\n', &mut rest).map_err(unreadable)?;
            if rest.is_empty() || rest.last() == Some(&b'\n') {
                return Ok(!rest.is_empty());
            }
        }
    }
}

fn unreadable(err: std::io::Error) -> Unreadable {
    Unreadable(err.to_string())
}

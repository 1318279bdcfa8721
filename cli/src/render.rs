//! The one way to standard output: lines, JSON and a task's raw bytes. A reader that went away ends
//! the program quietly; nothing here ever panics over a closed pipe.

use crate::error::CliError;
use serde::Serialize;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Writes a line to stdout.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is marked as such.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|e| CliError::writing(&e))
}

/// Writes a value as one line of JSON to stdout.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value)
        .map_err(|e| CliError::internal(format!("cannot write JSON: {e}")))?;
    line(&text)
}

/// Tells the person something on stderr; when nobody listens there, nothing is lost.
pub(crate) fn note(text: &str) {
    let raw = RAW.load(Ordering::Relaxed);
    // A program may have left the cursor anywhere.
    let begin = if raw { "\r\n" } else { "" };
    let end = if raw || EXACT.load(Ordering::Relaxed) { "\r\n" } else { "\n" };
    write!(std::io::stderr(), "{begin}cortex: {text}{end}").ok();
}

/// Our terminal is the task's.
static RAW: AtomicBool = AtomicBool::new(false);
/// Our terminal ends no lines by itself.
static EXACT: AtomicBool = AtomicBool::new(false);

/// Says whether our terminal is raw: then notes stand on lines of their own.
pub(crate) fn lines_are_raw(raw: bool) {
    RAW.store(raw, Ordering::Relaxed);
}

/// Says whether our terminal shows what it is given as it is: then notes bring their own ends of lines.
pub(crate) fn lines_are_exact(exact: bool) {
    EXACT.store(exact, Ordering::Relaxed);
}

/// Writes an error on stderr; when nobody listens there, nothing is lost.
pub(crate) fn say_error(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Our two streams for a task's raw bytes. Writes happen beside the runtime, so that a reader who
/// does not read cannot keep signals from being noticed.
pub(crate) struct Raw {
    stdout: tokio::io::Stdout,
    stderr: tokio::io::Stderr,
}

impl Raw {
    pub(crate) fn new() -> Raw {
        Raw { stdout: tokio::io::stdout(), stderr: tokio::io::stderr() }
    }

    /// Writes bytes as they are, through to the stream.
    ///
    /// # Errors
    /// As [`line`].
    pub(crate) async fn write(&mut self, to_stderr: bool, data: &[u8]) -> Result<(), CliError> {
        let done = if to_stderr {
            through(&mut self.stderr, data).await
        } else {
            through(&mut self.stdout, data).await
        };
        done.map_err(|e| CliError::writing(&e))
    }
}

async fn through(to: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> std::io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

/// Rows as a table without lines, for people.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(head.to_vec()).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns_and_no_trailing_blanks() {
        let rows = vec![vec!["a".into(), "long value".into()], vec!["bcd".into(), "x".into()]];
        assert_eq!(table(&["ID", "WHAT"], rows), "ID   WHAT\na    long value\nbcd  x");
    }
}

//! Terminals of `task.proto` and what is typed into them.

use crate::error::{Code, Fault};
use crate::limits::{ID_MAX, TERM_MAX, TERMINAL_PIECE_MAX, TERMINAL_SIZE_MAX};
use crate::proto as pb;
use crate::task::{RetryPolicy, Terminal};

pub(super) fn wanted(p: pb::Terminal) -> Result<Terminal, Fault> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    if p.term.len() > TERM_MAX || !p.term.bytes().all(plain) {
        let message = format!("{:?} is no kind of terminal", p.term);
        return Err(Fault::new(Code::BadEnvironment, message));
    }
    Ok(Terminal { term: p.term, rows: size(p.rows)?, columns: size(p.columns)? })
}

fn size(lines: u32) -> Result<u16, Fault> {
    let fits = u16::try_from(lines).ok().filter(|lines| *lines <= TERMINAL_SIZE_MAX);
    fits.ok_or_else(|| {
        Fault::new(
            Code::TooLarge,
            format!("a terminal has at most {TERMINAL_SIZE_MAX} lines, not {lines}"),
        )
    })
}

/// What was typed belongs to one run of the program, and comes through the terminal.
pub(super) fn check(stdin: &[u8], safe: bool, retry: &RetryPolicy) -> Result<(), Fault> {
    if !stdin.is_empty() {
        let why = "a task with a terminal is typed to: it has no other input";
        return Err(Fault::new(Code::BadArgv, why));
    }
    if safe || !retry.on.is_empty() {
        let why =
            "what is typed into a terminal cannot be repeated, so the task is not tried again";
        return Err(Fault::new(Code::BadRetry, why));
    }
    Ok(())
}

/// Checks what a client types.
///
/// # Errors
/// `CX-0101` and `CX-0102`, naming the field.
pub fn typed(p: &pb::TypeTerminalRequest) -> Result<(), Fault> {
    let named = !p.attachment.is_empty()
        && p.attachment.len() <= ID_MAX
        && p.attachment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !named {
        return Err(Fault::new(Code::Malformed, "attachment is missing or no name"));
    }
    if p.attach && p.offset > 0 {
        return Err(Fault::new(Code::Malformed, "an attachment begins at offset 0"));
    }
    if p.data.len() > TERMINAL_PIECE_MAX {
        let (is, most) = (p.data.len(), TERMINAL_PIECE_MAX);
        return Err(Fault::new(
            Code::TooLarge,
            format!("data has {is} bytes, at most {most} are accepted"),
        ));
    }
    size(p.rows)?;
    size(p.columns).map(drop)
}

impl From<&Terminal> for pb::Terminal {
    fn from(terminal: &Terminal) -> Self {
        let Terminal { term, rows, columns } = terminal;
        Self { term: term.clone(), rows: u32::from(*rows), columns: u32::from(*columns) }
    }
}

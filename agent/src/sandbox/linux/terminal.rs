//! A terminal of the task's own: a new pair from `/dev/ptmx` as the task sees it, which at level `full` is a file system with the
//! task's terminals and no others. The agent gets the end that types and reads; the program is led by the other.

use super::super::message::{Report, Size};
use super::server::send;
use super::{At, Failure, sys};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

const STAGE: &str = "terminal";

/// Makes one and hands the agent its end. What is returned is kept open for as long as the terminal shall not end.
pub(super) fn open(size: Size, status: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    // This process leads a session of its own and must not be led by what it opens.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = openat(CWD, "/dev/ptmx", flags, Mode::empty()).at(STAGE)?;
    sys::unlock_terminal(ours.as_fd()).at(STAGE)?;
    let lines = |lines: u32| u16::try_from(lines).unwrap_or(u16::MAX);
    let (ws_row, ws_col) = (lines(size.rows), lines(size.columns));
    tcsetwinsize(&ours, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).at(STAGE)?;
    let theirs = sys::other_end(ours.as_fd()).at(STAGE)?;
    send(status, &Report { terminal: true, ..Report::default() }, &[ours.as_fd()]).at(STAGE)?;
    Ok(theirs)
}

//! Messages to and from a browser: JSON, each with a NUL behind it, through two pipes. What is longer than a bound is not read.

use cortex_model::limits::browser::BROWSER_MESSAGE_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nothing {
    /// None came in time.
    Late,
    /// The browser is gone.
    Gone,
    /// One is longer than the bound.
    TooLarge,
}

/// See the module.
pub(super) struct Pipe {
    to: File,
    from: File,
    /// Is ready when the browser has ended: what it started may hold the pipes open.
    life: OwnedFd,
    bytes: Vec<u8>,
    /// So many of them hold no NUL.
    searched: usize,
}

impl Pipe {
    pub(super) fn new(to: File, from: File, life: OwnedFd) -> Self {
        Self { to, from, life, bytes: Vec::new(), searched: 0 }
    }

    /// Sends a message. The browser reads on a thread of its own, so this waits for nobody.
    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<(), Nothing> {
        let bytes = serde_json::to_vec(message).map(|mut bytes| {
            bytes.push(0);
            bytes
        });
        bytes
            .map_err(io::Error::from)
            .and_then(|b| self.to.write_all(&b))
            .map_err(|_| Nothing::Gone)
    }

    /// The next message. What is no JSON is none.
    pub(super) fn next(&mut self, until: Instant) -> Result<Value, Nothing> {
        loop {
            let found = self.bytes[self.searched..].iter().position(|byte| *byte == 0);
            if let Some(at) = found {
                let end = self.searched + at;
                let message = serde_json::from_slice(&self.bytes[..end]);
                self.bytes.drain(..=end);
                self.searched = 0;
                match message {
                    Ok(message) => return Ok(message),
                    Err(_) => continue,
                }
            }
            self.searched = self.bytes.len();
            if self.searched > BROWSER_MESSAGE_MAX {
                return Err(Nothing::TooLarge);
            }
            self.wait(until)?;
            let mut more = [0; 64 * 1024];
            match self.from.read(&mut more) {
                Ok(0) => return Err(Nothing::Gone),
                Ok(read) => self.bytes.extend_from_slice(&more[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Nothing::Gone),
            }
        }
    }

    fn wait(&self, until: Instant) -> Result<(), Nothing> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut fds =
                [PollFd::new(&self.from, PollFlags::IN), PollFd::new(&self.life, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Err(Nothing::Late),
                // Its last words first.
                Ok(_) if fds[0].revents().is_empty() => return Err(Nothing::Gone),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Nothing::Gone),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn ends() -> (Pipe, File) {
        let (from, theirs) = std::io::pipe().unwrap();
        let (_, to) = std::io::pipe().unwrap();
        let file = |fd: OwnedFd| File::from(fd);
        let own = rustix::process::getpid();
        let life = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty());
        (Pipe::new(file(to.into()), file(from.into()), life.unwrap()), file(theirs.into()))
    }

    #[test]
    fn a_browser_that_is_gone_is_gone_also_when_others_hold_the_pipe() {
        let (mut pipe, mut theirs) = ends();
        let child = std::process::Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        pipe.life = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        theirs.write_all(b"{}\0").unwrap();
        let late = || Instant::now() + Duration::from_secs(60);
        assert_eq!(pipe.next(late()), Ok(json!({})));
        assert_eq!(pipe.next(late()), Err(Nothing::Gone));
        drop((theirs, child));
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn messages_come_whole_in_order_and_what_is_none_is_left_out() {
        let (mut pipe, mut theirs) = ends();
        theirs.write_all(b"{\"a\":1}\0not json\0{\"b\"").unwrap();
        assert_eq!(pipe.next(soon()), Ok(json!({"a": 1})));
        assert_eq!(pipe.next(soon()), Err(Nothing::Late));
        theirs.write_all(b":2}\0").unwrap();
        assert_eq!(pipe.next(soon()), Ok(json!({"b": 2})));
        drop(theirs);
        assert_eq!(pipe.next(soon()), Err(Nothing::Gone));
        assert_eq!(pipe.send(&json!({})), Err(Nothing::Gone));
    }

    #[test]
    fn a_message_without_an_end_is_not_read_for_ever() {
        let (mut pipe, mut theirs) = ends();
        let writer = std::thread::spawn(move || {
            // The reader stops at the bound; then there is nobody to write to.
            while theirs.write_all(&[b'x'; 64 * 1024]).is_ok() {}
        });
        let late = Instant::now() + Duration::from_secs(60);
        assert_eq!(pipe.next(late), Err(Nothing::TooLarge));
        drop(pipe);
        writer.join().unwrap();
    }
}

//! The terminal on which the agent was started in the foreground: one question at a time, no by default. What was typed before a
//! question was shown counts for nothing.

use super::Consent;
use cortex_agent_core::consent::Scope;
use cortex_agent_core::policy::Channel;
use rustix::fs::{Mode, OFlags};
use rustix::termios::{QueueSelector, tcflush, tcgetpgrp};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Longest answer, bytes; nobody types more.
const LINE_MAX: usize = 256;

/// Asks on the terminal from now on. False: there is none, or somebody else has it.
pub(super) fn start(consent: &Arc<Consent>) -> bool {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(tty) = rustix::fs::open("/dev/tty", flags, Mode::empty()) else { return false };
    if !in_the_foreground(&tty) {
        return false;
    }
    let Ok(tty) = crate::sandbox::watched(tty) else { return false };
    tokio::spawn(Terminal { tty, consent: Arc::downgrade(consent) }.run());
    true
}

/// Reading from the background would stop the whole agent.
fn in_the_foreground(tty: &OwnedFd) -> bool {
    tcgetpgrp(tty).is_ok_and(|group| group == rustix::process::getpgrp())
}

struct Terminal {
    tty: AsyncFd<OwnedFd>,
    consent: Weak<Consent>,
}

/// What became of a question on the terminal.
enum Asked {
    /// It is answered, or waits no longer.
    Done,
    /// The terminal is gone or in somebody else's hands.
    Lost,
}

impl Terminal {
    async fn run(self) {
        while let Some(consent) = self.consent.upgrade() {
            let changed = consent.changed.notified();
            match next(&consent) {
                Some(id) => match self.ask(&consent, id).await {
                    Ok(Asked::Done) => {}
                    Ok(Asked::Lost) | Err(_) => {
                        tracing::warn!("nobody can be asked on the terminal any more");
                        consent.lock().open.remove(&Channel::Tty);
                        return;
                    }
                },
                None => changed.await,
            }
        }
    }

    async fn ask(&self, consent: &Consent, id: u64) -> io::Result<Asked> {
        let mut all = false;
        loop {
            let Some(page) = Page::of(consent, id, all) else { return Ok(Asked::Done) };
            self.write(&page.text(id)).await?;
            if !in_the_foreground(self.tty.get_ref()) {
                return Ok(Asked::Lost);
            }
            tcflush(self.tty.get_ref(), QueueSelector::IFlush)?;
            self.write(&page.prompt()).await?;
            let Some(line) = self.line(consent, id).await? else {
                self.write("\nit waits no longer\n").await?;
                return Ok(Asked::Done);
            };
            if page.more > 0 && line == "m" {
                all = true;
                continue;
            }
            let agreed = page.more == 0 && page.is_agreed_to_by(&line);
            let done = if agreed {
                let code = page.code.as_deref().unwrap_or_default();
                consent.allow(id, code, Scope::Once, Channel::Tty, "the terminal")
            } else {
                consent.refuse(id, Channel::Tty, "the terminal")
            };
            let said = match done {
                Ok(noted) => match noted.await {
                    Ok(()) if agreed => "agreed\n".to_owned(),
                    Ok(()) => "refused\n".to_owned(),
                    Err(_) => "it waits no longer\n".to_owned(),
                },
                Err(fault) => format!("{fault}\n"),
            };
            self.write(&said).await?;
            return Ok(Asked::Done);
        }
    }

    /// What is typed until a line ends; `None` when the question waits no longer. The end of the input is an empty line.
    async fn line(&self, consent: &Consent, id: u64) -> io::Result<Option<String>> {
        loop {
            let changed = consent.changed.notified();
            if !waits(consent, id) {
                return Ok(None);
            }
            let read = self.tty.async_io(Interest::READABLE, |tty| {
                let mut bytes = [0; LINE_MAX];
                let got = rustix::io::read(tty, &mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes[..got]).trim().to_owned())
            });
            tokio::select! {
                line = read => return line.map(Some),
                () = changed => {}
            }
        }
    }

    async fn write(&self, text: &str) -> io::Result<()> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written =
                self.tty.async_io(Interest::WRITABLE, |tty| Ok(rustix::io::write(tty, rest)?));
            let written = written.await?;
            rest = &rest[written..];
        }
        Ok(())
    }
}

/// The first question that may be answered here.
fn next(consent: &Consent) -> Option<u64> {
    let inner = consent.lock();
    let here =
        |key| inner.answers.get(key).is_some_and(|asker| asker.channels.contains(&Channel::Tty));
    inner.desk.waiting().find(|(_, waiting)| here(&waiting.question.key)).map(|(id, _)| id)
}

fn waits(consent: &Consent, id: u64) -> bool {
    consent.lock().desk.waiting().any(|(other, _)| other == id)
}

/// What is shown of a question.
struct Page {
    lines: Vec<String>,
    more: usize,
    code: Option<String>,
}

impl Page {
    fn of(consent: &Consent, id: u64, all: bool) -> Option<Self> {
        let mut inner = consent.lock();
        let (lines, more) = inner.desk.look(id, all).ok()?;
        let (_, waiting) = inner.desk.waiting().find(|(other, _)| *other == id)?;
        let code = waiting.code.clone();
        Some(Self { lines, more, code })
    }

    fn text(&self, id: u64) -> String {
        let lines = self.lines.join("\n");
        format!("\n--- a task asks for your consent (question {id})\n{lines}\n")
    }

    fn prompt(&self) -> String {
        match (self.more, &self.code) {
            (more @ 1.., _) => format!("{more} more lines. m: show them, anything else: no [N] "),
            (0, Some(code)) => format!("it destroys. Type {code} to agree, anything else: no [N] "),
            (0, None) => "y: agree once, anything else: no [N] ".to_owned(),
        }
    }

    fn is_agreed_to_by(&self, line: &str) -> bool {
        match &self.code {
            Some(code) => line.eq_ignore_ascii_case(code),
            None => line.eq_ignore_ascii_case("y") || line.eq_ignore_ascii_case("yes"),
        }
    }
}

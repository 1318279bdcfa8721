//! Our end of a program's terminal: what it writes is read, what somebody types is written, once and in order. Whoever takes the
//! keyboard stands in the journal before a byte of theirs gets there.

use crate::attempt::Event;
use crate::journal::{Attached, Journal, Terminal as Place};
use cortex_model::limits::TERMINAL_TYPED_MAX;
use cortex_model::proto::{TerminalAnswer, TerminalInput, TerminalStanding};
use cortex_model::wire;
use cortex_tunnel::{Keyboard, Size};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// How often a terminal is asked that was hung up.
const HUNG_UP: Duration = Duration::from_millis(20);

/// The end that types and reads.
#[derive(Debug)]
pub(super) struct Master(AsyncFd<OwnedFd>);

impl Master {
    pub(super) fn new(terminal: OwnedFd) -> io::Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&terminal, true)?;
        crate::sandbox::watched(terminal).map(Self).map(Arc::new)
    }

    /// Reads what there is; 0 at the end, when nobody has the other end any more. May be dropped while it waits.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> usize {
        let read = self.when(Interest::READABLE, |fd| match rustix::io::read(fd, &mut *buffer) {
            Err(Errno::IO) => Ok(0),
            read => Ok(read?),
        });
        read.await.unwrap_or(0)
    }

    /// Writes some. May be dropped while it waits.
    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.when(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)).await
    }

    /// Does something as soon as it can be done. To the runtime a terminal that was hung up once stays so, whoever opens it
    /// again: then it is asked now and then, or this would ask without end and let nobody else do anything.
    async fn when<T>(
        &self,
        interest: Interest,
        mut act: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            // A terminal that always has more, or takes no more, must not keep everybody else waiting.
            tokio::task::consume_budget().await;
            let mut ready = self.0.ready(interest).await?;
            // A try that comes to nothing takes from the guard what it knows, so this is asked first.
            let hung_up = ready.ready().is_read_closed() || ready.ready().is_write_closed();
            if let Ok(done) = ready.try_io(|fd| act(fd.get_ref())) {
                return done;
            }
            if hung_up {
                drop(ready);
                tokio::time::sleep(HUNG_UP).await;
            }
        }
    }

    fn resize(&self, (rows, columns): Size) {
        let lines = |lines: u32| u16::try_from(lines).unwrap_or(u16::MAX);
        let (ws_row, ws_col) = (lines(rows), lines(columns));
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = tcsetwinsize(self.0.get_ref(), size) {
            tracing::debug!(%error, "a terminal cannot be resized");
        }
    }
}

/// What comes for a terminal, and where it is recorded.
#[derive(Debug)]
pub(crate) struct Typing {
    pub(crate) says: mpsc::Receiver<TerminalInput>,
    pub(crate) journal: Journal,
}

/// Nothing of the attempt runs that has a terminal.
pub(crate) fn nobody(query_id: u64) -> TerminalAnswer {
    let standing = TerminalStanding::None.into();
    TerminalAnswer { query_id, standing, ..TerminalAnswer::default() }
}

/// See the module.
pub(super) struct Keys {
    typing: Typing,
    place: Place,
    events: mpsc::Sender<Event>,
    keyboard: Keyboard,
    /// What was taken and not written yet.
    queue: VecDeque<u8>,
    /// The attachment that has the keyboard, and the digest of what it typed.
    attached: Option<(Attached, Sha256)>,
}

impl Keys {
    pub(super) fn new(typing: Typing, place: Place, events: mpsc::Sender<Event>) -> Self {
        let (keyboard, queue) = Default::default();
        Self { typing, place, events, keyboard, queue, attached: None }
    }

    /// Serves whoever types. Never ends by itself; may be dropped.
    pub(super) async fn serve(&mut self, master: &Master) {
        loop {
            let (next, _) = self.queue.as_slices();
            tokio::select! {
                said = self.typing.says.recv() => match said {
                    Some(input) => self.hear(input, master).await,
                    None => std::future::pending().await,
                },
                written = master.write(next), if !next.is_empty() => match written {
                    Ok(written) => drop(self.queue.drain(..written)),
                    // Nobody will ever read it.
                    Err(_) => self.queue.clear(),
                },
            }
        }
    }

    async fn hear(&mut self, input: TerminalInput, master: &Master) {
        let who = input.actor.clone().map(|actor| wire::task::actor(Some(actor)));
        let Ok(who) = who.transpose() else { return self.answer(nobody(input.query_id)).await };
        if self.keyboard.takes_over(&input) {
            self.over().await;
            let number = self.keyboard.holder().map_or(1, |(number, ..)| number as u64 + 1);
            let noted = self.typing.journal.terminal_attached(&self.place, number, who.as_ref());
            match noted.await {
                Ok(attached) => self.attached = Some((attached, Sha256::new())),
                Err(error) => {
                    tracing::error!(%error, "who takes a keyboard cannot be recorded, so nobody does");
                    return self.answer(nobody(input.query_id)).await;
                }
            }
        }
        let room = TERMINAL_TYPED_MAX.saturating_sub(self.queue.len());
        let typed = self.keyboard.handle(&input, who, room);
        if let Some((_, digest)) = &mut self.attached {
            digest.update(&typed.bytes);
        }
        self.queue.extend(typed.bytes);
        if let Some(size) = typed.size {
            master.resize(size);
        }
        self.answer(typed.answer).await;
    }

    /// The attachment that had the keyboard is over.
    async fn over(&mut self) {
        let Some((attached, digest)) = self.attached.take() else { return };
        let bytes = self.keyboard.holder().map_or(0, |(.., bytes)| bytes);
        let digest = digest.finalize();
        let noted = self.typing.journal.terminal_typed(&self.place, attached, bytes, &digest);
        if let Err(error) = noted.await {
            tracing::error!(%error, "how much was typed cannot be recorded");
        }
    }

    /// The terminal is gone.
    pub(super) async fn close(mut self) {
        self.over().await;
        self.typing.says.close();
        while let Some(input) = self.typing.says.recv().await {
            self.answer(nobody(input.query_id)).await;
        }
    }

    async fn answer(&self, answer: TerminalAnswer) {
        // The driver may be gone, and with it the connection.
        drop(self.events.send(Event::Typed { answer }).await);
    }
}

#[cfg(test)]
mod tests;

//! The thread that takes groups over into the store, some at a time. Nobody waits for it but the writer, when both
//! ahead files are full. A full disk is waited out: what the store lacks stands in the ahead files. Any other failure
//! blocks the journal for good: after a failed sync nobody knows what the disk holds.

use super::ahead::{Ahead, Item};
use super::backend::Backend;
use super::error::{JournalError, is_full};
use super::shared::Shared;
use super::store;
use cortex_audit::{Frontier, Leaf};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long groups may wait for company.
const LINGER: Duration = Duration::from_millis(200);

/// So many bytes are taken over at once, whatever comes.
const AT_ONCE: usize = 1024 * 1024;

/// How often a store without space is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long readers may hold a store that is to be opened again.
const READERS: Duration = Duration::from_secs(5);

/// What the store is told.
pub(crate) enum Message {
    /// A durable group.
    Group { group: u64, first: u64, items: Vec<Item>, bytes: usize },
    /// This ahead file is no longer needed once the store has so many records.
    Clear { file: Backend, after: u64 },
    /// Take over what there is, now.
    Hurry,
    /// Answer when everything before this is in the store.
    Flush(oneshot::Sender<Result<(), JournalError>>),
}

/// The way to the thread.
pub(crate) struct Store {
    messages: Sender<Message>,
    thread: Thread,
    /// Bytes that it was given since it was woken last.
    unsaid: usize,
}

impl Store {
    /// Hands something over. The thread sleeps on while there is time: to wake it for every group would cost more than
    /// what it does with one.
    ///
    /// # Errors
    /// The thread has ended.
    pub(crate) fn tell(&mut self, message: Message) -> Result<(), ()> {
        let urgent = match &message {
            Message::Group { bytes, .. } => {
                self.unsaid += bytes;
                self.unsaid >= AT_ONCE
            }
            Message::Hurry | Message::Flush(_) => true,
            Message::Clear { .. } => false,
        };
        self.messages.send(message).map_err(drop)?;
        if urgent {
            self.unsaid = 0;
            self.thread.unpark();
        }
        Ok(())
    }
}

/// Starts the thread. It ends when the sender is dropped and everything is taken over.
pub(crate) fn start(
    file: Backend,
    shared: Arc<Shared>,
    edge: Frontier,
    leaf: Leaf,
) -> std::io::Result<(Store, JoinHandle<()>)> {
    let (messages, receiver) = channel();
    let storing = Storing {
        file,
        shared,
        edge,
        leaf,
        waiting: Vec::new(),
        bytes: 0,
        clear: None,
        flush: Vec::new(),
        hurry: false,
    };
    let thread = std::thread::Builder::new().name("journal-store".to_owned());
    let running = thread.spawn(move || storing.run(&receiver))?;
    Ok((Store { messages, thread: running.thread().clone(), unsaid: 0 }, running))
}

struct Storing {
    file: Backend,
    shared: Arc<Shared>,
    edge: Frontier,
    leaf: Leaf,
    waiting: Vec<(u64, u64, Vec<Item>)>,
    bytes: usize,
    clear: Option<(Backend, u64)>,
    flush: Vec<oneshot::Sender<Result<(), JournalError>>>,
    hurry: bool,
}

impl Storing {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            self.hear(message);
            self.doze(messages);
            self.hurry = false;
            if let Err(err) = self.settle(messages) {
                self.shared.block(&err);
                for reply in self.flush.drain(..) {
                    drop(reply.send(Err(err.clone())));
                }
                // What is durable already stays in the ahead files; the next start takes it over.
                return;
            }
        }
    }

    /// Lets groups come together, without waking up for each.
    fn doze(&mut self, messages: &Receiver<Message>) {
        let until = Instant::now() + LINGER;
        loop {
            let gone = loop {
                match messages.try_recv() {
                    Ok(message) => self.hear(message),
                    Err(TryRecvError::Empty) => break false,
                    Err(TryRecvError::Disconnected) => break true,
                }
            };
            let left = until.saturating_duration_since(Instant::now());
            if gone || self.hurry || self.bytes >= AT_ONCE || left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Group { group, first, items, bytes } => {
                self.waiting.push((group, first, items));
                self.bytes += bytes;
            }
            Message::Clear { file, after } => self.clear = Some((file, after)),
            Message::Hurry => self.hurry = true,
            Message::Flush(reply) => {
                self.flush.push(reply);
                self.hurry = true;
            }
        }
    }

    /// Takes everything over, however long there is no space for it.
    fn settle(&mut self, messages: &Receiver<Message>) -> Result<(), JournalError> {
        while let Err(err) = self.take() {
            let JournalError::Full { .. } = &err else { return Err(err) };
            tracing::warn!(error = %err, "the journal's store waits for space");
            self.shared.store_waits(err.clone());
            for reply in self.flush.drain(..) {
                drop(reply.send(Err(err.clone())));
            }
            let until = Instant::now() + RETRY;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                match messages.recv_timeout(left) {
                    // The journal is being closed, or somebody must know: not while there is no space.
                    Ok(Message::Flush(reply)) => {
                        let waits = self.shared.hindrance().unwrap_or_else(JournalError::gone);
                        drop(reply.send(Err(waits)));
                    }
                    Ok(message) => self.hear(message),
                    Err(RecvTimeoutError::Timeout) => break,
                    // Closed meanwhile: the next start takes over what is left.
                    Err(RecvTimeoutError::Disconnected) => return Err(JournalError::gone()),
                }
            }
            self.open_again()?;
        }
        if let Some((file, after)) = &self.clear
            && *after <= self.edge.size()
        {
            Ahead::clear(file).map_err(JournalError::io)?;
            self.shared.spare_is_ready();
            self.clear = None;
        }
        for reply in self.flush.drain(..) {
            drop(reply.send(Ok(())));
        }
        Ok(())
    }

    fn take(&mut self) -> Result<(), JournalError> {
        let Some(newest) = self.waiting.last().map(|(group, ..)| *group) else { return Ok(()) };
        let database = self.shared.database().ok_or_else(|| JournalError::full("not open"))?;
        let mut edge = self.edge.clone();
        let groups = self.waiting.iter().map(|(_, first, items)| (*first, items.as_slice()));
        // redb may panic on a file that was damaged under it; that is a damaged journal, not a defect.
        let taken = std::panic::catch_unwind(AssertUnwindSafe(|| {
            store::take(&database, &mut edge, groups)
        }));
        taken.map_err(|_| JournalError::damaged("the store cannot make sense of its file"))??;
        self.edge = edge;
        // From what was written, not from what the store says now.
        let newest_record = self.waiting.iter().rev().flat_map(|(.., items)| items.iter().rev());
        let newest_record =
            newest_record.filter_map(Item::record).map(|body| Leaf::of(body)).next();
        self.leaf = newest_record.unwrap_or(self.leaf);
        (self.waiting, self.bytes) = (Vec::new(), 0);
        self.shared.stored(newest, self.edge.size(), self.leaf);
        Ok(())
    }

    /// After an error redb wants its file opened anew; what it had begun is forgotten.
    fn open_again(&mut self) -> Result<(), JournalError> {
        let database = self.shared.database();
        self.shared.set_database(None);
        if let Some(database) = database {
            let until = Instant::now() + READERS;
            while Arc::strong_count(&database) > 1 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        match store::open(&self.file) {
            Ok(database) => {
                self.shared.set_database(Some(database));
                Ok(())
            }
            Err(redb::Error::Io(err)) if is_full(&err) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }
}

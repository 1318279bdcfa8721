//! The journal's one writing thread. It takes all requests that wait, writes them in one transaction, and
//! answers when that is on the disk. The first failure blocks it for good.

use super::draft::{IntentDraft, OutcomeDraft, RefusalDraft};
use super::entries::Entries;
use super::error::JournalError;
use super::salt::Salts;
use super::{IntentGuard, Receipt, Shared};
use crate::clock::Stamps;
use cortex_audit::Head;
use cortex_model::AttemptKey;
use redb::Database;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Most requests in one transaction.
const GROUP: usize = 256;

/// How long acknowledgements wait for something that must be written at once.
const ACKED_LINGER: Duration = Duration::from_millis(50);

type Reply<T> = oneshot::Sender<Result<T, JournalError>>;

pub(crate) type Request = Op;

/// Something to write.
pub(crate) enum Op {
    Session { open: bool, session: String, policy: String, clean: bool, reply: Reply<()> },
    Intent { draft: Box<IntentDraft>, reply: Reply<IntentGuard> },
    Outcome { draft: Box<OutcomeDraft>, reply: Reply<Receipt> },
    Refusal { draft: Box<RefusalDraft>, reply: Reply<Receipt> },
    Acked { key: AttemptKey, reply: Reply<()> },
}

impl Op {
    /// Nothing depends on when it is written.
    fn can_wait(&self) -> bool {
        matches!(self, Self::Acked { .. })
    }
}

/// Why one request could not be written.
pub(crate) enum WriteError {
    /// The attempt has an entry; nothing was written for it.
    Known,
    /// The entry cannot be written; nothing was written for it.
    Entry(String),
    /// The store failed; the whole transaction is lost.
    Storage(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(err: E) -> Self {
        Self::Storage(err.into())
    }
}

/// An answer that is given when the transaction is durable.
type Answer = Box<dyn FnOnce(Result<(), &JournalError>) + Send>;

pub(crate) fn start(
    database: Arc<Database>,
    shared: Arc<Shared>,
    head: Head,
    incarnation: String,
) -> std::io::Result<(Sender<Request>, JoinHandle<()>)> {
    let (sender, receiver) = channel();
    let salts = Salts::open()?;
    let writer = Writer { database, shared, head, incarnation, salts, stamps: Stamps::new() };
    let thread = std::thread::Builder::new().name("journal".to_owned()).stack_size(256 * 1024);
    Ok((sender, thread.spawn(move || writer.run(&receiver))?))
}

struct Writer {
    database: Arc<Database>,
    shared: Arc<Shared>,
    head: Head,
    incarnation: String,
    salts: Salts,
    stamps: Stamps,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut group: Vec<Request> = Vec::new();
        loop {
            // Acknowledgements wait a moment for company: alone they are not worth a sync.
            let next = match group.len() {
                0 => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                _ => requests.recv_timeout(ACKED_LINGER),
            };
            let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
            let waits = next.is_ok();
            group.extend(next);
            while group.len() < GROUP {
                let Ok(next) = requests.try_recv() else { break };
                group.push(next);
            }
            if waits && group.len() < GROUP && group.iter().all(Op::can_wait) {
                continue;
            }
            let group = std::mem::take(&mut group);
            let blocked =
                self.shared.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match blocked {
                Some(err) => group.into_iter().for_each(|op| refuse(op, &err)),
                None if group.is_empty() => {}
                None => self.write(group),
            }
            if ended {
                return;
            }
        }
    }

    /// Writes a group and answers it.
    fn write(&mut self, group: Vec<Request>) {
        let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
        match self.commit(group, &mut answers) {
            Ok(head) => {
                self.head = head;
                *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
                answers.into_iter().for_each(|answer| answer(Ok(())));
            }
            Err(err) => {
                let err = JournalError::from(err);
                tracing::error!(error = %err, "the journal cannot be written; no work is taken");
                *self.shared.blocked.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(err.clone());
                answers.into_iter().for_each(|answer| answer(Err(&err)));
            }
        }
    }

    fn commit(
        &mut self,
        group: Vec<Request>,
        answers: &mut Vec<Answer>,
    ) -> Result<Head, redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_quick_repair(true);
        let head = {
            let mut entries = Entries::open(&write, self.head, &self.stamps, &mut self.salts)?;
            let mut failed = None;
            for op in group {
                match failed {
                    None => failed = apply(&mut entries, op, &self.incarnation, answers).err(),
                    Some(_) => answers.push(Box::new(|result| {
                        if let Err(err) = result {
                            refuse(op, err);
                        }
                    })),
                }
            }
            match failed {
                Some(err) => return Err(err),
                None => entries.head,
            }
        };
        write.commit()?;
        Ok(head)
    }
}

/// Writes one request into the open transaction. Only a failure of the store is an error.
fn apply(
    entries: &mut Entries<'_>,
    op: Op,
    incarnation: &str,
    answers: &mut Vec<Answer>,
) -> Result<(), redb::Error> {
    match op {
        Op::Session { open, session, policy, clean, reply } => {
            let result = entries.session(open, session, policy, clean);
            answer(result, reply, answers)
        }
        Op::Intent { draft, reply } => {
            let result = entries.intent(&draft, incarnation).map(|(seq, leaf)| {
                let IntentDraft { key, fence, plan, .. } = *draft;
                IntentGuard { key, fence, seq, leaf, plan }
            });
            answer(result, reply, answers)
        }
        Op::Outcome { draft, reply } => answer(entries.outcome(*draft), reply, answers),
        Op::Refusal { draft, reply } => answer(entries.refusal(*draft), reply, answers),
        Op::Acked { key, reply } => answer(entries.acked(&key), reply, answers),
    }
}

/// Keeps a result until the transaction is durable; what was not written is answered at once.
fn answer<T: Send + 'static>(
    result: Result<T, WriteError>,
    reply: Reply<T>,
    answers: &mut Vec<Answer>,
) -> Result<(), redb::Error> {
    match result {
        Ok(value) => {
            answers.push(Box::new(|result| {
                send(reply, result.map(|()| value).map_err(JournalError::clone));
            }));
            Ok(())
        }
        Err(WriteError::Known) => {
            send(reply, Err(JournalError::Known));
            Ok(())
        }
        Err(WriteError::Entry(why)) => {
            send(reply, Err(JournalError::Entry(why)));
            Ok(())
        }
        Err(WriteError::Storage(err)) => {
            answers.push(Box::new(|result| {
                if let Err(err) = result {
                    send(reply, Err(err.clone()));
                }
            }));
            Err(err)
        }
    }
}

/// Whoever asked may be gone; what was written stays written.
fn send<T>(reply: Reply<T>, result: Result<T, JournalError>) {
    drop(reply.send(result));
}

fn refuse(op: Op, err: &JournalError) {
    let err = err.clone();
    match op {
        Op::Session { reply, .. } | Op::Acked { reply, .. } => send(reply, Err(err)),
        Op::Intent { reply, .. } => send(reply, Err(err)),
        Op::Outcome { reply, .. } | Op::Refusal { reply, .. } => send(reply, Err(err)),
    }
}

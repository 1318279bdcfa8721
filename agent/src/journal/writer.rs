//! The journal's one writing thread. It takes all requests that wait, composes one group of them, makes that durable
//! with one write and one sync, and answers. The first failure blocks it for good: nothing is tried again.

use super::ahead::{Ahead, FRAME_MAX, Item};
use super::draft::{IntentDraft, OutcomeDraft, RefusalDraft};
use super::error::JournalError;
use super::gate::Gate;
use super::group::{Books, Group, WriteError};
use super::storing::{Message, Store};
use super::{IntentGuard, Receipt};
use cortex_audit::record::Heartbeat;
use cortex_audit::{Leaf, Opening, Record};
use cortex_model::{AttemptKey, Code};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most requests in one group.
const GROUP: usize = 256;

/// No more requests are added to a group of so many bytes.
const GROUP_BYTES: usize = 512 * 1024;

/// Most records that are announced; more are written at once.
const ANNOUNCED: usize = 16;

/// What an outcome may take: its records, openings and report with the output inside. So much is kept free for each
/// open intent.
pub(crate) const OUTCOME_MAX: usize = 16 * 1024;

const _: () = assert!(GROUP_BYTES + super::group::OPENINGS_MAX + 256 * 1024 <= FRAME_MAX);

pub(crate) type Reply<T> = oneshot::Sender<Result<T, JournalError>>;

/// Something to write.
pub(crate) enum Op {
    Record {
        record: Box<Record>,
        openings: Vec<Opening>,
        reply: Reply<(u64, Leaf)>,
    },
    /// Written before the next record of any other kind, and not before.
    Announce(Box<Record>),
    /// Write what was announced.
    Begin(Reply<()>),
    Intent {
        draft: Box<IntentDraft>,
        reply: Reply<IntentGuard>,
    },
    Outcome {
        draft: Box<OutcomeDraft>,
        reply: Reply<Receipt>,
    },
    Refusal {
        draft: Box<RefusalDraft>,
        reply: Reply<Receipt>,
    },
    /// A guard was dropped without an outcome.
    Dropped(Box<OutcomeDraft>),
    Heard {
        key: AttemptKey,
        reply: Reply<()>,
    },
    /// Facts of the log: durable before the answer, also in the store.
    Facts {
        items: Vec<Item>,
        reply: Reply<()>,
    },
    /// Answer when the store has everything.
    Flush(Reply<()>),
    /// The journal is closed; guards may still hold senders.
    Close,
}

/// An answer that is given when the group is durable.
type Answer = Box<dyn FnOnce(Result<(), &JournalError>) + Send>;

pub(crate) struct Writer {
    pub(crate) books: Books,
    pub(crate) ahead: Ahead,
    pub(crate) gate: Gate,
    pub(crate) store: Store,
    /// For guards: dropping one is a request.
    pub(crate) requests: Sender<Op>,
    /// What stands before the next record.
    pub(crate) announced: Vec<Record>,
    /// A file was left behind full and is to be cleared.
    pub(crate) owed_clear: bool,
    pub(crate) heartbeat: Duration,
}

impl Writer {
    pub(crate) fn run(mut self, requests: &Receiver<Op>) {
        let mut beat_at = Instant::now() + self.heartbeat;
        loop {
            let left = beat_at.saturating_duration_since(Instant::now());
            let mut ops = Vec::new();
            match requests.recv_timeout(left) {
                Ok(op) => ops.push(op),
                Err(RecvTimeoutError::Timeout) => {
                    beat_at = Instant::now() + self.heartbeat;
                    if self.books.shared.contradicted() {
                        continue;
                    }
                    ops.push(self.heartbeat());
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while ops.len() < GROUP {
                let Ok(next) = requests.try_recv() else { break };
                ops.push(next);
            }
            let closing = ops.iter().any(|op| matches!(op, Op::Close));
            match self.books.shared.blocked() {
                Some(err) => ops.into_iter().for_each(|op| refuse(op, &err)),
                None => self.write(ops),
            }
            if closing {
                self.close();
                return;
            }
        }
    }

    /// The store takes over everything, and the ahead file says so: a store that is found shorter has lost something.
    fn close(&mut self) {
        let (reply, answer) = oneshot::channel();
        let size = self.books.head.size;
        if self.books.shared.blocked().is_some() || self.tell(Message::Flush(reply)).is_err() {
            return;
        }
        if let Ok(Ok(())) = answer.blocking_recv()
            && self.ahead.fits(0)
            && let Err(err) = self.ahead.append(size, size, &[])
        {
            tracing::warn!(error = %err, "the journal could not be closed in order");
        }
    }

    fn heartbeat(&mut self) -> Op {
        let record = Heartbeat {
            open_intents: self.books.open.len() as u64,
            unacked: self.gate.unacked(self.books.head.size),
            skew_ms: self.gate.skew_ms(),
            free_mb: self.gate.free_bytes() / (1024 * 1024),
            cosigned: self.gate.cosigned(),
        };
        let record = Box::new(record.into());
        Op::Record { record, openings: Vec::new(), reply: oneshot::channel().0 }
    }

    /// Writes what was asked, in as many groups as it takes, and answers.
    fn write(&mut self, ops: Vec<Op>) {
        let mut ops = ops.into_iter().peekable();
        while ops.peek().is_some() {
            let mut answers: Vec<Answer> = Vec::new();
            let result = self.group(&mut ops, &mut answers);
            if let Err(err) = &result {
                self.books.shared.block(err);
            }
            let result = result.as_ref();
            answers.into_iter().for_each(|answer| answer(result.copied()));
            if let Err(err) = result {
                ops.by_ref().for_each(|op| refuse(op, err));
            }
        }
    }

    fn group(
        &mut self,
        ops: &mut impl Iterator<Item = Op>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), JournalError> {
        self.books.group += 1;
        self.gate.look();
        let (room, before) = (self.free_ahead(), self.books.head.leaf);
        let mut flush = Vec::new();
        let mut group = Group::new(&mut self.books);
        while group.bytes() < GROUP_BYTES {
            let Some(op) = ops.next() else { break };
            match op {
                Op::Flush(reply) => flush.push(reply),
                Op::Announce(record) if self.announced.len() < ANNOUNCED => {
                    self.announced.push(*record);
                }
                Op::Facts { items, reply } => {
                    items.into_iter().for_each(|item| group.push(item));
                    flush.push(reply);
                }
                op @ (Op::Heard { .. } | Op::Close) => {
                    apply(&mut group, op, &mut self.gate, room, &self.requests, answers);
                }
                op @ (Op::Record { .. }
                | Op::Announce(_)
                | Op::Begin(_)
                | Op::Intent { .. }
                | Op::Outcome { .. }
                | Op::Refusal { .. }
                | Op::Dropped(_)) => {
                    for record in self.announced.drain(..) {
                        announced(&mut group, &record);
                    }
                    apply(&mut group, op, &mut self.gate, room, &self.requests, answers);
                }
            }
        }
        group.seal()?;
        let (first, items, bytes) = (group.first, std::mem::take(&mut group.items), group.bytes());
        // What the other side would say again goes straight to the store.
        let again = |item: &Item| {
            matches!(item, Item::Heard(_) | Item::Cosigned(_) | Item::OpeningsStored(_))
        };
        if !items.iter().all(again) {
            self.append(first, before, &items)?;
        }
        self.books.shared.set_head(self.books.head);
        if !items.is_empty() {
            let group = self.books.group;
            self.tell(Message::Group { group, first, items, bytes })?;
        }
        for reply in flush {
            self.tell(Message::Flush(reply))?;
        }
        Ok(())
    }

    /// Bytes that can still be written ahead, whatever the store does.
    fn free_ahead(&self) -> usize {
        let spare = self.books.shared.progress().spare;
        self.ahead.room() + if spare { self.ahead.room_of_spare() } else { 0 }
    }

    /// Makes a group durable. `before` is the leaf of the record before it.
    fn append(&mut self, first: u64, before: Leaf, items: &[Item]) -> Result<(), JournalError> {
        let mut payload = Vec::new();
        items.iter().for_each(|item| item.encode(&mut payload));
        if !self.ahead.fits(payload.len()) {
            self.tell(Message::Hurry)?;
            if !self.books.shared.wait_for_spare() {
                let hindrance = self.books.shared.hindrance();
                let err = hindrance.unwrap_or_else(|| JournalError::full("both files are full"));
                return Err(JournalError::Blocked {
                    code: Code::NodeDiskLow,
                    why: format!("what happened cannot be recorded any more: {err}"),
                });
            }
            let stored = self.books.shared.progress().size;
            self.ahead.switch(first, before, stored).map_err(dead)?;
            self.owed_clear = true;
        }
        let stored = self.books.shared.progress().size;
        self.ahead.append(first, stored, &payload).map_err(dead)?;
        // Half a file of the newest groups is kept, so that a store that loses its end can be filled up again.
        if self.owed_clear && self.ahead.is_half_full() {
            self.owed_clear = false;
            self.tell(Message::Clear { file: self.ahead.other(), after: first })?;
        }
        Ok(())
    }

    fn tell(&mut self, message: Message) -> Result<(), JournalError> {
        let told = self.store.tell(message);
        told.map_err(|()| self.books.shared.blocked().unwrap_or_else(JournalError::gone))
    }
}

/// Puts what was announced into the group.
fn announced(group: &mut Group<'_>, record: &Record) {
    if let Err(err) = group.append(record, Vec::new()) {
        tracing::error!(kind = record.kind(), ?err, "what was announced cannot be recorded");
    }
}

/// After a failed write nobody knows what the disk holds.
fn dead(err: std::io::Error) -> JournalError {
    let err = JournalError::io(err);
    if let JournalError::Full { why } = err {
        return JournalError::Blocked { code: Code::NodeDiskLow, why };
    }
    err
}

/// Puts one request into the group.
fn apply(
    group: &mut Group<'_>,
    op: Op,
    gate: &mut Gate,
    room: usize,
    requests: &Sender<Op>,
    answers: &mut Vec<Answer>,
) {
    match op {
        Op::Record { record, openings, reply } => {
            answer(group.append(&record, openings), reply, answers);
        }
        Op::Intent { draft, reply } => {
            let kept = group.bytes() + (group.open_intents() + 2) * OUTCOME_MAX;
            let admitted = gate.admit(&draft, group.head(), room.saturating_sub(kept));
            let result = admitted.map_err(WriteError::Refused).and_then(|()| group.intent(&draft));
            if let Err(WriteError::Refused(err)) = &result {
                group.refuse_intent(&draft, err);
            }
            let result = result.map(|(seq, leaf)| {
                let IntentDraft { key, fence, plan, .. } = *draft;
                IntentGuard { key, fence, seq, leaf, plan, requests: Some(requests.clone()) }
            });
            answer(result, reply, answers);
        }
        Op::Outcome { draft, reply } => answer(group.outcome(*draft), reply, answers),
        Op::Refusal { draft, reply } => answer(group.refusal(*draft), reply, answers),
        Op::Dropped(draft) => {
            let name = draft.key.to_string();
            match group.outcome(*draft) {
                Ok(_) => tracing::error!(attempt = name, "how an attempt ended was not recorded"),
                Err(err) => tracing::error!(attempt = name, ?err, "an attempt has no outcome"),
            }
        }
        Op::Heard { key, reply } => {
            group.heard(&key);
            answer(Ok(()), reply, answers);
        }
        Op::Announce(record) => announced(group, &record),
        Op::Begin(reply) => answer(Ok(()), reply, answers),
        Op::Facts { .. } | Op::Flush(_) | Op::Close => {}
    }
}

/// Keeps a result until the group is durable; what was not written is answered then too: its refusal is recorded.
fn answer<T: Send + 'static>(
    result: Result<T, WriteError>,
    reply: Reply<T>,
    answers: &mut Vec<Answer>,
) {
    let result = result.map_err(|err| match err {
        WriteError::Refused(err) => err,
        WriteError::Record(why) => JournalError::Record(why),
    });
    answers.push(Box::new(|written| {
        let result = match written {
            Ok(()) => result,
            Err(err) => Err(err.clone()),
        };
        // Whoever asked may be gone; what was written stays written.
        drop(reply.send(result));
    }));
}

fn refuse(op: Op, err: &JournalError) {
    fn send<T>(reply: Reply<T>, err: &JournalError) {
        drop(reply.send(Err(err.clone())));
    }
    match op {
        Op::Record { reply, .. } => send(reply, err),
        Op::Intent { reply, .. } => send(reply, err),
        Op::Outcome { reply, .. } | Op::Refusal { reply, .. } => send(reply, err),
        Op::Heard { reply, .. } | Op::Facts { reply, .. } | Op::Flush(reply) => send(reply, err),
        Op::Begin(reply) => send(reply, err),
        Op::Announce(_) | Op::Dropped(_) | Op::Close => {}
    }
}

//! Messages inside one process: who listens to what, and the queues between. At most once: a
//! subscriber whose queue is full loses the message, as it would on a network.

use crate::contract::MessageStream;
use crate::error::{LogError, Result};
use crate::limits::{MESSAGE_MAX, SUBSCRIPTION_QUEUE};
use crate::subject::{check_pattern, check_subject, has_wildcard, matches};
use crate::types::Message;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Names of the places to which answers go begin with this.
const INBOX: &str = "_INBOX.";

/// The subscriptions of one log.
#[derive(Default)]
pub(crate) struct Hub {
    subscriptions: Arc<Mutex<Subscriptions>>,
}

/// A queue grows by blocks of many messages: a pointer keeps those of the many that are idle small.
type Queue = mpsc::Sender<Box<Message>>;

#[derive(Default)]
struct Subscriptions {
    next: u64,
    /// Most are literal, one per session: found without a search.
    literal: HashMap<String, Vec<(u64, Queue)>>,
    wild: Vec<(u64, String, Queue)>,
    /// Who waits for an answer.
    inboxes: HashMap<u64, oneshot::Sender<Bytes>>,
}

impl Hub {
    pub(crate) fn publish(&self, subject: &str, body: &Bytes) -> Result<()> {
        check_subject(subject)?;
        LogError::check_size("a message", body.len(), MESSAGE_MAX)?;
        let mut subscriptions = lock(&self.subscriptions);
        if let Some(inbox) = subject.strip_prefix(INBOX).and_then(|id| id.parse().ok())
            && let Some(waiting) = subscriptions.inboxes.remove(&inbox)
        {
            // Whoever asked may have stopped waiting.
            drop(waiting.send(body.clone()));
            return Ok(());
        }
        let message = Message { subject: subject.to_owned(), reply: None, body: body.clone() };
        subscriptions.send(message);
        Ok(())
    }

    pub(crate) async fn request(
        &self,
        subject: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes> {
        check_subject(subject)?;
        LogError::check_size("a message", body.len(), MESSAGE_MAX)?;
        let (waiting, answer) = oneshot::channel();
        let inbox = {
            let mut subscriptions = lock(&self.subscriptions);
            let id = subscriptions.next;
            subscriptions.next += 1;
            let reply = Some(format!("{INBOX}{id}"));
            if subscriptions.send(Message { subject: subject.to_owned(), reply, body }) == 0 {
                return Err(LogError::NoResponders);
            }
            subscriptions.inboxes.insert(id, waiting);
            Inbox { id, subscriptions: self.subscriptions.clone() }
        };
        let answered = tokio::time::timeout(timeout, answer).await;
        drop(inbox);
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(LogError::Closed),
            Err(_) => Err(LogError::Timeout),
        }
    }

    pub(crate) fn subscribe(&self, pattern: &str) -> Result<MessageStream> {
        check_pattern(pattern)?;
        let mut subscriptions = lock(&self.subscriptions);
        let (tx, messages) = mpsc::channel(SUBSCRIPTION_QUEUE);
        let id = subscriptions.next;
        subscriptions.next += 1;
        if has_wildcard(pattern) {
            subscriptions.wild.push((id, pattern.to_owned(), tx));
        } else {
            subscriptions.literal.entry(pattern.to_owned()).or_default().push((id, tx));
        }
        let (pattern, subscriptions) = (pattern.to_owned(), self.subscriptions.clone());
        Ok(Subscription { id, pattern, messages, subscriptions }.boxed())
    }
}

impl Subscriptions {
    /// Returns how many listen.
    fn send(&self, message: Message) -> usize {
        let literal = self.literal.get(&message.subject).into_iter().flatten().map(|(_, tx)| tx);
        let wild = self.wild.iter().filter(|(_, p, _)| matches(p, &message.subject));
        let mut all = literal.chain(wild.map(|(_, _, tx)| tx));
        let Some(mut tx) = all.next() else { return 0 };
        let mut listening = 1;
        for next in all {
            deliver(tx, message.clone());
            tx = next;
            listening += 1;
        }
        deliver(tx, message);
        listening
    }

    fn remove(&mut self, id: u64, pattern: &str) {
        self.wild.retain(|(other, _, _)| *other != id);
        if let Some(list) = self.literal.get_mut(pattern) {
            list.retain(|(other, _)| *other != id);
            if list.is_empty() {
                self.literal.remove(pattern);
            }
        }
    }
}

fn deliver(to: &Queue, message: Message) {
    if let Err(lost) = to.try_send(Box::new(message)) {
        let subject = lost.into_inner().subject;
        tracing::warn!(subject, "a slow subscriber lost a message");
    }
}

/// Leaves nothing behind, however a request ends.
struct Inbox {
    id: u64,
    subscriptions: Arc<Mutex<Subscriptions>>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        lock(&self.subscriptions).inboxes.remove(&self.id);
    }
}

struct Subscription {
    id: u64,
    pattern: String,
    messages: mpsc::Receiver<Box<Message>>,
    subscriptions: Arc<Mutex<Subscriptions>>,
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.messages.poll_recv(cx).map(|m| m.map(|m| *m))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.subscriptions).remove(self.id, &self.pattern);
    }
}

fn lock(subscriptions: &Mutex<Subscriptions>) -> MutexGuard<'_, Subscriptions> {
    subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
}

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
use tokio::sync::mpsc;

/// The subscriptions of one log.
#[derive(Default)]
pub(crate) struct Hub {
    subscriptions: Arc<Mutex<Subscriptions>>,
}

#[derive(Default)]
struct Subscriptions {
    next: u64,
    /// Most are literal, one per session: found without a search.
    literal: HashMap<String, Vec<(u64, mpsc::Sender<Message>)>>,
    wild: Vec<(u64, String, mpsc::Sender<Message>)>,
}

impl Hub {
    pub(crate) fn publish(&self, subject: &str, body: &Bytes) -> Result<()> {
        check_subject(subject)?;
        LogError::check_size("a message", body.len(), MESSAGE_MAX)?;
        let message = Message { subject: subject.to_owned(), reply: None, body: body.clone() };
        lock(&self.subscriptions).send(&message);
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
        let (inbox, mut answers) = {
            let mut subscriptions = lock(&self.subscriptions);
            let inbox = format!("_INBOX.{}", subscriptions.next);
            let answers = self.add(&mut subscriptions, &inbox, 1);
            (inbox, answers)
        };
        let message = Message { subject: subject.to_owned(), reply: Some(inbox), body };
        if lock(&self.subscriptions).send(&message) == 0 {
            return Err(LogError::NoResponders);
        }
        match tokio::time::timeout(timeout, answers.next()).await {
            Ok(Some(answer)) => Ok(answer.body),
            Ok(None) => Err(LogError::Closed),
            Err(_) => Err(LogError::Timeout),
        }
    }

    pub(crate) fn subscribe(&self, pattern: &str) -> Result<MessageStream> {
        check_pattern(pattern)?;
        let mut subscriptions = lock(&self.subscriptions);
        Ok(self.add(&mut subscriptions, pattern, SUBSCRIPTION_QUEUE).boxed())
    }

    fn add(&self, to: &mut Subscriptions, pattern: &str, queue: usize) -> Subscription {
        let (tx, messages) = mpsc::channel(queue);
        let id = to.next;
        to.next += 1;
        if has_wildcard(pattern) {
            to.wild.push((id, pattern.to_owned(), tx));
        } else {
            to.literal.entry(pattern.to_owned()).or_default().push((id, tx));
        }
        Subscription {
            id,
            pattern: pattern.to_owned(),
            messages,
            subscriptions: self.subscriptions.clone(),
        }
    }
}

impl Subscriptions {
    /// Returns how many listen.
    fn send(&self, message: &Message) -> usize {
        let literal = self.literal.get(&message.subject).into_iter().flatten().map(|(_, tx)| tx);
        let wild = self.wild.iter().filter(|(_, p, _)| matches(p, &message.subject));
        let mut listening = 0;
        for tx in literal.chain(wild.map(|(_, _, tx)| tx)) {
            listening += 1;
            if tx.try_send(message.clone()).is_err() {
                tracing::warn!(subject = message.subject, "a slow subscriber lost a message");
            }
        }
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

struct Subscription {
    id: u64,
    pattern: String,
    messages: mpsc::Receiver<Message>,
    subscriptions: Arc<Mutex<Subscriptions>>,
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.messages.poll_recv(cx)
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

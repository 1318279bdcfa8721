//! Messages that are not kept: requests, subscriptions, patterns.

use super::{Bench, Outcome, equal, holds, next};
use crate::limits::MESSAGE_MAX;
use crate::{EventLog, LogError};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn a_request_without_a_listener_fails_at_once(b: &mut Bench) -> Outcome {
    let (log, started) = (b.log()?, Instant::now());
    let got = log.request(&b.name(".nobody"), "x".into(), PATIENCE).await;
    equal("answer", got, Err(LogError::NoResponders))?;
    holds("at once", started.elapsed() < PATIENCE / 2)
}

/// Answers until it is dropped; a log is not free before its last user is gone.
struct Echo(JoinHandle<()>);

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn echo(log: &Arc<dyn EventLog>, pattern: &str) -> Result<Echo, LogError> {
    let (mut messages, log) = (log.subscribe(pattern).await?, log.clone());
    Ok(Echo(tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let answer = Bytes::from([b"re:", &message.body[..]].concat());
            if log.reply(&message, answer).await.is_err() {
                break;
            }
        }
    })))
}

pub(super) async fn a_request_is_answered(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    let echo = echo(&log, &b.name(".svc.*")).await?;
    for i in 0..50 {
        let subject = b.name(&format!(".svc.{i}"));
        let got = log.request(&subject, Bytes::from(i.to_string()), PATIENCE).await?;
        equal("answer", got, Bytes::from(format!("re:{i}")))?;
    }
    drop(echo);
    Ok(())
}

pub(super) async fn a_silent_listener_is_a_timeout(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    let mut silent = log.subscribe(&b.name(".mute")).await?;
    let got = log.request(&b.name(".mute"), "x".into(), Duration::from_millis(200)).await;
    equal("answer", got, Err(LogError::Timeout))?;
    let message = next(&mut silent).await?;
    equal("it was asked", message.body, Bytes::from("x"))?;
    holds("and could have answered", message.reply.is_some())
}

pub(super) async fn a_subscription_with_wildcards_gets_what_matches(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    let mut star = log.subscribe(&b.name(".a.*.z")).await?;
    let mut rest = log.subscribe(&b.name(".a.>")).await?;
    for subject in [".a.1.z", ".a.1.y", ".b.1.z", ".a", ".a.1.2.z", ".a.2.z"] {
        log.publish(&b.name(subject), Bytes::from(subject)).await?;
    }
    for expected in [".a.1.z", ".a.2.z"] {
        let message = next(&mut star).await?;
        equal("star", (message.subject, message.reply), (b.name(expected), None))?;
    }
    for expected in [".a.1.z", ".a.1.y", ".a.1.2.z", ".a.2.z"] {
        equal("rest", next(&mut rest).await?.subject, b.name(expected))?;
    }
    Ok(())
}

pub(super) async fn every_subscriber_gets_a_message(b: &mut Bench) -> Outcome {
    let (log, subject) = (b.log()?, b.name(".all"));
    let mut one = log.subscribe(&subject).await?;
    let mut two = log.subscribe(&subject).await?;
    log.publish(&subject, "x".into()).await?;
    equal("one", next(&mut one).await?.body, Bytes::from("x"))?;
    equal("two", next(&mut two).await?.body, Bytes::from("x"))
}

pub(super) async fn a_dropped_subscription_listens_no_more(b: &mut Bench) -> Outcome {
    let (log, subject) = (b.log()?, b.name(".gone"));
    drop(log.subscribe(&subject).await?);
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let got = log.request(&subject, "x".into(), Duration::from_millis(200)).await;
        if got == Err(LogError::NoResponders) {
            return Ok(());
        }
    }
    Err("somebody still listens".into())
}

pub(super) async fn bad_subjects_and_large_messages_are_refused(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    for bad in ["", "a..b", "a b", "a.*", "a.>"] {
        let got = log.publish(bad, "x".into()).await;
        holds(bad, matches!(got, Err(LogError::BadName { .. })))?;
    }
    for bad in ["", "a..b", "a.>.b"] {
        holds(bad, matches!(log.subscribe(bad).await, Err(LogError::BadName { .. })))?;
    }
    let large = Bytes::from(vec![0; MESSAGE_MAX + 1]);
    let got = log.publish(&b.name(".x"), large.clone()).await;
    holds("publish", matches!(got, Err(LogError::TooLarge { .. })))?;
    let got = log.request(&b.name(".x"), large, PATIENCE).await;
    holds("request", matches!(got, Err(LogError::TooLarge { .. })))
}

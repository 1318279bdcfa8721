//! What every backend must do, as checks with a sentence for a name. A backend is correct if and
//! only if all of them pass; tests run them against each. A check uses a workspace of its own, so
//! that all of them may share one log.

mod aggregates;
mod buckets;
mod messages;
mod outputs;
mod tails;

use crate::contract::EventLog;
use crate::key::{Key, Space};
use crate::types::{Commit, CommitId, Recorded, Tail};
use crate::{LogError, TailStream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// How a check ends: what was wrong, in words.
pub type Outcome = std::result::Result<(), Box<dyn Error + Send + Sync>>;

/// Opens the log under test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A handle on the log. When it is called again, every earlier handle is gone: a durable
    /// backend then restarts whatever it can.
    async fn open(&self) -> std::result::Result<Arc<dyn EventLog>, LogError>;
}

/// What a check works with.
pub struct Bench {
    fixture: Arc<dyn Fixture>,
    log: Option<Arc<dyn EventLog>>,
    ws: String,
}

/// A named check.
pub struct Check {
    /// What holds when it passes.
    pub name: &'static str,
    run: for<'a> fn(&'a mut Bench) -> BoxFuture<'a, Outcome>,
}

macro_rules! checks {
    ($($module:ident :: $name:ident,)*) => {
        /// Every check, in the order of the contract.
        pub const CHECKS: &[Check] = &[$(Check {
            name: stringify!($name),
            run: |bench| Box::pin($module::$name(bench)),
        },)*];
    };
}

checks! {
    aggregates::an_absent_aggregate_is_created,
    aggregates::creating_again_is_a_conflict,
    aggregates::an_append_at_the_last_revision_succeeds_and_grows,
    aggregates::a_stale_revision_is_a_conflict,
    aggregates::a_future_revision_is_a_conflict,
    aggregates::a_revision_of_an_absent_aggregate_is_a_conflict,
    aggregates::a_landed_commit_that_is_retried_succeeds_with_its_revision,
    aggregates::a_conflict_writes_nothing,
    aggregates::everything_of_a_commit_is_read_back,
    aggregates::commits_are_read_in_order_and_from_a_revision,
    aggregates::a_long_history_is_read_in_pages,
    aggregates::an_absent_aggregate_reads_as_empty,
    aggregates::last_is_the_last_commit,
    aggregates::a_commit_of_the_largest_size_fits_and_a_larger_one_is_refused,
    aggregates::a_kind_that_is_not_printable_is_refused,
    aggregates::appends_without_a_fence_always_land_once,
    aggregates::workspaces_and_spaces_do_not_mix,
    aggregates::compaction_leaves_one_commit,
    aggregates::compaction_at_a_stale_revision_is_a_conflict,
    aggregates::the_fence_survives_compaction,
    aggregates::a_compaction_that_is_retried_succeeds,
    aggregates::of_32_racing_creators_one_wins,
    aggregates::of_200_contended_increments_none_is_lost,
    aggregates::what_was_acknowledged_is_there_after_a_restart,
    tails::a_tail_yields_everything_in_order_and_catches_up_once,
    tails::a_tail_has_no_gap_across_a_concurrent_writer,
    tails::a_tail_at_the_head_catches_up_first,
    tails::a_tail_waits_for_what_comes,
    tails::a_tail_of_an_empty_shard_catches_up,
    tails::a_tail_resumes_after_a_restart,
    tails::a_compaction_is_seen_by_live_and_by_later_tails,
    tails::a_slow_tail_misses_nothing,
    tails::tails_are_of_one_space,
    tails::every_aggregate_is_in_the_tail_of_its_shard,
    tails::a_shard_that_does_not_exist_is_refused,
    tails::head_is_the_last_revision,
    buckets::a_value_is_created_once,
    buckets::a_value_is_changed_at_its_revision_only,
    buckets::a_deleted_value_is_absent_and_may_be_created_again,
    buckets::a_value_is_deleted_at_its_revision_only,
    buckets::a_value_of_the_largest_size_fits_and_a_larger_one_is_refused,
    buckets::bad_names_are_refused,
    buckets::a_watch_yields_what_is_there_and_then_every_change,
    buckets::a_watch_of_an_unused_bucket_catches_up,
    buckets::values_survive_a_restart,
    messages::a_request_without_a_listener_fails_at_once,
    messages::a_request_is_answered,
    messages::a_silent_listener_is_a_timeout,
    messages::a_subscription_with_wildcards_gets_what_matches,
    messages::every_subscriber_gets_a_message,
    messages::a_dropped_subscription_listens_no_more,
    messages::bad_subjects_and_large_messages_are_refused,
    outputs::output_is_read_back_from_any_offset,
    outputs::output_sent_again_is_dropped,
    outputs::a_gap_is_refused_and_the_expected_offset_named,
    outputs::streams_keep_their_order,
    outputs::the_end_is_watched,
    outputs::attempts_do_not_mix,
    outputs::output_is_listed_and_removed,
    outputs::bad_chunks_are_refused,
    outputs::many_attempts_append_at_once,
    outputs::output_survives_a_restart,
    outputs::backend_says_what_it_is,
}

impl Check {
    /// Runs the check in a workspace of its own.
    ///
    /// # Errors
    /// What was wrong.
    pub async fn run(&self, fixture: Arc<dyn Fixture>) -> Outcome {
        let log = Some(fixture.open().await?);
        let ws = format!("w{}", CommitId::generate()).replace('-', "");
        (self.run)(&mut Bench { fixture, log, ws }).await
    }
}

/// Runs every check and returns those that failed, with the reason.
pub async fn run_all(fixture: Arc<dyn Fixture>) -> Vec<(&'static str, String)> {
    let mut failed = Vec::new();
    for check in CHECKS {
        let limit = Duration::from_secs(120);
        let started = std::time::Instant::now();
        let outcome = tokio::time::timeout(limit, check.run(fixture.clone())).await;
        tracing::info!(check = check.name, ms = started.elapsed().as_millis(), "checked");
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(e)) => failed.push((check.name, e.to_string())),
            Err(_) => failed.push((check.name, "it did not end within 120 s".into())),
        }
    }
    failed
}

impl Bench {
    fn log(&self) -> Result<Arc<dyn EventLog>, LogError> {
        self.log.clone().ok_or(LogError::Closed)
    }

    async fn reopen(&mut self) -> Outcome {
        self.log = None;
        self.log = Some(self.fixture.open().await?);
        Ok(())
    }

    fn key(&self, id: &str) -> Result<Key, LogError> {
        Key::new(Space::Task, &*self.ws, id)
    }

    /// A bucket or subject that no other check uses.
    fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.ws)
    }
}

fn commit(n: u64, body: impl Into<Bytes>) -> Commit {
    Commit { id: CommitId::generate(), kind: "Checked".into(), n, body: body.into() }
}

/// The next item of a stream; none for a long time is a failure.
async fn next<S: StreamExt + Unpin>(
    stream: &mut S,
) -> Result<S::Item, Box<dyn Error + Send + Sync>> {
    match tokio::time::timeout(Duration::from_secs(30), stream.next()).await {
        Ok(Some(item)) => Ok(item),
        Ok(None) => Err("the stream ended".into()),
        Err(_) => Err("nothing came for 30 s".into()),
    }
}

/// The next commit of a tail, and whether it caught up on the way.
async fn next_event(
    tail: &mut TailStream,
) -> Result<(Recorded, bool), Box<dyn Error + Send + Sync>> {
    let mut caught_up = false;
    loop {
        match next(tail).await?? {
            Tail::Event(recorded) => return Ok((recorded, caught_up)),
            Tail::CaughtUp if caught_up => return Err("it caught up twice".into()),
            Tail::CaughtUp => caught_up = true,
        }
    }
}

fn equal<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Outcome {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}: got {got:?}, expected {expected:?}").into())
    }
}

fn holds(what: &str, condition: bool) -> Outcome {
    if condition { Ok(()) } else { Err(what.into()) }
}

fn conflict<T: Debug>(what: &str, got: Result<T, LogError>) -> Outcome {
    match got {
        Err(LogError::Conflict) => Ok(()),
        other => Err(format!("{what}: got {other:?}, expected a conflict").into()),
    }
}

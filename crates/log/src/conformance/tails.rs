//! Tails: order, completeness, the moment of having caught up, restarts.

use super::{Bench, Outcome, commit, equal, holds, next, next_event};
use crate::key::{Key, Space};
use crate::types::{Expect, Rev, Tail};
use crate::{EventLog, LogError, TailStream};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

/// A key, its shard, and the head of that before the check wrote anything.
async fn place(b: &Bench, id: &str) -> Result<(Arc<dyn EventLog>, Key, u32, Rev), LogError> {
    let (log, key) = (b.log()?, b.key(id)?);
    let shard = key.shard(log.shards());
    let head = log.head(Space::Task, shard).await?;
    Ok((log, key, shard, head))
}

async fn write(log: &Arc<dyn EventLog>, key: &Key, ns: std::ops::Range<u64>) -> Outcome {
    for n in ns {
        log.append(key, Expect::Any, commit(n, "x")).await?;
    }
    Ok(())
}

/// Reads until `count` commits of the key came; their counters must be 0, 1, 2... Returns how often
/// the tail caught up, and the last revision.
async fn collect(
    tail: &mut TailStream,
    key: &Key,
    from: u64,
    count: u64,
) -> Result<(usize, Rev), Box<dyn Error + Send + Sync>> {
    let (mut caught_up, mut n, mut rev) = (0, from, 0);
    while n < from + count {
        match next(tail).await?? {
            Tail::CaughtUp => caught_up += 1,
            Tail::Event(recorded) => {
                holds("revisions grow", recorded.rev > rev)?;
                rev = recorded.rev;
                if *recorded.key == *key {
                    equal("counter", recorded.commit.n, n)?;
                    n += 1;
                }
            }
        }
    }
    Ok((caught_up, rev))
}

pub(super) async fn a_tail_yields_everything_in_order_and_catches_up_once(
    b: &mut Bench,
) -> Outcome {
    let (log, key, shard, head) = place(b, "a").await?;
    write(&log, &key, 0..20).await?;
    let mut tail = log.tail(Space::Task, shard, head).await?;
    let (early, _) = collect(&mut tail, &key, 0, 20).await?;
    equal("caught up before the end", early, 0)?;
    equal("then", next(&mut tail).await??, Tail::CaughtUp)?;
    write(&log, &key, 20..25).await?;
    let (again, _) = collect(&mut tail, &key, 20, 5).await?;
    equal("caught up again", again, 0)
}

pub(super) async fn a_tail_has_no_gap_across_a_concurrent_writer(b: &mut Bench) -> Outcome {
    let (log, key, shard, head) = place(b, "a").await?;
    write(&log, &key, 0..20).await?;
    let (log2, key2) = (log.clone(), key.clone());
    let writer = tokio::spawn(async move { write(&log2, &key2, 20..120).await });
    let mut tail = log.tail(Space::Task, shard, head).await?;
    let (caught_up, _) = collect(&mut tail, &key, 0, 120).await?;
    writer.await??;
    write(&log, &key, 120..121).await?;
    let (later, _) = collect(&mut tail, &key, 120, 1).await?;
    equal("caught up", caught_up + later, 1)
}

pub(super) async fn a_tail_at_the_head_catches_up_first(b: &mut Bench) -> Outcome {
    let (log, key, shard, _) = place(b, "a").await?;
    write(&log, &key, 0..3).await?;
    let head = log.head(Space::Task, shard).await?;
    let mut tail = log.tail(Space::Task, shard, head).await?;
    equal("first", next(&mut tail).await??, Tail::CaughtUp)
}

pub(super) async fn a_tail_waits_for_what_comes(b: &mut Bench) -> Outcome {
    let (log, key, shard, head) = place(b, "a").await?;
    let mut tail = log.tail(Space::Task, shard, head).await?;
    equal("first", next(&mut tail).await??, Tail::CaughtUp)?;
    for n in 0..5 {
        write(&log, &key, n..n + 1).await?;
        let (recorded, caught_up) = next_event(&mut tail).await?;
        equal("counter", recorded.commit.n, n)?;
        holds("it catches up once", !caught_up)?;
        let stored = log.last(&key).await?;
        equal("the same as read", stored, Some(recorded))?;
    }
    Ok(())
}

pub(super) async fn a_tail_of_an_empty_shard_catches_up(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    for space in Space::ALL {
        let head = log.head(space, 0).await?;
        let mut tail = log.tail(space, 0, head).await?;
        equal("first", next(&mut tail).await??, Tail::CaughtUp)?;
    }
    Ok(())
}

pub(super) async fn a_tail_resumes_after_a_restart(b: &mut Bench) -> Outcome {
    let (log, key, shard, head) = place(b, "a").await?;
    write(&log, &key, 0..10).await?;
    let mut tail = log.tail(Space::Task, shard, head).await?;
    let (_, rev) = collect(&mut tail, &key, 0, 6).await?;
    drop((tail, log));
    b.reopen().await?;
    let log = b.log()?;
    let mut tail = log.tail(Space::Task, shard, rev).await?;
    write(&log, &key, 10..12).await?;
    let (caught_up, _) = collect(&mut tail, &key, 6, 6).await?;
    equal("caught up", caught_up, 1)
}

pub(super) async fn a_compaction_is_seen_by_live_and_by_later_tails(b: &mut Bench) -> Outcome {
    let (log, key, shard, head) = place(b, "a").await?;
    write(&log, &key, 0..3).await?;
    let mut live = log.tail(Space::Task, shard, head).await?;
    let (_, at) = collect(&mut live, &key, 0, 3).await?;
    let rev = log.compact(&key, at, commit(3, "sum")).await?;
    let (recorded, _) = next_event(&mut live).await?;
    equal("live", (recorded.rev, recorded.commit.n), (rev, 3))?;
    let mut later = log.tail(Space::Task, shard, head).await?;
    let (recorded, _) = next_event(&mut later).await?;
    equal("later", (recorded.rev, recorded.commit.n), (rev, 3))?;
    equal("and nothing else", next(&mut later).await??, Tail::CaughtUp)
}

pub(super) async fn a_slow_tail_misses_nothing(b: &mut Bench) -> Outcome {
    let (log, key, shard, head) = place(b, "a").await?;
    let mut tail = log.tail(Space::Task, shard, head).await?;
    equal("first", next(&mut tail).await??, Tail::CaughtUp)?;
    // More than any backend keeps in memory or in flight for a tail.
    let body = vec![1; 200 * 1024];
    for n in 0..200 {
        log.append(&key, Expect::Any, commit(n, body.clone())).await?;
    }
    collect(&mut tail, &key, 0, 200).await.map(|_| ())
}

pub(super) async fn tails_are_of_one_space(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    for space in Space::ALL {
        let key = Key::new(space, b.name("x"), "a")?;
        let shard = key.shard(log.shards());
        let head = log.head(space, shard).await?;
        for other in Space::ALL {
            let key = Key::new(other, b.name("x"), "a")?;
            log.append(&key, Expect::Any, commit(1, "x")).await?;
        }
        let mut tail = log.tail(space, shard, head).await?;
        equal("space", next_event(&mut tail).await?.0.key.space(), space)?;
        equal("then", next(&mut tail).await??, Tail::CaughtUp)?;
    }
    Ok(())
}

pub(super) async fn every_aggregate_is_in_the_tail_of_its_shard(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    let mut heads = BTreeMap::new();
    for shard in 0..log.shards() {
        heads.insert(shard, log.head(Space::Task, shard).await?);
    }
    let mut expected: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for i in 0..32 {
        let key = b.key(&format!("k{i}"))?;
        log.append(&key, Expect::Absent, commit(1, "x")).await?;
        expected.entry(key.shard(log.shards())).or_default().push(key.id().to_owned());
    }
    for (shard, ids) in expected {
        let mut tail = log.tail(Space::Task, shard, heads[&shard]).await?;
        for id in ids {
            equal("aggregate", next_event(&mut tail).await?.0.key.id(), &id)?;
        }
        equal("then", next(&mut tail).await??, Tail::CaughtUp)?;
    }
    Ok(())
}

pub(super) async fn a_shard_that_does_not_exist_is_refused(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    for (space, shard) in [(Space::Task, log.shards()), (Space::Registry, 1)] {
        let tail = log.tail(space, shard, 0).await;
        holds("tail", matches!(tail, Err(LogError::BadName { .. })))?;
        let head = log.head(space, shard).await;
        holds("head", matches!(head, Err(LogError::BadName { .. })))?;
    }
    Ok(())
}

pub(super) async fn head_is_the_last_revision(b: &mut Bench) -> Outcome {
    let (log, key, shard, _) = place(b, "a").await?;
    let rev = log.append(&key, Expect::Absent, commit(1, "x")).await?;
    equal("head", log.head(Space::Task, shard).await?, rev)
}

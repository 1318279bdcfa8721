//! Appending to aggregates, reading them, fences and compaction.

use super::{Bench, Outcome, commit, conflict, equal, holds};
use crate::key::{Key, Space};
use crate::limits::COMMIT_MAX;
use crate::types::{Commit, CommitId, Expect};
use crate::{EventLog, LogError};
use std::sync::Arc;

pub(super) async fn an_absent_aggregate_is_created(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let rev = log.append(&key, Expect::Absent, commit(1, "x")).await?;
    holds("revisions begin above 0", rev > 0)?;
    equal("commits", log.read(&key, 0).await?.len(), 1)
}

pub(super) async fn creating_again_is_a_conflict(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    log.append(&key, Expect::Absent, commit(1, "x")).await?;
    conflict("second create", log.append(&key, Expect::Absent, commit(1, "x")).await)
}

pub(super) async fn an_append_at_the_last_revision_succeeds_and_grows(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let mut last = log.append(&key, Expect::Absent, commit(1, "x")).await?;
    for n in 2..10 {
        let rev = log.append(&key, Expect::At(last), commit(n, "y")).await?;
        holds("revisions grow", rev > last)?;
        last = rev;
    }
    Ok(())
}

pub(super) async fn a_stale_revision_is_a_conflict(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let first = log.append(&key, Expect::Absent, commit(1, "x")).await?;
    log.append(&key, Expect::At(first), commit(2, "y")).await?;
    conflict("stale append", log.append(&key, Expect::At(first), commit(2, "z")).await)
}

pub(super) async fn a_future_revision_is_a_conflict(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let rev = log.append(&key, Expect::Absent, commit(1, "x")).await?;
    conflict("append", log.append(&key, Expect::At(rev + 1000), commit(2, "y")).await)
}

pub(super) async fn a_revision_of_an_absent_aggregate_is_a_conflict(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    conflict("append", log.append(&key, Expect::At(1), commit(1, "x")).await)
}

pub(super) async fn a_landed_commit_that_is_retried_succeeds_with_its_revision(
    b: &mut Bench,
) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let (one, two) = (commit(1, "x"), commit(2, "y"));
    let first = log.append(&key, Expect::Absent, one.clone()).await?;
    equal("retried create", log.append(&key, Expect::Absent, one.clone()).await?, first)?;
    let second = log.append(&key, Expect::At(first), two.clone()).await?;
    log.append(&key, Expect::At(second), commit(3, "z")).await?;
    equal("retried append", log.append(&key, Expect::At(first), two).await?, second)?;
    equal("create, retried late", log.append(&key, Expect::Absent, one).await?, first)?;
    equal("commits", log.read(&key, 0).await?.len(), 3)
}

pub(super) async fn a_conflict_writes_nothing(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    log.append(&key, Expect::Absent, commit(1, "x")).await?;
    let before = log.read(&key, 0).await?;
    for expect in [Expect::Absent, Expect::At(before[0].rev + 1)] {
        conflict("append", log.append(&key, expect, commit(2, "y")).await)?;
    }
    equal("history", log.read(&key, 0).await?, before)
}

pub(super) async fn everything_of_a_commit_is_read_back(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a-b_9")?);
    let body: Vec<u8> = (0..=255).collect();
    let id = CommitId::generate();
    let kind = "Started, Finished{x: 1}".into();
    let given = Commit { id, kind, n: 1 << 60, body: body.into() };
    let rev = log.append(&key, Expect::Absent, given.clone()).await?;
    let got = log.read(&key, 0).await?;
    equal("commits", got.len(), 1)?;
    equal("commit", &got[0].commit, &given)?;
    equal("key", &*got[0].key, &key)?;
    equal("revision", got[0].rev, rev)?;
    holds("time is milliseconds since 1970", got[0].at_ms > 1_600_000_000_000)?;
    let empty = b.key("empty")?;
    log.append(&empty, Expect::Absent, commit(1, "")).await?;
    holds("an empty body", log.read(&empty, 0).await?[0].commit.body.is_empty())
}

pub(super) async fn commits_are_read_in_order_and_from_a_revision(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let mut expect = Expect::Absent;
    for n in 1..=5 {
        expect = Expect::At(log.append(&key, expect, commit(n, "x")).await?);
        log.append(&b.key("other")?, Expect::Any, commit(n, "x")).await?;
    }
    let all = log.read(&key, 0).await?;
    equal("counters", all.iter().map(|r| r.commit.n).collect(), vec![1, 2, 3, 4, 5])?;
    holds("times do not run back", all.windows(2).all(|w| w[0].at_ms <= w[1].at_ms))?;
    equal("from the third", log.read(&key, all[2].rev).await?, all[2..].to_vec())?;
    equal("behind the third", log.read(&key, all[2].rev + 1).await?, all[3..].to_vec())?;
    equal("behind the end", log.read(&key, all[4].rev + 1).await?, vec![])
}

pub(super) async fn a_long_history_is_read_in_pages(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let mut last = log.append(&key, Expect::Absent, commit(1, "x")).await?;
    for n in 2..=5 {
        last = log.append(&key, Expect::At(last), commit(n, "y")).await?;
    }
    let (mut read, mut from) = (Vec::new(), 0);
    loop {
        let page = log.read_page(&key, from, 2).await?;
        holds("a page is not larger than asked for", page.len() <= 2)?;
        let Some(end) = page.last() else { break };
        from = end.rev + 1;
        read.extend(page.iter().map(|recorded| recorded.commit.n));
    }
    equal("all of it, in order", read, vec![1, 2, 3, 4, 5])
}

pub(super) async fn an_absent_aggregate_reads_as_empty(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    equal("history", log.read(&key, 0).await?, vec![])?;
    equal("last", log.last(&key).await?, None)
}

pub(super) async fn last_is_the_last_commit(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let first = log.append(&key, Expect::Absent, commit(1, "x")).await?;
    let second = log.append(&key, Expect::At(first), commit(2, "y")).await?;
    let last = log.last(&key).await?;
    equal("last", last.map(|r| (r.rev, r.commit.n)), Some((second, 2)))
}

pub(super) async fn a_commit_of_the_largest_size_fits_and_a_larger_one_is_refused(
    b: &mut Bench,
) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let body = vec![7; COMMIT_MAX];
    log.append(&key, Expect::Absent, commit(1, body.clone())).await?;
    let stored = log.last(&key).await?.map(|r| r.commit.body.len());
    equal("stored", stored, Some(COMMIT_MAX))?;
    let got = log.append(&b.key("b")?, Expect::Absent, commit(1, [body, vec![7]].concat())).await;
    holds("one byte more is too large", matches!(got, Err(LogError::TooLarge { .. })))
}

pub(super) async fn a_kind_that_is_not_printable_is_refused(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    for kind in ["", "a\nb", "a\0", &"k".repeat(256)] {
        let given = Commit { kind: kind.into(), ..commit(1, "x") };
        let got = log.append(&key, Expect::Absent, given).await;
        holds(kind, matches!(got, Err(LogError::BadName { .. })))?;
    }
    equal("history", log.read(&key, 0).await?, vec![])
}

pub(super) async fn appends_without_a_fence_always_land_once(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    for n in 1..=3 {
        let given = commit(n, "x");
        let rev = log.append(&key, Expect::Any, given.clone()).await?;
        equal("retried", log.append(&key, Expect::Any, given).await?, rev)?;
    }
    equal("commits", log.read(&key, 0).await?.len(), 3)
}

pub(super) async fn workspaces_and_spaces_do_not_mix(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    let keys = [
        Key::new(Space::Task, b.name("x"), "a")?,
        Key::new(Space::Task, b.name("y"), "a")?,
        Key::new(Space::Audit, b.name("x"), "a")?,
        Key::new(Space::Registry, b.name("x"), "a")?,
    ];
    for key in &keys {
        log.append(key, Expect::Absent, commit(1, key.to_string())).await?;
    }
    for key in &keys {
        let got = log.read(key, 0).await?;
        equal("commits", got.len(), 1)?;
        equal("body", &got[0].commit.body[..], key.to_string().as_bytes())?;
    }
    Ok(())
}

/// Three commits of one aggregate; returns the last revision.
async fn history(log: &Arc<dyn EventLog>, key: &Key) -> Result<u64, LogError> {
    let mut expect = Expect::Absent;
    for n in 1..=3 {
        expect = Expect::At(log.append(key, expect, commit(n, "x")).await?);
    }
    Ok(log.last(key).await?.map_or(0, |r| r.rev))
}

pub(super) async fn compaction_leaves_one_commit(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let at = history(&log, &key).await?;
    let summary = commit(4, "sum");
    let rev = log.compact(&key, at, summary.clone()).await?;
    let left = log.read(&key, 0).await?;
    equal("left", left.iter().map(|r| r.rev).collect(), vec![rev])?;
    equal("summary", &left[0].commit, &summary)?;
    log.append(&key, Expect::At(rev), commit(5, "more")).await?;
    equal("it goes on", log.read(&key, 0).await?.len(), 2)
}

pub(super) async fn compaction_at_a_stale_revision_is_a_conflict(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let at = history(&log, &key).await?;
    log.append(&key, Expect::At(at), commit(4, "x")).await?;
    conflict("compaction", log.compact(&key, at, commit(4, "sum")).await)?;
    equal("commits", log.read(&key, 0).await?.len(), 4)?;
    let absent = b.key("absent")?;
    conflict("compaction of nothing", log.compact(&absent, 1, commit(1, "sum")).await)
}

pub(super) async fn the_fence_survives_compaction(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let at = history(&log, &key).await?;
    log.compact(&key, at, commit(4, "sum")).await?;
    conflict("create", log.append(&key, Expect::Absent, commit(1, "x")).await)?;
    conflict("append at the old end", log.append(&key, Expect::At(at), commit(4, "x")).await)
}

pub(super) async fn a_compaction_that_is_retried_succeeds(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let at = history(&log, &key).await?;
    let summary = commit(4, "sum");
    let rev = log.compact(&key, at, summary.clone()).await?;
    equal("retried", log.compact(&key, at, summary).await?, rev)
}

pub(super) async fn of_32_racing_creators_one_wins(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let racers: Vec<_> = (0..32)
        .map(|_| {
            let (log, key) = (log.clone(), key.clone());
            tokio::spawn(async move { log.append(&key, Expect::Absent, commit(1, "x")).await })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        match racer.await? {
            Ok(_) => won += 1,
            Err(LogError::Conflict) => {}
            Err(e) => return Err(e.into()),
        }
    }
    equal("winners", won, 1)?;
    equal("commits", log.read(&key, 0).await?.len(), 1)
}

async fn increment(log: &Arc<dyn EventLog>, key: &Key) -> Result<(), LogError> {
    loop {
        let last = log.last(key).await?;
        let n = last.as_ref().map_or(0, |r| r.commit.n) + 1;
        let expect = last.map_or(Expect::Absent, |r| Expect::At(r.rev));
        match log.append(key, expect, commit(n, n.to_string())).await {
            Err(LogError::Conflict) => tokio::task::yield_now().await,
            other => return other.map(|_| ()),
        }
    }
}

pub(super) async fn of_200_contended_increments_none_is_lost(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, b.key("a")?);
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (log, key) = (log.clone(), key.clone());
            tokio::spawn(async move {
                for _ in 0..25 {
                    increment(&log, &key).await?;
                }
                Ok::<_, LogError>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    let counters: Vec<u64> = log.read(&key, 0).await?.iter().map(|r| r.commit.n).collect();
    equal("counters", counters, (1..=200).collect())
}

pub(super) async fn what_was_acknowledged_is_there_after_a_restart(b: &mut Bench) -> Outcome {
    let (key, gone) = (b.key("a")?, b.key("b")?);
    let before = {
        let log = b.log()?;
        history(&log, &key).await?;
        let at = history(&log, &gone).await?;
        log.compact(&gone, at, commit(4, "sum")).await?;
        log.read(&key, 0).await?
    };
    b.reopen().await?;
    let log = b.log()?;
    equal("history", log.read(&key, 0).await?, before.clone())?;
    equal("compacted", log.read(&gone, 0).await?.len(), 1)?;
    conflict("create", log.append(&gone, Expect::Absent, commit(1, "x")).await)?;
    let rev = log.append(&key, Expect::At(before[2].rev), commit(4, "x")).await?;
    holds("revisions go on growing", rev > before[2].rev)
}

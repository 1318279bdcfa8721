//! Values in buckets: fences, deletion, watches.

use super::{Bench, Outcome, conflict, equal, holds, next};
use crate::LogError;
use crate::limits::KV_VALUE_MAX;
use crate::types::{Expect, KvChange, KvEntry};
use bytes::Bytes;

pub(super) async fn a_value_is_created_once(b: &mut Bench) -> Outcome {
    let (log, bucket) = (b.log()?, b.name(""));
    equal("absent", log.kv_get(&bucket, "k").await?, None)?;
    let rev = log.kv_put(&bucket, "k", Expect::Absent, "v1".into()).await?;
    conflict("again", log.kv_put(&bucket, "k", Expect::Absent, "v2".into()).await)?;
    let entry = log.kv_get(&bucket, "k").await?;
    equal("value", entry, Some(KvEntry { rev, value: "v1".into() }))
}

pub(super) async fn a_value_is_changed_at_its_revision_only(b: &mut Bench) -> Outcome {
    let (log, bucket) = (b.log()?, b.name(""));
    let first = log.kv_put(&bucket, "k", Expect::Absent, "v1".into()).await?;
    let second = log.kv_put(&bucket, "k", Expect::At(first), "v2".into()).await?;
    holds("revisions grow", second > first)?;
    conflict("stale", log.kv_put(&bucket, "k", Expect::At(first), "v3".into()).await)?;
    let third = log.kv_put(&bucket, "k", Expect::Any, "v4".into()).await?;
    let entry = log.kv_get(&bucket, "k").await?;
    equal("value", entry, Some(KvEntry { rev: third, value: "v4".into() }))
}

pub(super) async fn a_deleted_value_is_absent_and_may_be_created_again(b: &mut Bench) -> Outcome {
    let (log, bucket) = (b.log()?, b.name(""));
    log.kv_put(&bucket, "k", Expect::Absent, "v1".into()).await?;
    log.kv_delete(&bucket, "k", Expect::Any).await?;
    equal("absent", log.kv_get(&bucket, "k").await?, None)?;
    log.kv_put(&bucket, "k", Expect::Absent, "v2".into()).await?;
    log.kv_delete(&bucket, "never-there", Expect::Any).await?;
    Ok(())
}

pub(super) async fn a_value_is_deleted_at_its_revision_only(b: &mut Bench) -> Outcome {
    let (log, bucket) = (b.log()?, b.name(""));
    let first = log.kv_put(&bucket, "k", Expect::Absent, "v1".into()).await?;
    let second = log.kv_put(&bucket, "k", Expect::At(first), "v2".into()).await?;
    conflict("stale", log.kv_delete(&bucket, "k", Expect::At(first)).await)?;
    holds("still there", log.kv_get(&bucket, "k").await?.is_some())?;
    log.kv_delete(&bucket, "k", Expect::At(second)).await?;
    equal("absent", log.kv_get(&bucket, "k").await?, None)
}

pub(super) async fn a_value_of_the_largest_size_fits_and_a_larger_one_is_refused(
    b: &mut Bench,
) -> Outcome {
    let (log, bucket) = (b.log()?, b.name(""));
    let value = Bytes::from(vec![7; KV_VALUE_MAX]);
    log.kv_put(&bucket, "k", Expect::Absent, value.clone()).await?;
    holds("stored", log.kv_get(&bucket, "k").await?.is_some_and(|e| e.value == value))?;
    let larger = Bytes::from(vec![7; KV_VALUE_MAX + 1]);
    let got = log.kv_put(&bucket, "k", Expect::Any, larger).await;
    holds("one byte more is too large", matches!(got, Err(LogError::TooLarge { .. })))
}

pub(super) async fn bad_names_are_refused(b: &mut Bench) -> Outcome {
    let (log, bucket) = (b.log()?, b.name(""));
    for (bucket, key) in
        [("a.b", "k"), ("", "k"), (&*bucket, ""), (&*bucket, "a..b"), (&*bucket, "*")]
    {
        let got = log.kv_put(bucket, key, Expect::Any, "v".into()).await;
        holds("put", matches!(got, Err(LogError::BadName { .. })))?;
        let got = log.kv_get(bucket, key).await;
        holds("get", matches!(got, Err(LogError::BadName { .. })))?;
    }
    Ok(())
}

pub(super) async fn a_watch_yields_what_is_there_and_then_every_change(b: &mut Bench) -> Outcome {
    let (log, bucket) = (b.log()?, b.name(""));
    let mut entries = Vec::new();
    for key in ["a.1", "a.2"] {
        let value = Bytes::from(key);
        let rev = log.kv_put(&bucket, key, Expect::Absent, value.clone()).await?;
        entries.push(KvChange::Put { key: key.into(), entry: KvEntry { rev, value } });
    }
    log.kv_put(&bucket, "gone", Expect::Absent, "x".into()).await?;
    log.kv_delete(&bucket, "gone", Expect::Any).await?;
    let mut watch = log.kv_watch(&bucket).await?;
    for entry in entries {
        equal("present", next(&mut watch).await??, entry)?;
    }
    equal("then", next(&mut watch).await??, KvChange::CaughtUp)?;
    log.kv_put(&b.name("other"), "a.1", Expect::Absent, "x".into()).await?;
    let value = Bytes::from("new");
    let rev = log.kv_put(&bucket, "a.1", Expect::Any, value.clone()).await?;
    let put = KvChange::Put { key: "a.1".into(), entry: KvEntry { rev, value } };
    equal("change", next(&mut watch).await??, put)?;
    log.kv_delete(&bucket, "a.2", Expect::Any).await?;
    equal("deletion", next(&mut watch).await??, KvChange::Delete { key: "a.2".into() })
}

pub(super) async fn a_watch_of_an_unused_bucket_catches_up(b: &mut Bench) -> Outcome {
    let (log, bucket) = (b.log()?, b.name(""));
    let mut watch = log.kv_watch(&bucket).await?;
    equal("first", next(&mut watch).await??, KvChange::CaughtUp)?;
    let rev = log.kv_put(&bucket, "k", Expect::Absent, "v".into()).await?;
    let entry = KvEntry { rev, value: "v".into() };
    equal("then", next(&mut watch).await??, KvChange::Put { key: "k".into(), entry })
}

pub(super) async fn values_survive_a_restart(b: &mut Bench) -> Outcome {
    let bucket = b.name("");
    let rev = b.log()?.kv_put(&bucket, "k", Expect::Absent, "v1".into()).await?;
    b.reopen().await?;
    let log = b.log()?;
    let entry = log.kv_get(&bucket, "k").await?;
    equal("value", entry, Some(KvEntry { rev, value: "v1".into() }))?;
    let second = log.kv_put(&bucket, "k", Expect::At(rev), "v2".into()).await?;
    holds("revisions go on growing", second > rev)
}

//! Output of attempts: offsets, repetition, gaps, the watched end, removal.

use super::{Bench, Outcome, equal, holds};
use crate::limits::{OUTPUT_APPEND_MAX, OUTPUT_CHUNK_MAX};
use crate::output::{OutputChunk, OutputKey};
use crate::{EventLog, LogError};
use bytes::Bytes;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

fn chunk(stream: u8, offset: u64, data: impl Into<Bytes>) -> OutputChunk {
    OutputChunk { stream, offset, data: data.into() }
}

fn key(b: &Bench, task: &str, attempt: u32) -> Result<OutputKey, LogError> {
    OutputKey::new(&*b.ws, task, attempt)
}

/// Reads page by page; offsets must join.
async fn everything(
    log: &Arc<dyn EventLog>,
    key: &OutputKey,
    from: u64,
    page: usize,
) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let mut out = Vec::new();
    loop {
        let at = from + out.len() as u64;
        let chunks = log.read_output(key, at, page).await?;
        if chunks.is_empty() {
            return Ok(out);
        }
        for chunk in chunks {
            equal("offset", chunk.offset, from + out.len() as u64)?;
            out.extend_from_slice(&chunk.data);
        }
    }
}

pub(super) async fn output_is_read_back_from_any_offset(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, key(b, "a", 1)?);
    equal("end", log.output_end(&key).await?, 0)?;
    equal("nothing", log.read_output(&key, 0, 100).await?, vec![])?;
    let mut all = Vec::new();
    for i in 0_usize..40 {
        let data: Vec<u8> = (0..1 + i * 1777).map(|j| (i + j) as u8).collect();
        let data = data[..data.len().min(OUTPUT_CHUNK_MAX)].to_vec();
        let given = chunk(1 + (i % 2) as u8, all.len() as u64, data.clone());
        all.extend(data);
        equal("end", log.append_output(&key, vec![given]).await?, all.len() as u64)?;
    }
    equal("end", log.output_end(&key).await?, all.len() as u64)?;
    for from in [0, 1, 1000, all.len() / 2, all.len() - 1, all.len()] {
        for page in [1, 100_000, usize::MAX] {
            let got = everything(&log, &key, from as u64, page).await?;
            holds("bytes", got == all[from..])?;
        }
    }
    equal("behind the end", log.read_output(&key, all.len() as u64 + 9, 9).await?, vec![])
}

pub(super) async fn output_sent_again_is_dropped(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, key(b, "a", 1)?);
    let first = vec![chunk(1, 0, "abc"), chunk(2, 3, "def")];
    equal("end", log.append_output(&key, first.clone()).await?, 6)?;
    equal("again", log.append_output(&key, first).await?, 6)?;
    let overlap = vec![chunk(2, 3, "def"), chunk(2, 4, "efgh")];
    equal("overlap", log.append_output(&key, overlap).await?, 8)?;
    equal("nothing new", log.append_output(&key, vec![]).await?, 8)?;
    equal("bytes", everything(&log, &key, 0, 100).await?, b"abcdefgh".to_vec())
}

pub(super) async fn a_gap_is_refused_and_the_expected_offset_named(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, key(b, "a", 1)?);
    log.append_output(&key, vec![chunk(1, 0, "abc")]).await?;
    for gap in [vec![chunk(1, 4, "x")], vec![chunk(1, 3, "def"), chunk(1, 7, "x")]] {
        let got = log.append_output(&key, gap).await;
        equal("gap", got, Err(LogError::OutputGap { expected: 3 }))?;
    }
    equal("nothing was written", log.output_end(&key).await?, 3)
}

pub(super) async fn streams_keep_their_order(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, key(b, "a", 1)?);
    let given = vec![chunk(1, 0, "a"), chunk(2, 1, "b"), chunk(1, 2, "c")];
    log.append_output(&key, given.clone()).await?;
    equal("chunks", log.read_output(&key, 0, 100).await?, given)
}

pub(super) async fn the_end_is_watched(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, key(b, "a", 1)?);
    let mut early = log.watch_output(&key).await?;
    equal("at first", *early.borrow_and_update(), 0)?;
    log.append_output(&key, vec![chunk(1, 0, "abc")]).await?;
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, early.wait_for(|end| *end == 3)).await??;
    let mut late = log.watch_output(&key).await?;
    tokio::time::timeout(patience, late.wait_for(|end| *end == 3)).await??;
    equal("readable", everything(&log, &key, 0, 100).await?, b"abc".to_vec())
}

pub(super) async fn attempts_do_not_mix(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    let keys = [key(b, "a", 1)?, key(b, "a", 2)?, key(b, "a", 11)?, key(b, "b", 1)?];
    for key in &keys {
        log.append_output(key, vec![chunk(1, 0, key.to_string())]).await?;
    }
    for key in &keys {
        let got = everything(&log, key, 0, 100).await?;
        equal("bytes", got, key.to_string().into_bytes())?;
    }
    Ok(())
}

pub(super) async fn output_is_listed_and_removed(b: &mut Bench) -> Outcome {
    let (log, one, two) = (b.log()?, key(b, "a", 1)?, key(b, "a", 2)?);
    for key in [&one, &two] {
        log.append_output(key, vec![chunk(1, 0, vec![7; 1000])]).await?;
    }
    log.remove_output(&one).await?;
    log.remove_output(&key(b, "never-there", 1)?).await?;
    let listed = log.list_outputs().await?;
    holds("the removed one is gone", listed.iter().all(|o| o.key != one))?;
    let left = listed.iter().find(|o| o.key == two).ok_or("the other one is not listed")?;
    holds("size", (1000..2000).contains(&left.size))?;
    holds("time", left.modified_ms > 1_600_000_000_000)?;
    equal("end", log.output_end(&one).await?, 0)?;
    equal("nothing", log.read_output(&one, 0, 100).await?, vec![])?;
    equal("again from 0", log.append_output(&one, vec![chunk(1, 0, "x")]).await?, 1)
}

pub(super) async fn bad_chunks_are_refused(b: &mut Bench) -> Outcome {
    let (log, key) = (b.log()?, key(b, "a", 1)?);
    for bad in [chunk(0, 0, "x"), chunk(3, 0, "x"), chunk(1, 0, ""), chunk(1, u64::MAX, "x")] {
        let got = log.append_output(&key, vec![bad]).await;
        holds("chunk", matches!(got, Err(LogError::BadName { .. })))?;
    }
    let large = chunk(1, 0, vec![0; OUTPUT_CHUNK_MAX + 1]);
    let got = log.append_output(&key, vec![large]).await;
    holds("a large chunk", matches!(got, Err(LogError::TooLarge { .. })))?;
    let size = OUTPUT_CHUNK_MAX as u64;
    let many = OUTPUT_APPEND_MAX as u64 / size + 1;
    let chunks = (0..many).map(|i| chunk(1, i * size, vec![0; OUTPUT_CHUNK_MAX])).collect();
    let got = log.append_output(&key, chunks).await;
    holds("a large append", matches!(got, Err(LogError::TooLarge { .. })))?;
    equal("end", log.output_end(&key).await?, 0)
}

pub(super) async fn many_attempts_append_at_once(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    let mut writers = Vec::new();
    for attempt in 1..=16 {
        let (log, key) = (log.clone(), key(b, "a", attempt)?);
        writers.push(tokio::spawn(async move {
            for i in 0..20 {
                let data = vec![attempt as u8; 100];
                log.append_output(&key, vec![chunk(1, i * 100, data)]).await?;
            }
            Ok::<_, LogError>(key)
        }));
    }
    for writer in writers {
        let key = writer.await??;
        let got = everything(&log, &key, 0, 1000).await?;
        equal("bytes", got, vec![key.attempt() as u8; 2000])?;
    }
    Ok(())
}

pub(super) async fn output_survives_a_restart(b: &mut Bench) -> Outcome {
    let key = key(b, "a", 1)?;
    let given = vec![chunk(1, 0, "abc"), chunk(2, 3, "def")];
    b.log()?.append_output(&key, given).await?;
    b.reopen().await?;
    let log = b.log()?;
    equal("end", log.output_end(&key).await?, 6)?;
    equal("bytes", everything(&log, &key, 0, 100).await?, b"abcdef".to_vec())?;
    equal("it goes on", log.append_output(&key, vec![chunk(1, 4, "efg")]).await?, 7)?;
    equal("bytes", everything(&log, &key, 0, 100).await?, b"abcdefg".to_vec())
}

pub(super) async fn backend_says_what_it_is(b: &mut Bench) -> Outcome {
    let log = b.log()?;
    let words = log.describe();
    holds("words", !words.backend.is_empty() && !words.acknowledged_means.is_empty())?;
    log.health().await?;
    let usage = log.usage().await?;
    log.append(&b.key("a")?, crate::Expect::Absent, super::commit(1, vec![1; 10_000])).await?;
    holds("usage grows", log.usage().await?.bytes >= usage.bytes + 10_000)?;
    let ring = usage.percent();
    holds("percent", ring <= 100)
}

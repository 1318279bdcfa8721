//! How many appends per second the embedded log acknowledges with 1, 64 and 256 in flight, beside
//! what the disk does with a bare loop of write and sync. Run it on the disk that will be used:
//! `cargo run --release -p cortex-log --example append_rate -- DIRECTORY`.

#![expect(clippy::print_stdout, reason = "it is a report")]

use anyhow::Result;
use cortex_log::embedded::Options;
use cortex_log::{Commit, CommitId, EmbeddedLog, EventLog, Expect, Key, Space};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RUN: Duration = Duration::from_secs(3);
const BODY: usize = 300;

#[tokio::main]
async fn main() -> Result<()> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let dir = tempfile::tempdir_in(parent)?;
    let raw = raw_syncs(dir.path())?;
    println!("write + fdatasync, one after the other: {raw:>8.0}/s");
    let log = Arc::new(EmbeddedLog::open(dir.path().join("log"), Options::default())?);
    for in_flight in [1, 64, 256] {
        let (rate, middle) = appends(&log, in_flight).await?;
        let times = rate / raw;
        println!("appends, {in_flight:>3} in flight: {rate:>8.0}/s ({times:.1}x), p50 {middle:?}");
    }
    Ok(())
}

fn raw_syncs(dir: &Path) -> Result<f64> {
    let mut file = std::fs::File::create(dir.join("raw"))?;
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < RUN {
        file.write_all(&[7; BODY])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Each task appends a chain of fenced commits to aggregates of its own.
async fn appends(log: &Arc<EmbeddedLog>, in_flight: usize) -> Result<(f64, Duration)> {
    let (started, count) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for task in 0..in_flight {
        let (log, count) = (log.clone(), count.clone());
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            let key = Key::new(Space::Task, "bench", format!("t-{in_flight}-{task}"))?;
            let (mut expect, mut n) = (Expect::Absent, 0);
            while started.elapsed() < RUN {
                n += 1;
                let begun = Instant::now();
                let body = vec![7; BODY].into();
                let commit = Commit { id: CommitId::generate(), kind: "Bench".into(), n, body };
                expect = Expect::At(log.append(&key, expect, commit).await?);
                times.push(begun.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(times)
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    times.sort();
    let rate = count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    Ok((rate, times.get(times.len() / 2).copied().unwrap_or_default()))
}

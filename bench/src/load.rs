//! A closed loop: so many calls in flight, each worker starts the next when its last one ended. It counts what ended inside
//! the window, and reads the CPU time of the processes at both ends of it.

use crate::procs::Watched;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDED: u8 = 2;
/// How much longer than its window a load may wait for the first call to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// One window of load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Calls that ended, per second.
    pub(crate) rate: f64,
    /// Median time of a call, microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of it.
    pub(crate) p99_us: f64,
    /// CPU time per call of whatever was watched, microseconds.
    pub(crate) cpu_us: Vec<f64>,
}

/// Runs the load for a warm-up and a window.
///
/// # Errors
/// The first error of a call.
pub(crate) async fn drive<F, T>(
    in_flight: usize,
    window: Duration,
    watched: &[Watched],
    call: F,
) -> anyhow::Result<Load>
where
    F: Fn() -> T + Clone + Send + 'static,
    T: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let phase = Arc::new(AtomicU8::new(WARMING));
    let counted = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (phase, counted, call) = (phase.clone(), counted.clone(), call.clone());
        workers.spawn(async move {
            let mut took = Vec::new();
            loop {
                let begun = Instant::now();
                call().await?;
                match phase.load(Ordering::Relaxed) {
                    MEASURING => {
                        took.push(begun.elapsed());
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    ENDED => return anyhow::Ok(took),
                    _ => {}
                }
            }
        });
    }
    tokio::time::sleep(window / 4).await;
    let before = cpus(watched)?;
    let begun = Instant::now();
    phase.store(MEASURING, Ordering::Relaxed);
    tokio::time::sleep(window).await;
    // On a slow machine a short window may see no call end: a figure needs one. An error shows when workers are joined.
    while counted.load(Ordering::Relaxed) == 0 && begun.elapsed() < window + PATIENCE {
        tokio::time::sleep(window / 8).await;
    }
    phase.store(ENDED, Ordering::Relaxed);
    let seconds = begun.elapsed().as_secs_f64();
    let after = cpus(watched)?;
    let mut all = Vec::new();
    while let Some(joined) = workers.join_next().await {
        all.extend(joined??);
    }
    all.sort_unstable();
    let each =
        |(a, b): (&Duration, &Duration)| micros(b.saturating_sub(*a)) / all.len().max(1) as f64;
    Ok(Load {
        rate: all.len() as f64 / seconds,
        p50_us: percentile(&all, 50),
        p99_us: percentile(&all, 99),
        cpu_us: before.iter().zip(&after).map(each).collect(),
    })
}

fn cpus(watched: &[Watched]) -> anyhow::Result<Vec<Duration>> {
    watched.iter().map(|w| w.cpu()).collect()
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |d| micros(*d))
}

fn micros(d: Duration) -> f64 {
    d.as_secs_f64() * 1e6
}

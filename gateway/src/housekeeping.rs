//! What a gateway does beside serving: watches how full the log is and lets retention forget outputs. It never
//! deletes an event.

use crate::config::Config;
use crate::retention;
use crate::tasks::Tasks;
use cortex_log::EventLog;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the log is asked how full it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two sweeps of outputs.
const SWEEP_EVERY: u32 = 60;

/// How full the log is, in percent of its quota, as last seen.
#[derive(Debug, Default)]
pub(crate) struct Fullness(AtomicU64);

impl Fullness {
    /// Percent of the quota; 0 without one.
    #[must_use]
    pub(crate) fn percent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs until cancelled.
pub(crate) async fn run(
    log: Arc<dyn EventLog>,
    tasks: Arc<Tasks>,
    config: Arc<Config>,
    fullness: Arc<Fullness>,
    stop: CancellationToken,
) {
    let mut looks = 0u32;
    loop {
        match log.usage().await {
            Ok(usage) => {
                fullness.0.store(usage.percent(), Ordering::Relaxed);
                metrics::gauge!("cortex_log_bytes").set(usage.bytes as f64);
                metrics::gauge!("cortex_output_bytes").set(usage.output_bytes as f64);
            }
            Err(e) => tracing::warn!(error = %e, "the log does not say how full it is"),
        }
        metrics::gauge!("cortex_open_tasks").set(tasks.projection.open_tasks() as f64);
        if looks.is_multiple_of(SWEEP_EVERY) {
            match retention::sweep(&log, &tasks, config.retention).await {
                Ok(0) => {}
                Ok(n) => tracing::info!(outputs = n, "outputs removed by retention"),
                Err(e) => tracing::warn!(error = %e, "retention could not look at outputs"),
            }
        }
        looks = looks.wrapping_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

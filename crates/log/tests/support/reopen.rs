//! Opens an embedded log again after its last user let go of it.

use cortex_log::embedded::Options;
use cortex_log::{EmbeddedLog, LogError};
use std::path::Path;
use std::time::{Duration, Instant};

/// A task of an earlier check may hold the log for a moment longer.
pub(crate) async fn when_free(dir: &Path, options: Options) -> Result<EmbeddedLog, LogError> {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        match EmbeddedLog::open(dir, options) {
            Err(LogError::Locked(_)) if Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => return other,
        }
    }
}

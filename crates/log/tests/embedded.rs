//! The embedded backend fulfils the contract, on one directory that is reopened for every check.

use cortex_log::conformance::{Fixture, run_all};
use cortex_log::embedded::Options;
use cortex_log::{EmbeddedLog, EventLog, LogError};
use std::path::PathBuf;
use std::sync::Arc;

struct Embedded(PathBuf);

#[async_trait::async_trait]
impl Fixture for Embedded {
    async fn open(&self) -> Result<Arc<dyn EventLog>, LogError> {
        // A task of the check before may hold the log for a moment longer.
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            match EmbeddedLog::open(&self.0, Options::default()) {
                Err(LogError::Locked(_)) if std::time::Instant::now() < patience => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                other => return other.map(|log| Arc::new(log) as Arc<dyn EventLog>),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_passes_every_check_and_is_reopened_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let failed = run_all(Arc::new(Embedded(dir.path().to_owned()))).await;
    assert!(failed.is_empty(), "{failed:#?}");
}

//! The embedded backend fulfils the contract, on one directory that is reopened for every check.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "support/reopen.rs"]
mod reopen;

use cortex_log::conformance::{Fixture, run_all};
use cortex_log::embedded::Options;
use cortex_log::{EventLog, LogError};
use std::path::PathBuf;
use std::sync::Arc;

struct Embedded(PathBuf, Options);

#[async_trait::async_trait]
impl Fixture for Embedded {
    async fn open(&self) -> Result<Arc<dyn EventLog>, LogError> {
        reopen::when_free(&self.0, self.1).await.map(|log| Arc::new(log) as Arc<dyn EventLog>)
    }
}

async fn check(options: Options) {
    let dir = tempfile::tempdir().unwrap();
    let failed = run_all(Arc::new(Embedded(dir.path().to_owned(), options))).await;
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_passes_every_check_and_is_reopened_between_them() {
    check(Options::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_passes_every_check_with_an_index_that_is_written_all_the_time() {
    check(Options { index_behind: 2, ..Options::default() }).await;
}

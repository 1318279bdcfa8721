//! The backend in memory fulfils the contract.

use cortex_log::conformance::{CHECKS, Fixture, run_all};
use cortex_log::{EventLog, LogError, MemoryLog};
use std::sync::Arc;

struct Memory(MemoryLog);

#[async_trait::async_trait]
impl Fixture for Memory {
    async fn open(&self) -> Result<Arc<dyn EventLog>, LogError> {
        Ok(Arc::new(self.0.clone()))
    }
}

#[tokio::test]
async fn memory_passes_every_check_with_one_shard_and_with_several() {
    for shards in [1, 4] {
        let failed = run_all(Arc::new(Memory(MemoryLog::new(shards)))).await;
        assert!(failed.is_empty(), "{shards} shards: {failed:#?}");
    }
}

#[test]
fn the_suite_is_not_small() {
    assert!(CHECKS.len() >= 28, "{}", CHECKS.len());
}

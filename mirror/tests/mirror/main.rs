//! The mirror as gateways meet it: journals made by the real crate, a real log, requests over its subjects.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "any other answer fails the test")]

mod attacks;
mod findings;
mod node;
mod storage;
mod twice;

use cortex_audit::VerifierKey;
use cortex_log::{EventLog, MemoryLog};
use cortex_mirror::{Config, Mirror, MirrorKey};
use node::Gateway;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KEY_NAME: &str = "cortex.example/mirror/m1";

/// A mirror that runs until it is dropped, killed as a process would be.
struct Running {
    gateway: Gateway,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(log: Arc<dyn EventLog>, name: &str, key: &Path, after: Duration) -> Running {
        let key = MirrorKey::open(key, KEY_NAME).unwrap();
        let vkey: VerifierKey = key.verifier().clone();
        let config = Config { reconcile_after: after, ..Config::named(name) };
        let mirror = Mirror { log: log.clone(), key, config };
        let stop = CancellationToken::new();
        let task = tokio::spawn(async move {
            cortex_mirror::serve(mirror, stop).await.unwrap();
        });
        Running { gateway: Gateway { log, mirror: name.into(), vkey }, task }
    }

    /// Waits until it listens.
    async fn ready(self) -> Running {
        let mut beats = self.gateway.log.subscribe("cx.m.hb.*").await.unwrap();
        let wait = futures::StreamExt::next(&mut beats);
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap().unwrap();
        self
    }
}

struct World {
    log: Arc<dyn EventLog>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World { log: Arc::new(MemoryLog::new(4)), dir: tempfile::tempdir().unwrap() }
    }

    async fn mirror(&self) -> Running {
        self.mirror_named("m1", Duration::from_secs(600)).await
    }

    async fn mirror_named(&self, name: &str, after: Duration) -> Running {
        let key = self.dir.path().join("mirror.key");
        Running::start(self.log.clone(), name, &key, after).ready().await
    }
}

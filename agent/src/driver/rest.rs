//! What the loop does now and then: it compares what this node can do with what it told, and gives memory back.

use super::Driver;
use std::time::Duration;
use tokio::time::Instant;

/// How often, while connected.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Driver {
    /// Looks around when it is time.
    pub(super) fn look(&mut self) {
        if self.link.is_none() || Instant::now() < self.look_at {
            return;
        }
        self.look_at = Instant::now() + LOOK_EVERY;
        self.give_back();
        // A changed policy may give or take abilities: the gateway learns of it with a new hello.
        if self.manifest() != self.said {
            tracing::info!("the policy changes what this node can do; connecting anew");
            self.drop_link();
        }
    }

    /// An agent waits most of its life, on a machine that is not its own: what a start or a task needed for a moment goes
    /// back to the system. Not while something runs, which would want it again.
    fn give_back(&mut self) {
        let works = self.worker.running().next().is_some();
        if !works && std::mem::take(&mut self.worked) {
            crate::sandbox::give_back_memory();
        }
    }
}

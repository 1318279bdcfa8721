//! How an agent goes: what it is asked, and how far on its way out it is. It ends nothing itself.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How an agent is asked to stop: like a clerk, or like a fire alarm.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    pub(super) when_done: CancellationToken,
    pub(super) now: CancellationToken,
}

impl Stop {
    /// Take nothing new and leave when what runs has ended; interrupt it only after the owner's grace.
    pub fn when_done(&self) {
        self.when_done.cancel();
    }

    /// Interrupt what runs, record that, and leave.
    pub fn now(&self) {
        self.when_done.cancel();
        self.now.cancel();
    }
}

/// Where the agent is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// What runs may end by itself until then.
    Draining(Instant),
    /// What runs was interrupted; what there is to say may be said until then.
    Ending(Instant),
}

impl Leaving {
    /// When patience is over.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::Draining(until) | Self::Ending(until) => Some(until),
        }
    }
}

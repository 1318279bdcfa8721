//! The scheduler's brain: the fold of one task, the decisions on it, and the fold of all tasks that turns events and
//! presence into offers. Pure: no I/O, no clock, no randomness; `now` is an argument.

#![forbid(unsafe_code)]

pub mod decide;
mod explain;
mod look;
mod nodes;
mod offer;
mod ownership;
mod proposal;
mod queue;
mod scheduler;
pub mod task;
mod timers;

pub use explain::{Explanation, Verdict};
pub use look::{Phase, QueryAnswer};
pub use nodes::{NodeKey, NodeView};
pub use ownership::owned_shards;
pub use proposal::{Answer, OfferProposal, Proposal};
pub use scheduler::{Counters, RecordedCommit, Scheduler};
pub use task::{StartedAttempt, TaskView, Violation};

//! The scheduler's brain: the fold of one task, the decisions on it, and the fold of a whole shard that turns events
//! and presence into offers. Pure: no I/O, no clock, no randomness; `now` is an argument.

#![forbid(unsafe_code)]

mod apply;
pub mod decide;
mod explain;
mod groups;
mod ownership;
mod placing;
mod propose;
mod refresh;
mod scheduler;
mod slab;
mod state;
pub mod task;

pub use explain::{Explanation, NodeVerdict};
pub use ownership::owned_shards;
pub use scheduler::{
    AppendResult, AttemptAt, Counters, NodeView, Offer, OfferAnswer, Phase, Proposal,
    RecordedCommit, Refusal, Scheduler,
};
pub use task::{StartedAttempt, TaskView, Violation};

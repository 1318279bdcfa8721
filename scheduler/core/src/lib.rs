//! The scheduler's brain: the fold of one task, the decisions on it, and the fold of a whole shard that turns events
//! and presence into offers. Pure: no I/O, no clock, no randomness; `now` is an argument.

#![forbid(unsafe_code)]

pub mod decide;
pub mod task;

pub use task::{StartedAttempt, TaskView, Violation};

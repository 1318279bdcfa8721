//! Everything that comes in: commits, presence, answers.

mod answer;
mod node;
mod task;

//! The audit journal's format: canonical JSON, leaf hashes, entries, commitments and the chain check.
//!
//! Everything here is a function of its arguments: no I/O, no clock, no randomness. What is hashed is
//! always the stored bytes, never something rebuilt from them. The format is version 0, which is
//! not frozen: [`entry::FORMAT`] names it in every entry, and a later version may refuse it.
#![forbid(unsafe_code)]

pub mod canonical;
pub mod chain;
pub mod commitment;
pub mod entry;
pub mod leaf;
pub mod record;
pub mod stamp;

pub use canonical::Value;
pub use chain::{ChainChecker, ChainError, Head};
pub use commitment::{Commitment, Opening, Salt};
pub use entry::{Envelope, FORMAT, FormatError, Position};
pub use leaf::Leaf;
pub use stamp::Stamp;

#[cfg(test)]
mod tests;

//! The only place where wire messages become the model's types and back. It rejects what it does not
//! understand; it never repairs, truncates or guesses.

pub mod agent;
pub mod browser;
pub mod event;
pub mod file;
mod lock;
pub mod registry;
pub mod task;
pub mod terminal;

pub use event::{decode_commit, encode_commit};
pub use registry::{decode_registry_commit, encode_registry_commit};

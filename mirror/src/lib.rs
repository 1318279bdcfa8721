//! The mirror: takes the journals of nodes, verifies every record, stores them in the log, and only then countersigns. Its
//! cosignature is the only acknowledgement a node believes, and no gateway has its key.
//!
//! ```text
//!  agent --tunnel--> gateway --request--> worker (one per node)
//!                       ^                   | verify   journal.rs   pure
//!                       |                   | append   Space::Audit, fenced
//!                       |                   | persist  CX_MIRROR, fenced: what the key signs next
//!                       +-----answer--------+ cosign   signer.rs
//!
//!  log --tail--> index.rs: was every dispatch recorded, was every intent dispatched?
//! ```
//!
//! It never decides what may run and never changes a record. Killing it costs time: what was not acknowledged is sent again.

#![forbid(unsafe_code)]

mod index;
mod journal;
mod key;
mod keys;
mod node;
mod service;
mod signer;
mod store;
mod worker;

pub use key::{KeyFileError, MirrorKey};
pub use node::NodeState;
pub use service::{Config, Mirror, serve};

//! The gateway: terminates agents' tunnels, serves clients, and brings what they say into the log. It holds nothing that
//! matters: killing it costs its agents and clients a reconnect.
//!
//! ```text
//!  clients --gRPC--> api ----submit, cancel, resolve----> tasks --fenced append--> log
//!                     ^------watch, list------ projection <-----------tail--------- log
//!  agents --tunnel--> tunnels --claim--> dispatch --Started--> tasks
//!                        |----outcome, output--> ingest -----> tasks, log
//!  schedulers --offer (ephemeral)--> dispatch --> tunnels
//! ```

#![forbid(unsafe_code)]

mod api;
mod audit;
pub mod authority;
mod clock;
pub mod config;
mod housekeeping;
mod identity;
mod ingest;
mod layer;
mod nodes;
mod projection;
mod registry;
mod retention;
mod server;
mod status;
mod tasks;
mod tls;
mod tunnels;
mod view;

pub use api::Backup;
pub use config::Config;
pub use identity::{Issuers, Principal, permission};
pub use registry::Registrar;
pub use retention::Retention;
pub use server::{Gateway, serve};
pub use tls::{GivenFiles, Keys};

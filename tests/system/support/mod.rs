//! What the system tests share: real servers, agents and commands on temporary directories. It holds no
//! assertion about the product.

pub(crate) mod agent;
pub(crate) mod fleet;
pub(crate) mod nats;
pub(crate) mod processes;
pub(crate) mod proxy;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod wait;

pub(crate) use agent::Agent;
pub(crate) use fleet::Fleet;
pub(crate) use nats::Nats;
pub(crate) use proxy::Proxy;
pub(crate) use server::Server;

use sha2::{Digest, Sha256};
use std::path::Path;

/// Lines of a file that tasks append to: one for each effect.
pub(crate) fn effects(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// SHA-256 as `--json` shows it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A file's path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

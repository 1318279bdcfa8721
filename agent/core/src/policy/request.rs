//! What is asked for.

use super::decision::Fingerprint;
use cortex_model::{Action, AttemptKey};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The attempt.
    pub key: &'a AttemptKey,
    /// Revision of `Started`.
    pub fence: u64,
    /// What to do.
    pub action: &'a Action,
    /// Longest run, milliseconds.
    pub timeout_ms: u64,
    /// Most output kept, bytes.
    pub output_limit: u64,
    /// What the owner agreed to, if somebody was asked. It counts only if it is exactly what is decided now.
    pub consent: Option<Fingerprint>,
}

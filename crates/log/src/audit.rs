//! Where things of the audit lie in the log.

use crate::error::LogError;
use crate::key::{Key, Space};

/// What gateways must know of each node's audit, by `<workspace>.<node>`.
pub const AUDIT_BUCKET: &str = "CX_AUDIT";
/// What a mirror's key signed last, by `<key id>.<log>`.
pub const MIRROR_BUCKET: &str = "CX_MIRROR";
/// Openings, by `<log>.<group>.<part>`. They can be replaced and deleted.
pub const OPENINGS_BUCKET: &str = "CX_OPENINGS";
/// Records whose openings lie together.
pub const OPENINGS_GROUP: u64 = 256;
/// Longest name that fits behind its prefix.
const PLAIN_MAX: usize = 62;

/// The aggregate of a journal: the first 32 hex digits of its id.
///
/// # Errors
/// `BadName` when a part is not a token.
pub fn journal_key(workspace: &str, log32: &str) -> Result<Key, LogError> {
    Key::new(Space::Audit, workspace, log32)
}

/// The aggregate of a node's audit: `n-<node>`, or a hash of a name that is too long for that.
///
/// # Errors
/// `BadName` when a part is not a token.
pub fn node_key(workspace: &str, node: &str) -> Result<Key, LogError> {
    if node.len() <= PLAIN_MAX {
        return Key::new(Space::Audit, workspace, format!("n-{node}"));
    }
    let hash = blake3::hash(node.as_bytes()).to_hex();
    Key::new(Space::Audit, workspace, format!("h-{}", &hash[..40]))
}

/// Whether an aggregate of the space Audit is a node's.
#[must_use]
pub fn is_node(key: &Key) -> bool {
    key.id().starts_with("n-") || key.id().starts_with("h-")
}

/// Where a part of the openings of a group of records lies: records `group * 256` to `group * 256 + 255`. Parts count from 0 and
/// have no gap.
#[must_use]
pub fn openings_key(log32: &str, group: u64, part: u32) -> String {
    format!("{log32}.{group:016x}.{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_never_shares_an_aggregate_with_a_journal() {
        let log = "b00459f4f810eea4976b6241f2e12c0a";
        let journal = journal_key("w", log).unwrap();
        for node in [log, &"x".repeat(64), "n1"] {
            let node = node_key("w", node).unwrap();
            assert_ne!(node, journal);
            assert!(is_node(&node) && !is_node(&journal));
        }
        assert_ne!(
            node_key("w", &"x".repeat(63)).unwrap(),
            node_key("w", &"x".repeat(64)).unwrap()
        );
    }
}

//! Identifiers. Each is checked once, when it is made, and cheap to clone afterwards.

use crate::error::{Code, Fault};
use crate::limits::{IDEMPOTENCY_KEY_MAX, TOKEN_MAX};
use std::fmt;
use std::sync::Arc;

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts 1 to 64 of `a-z`, `0-9`, `-`, `_`.
            ///
            /// # Errors
            /// `CX-0102` for anything else.
            pub fn parse(s: &str) -> Result<$name, Fault> {
                if is_token(s) { Ok($name(s.into())) } else { Err(bad_token($what, s)) }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token! {
    /// The tenant that owns nodes, tasks and tokens.
    Workspace, "workspace"
}
token! {
    /// An enrolled machine.
    NodeId, "node"
}
token! {
    /// A task, derived from its workspace and idempotency key.
    TaskId, "task id"
}
token! {
    /// One life of a node's journal: the first 32 hex digits of its log id.
    Incarnation, "incarnation"
}
token! {
    /// One agent process's logical connection, across reconnects.
    SessionId, "session"
}

impl Workspace {
    /// The only workspace of a machine that was not told otherwise.
    #[must_use]
    pub fn default_workspace() -> Workspace {
        Workspace("default".into())
    }
}

impl TaskId {
    /// The id a workspace and an idempotency key stand for: the first 26 characters of the base32
    /// (RFC 4648, lower case) of BLAKE3 over workspace, a zero byte and the key. The same for ever,
    /// so that a repeated submit meets the first.
    #[must_use]
    pub fn derive(ws: &Workspace, key: &str) -> TaskId {
        let mut h = blake3::Hasher::new();
        h.update(ws.as_str().as_bytes()).update(&[0]).update(key.as_bytes());
        TaskId(base32(&h.finalize().as_bytes()[..17])[..26].into())
    }
}

/// A task within its workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// Owner.
    pub workspace: Workspace,
    /// The task.
    pub task: TaskId,
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workspace, self.task)
    }
}

/// One attempt of a task. Attempts count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// The task.
    pub task: TaskKey,
    /// 1, 2, 3...
    pub attempt: u32,
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task, self.attempt)
    }
}

/// Checks an idempotency key.
///
/// # Errors
/// `CX-0110` when it is empty, longer than 256 bytes or has control characters.
pub fn check_idempotency_key(key: &str) -> Result<(), Fault> {
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX {
        return Err(Fault::new(
            Code::BadKey,
            format!(
                "an idempotency key has 1 to {IDEMPOTENCY_KEY_MAX} bytes, this one {}",
                key.len()
            ),
        ));
    }
    if key.chars().any(char::is_control) {
        return Err(Fault::new(Code::BadKey, "an idempotency key has no control characters"));
    }
    Ok(())
}

fn is_token(s: &str) -> bool {
    (1..=TOKEN_MAX).contains(&s.len())
        && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

fn bad_token(what: &str, s: &str) -> Fault {
    let shown: String = s.chars().take(TOKEN_MAX).collect();
    Fault::new(Code::BadIdentifier, format!("{shown:?} is not a valid {what}"))
}

fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let (mut out, mut bits, mut n) = (String::new(), 0u32, 0u32);
    for b in bytes {
        bits = (bits << 8) | u32::from(*b);
        n += 8;
        while n >= 5 {
            n -= 5;
            out.push(char::from(ALPHABET[((bits >> n) & 31) as usize]));
        }
    }
    if n > 0 {
        out.push(char::from(ALPHABET[((bits << (5 - n)) & 31) as usize]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked() {
        for good in ["a", "node-1", "0_9", &"x".repeat(64)] {
            assert!(NodeId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a.b", "a b", "ä", "*", ">", &"x".repeat(65)] {
            assert_eq!(NodeId::parse(bad).unwrap_err().code, Code::BadIdentifier, "{bad}");
        }
    }

    #[test]
    fn a_task_id_is_a_function_of_workspace_and_key_and_never_changes() {
        let ws = Workspace::default_workspace();
        let id = TaskId::derive(&ws, "k1");
        assert_eq!(id, TaskId::derive(&ws, "k1"));
        assert_ne!(id, TaskId::derive(&ws, "k2"));
        assert_ne!(id, TaskId::derive(&Workspace::parse("other").unwrap(), "k1"));
        assert_eq!(id.as_str().len(), 26);
        assert!(TaskId::parse(id.as_str()).is_ok());
    }

    #[test]
    fn base32_follows_rfc_4648() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(b"f"), "my");
    }

    #[test]
    fn keys_are_checked() {
        assert!(check_idempotency_key("deploy 2026/11 ü").is_ok());
        assert!(check_idempotency_key("").is_err());
        assert!(check_idempotency_key("a\nb").is_err());
        assert!(check_idempotency_key(&"k".repeat(257)).is_err());
    }
}

//! Which aggregate a commit belongs to, and where it lies. Names and places only, no storage.

use crate::error::{LogError, Result};
use cortex_model::limits::TOKEN_MAX;
use std::fmt;

/// Virtual partitions; fixed for ever, because subjects name them. Shards are made of these.
pub const PARTITIONS: u32 = 64;

/// A family of aggregates with its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Tasks.
    Task,
    /// Journal batches, one aggregate per node.
    Audit,
    /// Nodes and tokens. One shard, always.
    Registry,
}

impl Space {
    /// Every space there is.
    pub const ALL: [Space; 3] = [Space::Task, Space::Audit, Space::Registry];

    /// The letter in subjects: `t`, `a` or `r`.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Space::Task => "t",
            Space::Audit => "a",
            Space::Registry => "r",
        }
    }

    /// How many shards the space has in a log whose tasks have `shards`.
    #[must_use]
    pub const fn shards(self, shards: u32) -> u32 {
        match self {
            Space::Task | Space::Audit => shards,
            Space::Registry => 1,
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Space::Task => 0,
            Space::Audit => 1,
            Space::Registry => 2,
        }
    }
}

/// Names one aggregate. Its parts are tokens: 1 to 64 of `a-z`, `0-9`, `-`, `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    space: Space,
    ws: String,
    id: String,
}

impl Key {
    /// Checks the parts.
    ///
    /// # Errors
    /// [`LogError::BadName`] when a part is not a token.
    pub fn new(space: Space, ws: impl Into<String>, id: impl Into<String>) -> Result<Key> {
        let (ws, id) = (ws.into(), id.into());
        check_token("workspace", &ws)?;
        check_token("id", &id)?;
        Ok(Key { space, ws, id })
    }

    /// The family.
    #[must_use]
    pub fn space(&self) -> Space {
        self.space
    }

    /// The workspace that owns the aggregate.
    #[must_use]
    pub fn ws(&self) -> &str {
        &self.ws
    }

    /// The aggregate within its workspace.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Virtual partition, 0 to 63: BLAKE3 of `ws/id`, first four bytes little-endian, modulo 64.
    #[must_use]
    pub fn vp(&self) -> u32 {
        partition(&self.ws, &self.id)
    }

    /// The shard in a log whose tasks have `shards`.
    #[must_use]
    pub fn shard(&self, shards: u32) -> u32 {
        self.vp() % self.space.shards(shards).max(1)
    }

    /// `cx.<letter>.<vp>.<ws>.<id>`, unique per aggregate.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("cx.{}.{}.{}.{}", self.space.letter(), self.vp(), self.ws, self.id)
    }

    /// Reads what [`Key::subject`] wrote; anything else, also a wrong partition, is `None`.
    #[must_use]
    pub fn parse(subject: &str) -> Option<Key> {
        let mut parts = subject.split('.');
        let (prefix, letter, vp) = (parts.next()?, parts.next()?, parts.next()?);
        let (ws, id) = (parts.next()?, parts.next()?);
        if prefix != "cx" || parts.next().is_some() {
            return None;
        }
        let space = Space::ALL.into_iter().find(|s| s.letter() == letter)?;
        let key = Key::new(space, ws, id).ok()?;
        (key.vp().to_string() == vp).then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.space.letter(), self.ws, self.id)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn partition(ws: &str, id: &str) -> u32 {
    let mut h = blake3::Hasher::new();
    h.update(ws.as_bytes()).update(b"/").update(id.as_bytes());
    let hash = h.finalize();
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d]) % PARTITIONS
}

pub(crate) fn check_token(what: &'static str, s: &str) -> Result<()> {
    let ok = (1..=TOKEN_MAX).contains(&s.len())
        && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    if ok { Ok(()) } else { Err(LogError::bad_name(what, s)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_what_is_on_disks_and_never_change() {
        let key = Key::new(Space::Task, "default", "build-1").unwrap();
        assert_eq!(key.subject(), "cx.t.56.default.build-1");
        let key = Key::new(Space::Audit, "default", "laptop").unwrap();
        assert_eq!(key.subject(), "cx.a.44.default.laptop");
    }

    #[test]
    fn a_subject_is_read_back() {
        for space in Space::ALL {
            let key = Key::new(space, "w_1", "a-b").unwrap();
            assert_eq!(Key::parse(&key.subject()), Some(key));
        }
    }

    #[test]
    fn foreign_subjects_are_not_keys() {
        let good = Key::new(Space::Task, "w", "x").unwrap();
        let wrong_vp = format!("cx.t.{}.w.x", (good.vp() + 1) % PARTITIONS);
        for s in ["", "cx.t.1.w", "cx.z.1.w.x", "cx.t.x.w.x", "ab.t.1.w.x", &wrong_vp] {
            assert_eq!(Key::parse(s), None, "{s}");
        }
        assert_eq!(Key::parse(&format!("{}.y", good.subject())), None);
    }

    #[test]
    fn parts_that_are_not_tokens_are_refused() {
        for bad in ["", "A", "a.b", "a b", ">", "*", &"x".repeat(65)] {
            assert!(Key::new(Space::Task, bad, "x").is_err(), "{bad}");
            assert!(Key::new(Space::Task, "w", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_registry_has_one_shard() {
        let key = Key::new(Space::Registry, "w", "n").unwrap();
        assert_eq!(key.shard(16), 0);
    }
}

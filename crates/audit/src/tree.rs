//! The Merkle tree over a journal (RFC 6962): its root kept incrementally, and proofs that a record is in it and that
//! a smaller tree is its beginning.

use crate::leaf::Leaf;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt;
use thiserror::Error;

/// Longest proof: a path in a tree of 2^63 leaves, and what a consistency proof adds.
pub const MAX_PROOF: usize = 64;

/// A node of the tree, or its root.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The node above two others: SHA-256 over a one byte and both.
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        let digest = Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0);
        Self(digest.finalize().into())
    }

    /// The root of a tree without leaves: SHA-256 of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// Standard base64, as in checkpoints.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads 32 bytes of standard base64 with padding; anything else is `None`.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }
}

impl From<Leaf> for Hash {
    fn from(leaf: Leaf) -> Self {
        Self(*leaf.as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The right edge of a tree: the roots of its complete subtrees, largest first. All that is needed to append and
/// to know the root: one hash for each one bit of the size, 53 at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A frontier as it was stored: `None` unless there is one hash for each one bit of `size`.
    #[must_use]
    pub fn from_parts(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        (size.count_ones() as usize == hashes.len()).then_some(Self { size, hashes })
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Leaf) {
        let mut hash = Hash::from(leaf);
        let mut size = self.size;
        while size & 1 == 1 {
            if let Some(left) = self.hashes.pop() {
                hash = Hash::node(&left, &hash);
            }
            size >>= 1;
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut hashes = self.hashes.iter().rev();
        let Some(first) = hashes.next() else { return Hash::empty() };
        hashes.fold(*first, |right, left| Hash::node(left, &right))
    }
}

/// A complete subtree: the `index`-th of `2^level` leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// 0 is a leaf.
    pub level: u8,
    /// Counted from the left within the level.
    pub index: u64,
}

impl Node {
    /// Numbers of the leaves below.
    #[must_use]
    pub fn leaves(&self) -> std::ops::Range<u64> {
        self.index << self.level..(self.index + 1) << self.level
    }
}

/// Why a proof does not prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The record's number is not below the size, or the first size not below the second.
    #[error("the proof asks for something outside of the tree")]
    Range,
    /// Hashes are missing or left over.
    #[error("the proof has the wrong length")]
    Length,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    Root,
}

/// The hashes that prove record `index` to be in the tree of `size` leaves, from the leaf's sibling up.
/// `node` gives complete subtrees; only those are asked for.
///
/// # Errors
/// [`ProofError::Range`] if there is no such record, and whatever `node` answers.
pub fn prove_inclusion<E: From<ProofError>>(
    index: u64,
    size: u64,
    node: &mut impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if index >= size {
        return Err(ProofError::Range.into());
    }
    let (mut start, mut end, mut proof) = (0, size, Vec::new());
    let mut siblings = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            siblings.push(middle..end);
            end = middle;
        } else {
            siblings.push(start..middle);
            start = middle;
        }
    }
    for range in siblings.into_iter().rev() {
        proof.push(subtree(range, node)?);
    }
    Ok(proof)
}

/// The hashes that prove the tree of `old` leaves to be the beginning of the tree of `new` leaves (RFC 6962, 2.1.2).
///
/// # Errors
/// [`ProofError::Range`] unless `0 < old <= new`, and whatever `node` answers.
pub fn prove_consistency<E: From<ProofError>>(
    old: u64,
    new: u64,
    node: &mut impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if old == 0 || old > new {
        return Err(ProofError::Range.into());
    }
    let (mut start, mut end) = (0, new);
    let mut parts = Vec::new();
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            parts.push(middle..end);
            end = middle;
        } else {
            parts.push(start..middle);
            start = middle;
        }
    }
    // The old tree's own last subtree, unless it is the whole old tree, whose root is known.
    if start > 0 {
        parts.push(start..end);
    }
    let mut proof = Vec::new();
    for range in parts.into_iter().rev() {
        proof.push(subtree(range, node)?);
    }
    Ok(proof)
}

/// The largest power of two below `n`, which is above 1.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The hash over a range that begins at a multiple of the power of two at or above its length.
fn subtree<E>(
    range: std::ops::Range<u64>,
    node: &mut impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Hash, E> {
    let mut parts = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let level = (63 - (range.end - start).leading_zeros()).min(start.trailing_zeros());
        parts.push(node(Node { level: u8::try_from(level).unwrap_or(0), index: start >> level })?);
        start += 1 << level;
    }
    let mut parts = parts.into_iter().rev();
    let Some(last) = parts.next() else { return Ok(Hash::empty()) };
    Ok(parts.fold(last, |right, left| Hash::node(&left, &right)))
}

/// Checks that `leaf` is record `index` of the tree with this size and root (RFC 9162, 2.1.3.2).
///
/// # Errors
/// The proof does not show it.
pub fn verify_inclusion(
    leaf: Leaf,
    index: u64,
    size: u64,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range);
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = Hash::from(leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at & 1 == 1 || at == last {
            hash = Hash::node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the tree (`old`, `old_root`) is the beginning of (`new`, `new_root`) (RFC 9162, 2.1.4.2).
///
/// # Errors
/// The proof does not show it.
pub fn verify_consistency(
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old == 0 || old > new {
        return Err(ProofError::Range);
    }
    if old == new {
        return match (proof.is_empty(), old_root == new_root) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    let mut proof = proof.iter();
    let mut first = *old_root;
    if !old.is_power_of_two() {
        first = *proof.next().ok_or(ProofError::Length)?;
    }
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at & 1 == 1 || at == last {
            old_hash = Hash::node(sibling, &old_hash);
            new_hash = Hash::node(sibling, &new_hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = Hash::node(&new_hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(ProofError::Root) }
}

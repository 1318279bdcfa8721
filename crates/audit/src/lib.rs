//! The audit journal's format: canonical JSON, records, hashes, signed checkpoints, proofs, and their verification.
//!
//! Everything here is a function of its arguments: no I/O, no clock, no randomness. What is hashed is
//! always the stored bytes, never something rebuilt from them. `docs/journal-format.md` has every byte;
//! it is version 1, frozen by the files under `tests/golden/audit/v1/`.
//!
//! Writing: [`record`] makes the data of each kind, [`Envelope::encode`] the bytes to store, [`Leaf`] their hash,
//! [`Frontier`] the tree's root, [`LogKey`] the signed checkpoint, [`CosignerKey`] the countersignature.
//! Reading: [`ChainChecker`] walks a journal that is one's own, [`verify::verify`] judges anybody's.
#![forbid(unsafe_code)]

pub mod canonical;
pub mod chain;
pub mod commitment;
pub mod entry;
pub mod key;
pub mod leaf;
pub mod note;
pub mod policy;
pub mod proof;
pub mod record;
mod scan;
pub mod stamp;
pub mod tree;
pub mod verify;

pub use canonical::Value;
pub use chain::{ChainChecker, ChainError, Head};
pub use commitment::{Commitment, Opening, Salt};
pub use entry::{Envelope, FORMAT, FormatError, Position};
pub use key::{CosignerKey, KeyKind, LogKey, PublicKey, VerifierKey};
pub use leaf::Leaf;
pub use note::{Checkpoint, NoteError, Origin, SignedNote};
pub use policy::{Policy, PolicyError};
pub use proof::TlogProof;
pub use record::Record;
pub use stamp::Stamp;
pub use tree::{Frontier, Hash};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;

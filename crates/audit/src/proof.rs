//! Offline proofs of one record (C2SP tlog-proof): its number, the hashes from its leaf to the root, and the
//! cosigned checkpoint with that root.

use crate::leaf::Leaf;
use crate::note::{MAX_SIZE, NoteError, SignedNote, decimal};
use crate::tree::{Hash, MAX_PROOF, ProofError, verify_inclusion};
use std::fmt;
use thiserror::Error;

/// First line of the file.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A proof as it stands in a `.tlog-proof` file. We write no `extra` line and refuse one: it is not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Number of the record.
    pub index: u64,
    /// From the leaf's sibling to the child of the root.
    pub hashes: Vec<Hash>,
    /// The checkpoint.
    pub note: SignedNote,
}

/// Why a file is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofFileError {
    /// Not of the form.
    #[error("it is not a tlog-proof")]
    Form,
    /// The checkpoint in it is malformed.
    #[error("its checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The hashes prove nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl TlogProof {
    /// Reads a proof. Nothing is verified.
    ///
    /// # Errors
    /// See [`ProofFileError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofFileError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ProofFileError::Form)?;
        let (head, note) = text.split_once("\n\n").ok_or(ProofFileError::Form)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(ProofFileError::Form);
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(decimal).filter(|index| *index <= MAX_SIZE);
        let index = index.ok_or(ProofFileError::Form)?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MAX_PROOF {
                return Err(ProofFileError::Form);
            }
            hashes.push(Hash::from_base64(line).ok_or(ProofFileError::Form)?);
        }
        Ok(Self { index, hashes, note: SignedNote::parse(note.as_bytes())? })
    }

    /// Checks that the record with this leaf is where the proof says, under the root of its checkpoint. Whether
    /// the checkpoint is to be believed is another question; see [`crate::Policy::judge`].
    ///
    /// # Errors
    /// The hashes prove nothing.
    pub fn verify(&self, leaf: Leaf) -> Result<(), ProofError> {
        let checkpoint = self.note.checkpoint();
        verify_inclusion(leaf, self.index, checkpoint.size, &checkpoint.root, &self.hashes)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\nindex {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.note)
    }
}

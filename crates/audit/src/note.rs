//! Signed notes (C2SP signed-note) whose text is a checkpoint (C2SP tlog-checkpoint): origin, size and root of a
//! journal, signed by the journal's key and countersigned by mirrors and witnesses.
//!
//! Reading repairs nothing: what [`SignedNote::parse`] accepts, [`SignedNote::to_string`] writes again to the byte.

use crate::key::{CosignerKey, KeyKind, LogKey, VerifierKey, cosigned_text, is_name};
use crate::leaf::Leaf;
use crate::tree::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use thiserror::Error;

/// Most signature lines of a note.
pub const MAX_SIGNATURES: usize = 16;

/// Largest note, bytes: sixteen lines of the largest signature in sight (ML-DSA-44) fit.
pub const MAX_NOTE: usize = 96 * 1024;

/// Larger sizes are no sizes: every JSON reader must hold them exactly.
pub const MAX_SIZE: u64 = (1 << 53) - 1;

/// Latest time of a cosignature, seconds since 1970: the end of the year 9999.
pub const MAX_TIME: u64 = 253_402_300_799;

/// Who a journal is, in every checkpoint: `<domain>/audit/<node>/<first 32 hex of the log id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(String);

impl Origin {
    /// The origin of a journal; `None` if domain or node hold what the name of a key may not.
    #[must_use]
    pub fn new(domain: &str, node: &str, log: Leaf) -> Option<Self> {
        let plain = |part: &str| !part.is_empty() && !part.contains('/');
        let mut text = log.to_string();
        text.truncate(32);
        let text = format!("{domain}/audit/{node}/{text}");
        (plain(domain) && plain(node) && is_name(&text)).then_some(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A statement of a journal's size and root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which journal; see [`Origin`].
    pub origin: String,
    /// Number of records.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The three lines that are signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Signs it with the journal's key.
    ///
    /// # Errors
    /// [`NoteError::Origin`]: it is the key of another journal.
    pub fn sign(&self, key: &LogKey) -> Result<SignedNote, NoteError> {
        let mut note =
            SignedNote { text: self.text(), checkpoint: self.clone(), signatures: Vec::new() };
        note.add_log_signature(key)?;
        Ok(note)
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.split('\n');
        let mut next = || lines.next().filter(|line| !line.is_empty()).ok_or(NoteError::Text);
        let (origin, size, root) = (next()?, next()?, next()?);
        // Extension lines are refused: what is worth saying is said in a record.
        if lines.next() != Some("") || lines.next().is_some() || !is_name(origin) {
            return Err(NoteError::Text);
        }
        let size = decimal(size).filter(|size| *size <= MAX_SIZE).ok_or(NoteError::Text)?;
        let root = Hash::from_base64(root).ok_or(NoteError::Text)?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// Name of the key.
    pub name: String,
    /// Id of the key.
    pub id: [u8; 4],
    /// What follows the id; its form is the key's affair.
    pub bytes: Vec<u8>,
}

/// A checkpoint with its signatures, none of which is believed before it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    checkpoint: Checkpoint,
    signatures: Vec<SignatureLine>,
}

/// Why a note is none, or what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Not text, blank line, signature lines, all ended by newlines, in UTF-8 without control characters.
    #[error("it is not a signed note")]
    Form,
    /// The text is not origin, size and root.
    #[error("its text is not a checkpoint: origin, size and root, each on a line")]
    Text,
    /// A line behind the text is not a signature.
    #[error("a signature line is malformed")]
    Line,
    /// More than [`MAX_SIGNATURES`].
    #[error("it has more than {MAX_SIGNATURES} signatures")]
    TooMany,
    /// Larger than [`MAX_NOTE`].
    #[error("it is larger than {MAX_NOTE} bytes")]
    TooLarge,
    /// The key belongs to another origin.
    #[error("the key belongs to another journal")]
    Origin,
    /// No signature line of the key.
    #[error("it has no signature of the key")]
    Missing,
    /// A line with the key's name and id does not verify.
    #[error("a signature under the key's name and id is false")]
    False,
    /// A time out of range.
    #[error("the time of a cosignature is out of range")]
    Time,
}

impl SignedNote {
    /// Reads a note.
    ///
    /// # Errors
    /// See [`NoteError`]. No signature is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::TooLarge);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Form)?;
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Form);
        }
        let at = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, lines) = (&note[..=at], &note[at + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooMany);
            }
            signatures.push(SignatureLine::parse(line).ok_or(NoteError::Line)?);
        }
        Ok(Self { text: text.to_owned(), checkpoint: Checkpoint::parse(text)?, signatures })
    }

    /// What it states.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, verified or not.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// Adds the signature of the journal's key: a second one only where a rotation asks for it.
    ///
    /// # Errors
    /// [`NoteError::Origin`] or [`NoteError::TooMany`].
    pub fn add_log_signature(&mut self, key: &LogKey) -> Result<(), NoteError> {
        if key.verifier().name() != self.checkpoint.origin {
            return Err(NoteError::Origin);
        }
        let signature = key.sign(self.text.as_bytes()).to_vec();
        self.add(key.verifier(), signature)
    }

    /// Adds a cosignature at a time in seconds since 1970, replacing an older one of the same key.
    ///
    /// # Errors
    /// [`NoteError::Time`] or [`NoteError::TooMany`].
    pub fn cosign(&mut self, key: &CosignerKey, time: u64) -> Result<(), NoteError> {
        if time > MAX_TIME {
            return Err(NoteError::Time);
        }
        let mut bytes = time.to_be_bytes().to_vec();
        bytes.extend_from_slice(&key.sign(&self.text, time));
        let verifier = key.verifier();
        self.signatures.retain(|line| !line.is_of(verifier));
        self.add(verifier, bytes)
    }

    fn add(&mut self, key: &VerifierKey, bytes: Vec<u8>) -> Result<(), NoteError> {
        if self.signatures.len() == MAX_SIGNATURES {
            return Err(NoteError::TooMany);
        }
        self.signatures.push(SignatureLine { name: key.name().to_owned(), id: key.id(), bytes });
        Ok(())
    }

    /// Verifies the signature of a log's key. Every line under its name and id must be true.
    ///
    /// # Errors
    /// [`NoteError::Origin`], [`NoteError::Missing`] or [`NoteError::False`].
    pub fn verify_log(&self, key: &VerifierKey) -> Result<(), NoteError> {
        if key.kind() != KeyKind::Log || key.name() != self.checkpoint.origin {
            return Err(NoteError::Origin);
        }
        self.each_line(key, |bytes| {
            let signature: &[u8; 64] = bytes.try_into().map_err(|_| NoteError::False)?;
            match key.key().verifies(self.text.as_bytes(), signature) {
                true => Ok(0),
                false => Err(NoteError::False),
            }
        })?;
        Ok(())
    }

    /// Verifies the cosignature of a mirror or witness and returns its time, seconds since 1970.
    ///
    /// # Errors
    /// [`NoteError::Missing`], [`NoteError::False`] or [`NoteError::Time`].
    pub fn verify_cosignature(&self, key: &VerifierKey) -> Result<u64, NoteError> {
        if key.kind() != KeyKind::Cosigner {
            return Err(NoteError::Missing);
        }
        self.each_line(key, |bytes| {
            let (time, signature) = bytes.split_first_chunk::<8>().ok_or(NoteError::False)?;
            let signature: &[u8; 64] = signature.try_into().map_err(|_| NoteError::False)?;
            let time = u64::from_be_bytes(*time);
            if !key.key().verifies(&cosigned_text(&self.text, time), signature) {
                return Err(NoteError::False);
            }
            if time > MAX_TIME { Err(NoteError::Time) } else { Ok(time) }
        })
    }

    /// Verifies all lines of a key; the largest time counts.
    fn each_line(
        &self,
        key: &VerifierKey,
        verify: impl Fn(&[u8]) -> Result<u64, NoteError>,
    ) -> Result<u64, NoteError> {
        let mut newest = None;
        for line in self.signatures.iter().filter(|line| line.is_of(key)) {
            newest = newest.max(Some(verify(&line.bytes)?));
        }
        newest.ok_or(NoteError::Missing)
    }
}

impl SignatureLine {
    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = STANDARD.decode(signature).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        let (id, bytes) = (*id, bytes.to_vec());
        (is_name(name) && !bytes.is_empty()).then(|| Self { name: name.to_owned(), id, bytes })
    }

    /// Whether the line claims to be of this key.
    #[must_use]
    pub fn is_of(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.id == key.id()
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            let mut bytes = line.id.to_vec();
            bytes.extend_from_slice(&line.bytes);
            writeln!(f, "— {} {}", line.name, STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

/// A decimal number without leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let short = text == "0" || !text.starts_with('0');
    (plain && short).then(|| text.parse().ok()).flatten()
}

//! The keys that sign one journal, one after the other (docs/journal-format.md, section 6). Which of them must have signed a checkpoint
//! follows from its size alone, so old uploads stay judgeable after a change. Pure.

use cortex_audit::key::rotation_text;
use cortex_audit::record::KeyRotate;
use cortex_audit::{KeyKind, Leaf, NoteError, PublicKey, SignedNote, Value, VerifierKey};

/// See the module. Never empty.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    first: VerifierKey,
    /// Size of the checkpoint that both keys sign, and the key from then on; ascending.
    later: Vec<(u64, VerifierKey)>,
}

impl Keys {
    /// The key that the first record names.
    pub(crate) fn new(first: VerifierKey) -> Keys {
        Keys { first, later: Vec::new() }
    }

    /// The key in force.
    pub(crate) fn newest(&self) -> &VerifierKey {
        self.later.last().map_or(&self.first, |(_, key)| key)
    }

    /// Whether the keys signed a checkpoint that must have at its size.
    ///
    /// # Errors
    /// One of them did not.
    pub(crate) fn check(&self, note: &SignedNote) -> Result<(), NoteError> {
        let size = note.checkpoint().size;
        let count = self.later.partition_point(|(since, _)| *since <= size);
        let key = |count: usize| match count.checked_sub(1).and_then(|at| self.later.get(at)) {
            Some((_, key)) => key,
            None => &self.first,
        };
        let changes = count > 0 && self.later.get(count - 1).is_some_and(|(at, _)| *at == size);
        if changes {
            note.verify_log(key(count - 1))?;
        }
        note.verify_log(key(count))
    }

    /// Takes up the change of key in record `seq`.
    ///
    /// # Errors
    /// It proves nothing.
    pub(crate) fn change(&mut self, data: &Value, log: Leaf, seq: u64) -> Result<(), String> {
        let KeyRotate { old, new, pop } = KeyRotate::read(data).map_err(|error| error.0)?;
        let key = |bytes: &[u8]| PublicKey::from_bytes(bytes.try_into().ok()?);
        let (Some(old), Some(new)) = (key(&old.0), key(&new.0)) else {
            return Err("a change of key names no key".into());
        };
        let proven = <&[u8; 64]>::try_from(pop.0.as_slice())
            .is_ok_and(|pop| new.verifies(&rotation_text(log, &old, &new), pop));
        if *self.newest().key() != old || !proven {
            return Err("a change of key proves nothing".into());
        }
        let new = VerifierKey::new(self.first.name(), KeyKind::Log, new);
        self.later.push((seq + 1, new.map_err(|error| error.to_string())?));
        Ok(())
    }
}

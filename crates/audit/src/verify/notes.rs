//! The notes of one source: who signed them, whether their roots are those of the records, whether whom they satisfy is
//! trusted.

use super::Trust;
use super::code::{Code, Findings};
use super::meaning::Meaning;
use crate::key::{KeyKind, PublicKey, VerifierKey, rotation_text};
use crate::leaf::Leaf;
use crate::note::{NoteError, SignedNote};
use crate::tree::Hash;
use std::collections::{BTreeSet, VecDeque};

/// Where a note comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A cosigned checkpoint of the source.
    Checkpoint,
    /// The node's newest, not yet cosigned.
    Head,
    /// Trusted by whoever verifies.
    Since,
}

/// A change of the key, until the next checkpoint proves it.
#[derive(Debug)]
struct Rotated {
    size: u64,
    old: PublicKey,
}

/// The notes of a source and what is known about its keys.
#[derive(Debug)]
pub(crate) struct Notes<'t> {
    trust: &'t Trust,
    /// By size; of one size in the order in which they were given.
    waiting: VecDeque<(SignedNote, Role)>,
    pub(crate) origin: Option<String>,
    in_force: Option<PublicKey>,
    rotated: Option<Rotated>,
    trusted: Vec<PublicKey>,
    /// The signed roots of the size at hand.
    roots: (u64, Vec<Hash>),
    /// Sizes of signed notes whose root is another.
    mismatched: BTreeSet<u64>,
    /// Largest signed note that fits.
    pub(crate) signed_size: Option<u64>,
    /// Largest note that fits and that the policy takes, and the time of its quorum.
    pub(crate) cosigned: Option<(u64, Option<u64>)>,
}

impl<'t> Notes<'t> {
    pub(crate) fn new(
        trust: &'t Trust,
        checkpoints: &[Vec<u8>],
        head: Option<&Vec<u8>>,
        findings: &mut Findings,
    ) -> Self {
        let mut waiting = Vec::new();
        let given = checkpoints.iter().map(|note| (note, Role::Checkpoint));
        for (bytes, role) in given.chain(head.map(|note| (note, Role::Head))) {
            match SignedNote::parse(bytes) {
                Ok(note) => waiting.push((note, role)),
                Err(_) => findings.add(Code::NoteMalformed, None),
            }
        }
        waiting.extend(trust.since.iter().map(|note| (note.clone(), Role::Since)));
        waiting.sort_by_key(|(note, _): &(SignedNote, Role)| note.checkpoint().size);
        if trust.policy.is_none() {
            findings.add(Code::PolicyNone, None);
        }
        Self {
            trust,
            waiting: waiting.into(),
            origin: None,
            in_force: None,
            rotated: None,
            trusted: Vec::new(),
            roots: (0, Vec::new()),
            mismatched: BTreeSet::new(),
            signed_size: None,
            cosigned: None,
        }
    }

    /// The origin is known: whom the policy trusts for it. `key` is that of genesis, if there is one.
    pub(crate) fn begin(
        &mut self,
        origin: String,
        key: Option<PublicKey>,
        findings: &mut Findings,
    ) {
        if let Some(policy) = &self.trust.policy {
            self.trusted = policy.log_keys(&origin).iter().map(|key| key.key().clone()).collect();
            if self.trusted.is_empty() {
                findings.add(Code::LogUnknown, None);
            }
        }
        self.origin = Some(origin);
        self.in_force = key;
    }

    /// The origin of the source's first checkpoint of a size, or of any: for a pruned journal, which has no genesis.
    pub(crate) fn origin_at(&self, size: u64) -> Option<String> {
        let own = || self.waiting.iter().filter(|(_, role)| *role == Role::Checkpoint);
        let note = own().find(|(note, _)| note.checkpoint().size == size).or_else(|| own().next());
        note.map(|(note, _)| note.checkpoint().origin.clone())
    }

    /// A `key.rotate` was read. `false` if it proves nothing.
    pub(crate) fn rotate(
        &mut self,
        (old, new, pop): (&[u8], &[u8], &[u8]),
        log: Leaf,
        seq: u64,
    ) -> bool {
        let key = |bytes: &[u8]| PublicKey::from_bytes(bytes.try_into().ok()?);
        let (Some(old), Some(new)) = (key(old), key(new)) else { return false };
        let follows = self.in_force.as_ref().is_none_or(|in_force| *in_force == old);
        let proven = <&[u8; 64]>::try_from(pop)
            .is_ok_and(|pop| new.verifies(&rotation_text(log, &old, &new), pop));
        if follows && proven {
            self.rotated = Some(Rotated { size: seq + 1, old });
            self.in_force = Some(new);
        }
        follows && proven
    }

    /// The records reached a size: looks at the notes of it.
    pub(crate) fn reach(
        &mut self,
        size: u64,
        root: impl FnOnce() -> Hash,
        meaning: &mut Meaning,
        findings: &mut Findings,
    ) {
        if self.waiting.front().is_none_or(|(note, _)| note.checkpoint().size > size) {
            return;
        }
        let root = root();
        // Notes below what can be reached here say nothing about these records; their signatures still must hold.
        while let Some((note, role)) =
            self.waiting.pop_front_if(|(note, _)| note.checkpoint().size <= size)
        {
            let known = (note.checkpoint().size == size).then_some(root);
            self.judge(&note, role, known, meaning, findings);
        }
    }

    /// There are no more records: looks at the notes that were not reached. `ended` if the journal ends at
    /// `size`, and not because of a fault.
    pub(crate) fn end(
        &mut self,
        size: u64,
        ended: bool,
        meaning: &mut Meaning,
        findings: &mut Findings,
    ) {
        while let Some((note, role)) = self.waiting.pop_front() {
            let signed = self.judge(&note, role, None, meaning, findings);
            if signed && ended {
                let code = if role == Role::Since { Code::Rollback } else { Code::Truncated };
                findings.add(code, Some(size));
            }
        }
        for size in &self.mismatched {
            let both = self.signed_size.is_some_and(|signed| signed >= *size);
            let code = if both { Code::Fork } else { Code::Root };
            findings.add(code, Some(size.saturating_sub(1)));
        }
    }

    /// Looks at one note; `true` if the journal's key signed it.
    fn judge(
        &mut self,
        note: &SignedNote,
        role: Role,
        root: Option<Hash>,
        meaning: &mut Meaning,
        findings: &mut Findings,
    ) -> bool {
        let checkpoint = note.checkpoint();
        if self.origin.as_ref().is_some_and(|origin| *origin != checkpoint.origin) {
            findings.add(Code::NoteOrigin, None);
            return false;
        }
        let signer = match self.signer(note) {
            Ok(Some(signer)) => signer,
            Ok(None) => return false,
            Err(code) => {
                findings.add(code, None);
                return false;
            }
        };
        self.same_size(checkpoint.size, checkpoint.root, findings);
        let fits = root == Some(checkpoint.root);
        if fits {
            self.signed_size = self.signed_size.max(Some(checkpoint.size));
        } else if root.is_some() {
            self.mismatched.insert(checkpoint.size);
        }
        if role != Role::Since
            && let Some(at) = self.believe(note, &signer, role, findings)
            && fits
        {
            self.cosigned = self.cosigned.max(Some((checkpoint.size, at)));
            if let Some(at) = at {
                meaning.cosigned(at, findings);
            }
        }
        self.prove_rotation(checkpoint.size, fits);
        true
    }

    /// The key that signed a note; `None` if there is none to verify with.
    fn signer(&self, note: &SignedNote) -> Result<Option<PublicKey>, Code> {
        let origin = &note.checkpoint().origin;
        let verify = |key: &PublicKey| {
            let key = VerifierKey::new(origin.as_str(), KeyKind::Log, key.clone());
            match key.map(|key| note.verify_log(&key)) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(NoteError::False)) => Err(Code::NoteFalse),
                _ => Err(Code::NoteUnsigned),
            }
        };
        if let Some(key) = &self.in_force {
            let size = note.checkpoint().size;
            if let Some(rotated) = self.rotated.as_ref().filter(|rotated| rotated.size == size) {
                verify(&rotated.old)?;
            }
            return verify(key).map(|()| Some(key.clone()));
        }
        let Some(policy) = &self.trust.policy else { return Ok(None) };
        let mut signer = None;
        for key in policy.log_keys(origin) {
            match verify(key.key()) {
                Ok(()) => signer = Some(key.key().clone()),
                Err(Code::NoteFalse) => return Err(Code::NoteFalse),
                Err(_) => {}
            }
        }
        match signer {
            None if policy.log_keys(origin).is_empty() => Ok(None),
            None => Err(Code::NoteUnsigned),
            signer => Ok(signer),
        }
    }

    fn same_size(&mut self, size: u64, root: Hash, findings: &mut Findings) {
        if self.roots.0 != size {
            self.roots = (size, Vec::new());
        }
        if !self.roots.1.contains(&root) {
            self.roots.1.push(root);
        }
        if self.roots.1.len() > 1 {
            findings.add(Code::Fork, Some(size.saturating_sub(1)));
        }
    }

    /// Whether the policy takes a note, and the time of its quorum.
    fn believe(
        &self,
        note: &SignedNote,
        signer: &PublicKey,
        role: Role,
        findings: &mut Findings,
    ) -> Option<Option<u64>> {
        let policy = self.trust.policy.as_ref()?;
        // Before the origin is known the signer is one of the policy's keys.
        if self.origin.is_some() && !self.trusted.contains(signer) && !self.follows(note) {
            if !self.trusted.is_empty() {
                findings.add(Code::NoteUntrusted, None);
            }
            return None;
        }
        match policy.judge(note) {
            Err(_) => {
                findings.add(Code::NoteFalse, None);
                None
            }
            Ok(judged) if judged.quorum => Some(judged.at),
            Ok(_) => {
                if role == Role::Checkpoint {
                    findings.add(Code::NoteQuorum, None);
                }
                None
            }
        }
    }

    /// The note is the one that proves a rotation from a trusted key; both signatures were verified.
    fn follows(&self, note: &SignedNote) -> bool {
        self.rotated.as_ref().is_some_and(|rotated| {
            rotated.size == note.checkpoint().size && self.trusted.contains(&rotated.old)
        })
    }

    fn prove_rotation(&mut self, size: u64, fits: bool) {
        let proves =
            |rotated: &Rotated| fits && rotated.size == size && self.trusted.contains(&rotated.old);
        if self.rotated.as_ref().is_some_and(proves)
            && let Some(key) = self.in_force.clone()
            && !self.trusted.contains(&key)
        {
            self.trusted.push(key);
        }
    }
}

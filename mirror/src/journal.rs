//! One journal as the mirror holds it: a fold over its stored batches, and the judgement on what comes next. Pure: storage, keys and
//! clocks are elsewhere.
//!
//! A batch is compared with what is stored record by record, by leaf, whatever its size or where it begins. What goes beyond
//! is walked through the same checks that an auditor runs, and past the size that was cosigned last the root must be the one that
//! was cosigned then: so a storage that forgot, or was rewritten, cannot make the mirror sign a second history.

use crate::keys::Keys;
use bytes::Bytes;
use cortex_audit::entry::kind;
use cortex_audit::record::{Genesis, Record};
use cortex_audit::{
    ChainChecker, Envelope, Frontier, Hash, KeyKind, Leaf, Origin, PublicKey, SignedNote, Value,
    VerifierKey,
};
use cortex_log::Rev;
use cortex_model::limits::mirror::AUDIT_NOTE_SIGNATURES_MAX;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Newest leaves that are kept to compare with; older ones are read from storage.
const LEAVES_KEPT: usize = 8_192;

/// What the key signed last for a journal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signed {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) time_s: u64,
    /// With the cosignature.
    pub(crate) note: SignedNote,
}

/// A stored batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Batch {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) rev: Rev,
}

/// Records in the form in which they come from a node or from storage.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) bytes: &'a Bytes,
    pub(crate) note: &'a str,
}

/// Why a first record is none.
enum GenesisFault {
    Bad(String),
    Foreign(String),
}

impl From<String> for GenesisFault {
    fn from(why: String) -> Self {
        GenesisFault::Bad(why)
    }
}

impl From<&str> for GenesisFault {
    fn from(why: &str) -> Self {
        GenesisFault::Bad(why.to_owned())
    }
}

/// What a batch is worth.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Something before it is missing.
    Gap,
    /// Nothing in it is new.
    Known,
    /// Store this, then `apply` it.
    New(Box<Step>),
    /// Not acceptable.
    Invalid { seq: u64, why: String },
    /// Another record is stored at this place. Whether it was signed too, `forks` can tell.
    Differs { seq: u64 },
    /// The same size was cosigned with another root, and both were signed.
    Fork { seq: u64, why: String },
    /// Signed by another key.
    WrongKey(String),
    /// The journal of another node.
    Foreign(String),
}

/// A batch that fits: what there is to store, and the journal behind it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Only what is new.
    pub(crate) records: Bytes,
    pub(crate) note: SignedNote,
    pub(crate) genesis: Option<Box<Genesis>>,
    keys: Keys,
    chain: ChainChecker,
    frontier: Frontier,
    leaves: Vec<Leaf>,
}

impl Step {
    /// The journal's full id.
    pub(crate) fn log(&self) -> Leaf {
        self.chain.head().map_or(Leaf::ZERO, |head| head.log)
    }

    /// The key that signs it.
    pub(crate) fn vkey(&self) -> &VerifierKey {
        self.keys.newest()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    workspace: String,
    node: String,
    /// First 32 hex digits of the id.
    pub(crate) log32: String,
    keys: Option<Keys>,
    chain: ChainChecker,
    frontier: Frontier,
    batches: Vec<Batch>,
    leaves: VecDeque<Leaf>,
    pub(crate) note: Option<SignedNote>,
    pub(crate) signed: Option<Signed>,
    /// Openings of records below this are stored.
    pub(crate) openings_from: u64,
    /// Batches in a row that were invalid.
    pub(crate) invalid: u32,
}

impl Journal {
    pub(crate) fn new(workspace: &str, node: &str, log32: &str) -> Journal {
        Journal {
            workspace: workspace.to_owned(),
            node: node.to_owned(),
            log32: log32.to_owned(),
            keys: None,
            chain: ChainChecker::new(),
            frontier: Frontier::new(),
            batches: Vec::new(),
            leaves: VecDeque::new(),
            note: None,
            signed: None,
            openings_from: 0,
            invalid: 0,
        }
    }

    /// Records that are stored.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub(crate) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The full id, once the first record is known.
    pub(crate) fn log(&self) -> Option<Leaf> {
        self.chain.head().map(|head| head.log)
    }

    pub(crate) fn vkey(&self) -> Option<&VerifierKey> {
        self.keys.as_ref().map(Keys::newest)
    }

    /// Whether the journal's keys signed a checkpoint; `None` before the first record is known.
    pub(crate) fn signed_by_keys(&self, note: &SignedNote) -> Option<bool> {
        self.keys.as_ref().map(|keys| keys.check(note).is_ok())
    }

    /// Revision of the last batch; 0 before the first.
    pub(crate) fn last_rev(&self) -> Rev {
        self.batches.last().map_or(0, |batch| batch.rev)
    }

    pub(crate) fn commits(&self) -> u64 {
        self.batches.len() as u64
    }

    /// Size that was cosigned last; 0 when nothing was.
    pub(crate) fn cosigned(&self) -> u64 {
        self.signed.as_ref().map_or(0, |signed| signed.size)
    }

    /// The batch that holds a record.
    pub(crate) fn batch_of(&self, seq: u64) -> Option<Batch> {
        let at = self.batches.partition_point(|batch| batch.end <= seq);
        self.batches.get(at).filter(|batch| batch.first <= seq).copied()
    }

    /// Records whose leaves must be read from storage before `examine`.
    pub(crate) fn wants(&self, records: &Records<'_>) -> Range<u64> {
        let end = records.first.saturating_add(records.count.into());
        let kept_from = self.size() - self.leaves.len() as u64;
        records.first..end.min(kept_from).max(records.first)
    }

    /// Judges a batch. `older` has the leaves that `wants` named.
    pub(crate) fn examine(&self, records: &Records<'_>, older: &BTreeMap<u64, Leaf>) -> Verdict {
        if records.first > self.size() {
            return Verdict::Gap;
        }
        let invalid = |seq, why: String| Verdict::Invalid { seq, why };
        let end = records.first + u64::from(records.count);
        let lines = match split(records) {
            Ok(lines) => lines,
            Err(why) => return invalid(records.first, why),
        };
        let note = match SignedNote::parse(records.note.as_bytes()) {
            Ok(note) => note,
            Err(error) => return invalid(records.first, format!("its note: {error}")),
        };
        if note.signatures().len() > AUDIT_NOTE_SIGNATURES_MAX {
            return invalid(records.first, "its note has too many signatures".into());
        }
        let genesis = if self.size() == 0 {
            match self.genesis(lines.first().copied().unwrap_or_default()) {
                Ok(genesis) => Some(genesis),
                Err(GenesisFault::Bad(why)) => return invalid(0, why),
                Err(GenesisFault::Foreign(why)) => return Verdict::Foreign(why),
            }
        } else {
            None
        };
        let keys = match (&self.keys, &genesis) {
            (Some(keys), _) => keys.clone(),
            (None, Some((_, key))) => Keys::new(key.clone()),
            (None, None) => return invalid(0, "the journal has no first record".into()),
        };
        if note.checkpoint().origin != keys.newest().name() {
            return Verdict::WrongKey(format!("its note is of {}", note.checkpoint().origin));
        }
        if let Err(error) = keys.check(&note) {
            return Verdict::WrongKey(format!("its note: {error}"));
        }
        if note.checkpoint().size != end {
            let why = format!("its note is of size {}, it ends at {end}", note.checkpoint().size);
            return invalid(records.first, why);
        }
        let genesis = genesis.map(|(genesis, _)| genesis);
        self.walk(records, &lines, older, note, keys, genesis)
    }

    fn walk(
        &self,
        records: &Records<'_>,
        lines: &[&[u8]],
        older: &BTreeMap<u64, Leaf>,
        note: SignedNote,
        mut keys: Keys,
        genesis: Option<Box<Genesis>>,
    ) -> Verdict {
        let (mut chain, mut frontier) = (self.chain.clone(), self.frontier.clone());
        let (mut leaves, mut fresh, mut contradicts) = (Vec::new(), 0, None);
        for (seq, line) in (records.first..).zip(lines) {
            if seq < self.size() {
                let stored = self.leaf(seq).or_else(|| older.get(&seq).copied());
                if stored.is_none_or(|stored| stored != Leaf::of(line)) {
                    return Verdict::Differs { seq };
                }
                fresh += line.len() + 1;
                continue;
            }
            let changed = match chain.push(line) {
                Ok(record) if record.kind == kind::KEY_ROTATE => {
                    change(&mut keys, &record.data, &chain, (seq, &note))
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = changed {
                return Verdict::Invalid { seq, why };
            }
            let leaf = Leaf::of(line);
            frontier.push(leaf);
            leaves.push(leaf);
            if let Some(signed) = &self.signed
                && signed.size == frontier.size()
                && signed.root != frontier.root()
            {
                contradicts = Some(seq);
            }
        }
        if leaves.is_empty() {
            return Verdict::Known;
        }
        if note.checkpoint().root != frontier.root() {
            let seq = frontier.size() - 1;
            return Verdict::Invalid {
                seq,
                why: "its note has another root than its records".into(),
            };
        }
        if let Some(seq) = contradicts {
            let why = format!("another history of {} records was cosigned before", self.cosigned());
            return Verdict::Fork { seq, why };
        }
        let first = self.size();
        let count = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
        let records = records.bytes.slice(fresh..);
        Verdict::New(Box::new(Step {
            first,
            count,
            records,
            note,
            genesis,
            keys,
            chain,
            frontier,
            leaves,
        }))
    }

    /// The first record says whose journal it is and which key signs it; its hash is the journal's id.
    fn genesis(&self, line: &[u8]) -> Result<(Box<Genesis>, VerifierKey), GenesisFault> {
        let envelope = Envelope::parse(line).map_err(|error| error.to_string())?;
        let read = Record::read(&envelope.kind, &envelope.data).map_err(|error| error.0)?;
        let Some(Record::Genesis(genesis)) = read else {
            return Err("the first record is no genesis".into());
        };
        if genesis.node != self.node || genesis.tenant != self.workspace {
            return Err(GenesisFault::Foreign(format!(
                "the journal is of {}/{}, not of {}/{}",
                genesis.tenant, genesis.node, self.workspace, self.node
            )));
        }
        let leaf = Leaf::of(line);
        if !leaf.to_string().starts_with(&self.log32) {
            return Err(format!("the journal is {leaf}, not {}", self.log32).into());
        }
        let origin = Origin::new(&genesis.domain, &genesis.node, leaf)
            .ok_or("domain or node cannot be part of an origin")?;
        let bytes: [u8; 32] =
            genesis.key.0.as_slice().try_into().map_err(|_| "no key of 32 bytes")?;
        let key = PublicKey::from_bytes(&bytes).ok_or("its key is weak or none")?;
        let key = VerifierKey::new(origin.as_str(), KeyKind::Log, key)
            .map_err(|error| error.to_string())?;
        Ok((genesis, key))
    }

    fn leaf(&self, seq: u64) -> Option<Leaf> {
        let from = self.size() - self.leaves.len() as u64;
        let at = usize::try_from(seq.checked_sub(from)?).ok()?;
        self.leaves.get(at).copied()
    }

    /// The batch was stored at this revision.
    pub(crate) fn apply(&mut self, step: Step, rev: Rev) {
        let end = step.first + u64::from(step.count);
        self.batches.push(Batch { first: step.first, end, rev });
        self.leaves.extend(step.leaves);
        let excess = self.leaves.len().saturating_sub(LEAVES_KEPT);
        self.leaves.drain(..excess);
        self.keys = Some(step.keys);
        self.chain = step.chain;
        self.frontier = step.frontier;
        self.note = Some(step.note);
    }

    /// What may be cosigned now: the stored end, if it is beyond what was cosigned and continues it.
    pub(crate) fn signable(&self) -> Option<&SignedNote> {
        let note = self.note.as_ref()?;
        let whole = note.checkpoint().size == self.size() && note.checkpoint().root == self.root();
        // That the history passed through the signed root was checked when it grew beyond it.
        (whole && self.size() > self.cosigned()).then_some(note)
    }

    /// A checkpoint of the node that is not about a batch: its head. `stored` is the root of the stored records at its size, where
    /// there are as many. Roots are compared at the smaller size, never sizes alone.
    pub(crate) fn check_head(&self, note: &SignedNote, stored: Option<Hash>) -> HeadCheck {
        let checkpoint = note.checkpoint();
        if self.signed_by_keys(note) == Some(false) {
            return HeadCheck::WrongKey;
        }
        let signed = self.signed.as_ref().map(|s| (s.size, s.root));
        let signed = signed.filter(|(size, _)| *size == checkpoint.size).map(|(_, root)| root);
        match stored.or(signed) {
            Some(root) if root != checkpoint.root => HeadCheck::Fork,
            _ if checkpoint.size < self.cosigned() => HeadCheck::Behind,
            _ => HeadCheck::Fits,
        }
    }
}

/// Takes up a change of key. It ends its batch, so that the checkpoint which both keys sign is stored and countersigned.
fn change(
    keys: &mut Keys,
    data: &Value,
    chain: &ChainChecker,
    (seq, note): (u64, &SignedNote),
) -> Result<(), String> {
    if note.checkpoint().size != seq + 1 {
        return Err("a change of key does not end its batch".into());
    }
    let log = chain.head().map_or(Leaf::ZERO, |head| head.log);
    keys.change(data, log, seq)?;
    keys.check(note).map_err(|error| format!("its note: {error}"))
}

/// Whether these records, behind the tree of what comes before them, are what their note signed: only then they are a second
/// history, and not something that a gateway made up.
pub(crate) fn forks(before: Frontier, records: &Records<'_>) -> bool {
    let (Ok(lines), Ok(note)) = (split(records), SignedNote::parse(records.note.as_bytes())) else {
        return false;
    };
    let mut frontier = before;
    lines.iter().for_each(|line| frontier.push(Leaf::of(line)));
    frontier.size() == note.checkpoint().size && frontier.root() == note.checkpoint().root
}

/// What a node's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadCheck {
    Fits,
    /// Shorter than what was cosigned, and the same so far: an old head, or a journal that was set back.
    Behind,
    Fork,
    WrongKey,
}

/// The lines of a batch, without their line feeds; exactly as many as it says.
pub(crate) fn split<'a>(records: &Records<'a>) -> Result<Vec<&'a [u8]>, String> {
    let bytes = records.bytes.strip_suffix(b"\n").ok_or("its last record has no line feed")?;
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if lines.len() != records.count as usize {
        return Err(format!("it has {} records and says {}", lines.len(), records.count));
    }
    Ok(lines)
}

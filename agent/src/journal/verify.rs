//! Verifying a journal in its place: the whole chain from its first record, the tree, the signed head and every cosigned
//! checkpoint. Bytes alone prove nothing: without a mirror's key that the caller trusts the answer is never "verified".

use super::error::OpenError;
use super::inspect::Reader;
use super::open::QUARANTINE;
use cortex_audit::record::Genesis;
use cortex_audit::{
    ChainChecker, Frontier, Head, Leaf, Origin, PublicKey, SignedNote, VerifierKey,
};
use serde::Serialize;
use std::path::Path;

/// What came of it; the exit codes are those of `cortex audit verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Everything that was asked for holds, against a trusted key.
    Verified,
    /// Bytes, form, chain or root are wrong.
    Invalid,
    /// No trusted key was given, or nothing is signed by it.
    Unanchored,
    /// Two validly signed checkpoints contradict each other.
    Fork,
    /// Shorter or older than something trusted.
    Rollback,
    /// It could not be read; nothing was concluded.
    Unreadable,
}

/// The result, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `cortex-journal-verify/1`.
    pub schema: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// The journal's id, once it is known.
    pub log: Option<String>,
    /// The node that the first record names.
    pub node: Option<String>,
    /// Records that were walked.
    pub size: u64,
    /// Root of the tree over them, base64.
    pub root: Option<String>,
    /// Size of the newest checkpoint with a cosignature of the trusted mirror; 0 if none.
    pub cosigned: u64,
    /// Seconds since 1970 of that cosignature.
    pub cosigned_at: Option<u64>,
    /// Intents without outcome.
    pub open_intents: u64,
    /// The first record that is wrong.
    pub first_bad: Option<u64>,
    /// What was found, in words.
    pub findings: Vec<String>,
}

impl Verdict {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Invalid => 1,
            Self::Unanchored => 3,
            Self::Fork => 4,
            Self::Rollback => 5,
            Self::Unreadable => 8,
        }
    }
}

impl Report {
    fn new() -> Self {
        Self {
            schema: "cortex-journal-verify/1",
            verdict: Verdict::Verified,
            log: None,
            node: None,
            size: 0,
            root: None,
            cosigned: 0,
            cosigned_at: None,
            open_intents: 0,
            first_bad: None,
            findings: Vec::new(),
        }
    }

    /// The worst finding decides: fork, invalid, rollback, unanchored.
    fn find(&mut self, verdict: Verdict, why: impl Into<String>) {
        let rank = |verdict| match verdict {
            Verdict::Verified => 0,
            Verdict::Unreadable => 1,
            Verdict::Unanchored => 2,
            Verdict::Rollback => 3,
            Verdict::Invalid => 4,
            Verdict::Fork => 5,
        };
        if rank(verdict) > rank(self.verdict) {
            self.verdict = verdict;
        }
        self.findings.push(why.into());
    }
}

/// Verifies the journal in `dir`. `mirror` is a key that the caller has from elsewhere; `since` a checkpoint that the
/// caller kept.
#[must_use]
pub fn verify(dir: &Path, mirror: Option<&VerifierKey>, since: Option<&SignedNote>) -> Report {
    // redb may panic on a file that was damaged outside of it; that is a finding, not a defect.
    std::panic::catch_unwind(|| look(dir, mirror, since)).unwrap_or_else(|_| {
        let mut report = Report::new();
        report.find(Verdict::Invalid, "the store cannot make sense of log.redb");
        report
    })
}

fn look(dir: &Path, mirror: Option<&VerifierKey>, since: Option<&SignedNote>) -> Report {
    let mut report = Report::new();
    match Reader::open(dir) {
        Ok(reader) => {
            if let Err(err) = walk(&reader, mirror, since, &mut report) {
                report.find(Verdict::Unreadable, err.to_string());
            }
        }
        Err(err) => {
            let verdict = match &err {
                OpenError::Corrupt { .. } => Verdict::Invalid,
                OpenError::RolledBack { .. } => Verdict::Rollback,
                OpenError::Quarantined { .. } => Verdict::Fork,
                OpenError::Locked(_)
                | OpenError::Newer { .. }
                | OpenError::Old { .. }
                | OpenError::DiskFull(_)
                | OpenError::Io { .. } => Verdict::Unreadable,
            };
            report.find(verdict, err.to_string());
        }
    }
    report
}

/// Checkpoints to compare, smallest first, with what a difference means.
struct Marks {
    notes: Vec<(SignedNote, Verdict)>,
    next: usize,
}

fn walk(
    reader: &Reader,
    mirror: Option<&VerifierKey>,
    since: Option<&SignedNote>,
    report: &mut Report,
) -> Result<(), redb::Error> {
    let mut notes: Vec<_> =
        reader.cosigned()?.into_iter().map(|note| (note, Verdict::Fork)).collect();
    notes.extend(since.cloned().map(|note| (note, Verdict::Fork)));
    match SignedNote::parse(reader.head.as_bytes()) {
        Ok(head) => notes.push((head, Verdict::Invalid)),
        Err(err) => report.find(Verdict::Invalid, format!("the signed head: {err}")),
    }
    notes.sort_by_key(|(note, _)| note.checkpoint().size);
    let mut marks = Marks { notes, next: 0 };
    let (mut checker, mut edge, mut key) = (ChainChecker::new(), Frontier::new(), None);
    reader.each(0, |record| {
        match checker.push(&record.body) {
            Ok(envelope) if record.seq == 0 => {
                let genesis = Genesis::read(&envelope.data).ok();
                report.node = genesis.as_ref().map(|genesis| genesis.node.clone());
                key = genesis.and_then(|genesis| own_key(&genesis, Leaf::of(&record.body)));
            }
            Ok(_) => {}
            Err(err) => {
                report.first_bad = Some(err.seq);
                report.find(Verdict::Invalid, format!("record {}: {}", err.seq, err.why));
                return false;
            }
        }
        edge.push(Leaf::of(&record.body));
        marks.compare(&edge, key.as_ref(), mirror, report);
        true
    })?;
    let head = checker.head();
    (report.size, report.root) = (edge.size(), Some(edge.root().to_base64()));
    report.log = head.map(|Head { log, .. }| log.to_string());
    report.open_intents = checker.open().len() as u64;
    if report.first_bad.is_none() {
        marks.rest(edge.size(), report);
    }
    if let Some(why) = reader.fact(QUARANTINE)? {
        report.find(Verdict::Fork, format!("the journal is quarantined: {why}"));
    }
    match (mirror, report.cosigned) {
        (None, _) => {
            let why = "no mirror's key was named (--mirror or --policy), so nobody else vouches for this journal";
            report.find(Verdict::Unanchored, why);
        }
        (Some(mirror), 0) => {
            let why = format!("no checkpoint is cosigned by {}", mirror.name());
            report.find(Verdict::Unanchored, why);
        }
        (Some(_), _) => {}
    }
    Ok(())
}

/// The key that the first record names, under the name that its checkpoints carry.
fn own_key(genesis: &Genesis, log: Leaf) -> Option<VerifierKey> {
    let key = PublicKey::from_bytes(genesis.key.0.as_slice().try_into().ok()?)?;
    let origin = Origin::new(&genesis.domain, &genesis.node, log)?;
    VerifierKey::new(origin.as_str(), cortex_audit::KeyKind::Log, key).ok()
}

impl Marks {
    /// Compares all checkpoints of the present size.
    fn compare(
        &mut self,
        edge: &Frontier,
        key: Option<&VerifierKey>,
        mirror: Option<&VerifierKey>,
        report: &mut Report,
    ) {
        while let Some((note, verdict)) = self.notes.get(self.next)
            && note.checkpoint().size <= edge.size()
        {
            self.next += 1;
            let size = note.checkpoint().size;
            let signed = key.map(|key| note.verify_log(key));
            if !matches!(signed, Some(Ok(()))) {
                let why =
                    format!("the checkpoint of {size} records is not signed by the journal's key");
                report.find(Verdict::Invalid, why);
                continue;
            }
            if note.checkpoint().root != edge.root() {
                let why = format!(
                    "the first {size} records are not those of a checkpoint that was signed"
                );
                report.find(*verdict, why);
                continue;
            }
            if let Some(Ok(time)) = mirror.map(|mirror| note.verify_cosignature(mirror)) {
                (report.cosigned, report.cosigned_at) = (size, Some(time));
            }
        }
    }

    /// Checkpoints of more records than there are.
    fn rest(&self, size: u64, report: &mut Report) {
        for (note, _) in &self.notes[self.next..] {
            let signed = note.checkpoint().size;
            let why = format!("{size} records are there, a checkpoint says {signed}");
            report.find(Verdict::Rollback, why);
        }
    }
}

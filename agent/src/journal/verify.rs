//! Verifying a journal in its place, with the engine that auditors use (`cortex_audit::verify`): chain, tree, signatures, every cosigned
//! checkpoint, openings, meaning. What only this machine knows (files that contradict each other, a quarantine) is added. Bytes
//! alone prove nothing: without keys that the caller trusts the answer is never "verified".

use super::error::OpenError;
use super::inspect::Reader;
use super::open::{QUARANTINE, QUARANTINE_CODE};
use super::upstream::MIRROR;
use cortex_audit::record::Genesis;
use cortex_audit::verify::{self, Bodies, Source, Trust, Unreadable, Verdict};
use cortex_audit::{Envelope, KeyKind, Leaf, Origin, Policy, PublicKey, VerifierKey};
use cortex_model::Code;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

/// Records that are read from the store at a time.
const PAGE: u64 = 1_024;

/// Whom the caller believes.
#[derive(Clone, Debug)]
pub enum Believed {
    /// What a policy says, got by another way than the journal.
    Policy(Box<Trust>),
    /// The key of a mirror, got by another way than the journal. The journal's own key is the one that its id commits to.
    Mirror(Box<VerifierKey>, Box<Trust>),
    /// Nobody: only whether the journal agrees with itself and with its own key. Never a statement about authenticity.
    OwnKey,
}

/// The result, for people and programs.
#[derive(Clone, Debug)]
pub struct Report {
    /// The worst of all that was found.
    pub verdict: Verdict,
    /// The node that the first record names.
    pub node: Option<String>,
    /// Number of records.
    pub size: u64,
    /// Intents without outcome.
    pub open_intents: u64,
    /// What only this machine knows, with what it means.
    pub local: Vec<(Verdict, String)>,
    /// What the engine says of the records; `None` when the files could not be read as a journal.
    pub report: Option<verify::Report>,
}

impl Report {
    fn new() -> Self {
        Self {
            verdict: Verdict::Verified,
            node: None,
            size: 0,
            open_intents: 0,
            local: Vec::new(),
            report: None,
        }
    }

    fn find(&mut self, verdict: Verdict, why: impl Into<String>) {
        self.verdict = self.verdict.min(verdict);
        self.local.push((verdict, why.into()));
    }

    /// Everything that was found, in words.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let engine = self.report.iter().flat_map(|report| &report.sources);
        let engine = engine.flat_map(|source| &source.findings).map(ToString::to_string);
        self.local.iter().map(|(_, why)| why.clone()).chain(engine).collect()
    }
}

/// Verifies the journal in `dir`.
#[must_use]
pub fn verify(dir: &Path, believed: &Believed) -> Report {
    // redb may panic on a file that was damaged outside of it; that is a finding, not a defect.
    std::panic::catch_unwind(|| look(dir, believed)).unwrap_or_else(|_| {
        let mut report = Report::new();
        report.find(Verdict::Invalid, "the store cannot make sense of log.redb");
        report
    })
}

fn look(dir: &Path, believed: &Believed) -> Report {
    let mut report = Report::new();
    let read = Reader::open(dir).and_then(|reader| {
        judge(&reader, believed, &mut report).map_err(|err| OpenError::from_redb(dir, err))
    });
    if let Err(err) = read {
        let verdict = match &err {
            OpenError::Corrupt { .. } => Verdict::Invalid,
            OpenError::RolledBack { .. } | OpenError::Quarantined { set_back: true, .. } => {
                Verdict::Rollback
            }
            OpenError::Quarantined { .. } => Verdict::Fork,
            OpenError::Locked(_)
            | OpenError::Newer { .. }
            | OpenError::Old { .. }
            | OpenError::DiskFull(_)
            | OpenError::Io { .. } => Verdict::Unreadable,
        };
        report.find(verdict, err.to_string());
    }
    report
}

fn judge(reader: &Reader, believed: &Believed, report: &mut Report) -> Result<(), redb::Error> {
    let size = reader.size();
    let own = reader.bodies(0..1)?.pop().and_then(|body| own_key(&body));
    report.node = own.as_ref().map(|(node, _)| node.clone());
    report.size = size;
    report.open_intents = reader.open_intents()?;
    let own = own.map(|(_, key)| key);
    let mut trust = match believed {
        Believed::Policy(trust) | Believed::Mirror(_, trust) => (**trust).clone(),
        Believed::OwnKey => Trust::default(),
    };
    match (believed, own) {
        (Believed::Mirror(mirror, _), Some(own)) => {
            trust.policy = policy(&format!("log {own}\nwitness m {mirror}\nquorum m\n"));
        }
        (Believed::OwnKey, Some(own)) => {
            trust.policy = policy(&format!("log {own}\nquorum none\n"));
        }
        (Believed::Policy(_), _) | (_, None) => {}
    }
    let head = reader.head.clone().into_bytes();
    let cosigned = reader.cosigned()?.into_iter().map(String::into_bytes);
    let source = Source {
        records: Box::new(Bodies::new(Paged::new(size, |range| reader.bodies(range)))),
        openings: Some(Box::new(Bodies::new(Paged::new(size, |range| {
            reader.opening_lines(range)
        })))),
        // The node's own newest checkpoint is all that an own key can vouch for.
        checkpoints: match believed {
            Believed::OwnKey => vec![head.clone()],
            Believed::Policy(_) | Believed::Mirror(..) => cosigned.collect(),
        },
        head: Some(head),
        frontier: None,
    };
    let found = verify::verify(vec![source], &trust);
    report.verdict = report.verdict.min(found.verdict);
    report.report = Some(found);
    if let Some(why) = reader.fact(QUARANTINE)? {
        let set_back =
            reader.fact(QUARANTINE_CODE)?.as_deref() == Some(Code::JournalRolledBack.as_str());
        let verdict = if set_back { Verdict::Rollback } else { Verdict::Fork };
        report.find(verdict, format!("the journal is quarantined: {why}"));
    }
    Ok(())
}

/// Whose signatures a journal carries, as this machine has it.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The journal's own key, under the name that its checkpoints carry.
    pub journal: VerifierKey,
    /// The mirror that was pinned, if one was.
    pub mirror: Option<VerifierKey>,
}

/// The keys of the journal in `dir`, beside an agent that works with it.
///
/// # Errors
/// It cannot be read.
pub fn keys(dir: &Path) -> Result<Keys, OpenError> {
    let reader = Reader::open(dir)?;
    let failed = |err| OpenError::from_redb(dir, err);
    let first = reader.bodies(0..1).map_err(failed)?.pop();
    let (_, journal) = first.and_then(|body| own_key(&body)).ok_or_else(|| OpenError::Corrupt {
        path: dir.to_owned(),
        why: "its first record names no key".to_owned(),
    })?;
    let mirror = reader.fact(MIRROR).map_err(failed)?;
    Ok(Keys { journal, mirror: mirror.and_then(|key| VerifierKey::parse(&key).ok()) })
}

/// Made of keys that were parsed: it always is one.
fn policy(text: &str) -> Option<Policy> {
    Policy::parse(text.as_bytes()).ok()
}

/// The node and key that the first record names, the key under the name that checkpoints carry.
fn own_key(body: &[u8]) -> Option<(String, VerifierKey)> {
    let envelope = Envelope::parse(body).ok()?;
    let genesis = Genesis::read(&envelope.data).ok()?;
    let key = PublicKey::from_bytes(genesis.key.0.as_slice().try_into().ok()?)?;
    let origin = Origin::new(&genesis.domain, &genesis.node, Leaf::of(body))?;
    let key = VerifierKey::new(origin.as_str(), KeyKind::Log, key).ok()?;
    Some((genesis.node, key))
}

/// Lines of the journal, page by page.
struct Paged<P> {
    page: P,
    waiting: VecDeque<Vec<u8>>,
    next: u64,
    size: u64,
}

impl<P: FnMut(Range<u64>) -> Result<Vec<Vec<u8>>, redb::Error>> Paged<P> {
    fn new(size: u64, page: P) -> Self {
        Self { page, waiting: VecDeque::new(), next: 0, size }
    }
}

impl<P: FnMut(Range<u64>) -> Result<Vec<Vec<u8>>, redb::Error>> Iterator for Paged<P> {
    type Item = Result<Vec<u8>, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.waiting.is_empty() && self.next < self.size {
            let end = self.size.min(self.next + PAGE);
            match (self.page)(self.next..end) {
                Ok(lines) => self.waiting.extend(lines),
                Err(err) => return Some(Err(Unreadable(err.to_string()))),
            }
            self.next = end;
        }
        self.waiting.pop_front().map(Ok)
    }
}

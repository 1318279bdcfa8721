//! Reads and writes what the mirror keeps in the log. Every append is fenced, and one whose fate is not known is repeated with the
//! same id and the same fence until it is.

use crate::journal::{Batch, Journal, Records, Signed, Step, Verdict, split};
use crate::node::{self, NodeState};
use bytes::Bytes;
use cortex_audit::{Frontier, Leaf};
use cortex_log::audit::{
    AUDIT_BUCKET, OPENINGS_BUCKET, OPENINGS_GROUP, journal_key, node_key, openings_key,
};
use cortex_log::{Commit, CommitId, EventLog, Expect, Key, LogError, Recorded, Rev};
use cortex_model::limits::mirror::AUDIT_OPENINGS_PART;
use cortex_model::proto as pb;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Commits read at a time.
const PAGE: usize = 16;
/// How long an append whose fate is unknown is repeated.
const DOUBT_MAX: Duration = Duration::from_secs(20);
/// Pause between such repetitions.
const DOUBT_PAUSE: Duration = Duration::from_millis(100);

/// Why something of the audit could not be read or written.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// The log did not take or give it.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is stored is not what a node wrote.
    #[error("stored records are damaged: {0}")]
    Damaged(String),
    /// The journal belongs to another node.
    #[error("{0}")]
    Foreign(String),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) log: Arc<dyn EventLog>,
}

impl Store {
    /// A journal as it is stored, verified from its first record.
    pub(crate) async fn journal(
        &self,
        workspace: &str,
        node: &str,
        log32: &str,
        signed: Option<Signed>,
    ) -> Result<Journal, StoreError> {
        let key = journal_key(workspace, log32)?;
        let mut journal = Journal::new(workspace, node, log32);
        journal.signed = signed;
        journal.openings_from = self.openings_from(log32).await?;
        let mut from = 0;
        loop {
            let page = self.log.read_page(&key, from, PAGE).await?;
            let Some(last) = page.last() else { return Ok(journal) };
            from = last.rev + 1;
            // Hashing a page takes milliseconds that other nodes should not wait for.
            let walked = tokio::task::spawn_blocking(move || {
                let result = page.iter().try_for_each(|commit| replay(&mut journal, commit));
                result.map(|()| journal)
            });
            journal = walked.await.map_err(|e| StoreError::Damaged(e.to_string()))??;
        }
    }

    /// Appends a batch behind the last one.
    pub(crate) async fn append_batch(
        &self,
        workspace: &str,
        journal: &Journal,
        step: &Step,
    ) -> Result<Rev, LogError> {
        let stored = pb::AuditStored {
            first_seq: step.first,
            count: step.count,
            encoding: pb::AuditEncoding::Ndjson.into(),
            records: step.records.clone(),
            note: step.note.to_string(),
            cosigned_note: journal.signed.as_ref().map_or(String::new(), |s| s.note.to_string()),
        };
        let commit = Commit {
            id: CommitId::generate(),
            kind: "AuditStored".into(),
            n: journal.commits() + 1,
            body: stored.encode_to_vec().into(),
        };
        self.append(&journal_key(workspace, &journal.log32)?, journal.last_rev(), commit).await
    }

    async fn append(&self, key: &Key, last: Rev, commit: Commit) -> Result<Rev, LogError> {
        let expect = if last == 0 { Expect::Absent } else { Expect::At(last) };
        let begun = tokio::time::Instant::now();
        loop {
            match self.log.append(key, expect, commit.clone()).await {
                Err(LogError::Unknown | LogError::Timeout | LogError::Backend(_))
                    if begun.elapsed() < DOUBT_MAX =>
                {
                    tokio::time::sleep(DOUBT_PAUSE).await;
                }
                settled => return settled,
            }
        }
    }

    /// Whether the journal is stored exactly as far as this.
    pub(crate) async fn is_current(
        &self,
        workspace: &str,
        journal: &Journal,
    ) -> Result<bool, LogError> {
        let last = self.log.last(&journal_key(workspace, &journal.log32)?).await?;
        Ok(last.map_or(0, |last| last.rev) == journal.last_rev())
    }

    /// Leaves of stored records.
    pub(crate) async fn leaves(
        &self,
        workspace: &str,
        journal: &Journal,
        range: Range<u64>,
    ) -> Result<BTreeMap<u64, Leaf>, StoreError> {
        let mut leaves = BTreeMap::new();
        self.lines(workspace, journal, range, |seq, line| {
            leaves.insert(seq, Leaf::of(line));
        })
        .await?;
        Ok(leaves)
    }

    /// Hands out stored records, whole batches at a time, until all of the range were among them.
    pub(crate) async fn lines(
        &self,
        workspace: &str,
        journal: &Journal,
        range: Range<u64>,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<(), StoreError> {
        let (key, mut at) = (journal_key(workspace, &journal.log32)?, range.start);
        while at < range.end {
            let Some(Batch { rev, end, .. }) = journal.batch_of(at) else { break };
            let page = self.log.read_page(&key, rev, 1).await?;
            let Some(stored) =
                page.first().and_then(|r| pb::AuditStored::decode(r.commit.body.clone()).ok())
            else {
                return Err(StoreError::Damaged(format!("record {at} cannot be read")));
            };
            let lines = split(&records(&stored)).map_err(StoreError::Damaged)?;
            (stored.first_seq..).zip(lines).for_each(|(seq, line)| each(seq, line));
            at = end;
        }
        Ok(())
    }

    /// The tree before a record.
    pub(crate) async fn frontier(
        &self,
        workspace: &str,
        journal: &Journal,
        before: u64,
    ) -> Result<Frontier, StoreError> {
        let mut frontier = Frontier::new();
        while frontier.size() < before {
            let from = frontier.size();
            let page = self.leaves(workspace, journal, from..before.min(from + 4_096)).await?;
            let fresh: Vec<Leaf> = page.range(from..before).map(|(_, leaf)| *leaf).collect();
            if fresh.is_empty() {
                return Err(StoreError::Damaged(format!("record {from} is missing")));
            }
            fresh.into_iter().for_each(|leaf| frontier.push(leaf));
        }
        Ok(frontier)
    }

    /// The history of a node.
    pub(crate) async fn node(&self, workspace: &str, node: &str) -> Result<NodeState, StoreError> {
        let mut state = NodeState::default();
        for recorded in self.log.read(&node_key(workspace, node)?, 0).await? {
            let commit = pb::AuditNodeCommit::decode(recorded.commit.body)
                .map_err(|e| StoreError::Damaged(format!("history of {node}: {e}")))?;
            state.apply(recorded.rev, &commit);
        }
        Ok(state)
    }

    /// Appends to the history of a node and takes it into `state`. What says nothing new is left out.
    pub(crate) async fn append_node(
        &self,
        workspace: &str,
        node: &str,
        state: &mut NodeState,
        kinds: Vec<pb::audit_node_event::Kind>,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let mut fresh: Vec<_> = kinds.into_iter().filter(|kind| state.is_news(kind)).collect();
        while !fresh.is_empty() {
            let names: Vec<&str> = fresh.iter().take(8).map(node::name).collect();
            let names = names.join(",");
            let event =
                |kind: &pb::audit_node_event::Kind| pb::AuditNodeEvent { kind: Some(kind.clone()) };
            let commit = pb::AuditNodeCommit {
                n: state.n + 1,
                events: fresh.iter().map(event).collect(),
                workspace: workspace.to_owned(),
                node: node.to_owned(),
                at_ms: now_ms,
            };
            let record = Commit {
                id: CommitId::generate(),
                kind: names.as_str().into(),
                n: commit.n,
                body: commit.encode_to_vec().into(),
            };
            match self.append(&node_key(workspace, node)?, state.rev, record).await {
                Ok(rev) => {
                    state.apply(rev, &commit);
                    return Ok(true);
                }
                Err(LogError::Conflict) => {
                    // Another mirror was faster; perhaps it found the same.
                    *state = self.node(workspace, node).await?;
                    fresh.retain(|kind| state.is_news(kind));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(false)
    }

    /// Tells gateways how a node stands.
    pub(crate) async fn publish(&self, audit: &pb::NodeAudit) -> Result<(), LogError> {
        let key = format!("{}.{}", audit.workspace, audit.node);
        self.log.kv_put(AUDIT_BUCKET, &key, Expect::Any, audit.encode_to_vec().into()).await?;
        Ok(())
    }

    /// Stores openings, then how far they go. Lines that are there already are left out.
    pub(crate) async fn put_openings(
        &self,
        log32: &str,
        openings: &pb::AuditOpenings,
    ) -> Result<u64, LogError> {
        let mut groups: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
        for line in openings.openings.split_inclusive(|byte| *byte == b'\n') {
            let seq = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            let seq: u64 =
                std::str::from_utf8(seq).ok().and_then(|seq| seq.parse().ok()).unwrap_or(0);
            groups.entry(seq / OPENINGS_GROUP).or_default().push(line);
        }
        for (group, lines) in groups {
            self.put_group(log32, group, lines).await?;
        }
        let next = openings.first_seq + u64::from(openings.count);
        let head = Bytes::from(next.to_string());
        self.log.kv_put(OPENINGS_BUCKET, &head_key(log32), Expect::Any, head).await?;
        Ok(next)
    }

    async fn put_group(
        &self,
        log32: &str,
        group: u64,
        mut lines: Vec<&[u8]>,
    ) -> Result<(), LogError> {
        for part in 0.. {
            let key = openings_key(log32, group, part);
            let known = self.log.kv_get(OPENINGS_BUCKET, &key).await?;
            let (rev, mut value) = known
                .map_or((Expect::Absent, Vec::new()), |e| (Expect::At(e.rev), e.value.to_vec()));
            let there: BTreeSet<&[u8]> = value.split_inclusive(|byte| *byte == b'\n').collect();
            lines.retain(|line| !there.contains(line));
            let before = value.len();
            let mut rest = Vec::new();
            for line in lines {
                // A single opening that is larger than a part gets one of its own.
                if rest.is_empty()
                    && (value.is_empty() || value.len() + line.len() <= AUDIT_OPENINGS_PART)
                {
                    value.extend_from_slice(line);
                } else {
                    rest.push(line);
                }
            }
            if value.len() > before {
                self.log.kv_put(OPENINGS_BUCKET, &key, rev, value.into()).await?;
            }
            if rest.is_empty() {
                return Ok(());
            }
            lines = rest;
        }
        Ok(())
    }

    async fn openings_from(&self, log32: &str) -> Result<u64, LogError> {
        let head = self.log.kv_get(OPENINGS_BUCKET, &head_key(log32)).await?;
        let text = head.and_then(|entry| String::from_utf8(entry.value.to_vec()).ok());
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}

fn head_key(log32: &str) -> String {
    format!("{log32}.head")
}

/// A stored batch in the form in which it is judged.
pub(crate) fn records(stored: &pb::AuditStored) -> Records<'_> {
    Records {
        first: stored.first_seq,
        count: stored.count,
        bytes: &stored.records,
        note: &stored.note,
    }
}

fn replay(journal: &mut Journal, recorded: &Recorded) -> Result<(), StoreError> {
    let damaged = |why: String| StoreError::Damaged(why);
    let stored = pb::AuditStored::decode(recorded.commit.body.clone())
        .map_err(|e| damaged(format!("commit {}: {e}", recorded.rev)))?;
    match journal.examine(&records(&stored), &BTreeMap::new()) {
        Verdict::New(step) if stored.first_seq == journal.size() => {
            journal.apply(*step, recorded.rev);
            Ok(())
        }
        Verdict::New(_) | Verdict::Gap | Verdict::Known | Verdict::Differs { .. } => {
            Err(damaged(format!("the batch at record {} does not continue", stored.first_seq)))
        }
        Verdict::Invalid { seq, why } | Verdict::Fork { seq, why } => {
            Err(damaged(format!("record {seq}: {why}")))
        }
        Verdict::WrongKey(why) => Err(damaged(why)),
        Verdict::Foreign(why) => Err(StoreError::Foreign(why)),
    }
}

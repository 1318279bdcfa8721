//! The trees over journals, for proofs and to find where a record lies: leaves computed from what is stored, kept for a few journals
//! and extended as they grow. A cache; losing it costs a reading.

use super::unreadable;
use cortex_audit::tree::{Node, ProofError, prove_inclusion};
use cortex_audit::{Envelope, Hash, Leaf, SignedNote, TlogProof};
use cortex_log::audit::journal_key;
use cortex_log::{EventLog, Rev};
use cortex_model::limits::mirror::{AUDIT_TREE_RECORDS_MAX, AUDIT_TREES_KEPT};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use prost::Message as _;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Commits read at a time.
const PAGE: usize = 16;

/// A stored batch.
#[derive(Clone, Copy, Debug)]
struct Batch {
    first: u64,
    end: u64,
    rev: Rev,
}

/// A journal's tree as far as it is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) log32: String,
    /// The node, from the first record.
    pub(super) node: String,
    /// By level, complete subtrees only.
    levels: Vec<Vec<Hash>>,
    batches: Vec<Batch>,
    /// The newest cosigned checkpoint that was stored with records.
    pub(super) cosigned: Option<SignedNote>,
}

type Slot = Arc<Mutex<Arc<Tree>>>;

/// See the module.
#[derive(Default)]
pub(super) struct Trees {
    kept: std::sync::Mutex<VecDeque<((String, String), Slot)>>,
}

impl Trees {
    /// The tree of a journal, read to its present end.
    ///
    /// # Errors
    /// `CX-1502` when nothing of it is stored, and when the log cannot be read.
    pub(super) async fn get(
        &self,
        log: &Arc<dyn EventLog>,
        workspace: &str,
        log32: &str,
    ) -> Result<Arc<Tree>, Fault> {
        let slot = self.slot(workspace, log32);
        // One reader extends it, the others wait for that.
        let mut held = slot.lock().await;
        let tree = Arc::make_mut(&mut held);
        tree.extend(log, workspace, log32).await?;
        if tree.size() == 0 {
            return Err(Fault::new(Code::NoAudit, format!("nothing of journal {log32} is stored")));
        }
        Ok(held.clone())
    }

    fn slot(&self, workspace: &str, log32: &str) -> Slot {
        let key = (workspace.to_owned(), log32.to_owned());
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(k, _)| *k == key)
            && let Some(entry) = kept.remove(at)
        {
            let slot = entry.1.clone();
            kept.push_back(entry);
            return slot;
        }
        if kept.len() >= AUDIT_TREES_KEPT {
            kept.pop_front();
        }
        let slot = Slot::default();
        kept.push_back((key, slot.clone()));
        slot
    }
}

impl Tree {
    pub(super) fn size(&self) -> u64 {
        self.batches.last().map_or(0, |batch| batch.end)
    }

    pub(super) fn next_revision(&self) -> Rev {
        self.batches.last().map_or(0, |batch| batch.rev + 1)
    }

    /// The revision of the batch that holds a record.
    pub(super) fn revision(&self, seq: u64) -> Option<Rev> {
        let at = self.batches.partition_point(|batch| batch.end <= seq);
        self.batches.get(at).filter(|batch| batch.first <= seq).map(|batch| batch.rev)
    }

    async fn extend(
        &mut self,
        log: &Arc<dyn EventLog>,
        workspace: &str,
        log32: &str,
    ) -> Result<(), Fault> {
        log32.clone_into(&mut self.log32);
        let key = journal_key(workspace, log32).map_err(|e| unreadable(&e))?;
        loop {
            let page = log.read_page(&key, self.next_revision(), PAGE).await;
            let page = page.map_err(|e| unreadable(&e))?;
            if page.is_empty() {
                return Ok(());
            }
            for recorded in page {
                let stored = pb::AuditStored::decode(recorded.commit.body)
                    .map_err(|e| Fault::new(Code::LogCorrupt, format!("journal {log32}: {e}")))?;
                self.push(&stored, recorded.rev)?;
            }
        }
    }

    fn push(&mut self, stored: &pb::AuditStored, rev: Rev) -> Result<(), Fault> {
        let end = stored.first_seq + u64::from(stored.count);
        if stored.first_seq != self.size() || end > AUDIT_TREE_RECORDS_MAX {
            let text = format!(
                "journal {} cannot be proven record by record: a gap, or more than {AUDIT_TREE_RECORDS_MAX} records",
                self.log32
            );
            return Err(Fault::new(Code::NoAudit, text)
                .with_hint("export and verify it as a whole: cortex audit export"));
        }
        let lines = stored.records.split(|b| *b == b'\n').take(stored.count as usize);
        for line in lines {
            if self.batches.is_empty() && self.node.is_empty() {
                let genesis = Envelope::parse(line).ok();
                let node =
                    genesis.as_ref().and_then(|g| g.data.get("node")).and_then(|n| n.as_text());
                node.unwrap_or_default().clone_into(&mut self.node);
            }
            self.add(Leaf::of(line));
        }
        self.batches.push(Batch { first: stored.first_seq, end, rev });
        if let Ok(note) = SignedNote::parse(stored.cosigned_note.as_bytes()) {
            self.cosigned = Some(note);
        }
        Ok(())
    }

    fn add(&mut self, leaf: Leaf) {
        let mut hash = Hash::from(leaf);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            let row = &self.levels[level];
            let [.., left, right] = row[..] else { return };
            if row.len() % 2 == 1 {
                return;
            }
            hash = Hash::node(&left, &right);
        }
    }

    /// A proof of a record under a cosigned checkpoint, if that covers it.
    pub(super) fn prove(&self, seq: u64, note: SignedNote) -> Option<String> {
        let size = note.checkpoint().size;
        if seq >= size || size > self.size() {
            return None;
        }
        let mut subtree = |node: Node| {
            let row = self.levels.get(usize::from(node.level));
            let at = usize::try_from(node.index).map_err(|_| ProofError::Range)?;
            row.and_then(|row| row.get(at)).copied().ok_or(ProofError::Range)
        };
        let hashes = prove_inclusion(seq, size, &mut subtree).ok()?;
        Some(TlogProof { index: seq, hashes, note }.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_audit::Frontier;
    use cortex_audit::tree::verify_inclusion;

    #[test]
    fn every_record_of_every_size_is_proven() {
        let mut tree = Tree::default();
        let mut frontier = Frontier::new();
        for size in 1..70_u64 {
            let leaf = Leaf::of(&size.to_be_bytes());
            tree.add(leaf);
            frontier.push(leaf);
            for seq in 0..size {
                let mut node = |node: Node| -> Result<Hash, ProofError> {
                    Ok(tree.levels[usize::from(node.level)][usize::try_from(node.index).unwrap()])
                };
                let proof = prove_inclusion(seq, size, &mut node).unwrap();
                let leaf = Leaf::of(&(seq + 1).to_be_bytes());
                verify_inclusion(leaf, seq, size, &frontier.root(), &proof).unwrap();
            }
        }
    }
}

//! A journal's records, as a stream of what is stored.

use super::trees::Tree;
use super::{AuditApi, Items, no_record, unreadable};
use crate::status::status;
use cortex_audit::SignedNote;
use cortex_log::audit::journal_key;
use cortex_log::{Key, Recorded, Tail};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, Workspace};
use futures::StreamExt;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Commits read at a time.
const PAGE: usize = 8;
/// Messages waiting for a slow reader.
const AHEAD: usize = 4;

type Sender = mpsc::Sender<Result<pb::ReadAuditRecordsResponse, Status>>;

/// The reader is gone, or was told what is wrong.
struct Over;

impl AuditApi {
    pub(super) fn records(
        self,
        workspace: Workspace,
        log32: String,
        r: pb::ReadAuditRecordsRequest,
    ) -> Items<pb::ReadAuditRecordsResponse> {
        let (tx, rx) = mpsc::channel(AHEAD);
        let drain = self.drain.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = self.send_records(&workspace, &log32, &r, &tx) => {}
                () = drain.cancelled() => {
                    let fault = Fault::new(Code::Draining, "the gateway is going away");
                    tx.send(Err(status(&fault))).await.ok();
                }
            }
        });
        ReceiverStream::new(rx).boxed()
    }

    async fn send_records(
        &self,
        workspace: &Workspace,
        log32: &str,
        r: &pb::ReadAuditRecordsRequest,
        tx: &Sender,
    ) -> Result<(), Over> {
        let key = match journal_key(workspace.as_str(), log32) {
            Ok(key) => key,
            Err(e) => return fail(tx, &unreadable(&e)).await,
        };
        let mut from = match self.first_revision(workspace, log32, r.from_seq).await {
            Ok(from) => from,
            Err(fault) => return fail(tx, &fault).await,
        };
        loop {
            let page = match self.log.read_page(&key, from, PAGE).await {
                Ok(page) => page,
                Err(e) => return fail(tx, &unreadable(&e)).await,
            };
            let Some(last) = page.last() else { break };
            from = last.rev + 1;
            for recorded in page {
                send(tx, r, recorded).await?;
            }
        }
        // The newest cosigned checkpoint, so that a reader knows how far what it read is vouched for.
        if let Ok(tree) = self.trees.get(&self.log, workspace.as_str(), log32).await {
            let note = self.cosigned(workspace, &tree).await;
            let cosigned_note = note.map_or(String::new(), |note| note.to_string());
            let last = pb::ReadAuditRecordsResponse { cosigned_note, ..Default::default() };
            tx.send(Ok(last)).await.map_err(|_| Over)?;
        }
        if r.follow { self.follow(&key, from, r, tx).await } else { Ok(()) }
    }

    async fn first_revision(
        &self,
        workspace: &Workspace,
        log32: &str,
        seq: u64,
    ) -> Result<u64, Fault> {
        if seq == 0 {
            return Ok(0);
        }
        let tree = self.trees.get(&self.log, workspace.as_str(), log32).await?;
        Ok(tree.revision(seq).unwrap_or(tree.next_revision()))
    }

    async fn follow(
        &self,
        key: &Key,
        from: u64,
        r: &pb::ReadAuditRecordsRequest,
        tx: &Sender,
    ) -> Result<(), Over> {
        let shard = key.shard(self.log.shards());
        let mut tail = match self.log.tail(key.space(), shard, from.saturating_sub(1)).await {
            Ok(tail) => tail,
            Err(e) => return fail(tx, &unreadable(&e)).await,
        };
        while let Some(item) = tail.next().await {
            match item {
                Ok(Tail::Event(recorded)) if *recorded.key == *key => send(tx, r, recorded).await?,
                Ok(Tail::Event(_) | Tail::CaughtUp) => {}
                Err(e) => return fail(tx, &unreadable(&e)).await,
            }
        }
        Ok(())
    }

    /// One stored record.
    pub(super) async fn body(
        &self,
        workspace: &Workspace,
        tree: &Tree,
        seq: u64,
    ) -> Result<Vec<u8>, Fault> {
        let Some(rev) = tree.revision(seq) else { return Err(no_record(&tree.log32, seq)) };
        let key = journal_key(workspace.as_str(), &tree.log32).map_err(|e| unreadable(&e))?;
        let page = self.log.read_page(&key, rev, 1).await.map_err(|e| unreadable(&e))?;
        let stored = page.first().and_then(|r| pb::AuditStored::decode(r.commit.body.clone()).ok());
        let line = stored.and_then(|stored| {
            let at = usize::try_from(seq.checked_sub(stored.first_seq)?).ok()?;
            stored.records.split(|b| *b == b'\n').nth(at).map(<[u8]>::to_vec)
        });
        line.ok_or_else(|| no_record(&tree.log32, seq))
    }

    /// The newest cosigned checkpoint of a journal: of the current one what the mirror last said, of an older one the last that was
    /// stored with it.
    pub(super) async fn cosigned(&self, workspace: &Workspace, tree: &Tree) -> Option<SignedNote> {
        let current = self.audits.fresh(workspace.as_str(), &tree.node).await;
        let of_current = current.filter(|audit| audit.log.starts_with(&tree.log32));
        let text = of_current.map(|audit| audit.cosigned_note).filter(|note| !note.is_empty());
        let newest = text.and_then(|text| SignedNote::parse(text.as_bytes()).ok());
        newest.into_iter().chain(tree.cosigned.clone()).max_by_key(|note| note.checkpoint().size)
    }
}

async fn fail(tx: &Sender, fault: &Fault) -> Result<(), Over> {
    tx.send(Err(status(fault))).await.ok();
    Err(Over)
}

/// Sends what of a stored batch was asked for.
async fn send(
    tx: &Sender,
    r: &pb::ReadAuditRecordsRequest,
    recorded: Recorded,
) -> Result<(), Over> {
    let Ok(stored) = pb::AuditStored::decode(recorded.commit.body) else {
        let text = format!("commit {} holds no records", recorded.rev);
        return fail(tx, &Fault::new(Code::LogCorrupt, text)).await;
    };
    let end = stored.first_seq + u64::from(stored.count);
    let to = if r.to_seq == 0 { end } else { r.to_seq.min(end) };
    if end <= r.from_seq || to <= stored.first_seq {
        return Ok(());
    }
    let from = r.from_seq.max(stored.first_seq);
    let whole = from == stored.first_seq && to == end;
    let records = if whole { stored.records } else { cut(&stored, from, to).into() };
    let message = pb::ReadAuditRecordsResponse {
        first_seq: from,
        count: u32::try_from(to - from).unwrap_or(u32::MAX),
        records,
        note: stored.note,
        cosigned_note: stored.cosigned_note,
    };
    tx.send(Ok(message)).await.map_err(|_| Over)
}

fn cut(stored: &pb::AuditStored, from: u64, to: u64) -> Vec<u8> {
    let lines = stored.records.split_inclusive(|b| *b == b'\n');
    let wanted = (stored.first_seq..).zip(lines).filter(|(seq, _)| (from..to).contains(seq));
    wanted.flat_map(|(_, line)| line.to_vec()).collect()
}

//! What clients ask about the audit. It hands out bytes as they are stored; whoever asked verifies them.

mod findings;
mod openings;
mod records;
mod trees;

use super::{Answer, actor, principal, workspace};
use crate::audit::Audits;
use crate::status::{log_fault, status};
use cortex_log::EventLog;
use cortex_model::contract::v1::audit_server::Audit;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, Workspace};
use futures::stream::BoxStream;
use pb::mirror_request::Body as Ask;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use trees::Trees;

/// Longest reason of a settlement, bytes.
const REASON_MAX: usize = 512;

/// Serves `cortex.v1.Audit`.
#[derive(Clone)]
pub(crate) struct AuditApi {
    log: Arc<dyn EventLog>,
    audits: Arc<Audits>,
    trees: Arc<Trees>,
    /// Cancelled when the gateway goes away: open streams end.
    drain: CancellationToken,
}

type Items<T> = BoxStream<'static, Result<T, Status>>;

/// The first 32 hex digits of a journal's id, however much of it was named.
fn log32(log: &str) -> Result<String, Fault> {
    let hex = log.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex && (log.len() == 32 || log.len() == 64) {
        return Ok(log.chars().take(32).collect());
    }
    let shown: String = log.chars().take(70).collect();
    Err(Fault::new(Code::NoAudit, format!("{shown:?} is not the id of a journal"))
        .with_hint("name it by its 64 hex digits, or the first 32: see 'cortex audit show'"))
}

fn odd_answer() -> Fault {
    Fault::new(Code::Internal, "the mirror gave another answer")
}

fn no_record(log32: &str, seq: u64) -> Fault {
    Fault::new(Code::NoAudit, format!("journal {log32} has no stored record {seq}"))
}

impl AuditApi {
    pub(crate) fn new(
        log: &Arc<dyn EventLog>,
        audits: &Arc<Audits>,
        drain: &CancellationToken,
    ) -> AuditApi {
        let (log, audits, drain) = (log.clone(), audits.clone(), drain.clone());
        AuditApi { log, audits, trees: Arc::new(Trees::default()), drain }
    }

    async fn settle(
        &self,
        request: Request<pb::SettleNodeAuditRequest>,
    ) -> Result<pb::SettleNodeAuditResponse, Fault> {
        let caller = principal(&request)?;
        let r = request.into_inner();
        let by = Some((&actor(&caller, r.actor)?).into());
        let workspace = &caller.workspace;
        if r.reason.trim().is_empty() || r.reason.len() > REASON_MAX {
            let text = format!("a settlement needs a reason of at most {REASON_MAX} bytes");
            return Err(Fault::new(Code::Malformed, text));
        }
        let settle = pb::MirrorSettle { by, reason: r.reason, retire_log: r.retire_log };
        let answer = self.audits.ask(workspace.as_str(), &r.node, "", Ask::Settle(settle)).await?;
        let pb::mirror_reply::Body::Settled(settled) = answer else { return Err(odd_answer()) };
        Ok(pb::SettleNodeAuditResponse { node: settled.node })
    }

    async fn task(
        &self,
        workspace: &Workspace,
        r: &pb::GetTaskAuditRequest,
    ) -> Result<pb::GetTaskAuditResponse, Fault> {
        let find = Ask::Find(pb::MirrorFind { task_id: r.task_id.clone() });
        let answer = self.audits.ask(workspace.as_str(), "", "", find).await?;
        let pb::mirror_reply::Body::Found(found) = answer else { return Err(odd_answer()) };
        let mut records = Vec::new();
        for place in found.records {
            let tree = self.trees.get(&self.log, workspace.as_str(), &place.log).await?;
            let body = self.body(workspace, &tree, place.seq).await?;
            let note = self.cosigned(workspace, &tree).await;
            let proof = note.and_then(|note| tree.prove(place.seq, note)).unwrap_or_default();
            let openings = if r.openings {
                self.openings_of(&place.log, place.seq).await?
            } else {
                Vec::new()
            };
            records.push(pb::TaskAuditRecord {
                node: tree.node.clone(),
                log: place.log,
                seq: place.seq,
                body,
                proof,
                openings,
            });
        }
        Ok(pb::GetTaskAuditResponse { records })
    }

    async fn prove(
        &self,
        workspace: &Workspace,
        r: &pb::ProveAuditRecordRequest,
    ) -> Result<pb::ProveAuditRecordResponse, Fault> {
        let log = log32(&r.log)?;
        let tree = self.trees.get(&self.log, workspace.as_str(), &log).await?;
        let body = self.body(workspace, &tree, r.seq).await?;
        let note = self.cosigned(workspace, &tree).await;
        let proof = note.and_then(|note| tree.prove(r.seq, note)).ok_or_else(|| {
            Fault::new(
                Code::NoMirror,
                format!("no cosigned checkpoint covers record {} yet", r.seq),
            )
        })?;
        Ok(pb::ProveAuditRecordResponse { body, proof })
    }
}

#[tonic::async_trait]
impl Audit for AuditApi {
    type ReadAuditRecordsStream = Items<pb::ReadAuditRecordsResponse>;
    type ReadAuditOpeningsStream = Items<pb::ReadAuditOpeningsResponse>;

    async fn list_audit_logs(
        &self,
        request: Request<pb::ListAuditLogsRequest>,
    ) -> Answer<pb::ListAuditLogsResponse> {
        let workspace = workspace(&request).map_err(|f| status(&f))?;
        let logs = self.logs(&workspace, &request.into_inner().node).await;
        logs.map(|logs| Response::new(pb::ListAuditLogsResponse { logs })).map_err(|f| status(&f))
    }

    async fn read_audit_records(
        &self,
        request: Request<pb::ReadAuditRecordsRequest>,
    ) -> Answer<Self::ReadAuditRecordsStream> {
        let workspace = workspace(&request).map_err(|f| status(&f))?;
        let r = request.into_inner();
        let log = log32(&r.log).map_err(|f| status(&f))?;
        let stream = self.clone().records(workspace, log, r);
        Ok(Response::new(stream))
    }

    async fn read_audit_openings(
        &self,
        request: Request<pb::ReadAuditOpeningsRequest>,
    ) -> Answer<Self::ReadAuditOpeningsStream> {
        let workspace = workspace(&request).map_err(|f| status(&f))?;
        let r = request.into_inner();
        let log = log32(&r.log).map_err(|f| status(&f))?;
        let stream = self.clone().all_openings(workspace, log, r).await;
        stream.map(Response::new).map_err(|f| status(&f))
    }

    async fn prove_audit_record(
        &self,
        request: Request<pb::ProveAuditRecordRequest>,
    ) -> Answer<pb::ProveAuditRecordResponse> {
        let workspace = workspace(&request).map_err(|f| status(&f))?;
        self.prove(&workspace, request.get_ref()).await.map(Response::new).map_err(|f| status(&f))
    }

    async fn list_audit_findings(
        &self,
        request: Request<pb::ListAuditFindingsRequest>,
    ) -> Answer<pb::ListAuditFindingsResponse> {
        let workspace = workspace(&request).map_err(|f| status(&f))?;
        let node = request.into_inner().node;
        let found = self.findings(&workspace, &node).await;
        found.map(Response::new).map_err(|f| status(&f))
    }

    async fn get_task_audit(
        &self,
        request: Request<pb::GetTaskAuditRequest>,
    ) -> Answer<pb::GetTaskAuditResponse> {
        let workspace = workspace(&request).map_err(|f| status(&f))?;
        self.task(&workspace, request.get_ref()).await.map(Response::new).map_err(|f| status(&f))
    }

    async fn settle_node_audit(
        &self,
        request: Request<pb::SettleNodeAuditRequest>,
    ) -> Answer<pb::SettleNodeAuditResponse> {
        let settled = self.settle(request).await;
        settled.map(Response::new).map_err(|f| status(&f))
    }

    async fn list_mirror_keys(
        &self,
        request: Request<pb::ListMirrorKeysRequest>,
    ) -> Answer<pb::ListMirrorKeysResponse> {
        workspace(&request).map_err(|f| status(&f))?;
        Ok(Response::new(pb::ListMirrorKeysResponse { vkeys: self.audits.keys() }))
    }
}

/// The log's error as a client sees it.
fn unreadable(e: &cortex_log::LogError) -> Fault {
    log_fault(e)
}

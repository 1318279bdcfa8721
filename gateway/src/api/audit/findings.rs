//! Journals and histories of nodes.

use super::{AuditApi, unreadable};
use cortex_log::audit::node_key;
use cortex_model::proto as pb;
use cortex_model::{Code, Fault, Workspace};
use pb::audit_node_event::Kind;
use prost::Message as _;

impl AuditApi {
    /// A node's history, with the evidence of every quarantine.
    pub(super) async fn findings(
        &self,
        workspace: &Workspace,
        node: &str,
    ) -> Result<pb::ListAuditFindingsResponse, Fault> {
        let key = node_key(workspace.as_str(), node).map_err(|e| unreadable(&e))?;
        let read = self.log.read(&key, 0).await.map_err(|e| unreadable(&e))?;
        if read.is_empty() {
            let shown: String = node.chars().take(64).collect();
            return Err(Fault::new(
                Code::NoAudit,
                format!("node {shown:?} never uploaded a journal"),
            ));
        }
        let commits: Result<Vec<_>, _> =
            read.into_iter().map(|r| pb::AuditNodeCommit::decode(r.commit.body)).collect();
        let commits =
            commits.map_err(|e| Fault::new(Code::LogCorrupt, format!("history of {node}: {e}")))?;
        let audit = self.audits.known(workspace.as_str(), node);
        Ok(pb::ListAuditFindingsResponse { commits, node: audit })
    }

    /// Journals of one node or of all, the current one of each first.
    pub(super) async fn logs(
        &self,
        workspace: &Workspace,
        node: &str,
    ) -> Result<Vec<pb::AuditLog>, Fault> {
        let nodes = if node.is_empty() {
            self.audits.nodes(workspace.as_str())
        } else {
            vec![node.to_owned()]
        };
        let mut logs = Vec::new();
        for node in nodes {
            logs.extend(self.of_node(workspace, &node).await?);
        }
        Ok(logs)
    }

    async fn of_node(&self, workspace: &Workspace, node: &str) -> Result<Vec<pb::AuditLog>, Fault> {
        let found = self.findings(workspace, node).await?;
        let audit = found.node.unwrap_or_default();
        let mut logs: Vec<pb::AuditLog> = Vec::new();
        for kind in found.commits.into_iter().flat_map(|c| c.events).filter_map(|e| e.kind) {
            match kind {
                Kind::LogOpened(opened) => logs.push(pb::AuditLog {
                    node: node.to_owned(),
                    current: opened.log == audit.log,
                    log: opened.log,
                    vkey: opened.vkey,
                    predecessor: opened.predecessor,
                    standing: pb::AuditStanding::Active.into(),
                    ..pb::AuditLog::default()
                }),
                Kind::LogRetired(retired) => {
                    if let Some(log) = logs.iter_mut().find(|log| log.log == retired.log) {
                        log.standing = pb::AuditStanding::Retired.into();
                        log.reason = retired.reason;
                    }
                }
                Kind::Suspected(_)
                | Kind::Quarantined(_)
                | Kind::Settled(_)
                | Kind::Unrecorded(_)
                | Kind::Recorded(_)
                | Kind::Undispatched(_) => {}
            }
        }
        for log in logs.iter_mut().filter(|log| log.current) {
            log.standing = audit.standing;
            log.reason.clone_from(&audit.reason);
            log.stored = audit.stored;
            log.cosigned_note.clone_from(&audit.cosigned_note);
        }
        logs.reverse();
        logs.sort_by_key(|log| !log.current);
        Ok(logs)
    }
}

//! ListNodes and GetNode.

use super::{Api, history::page_size, workspace};
use cortex_model::proto as pb;
use cortex_model::wire::agent::facts;
use cortex_model::{Code, Fault, Requirement, wire};
use std::collections::BTreeMap;
use tonic::Request;

impl Api {
    /// Every node of a workspace by id: enrolled ones, with what is known of their connections.
    async fn registered(&self, workspace: &str) -> BTreeMap<String, pb::Node> {
        let mut all = self.nodes.list(workspace).await;
        for (node, record) in self.registry.nodes(workspace) {
            let registration = Some(wire::registry::registration(&node, &record));
            let entry = all.entry(node.clone()).or_insert_with(|| pb::Node {
                workspace: workspace.to_owned(),
                node,
                ..pb::Node::default()
            });
            entry.registration = registration;
        }
        all
    }

    pub(super) async fn list_nodes_page(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<pb::ListNodesResponse, Fault> {
        let workspace = workspace(&request)?;
        let r = request.into_inner();
        let size = page_size(r.page_size)?;
        let needs =
            r.require.iter().map(|t| Requirement::parse(t)).collect::<Result<Vec<_>, _>>()?;
        let all = self.registered(workspace.as_str()).await;
        let mut nodes: Vec<pb::Node> = all
            .into_values()
            .filter(|n| n.node > r.page_token && (n.online || !r.online_only))
            .filter(|n| {
                let facts = facts(&n.node, n.manifest.as_ref());
                needs.iter().all(|need| facts.meets(need).is_ok())
            })
            .take(size + 1)
            .collect();
        let more = nodes.len() > size;
        nodes.truncate(size);
        for node in &mut nodes {
            node.audit = self.audits.known(workspace.as_str(), &node.node);
        }
        let next_page_token = match nodes.last() {
            Some(last) if more => last.node.clone(),
            _ => String::new(),
        };
        Ok(pb::ListNodesResponse { nodes, next_page_token })
    }

    pub(super) async fn node(
        &self,
        request: Request<pb::GetNodeRequest>,
    ) -> Result<pb::GetNodeResponse, Fault> {
        let workspace = workspace(&request)?;
        let name = request.into_inner().node;
        let mut all = self.registered(workspace.as_str()).await;
        match all.remove(&name) {
            Some(mut node) => {
                node.audit = self.audits.known(workspace.as_str(), &node.node);
                Ok(pb::GetNodeResponse { node: Some(node) })
            }
            None => {
                let shown: String = name.chars().take(64).collect();
                Err(Fault::new(Code::NodeNotFound, format!("there is no node {shown:?}")))
            }
        }
    }
}

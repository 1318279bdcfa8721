//! Which permission each call needs. A path that is not here is not served.

use cortex_model::Permission;

/// The permission a request path needs. `None` means that the path is not served at all.
#[must_use]
pub fn permission(path: &str) -> Option<Permission> {
    Some(match path {
        "/cortex.v1.AgentGateway/Connect" => Permission::HoldTunnel,
        "/cortex.v1.NodeIdentity/Join" | "/cortex.v1.NodeIdentity/RenewCertificate" => {
            Permission::Enrol
        }
        "/cortex.v1.NodeIdentity/MintTunnelToken" | "/cortex.v1.NodeIdentity/Leave" => {
            Permission::ActAsNode
        }
        "/cortex.v1.Access/WhoAmI" => Permission::KnowOneself,
        "/cortex.v1.Access/CreateToken"
        | "/cortex.v1.Access/ListTokens"
        | "/cortex.v1.Access/RevokeToken" => Permission::ManageTokens,
        "/cortex.v1.Access/ApproveNode"
        | "/cortex.v1.Access/RejectNode"
        | "/cortex.v1.Access/QuarantineNode"
        | "/cortex.v1.Access/RevokeNode"
        | "/cortex.v1.Access/NarrowNode" => Permission::ManageNodes,
        // Who types commands something new.
        "/cortex.v1.Cortex/SubmitTask" | "/cortex.v1.Cortex/TypeTerminal" => {
            Permission::SubmitTasks
        }
        "/cortex.v1.Cortex/GetTask"
        | "/cortex.v1.Cortex/ListTasks"
        | "/cortex.v1.Cortex/ExplainTask"
        | "/cortex.v1.Cortex/GetTaskHistory"
        | "/cortex.v1.Cortex/WatchTask" => Permission::ReadTasks,
        "/cortex.v1.Audit/ListAuditLogs"
        | "/cortex.v1.Audit/ReadAuditRecords"
        | "/cortex.v1.Audit/ProveAuditRecord"
        | "/cortex.v1.Audit/ListAuditFindings"
        | "/cortex.v1.Audit/ListMirrorKeys" => Permission::ReadAudit,
        // These show what tasks ran with, which their own history shows too.
        "/cortex.v1.Audit/ReadAuditOpenings" | "/cortex.v1.Audit/GetTaskAudit" => {
            Permission::ReadTasks
        }
        "/cortex.v1.Audit/SettleNodeAudit" => Permission::ManageNodes,
        "/cortex.v1.Cortex/CancelTask" => Permission::CancelTasks,
        "/cortex.v1.Cortex/ResolveTask" => Permission::ResolveTasks,
        "/cortex.v1.Cortex/ListNodes" | "/cortex.v1.Cortex/GetNode" => Permission::ReadNodes,
        "/cortex.v1.Cortex/CreateBackup" => Permission::Backup,
        "/cortex.v1.Cortex/GetServerInfo" | "/metrics" => Permission::ReadServer,
        "/healthz" | "/ca.pem" | "/.well-known/jwks.json" => Permission::Public,
        p if p.starts_with("/grpc.health.v1.Health/") => Permission::Public,
        p if p.starts_with("/grpc.reflection.v1.ServerReflection/") => Permission::ReadServer,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_model::contract::FILE_DESCRIPTOR_SET;

    /// The few fields of a descriptor set that this test needs (google/protobuf/descriptor.proto).
    mod descriptors {
        use prost::Message;

        #[derive(Clone, PartialEq, Message)]
        struct Set {
            #[prost(message, repeated, tag = "1")]
            file: Vec<File>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct File {
            #[prost(string, tag = "2")]
            package: String,
            #[prost(message, repeated, tag = "6")]
            service: Vec<Service>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct Service {
            #[prost(string, tag = "1")]
            name: String,
            #[prost(message, repeated, tag = "2")]
            method: Vec<Method>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct Method {
            #[prost(string, tag = "1")]
            name: String,
        }

        /// `/package.Service/Method` of every call.
        pub(super) fn calls(set: &[u8]) -> Vec<String> {
            let set = Set::decode(set).unwrap();
            let mut all = Vec::new();
            for f in &set.file {
                for s in &f.service {
                    let name = |m: &Method| format!("/{}.{}/{}", f.package, s.name, m.name);
                    all.extend(s.method.iter().map(name));
                }
            }
            all
        }
    }

    #[test]
    fn every_rpc_of_the_contract_names_its_permission() {
        let calls = descriptors::calls(FILE_DESCRIPTOR_SET);
        assert!(calls.len() >= 25, "{calls:?}");
        for rpc in calls {
            let p = permission(&rpc);
            assert!(p.is_some_and(|p| p != Permission::Public), "{rpc} has no permission: {p:?}");
        }
        assert_eq!(permission("/cortex.v1.Cortex/Unheard"), None);
    }
}

//! Says who somebody is and what they may do; nobody else does. For now every caller shows the one token
//! of the data directory, as a client or as an agent; the tokens of people, programs and nodes come
//! with enrolment and change this file alone.

use cortex_model::{Code, Fault, Workspace};
use sha2::{Digest, Sha256};

/// What a caller must be allowed to do, one per kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Hold a tunnel.
    HoldTunnel,
    /// Submit tasks.
    SubmitTasks,
    /// Read tasks, their history and output.
    ReadTasks,
    /// Cancel tasks.
    CancelTasks,
    /// Settle INDETERMINATE tasks.
    ResolveTasks,
    /// Read nodes.
    ReadNodes,
    /// Copy the whole log.
    Backup,
    /// Read server facts, metrics and the API's description.
    ReadServer,
    /// Anybody may: liveness only.
    Public,
}

/// Whoever stands behind a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The only workspace the call can see.
    pub workspace: Workspace,
    /// What they are.
    pub role: Role,
}

/// What a principal may do as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A person or program.
    Client,
    /// An agent.
    Agent,
    /// Nobody in particular.
    Anonymous,
}

impl Role {
    fn may(self, p: Permission) -> bool {
        match p {
            Permission::Public => true,
            Permission::HoldTunnel => self == Role::Agent,
            Permission::SubmitTasks
            | Permission::ReadTasks
            | Permission::CancelTasks
            | Permission::ResolveTasks
            | Permission::ReadNodes
            | Permission::Backup
            | Permission::ReadServer => self == Role::Client,
        }
    }
}

/// The permission a request path needs. `None` means that the path is not served at all.
#[must_use]
pub fn permission(path: &str) -> Option<Permission> {
    Some(match path {
        "/cortex.v1.AgentGateway/Connect" => Permission::HoldTunnel,
        "/cortex.v1.Cortex/SubmitTask" => Permission::SubmitTasks,
        "/cortex.v1.Cortex/GetTask"
        | "/cortex.v1.Cortex/ListTasks"
        | "/cortex.v1.Cortex/ExplainTask"
        | "/cortex.v1.Cortex/GetTaskHistory"
        | "/cortex.v1.Cortex/WatchTask" => Permission::ReadTasks,
        "/cortex.v1.Audit/ListAuditLogs"
        | "/cortex.v1.Audit/ReadAuditRecords"
        | "/cortex.v1.Audit/ReadAuditOpenings"
        | "/cortex.v1.Audit/ProveAuditRecord"
        | "/cortex.v1.Audit/ListAuditFindings"
        | "/cortex.v1.Audit/GetTaskAudit"
        | "/cortex.v1.Audit/ListMirrorKeys" => Permission::ReadTasks,
        "/cortex.v1.Audit/SettleNodeAudit" => Permission::ResolveTasks,
        "/cortex.v1.Cortex/CancelTask" => Permission::CancelTasks,
        "/cortex.v1.Cortex/ResolveTask" => Permission::ResolveTasks,
        "/cortex.v1.Cortex/ListNodes" | "/cortex.v1.Cortex/GetNode" => Permission::ReadNodes,
        "/cortex.v1.Cortex/CreateBackup" => Permission::Backup,
        "/cortex.v1.Cortex/GetServerInfo" | "/metrics" => Permission::ReadServer,
        // Nothing is served behind these yet; they are named so that no path is without.
        "/cortex.v1.NodeIdentity/Join"
        | "/cortex.v1.NodeIdentity/RenewCertificate"
        | "/cortex.v1.NodeIdentity/MintTunnelToken"
        | "/cortex.v1.NodeIdentity/Leave" => Permission::HoldTunnel,
        "/cortex.v1.Access/WhoAmI"
        | "/cortex.v1.Access/CreateToken"
        | "/cortex.v1.Access/ListTokens"
        | "/cortex.v1.Access/RevokeToken"
        | "/cortex.v1.Access/ApproveNode"
        | "/cortex.v1.Access/RejectNode"
        | "/cortex.v1.Access/QuarantineNode"
        | "/cortex.v1.Access/RevokeNode" => Permission::Backup,
        "/healthz" => Permission::Public,
        p if p.starts_with("/grpc.health.v1.Health/") => Permission::Public,
        p if p.starts_with("/grpc.reflection.v1.ServerReflection/") => Permission::ReadServer,
        _ => return None,
    })
}

/// Knows the credentials of this server. Only hashes of tokens are kept in memory.
#[derive(Clone)]
pub struct Identity {
    client: [u8; 32],
    agent: [u8; 32],
}

impl Identity {
    /// An identity that accepts exactly these two tokens.
    #[must_use]
    pub fn new(client_token: &str, agent_token: &str) -> Identity {
        Identity { client: digest(client_token), agent: digest(agent_token) }
    }

    /// Maps the value of an `authorization` header to a principal with the permission for `path`.
    ///
    /// # Errors
    /// `CX-0501` when the token is missing or unknown, `CX-0502` when the principal may not do this.
    pub fn authorize(&self, path: &str, authorization: Option<&[u8]>) -> Result<Principal, Fault> {
        let Some(needed) = permission(path) else {
            return Err(Fault::new(Code::Forbidden, "this path is not served"));
        };
        if needed == Permission::Public {
            return Ok(principal(Role::Anonymous));
        }
        let token = authorization.and_then(|v| v.strip_prefix(b"Bearer ")).unwrap_or_default();
        let shown: [u8; 32] = Sha256::digest(token).into();
        // Hashes are compared, so the time this takes says nothing about the token.
        let role = if shown == self.client {
            Role::Client
        } else if shown == self.agent {
            Role::Agent
        } else {
            return Err(Fault::new(Code::Unauthenticated, "the call carries no valid token"));
        };
        if role.may(needed) {
            Ok(principal(role))
        } else {
            Err(Fault::new(Code::Forbidden, "this token does not allow that"))
        }
    }
}

fn principal(role: Role) -> Principal {
    Principal { workspace: Workspace::default_workspace(), role }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_model::contract::FILE_DESCRIPTOR_SET;

    /// Reads `/package.Service/Method` of every method out of the descriptor set.
    fn every_rpc() -> Vec<String> {
        let pool = prost_types_lite::methods(FILE_DESCRIPTOR_SET);
        assert!(pool.len() >= 12, "{pool:?}");
        pool
    }

    /// The few fields of a descriptor set that this test needs (google/protobuf/descriptor.proto).
    mod prost_types_lite {
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

        pub(super) fn methods(set: &[u8]) -> Vec<String> {
            let set = Set::decode(set).unwrap();
            let mut all = Vec::new();
            for f in &set.file {
                for s in &f.service {
                    all.extend(
                        s.method.iter().map(|m| format!("/{}.{}/{}", f.package, s.name, m.name)),
                    );
                }
            }
            all
        }
    }

    #[test]
    fn every_rpc_of_the_contract_names_its_permission() {
        for rpc in every_rpc() {
            let p = permission(&rpc);
            assert!(p.is_some_and(|p| p != Permission::Public), "{rpc} has no permission: {p:?}");
        }
    }

    #[test]
    fn a_call_is_allowed_only_with_the_token_of_the_right_kind() {
        let id = Identity::new("client-secret", "agent-secret");
        let submit = "/cortex.v1.Cortex/SubmitTask";
        let tunnel = "/cortex.v1.AgentGateway/Connect";
        let table: [(&str, Option<&str>, Result<Role, Code>); 9] = [
            (submit, Some("Bearer client-secret"), Ok(Role::Client)),
            (submit, Some("Bearer agent-secret"), Err(Code::Forbidden)),
            (submit, Some("Bearer wrong"), Err(Code::Unauthenticated)),
            (submit, Some("client-secret"), Err(Code::Unauthenticated)),
            (submit, None, Err(Code::Unauthenticated)),
            (tunnel, Some("Bearer agent-secret"), Ok(Role::Agent)),
            (tunnel, Some("Bearer client-secret"), Err(Code::Forbidden)),
            ("/cortex.v1.Cortex/Unheard", Some("Bearer client-secret"), Err(Code::Forbidden)),
            ("/healthz", None, Ok(Role::Anonymous)),
        ];
        for (path, token, expected) in table {
            let got =
                id.authorize(path, token.map(str::as_bytes)).map(|p| p.role).map_err(|f| f.code);
            assert_eq!(got, expected, "{path} {token:?}");
        }
    }
}

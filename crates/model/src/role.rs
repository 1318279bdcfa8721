//! Roles and what each may do: the one table. It knows no credential and no call; the gateway's `identity` maps both.

use crate::error::{Code, Fault};
use crate::task::{Actor, ActorKind};

/// What a caller may do as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, submits, cancels, resolves.
    Operator,
    /// Reads, also the audit.
    Auditor,
    /// Everything within its workspace.
    Admin,
    /// Everything in every workspace, and the server itself.
    Root,
    /// A machine on its way in: it shows a join token or proves a key, and the call itself checks it.
    Machine,
    /// A node whose certificate the connection has.
    Node,
    /// A node that also showed a tunnel token bound to that certificate.
    Agent,
    /// Nobody in particular.
    Anonymous,
}

/// What a call needs, one per kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Anybody may: liveness, the CA's certificate, public keys.
    Public,
    /// Join, or prove a key.
    Enrol,
    /// Act as a node beside its tunnel.
    ActAsNode,
    /// Hold a tunnel.
    HoldTunnel,
    /// Ask who one is.
    KnowOneself,
    /// Read tasks, their history and output.
    ReadTasks,
    /// Read nodes.
    ReadNodes,
    /// Read and verify the audit.
    ReadAudit,
    /// Submit tasks.
    SubmitTasks,
    /// Cancel tasks.
    CancelTasks,
    /// Settle INDETERMINATE tasks.
    ResolveTasks,
    /// Read server facts, metrics and the API's description.
    ReadServer,
    /// Approve, reject, quarantine, revoke nodes.
    ManageNodes,
    /// Make, list and revoke tokens.
    ManageTokens,
    /// Copy the whole log, of all workspaces.
    Backup,
}

impl Permission {
    /// Every permission there is.
    pub const ALL: [Permission; 15] = [
        Permission::Public,
        Permission::Enrol,
        Permission::ActAsNode,
        Permission::HoldTunnel,
        Permission::KnowOneself,
        Permission::ReadTasks,
        Permission::ReadNodes,
        Permission::ReadAudit,
        Permission::SubmitTasks,
        Permission::CancelTasks,
        Permission::ResolveTasks,
        Permission::ReadServer,
        Permission::ManageNodes,
        Permission::ManageTokens,
        Permission::Backup,
    ];
}

impl Role {
    /// The role table (docs/identity.md shows the same).
    #[must_use]
    pub fn may(self, p: Permission) -> bool {
        use Permission as P;
        match self {
            Role::Anonymous => p == P::Public,
            Role::Machine => matches!(p, P::Public | P::Enrol),
            Role::Node => matches!(p, P::Public | P::ActAsNode),
            Role::Agent => matches!(p, P::Public | P::HoldTunnel),
            Role::Viewer => {
                matches!(
                    p,
                    P::Public | P::KnowOneself | P::ReadTasks | P::ReadNodes | P::ReadServer
                )
            }
            Role::Auditor => Role::Viewer.may(p) || p == P::ReadAudit,
            Role::Operator => {
                Role::Viewer.may(p)
                    || matches!(p, P::SubmitTasks | P::CancelTasks | P::ResolveTasks)
            }
            Role::Admin => {
                Role::Operator.may(p)
                    || matches!(p, P::ReadAudit | P::ManageNodes | P::ManageTokens)
            }
            Role::Root => Role::Admin.may(p) || p == P::Backup,
        }
    }

    /// The word people see and write.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
            Role::Root => "root",
            Role::Machine => "machine",
            Role::Node => "node",
            Role::Agent => "agent",
            Role::Anonymous => "anonymous",
        }
    }

    /// Reads the roles that people can have.
    #[must_use]
    pub fn read(word: &str) -> Option<Role> {
        let all = [Role::Viewer, Role::Operator, Role::Auditor, Role::Admin, Role::Root];
        all.into_iter().find(|role| role.word() == word)
    }
}

/// Who is recorded as the author of a request, given who holds the token and whom the request names. What the holder
/// says about the program or model that acts for them is kept; that it acts for them cannot be denied.
///
/// # Errors
/// `CX-0507` when the request names somebody the holder cannot speak for.
pub fn author(role: Role, holder: &Actor, named: Option<Actor>) -> Result<Actor, Fault> {
    let Some(named) = named else { return Ok(holder.clone()) };
    let acts_for_holder = holder.kind == ActorKind::Human && named.kind != ActorKind::Human;
    if role == Role::Root || named == *holder {
        return Ok(named);
    }
    if named.kind == holder.kind && named.id == holder.id {
        return Ok(holder.clone());
    }
    if acts_for_holder && (named.on_behalf_of.is_empty() || named.on_behalf_of == holder.id) {
        return Ok(Actor { on_behalf_of: holder.id.clone(), ..named });
    }
    let text = format!("the token is {:?}'s and cannot speak for {:?}", holder.id, named.id);
    Err(Fault::new(Code::ActorMismatch, text))
}

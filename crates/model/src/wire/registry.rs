//! `registry.proto` to and from the model, and the bytes of a registry commit.

use super::task;
use crate::error::{Code, Fault};
use crate::ids::NodeId;
use crate::limits::NARROWING_MAX;
use crate::proto as pb;
use crate::registry::*;
use crate::role::Role;
use crate::time::UnixMillis;
use bytes::Bytes;
use pb::registry_event::Kind;
use prost::Message;

fn malformed(what: &str) -> Fault {
    Fault::new(Code::Malformed, format!("{what} is missing or has an unknown value"))
}

fn digest(bytes: &[u8], what: &str) -> Result<Digest, Fault> {
    Digest::read(bytes).ok_or_else(|| malformed(what))
}

/// The bytes of a registry commit, as stored.
#[must_use]
pub fn encode_registry_commit(c: &RegistryCommit) -> Bytes {
    let events = c.events.iter().map(|e| pb::RegistryEvent { kind: Some(to_wire(e)) }).collect();
    pb::RegistryCommit { n: c.n, events }.encode_to_vec().into()
}

/// Reads stored bytes.
///
/// # Errors
/// `CX-0101` when the bytes are not a commit or hold an event this version does not know.
pub fn decode_registry_commit(bytes: Bytes) -> Result<RegistryCommit, Fault> {
    let p = pb::RegistryCommit::decode(bytes)
        .map_err(|e| malformed(&format!("stored registry commit ({e})")))?;
    if p.events.is_empty() || p.n == 0 {
        return Err(malformed("registry_commit.events"));
    }
    let one = |e: pb::RegistryEvent| {
        e.kind.ok_or_else(|| malformed("registry_event.kind")).and_then(from_wire)
    };
    Ok(RegistryCommit { n: p.n, events: p.events.into_iter().map(one).collect::<Result<_, _>>()? })
}

macro_rules! decision {
    ($p:expr) => {{
        let p = $p;
        Decision { actor: task::actor(p.actor)?, reason: p.reason, at: UnixMillis(p.at_ms) }
    }};
}

fn from_wire(kind: Kind) -> Result<RegistryEvent, Fault> {
    Ok(match kind {
        Kind::NodeEnrolled(p) => RegistryEvent::NodeEnrolled(Box::new(NodeEnrolled {
            key: digest(&p.key_sha256, "node_enrolled.key_sha256")?,
            token_id: p.token_id,
            hostname: p.hostname,
            labels: p.labels,
            address: p.address,
            agent_version: p.agent_version,
            at: UnixMillis(p.at_ms),
            gateway: p.gateway,
        })),
        Kind::NodeApproved(p) => RegistryEvent::NodeApproved(decision!(p)),
        Kind::NodeRejected(p) => RegistryEvent::NodeRejected(decision!(p)),
        Kind::NodeQuarantined(p) => RegistryEvent::NodeQuarantined(decision!(p)),
        Kind::NodeRevoked(p) => RegistryEvent::NodeRevoked(decision!(p)),
        Kind::CertificateIssued(p) => RegistryEvent::CertificateIssued(CertificateIssued {
            serial: p.serial,
            sha256: digest(&p.certificate_sha256, "certificate_issued.certificate_sha256")?,
            not_before: UnixMillis(p.not_before_ms),
            not_after: UnixMillis(p.not_after_ms),
            at: UnixMillis(p.at_ms),
            gateway: p.gateway,
        }),
        Kind::NodeLeft(p) => RegistryEvent::NodeLeft { reason: p.reason, at: UnixMillis(p.at_ms) },
        Kind::CloneSuspected(p) => RegistryEvent::CloneSuspected(CloneSuspected {
            addresses: p.addresses,
            incarnations: p.incarnations,
            at: UnixMillis(p.at_ms),
            gateway: p.gateway,
        }),
        Kind::NodeNarrowed(p) => RegistryEvent::NodeNarrowed(Box::new(Narrowed {
            text: bounded_narrowing(&p.text)?,
            decision: decision!(p),
        })),
        Kind::TokenCreated(p) => RegistryEvent::TokenCreated(Box::new(TokenCreated {
            secret: digest(&p.secret_sha256, "token_created.secret_sha256")?,
            grant: stored_grant(p.grant)?,
            expires_at: UnixMillis(p.expires_at_ms),
            actor: task::actor(p.actor)?,
            note: p.note,
            at: UnixMillis(p.at_ms),
        })),
        Kind::TokenUsed(p) => RegistryEvent::TokenUsed(TokenUsed {
            key: digest(&p.key_sha256, "token_used.key_sha256")?,
            node: p.node,
            at: UnixMillis(p.at_ms),
        }),
        Kind::TokenRevoked(p) => RegistryEvent::TokenRevoked(decision!(p)),
    })
}

fn bounded_narrowing(text: &str) -> Result<String, Fault> {
    if text.len() > NARROWING_MAX {
        return Err(malformed("node_narrowed.text"));
    }
    Ok(text.to_owned())
}

fn stored_grant(grant: Option<pb::token_created::Grant>) -> Result<Grant, Fault> {
    match grant {
        Some(pb::token_created::Grant::Join(p)) => Ok(Grant::Join(join_grant(p)?)),
        Some(pb::token_created::Grant::User(p)) => Ok(Grant::User(user_grant(p)?)),
        None => Err(malformed("token_created.grant")),
    }
}

/// Reads what a client wants a token to be good for.
///
/// # Errors
/// `CX-0101` and `CX-0111` for what is missing or unknown, `CX-0102` for a node id that cannot be.
pub fn grant(grant: Option<pb::create_token_request::Grant>) -> Result<Grant, Fault> {
    match grant {
        Some(pb::create_token_request::Grant::Join(p)) => Ok(Grant::Join(join_grant(p)?)),
        Some(pb::create_token_request::Grant::User(p)) => Ok(Grant::User(user_grant(p)?)),
        None => Err(malformed("create_token_request.grant")),
    }
}

fn join_grant(p: pb::JoinGrant) -> Result<JoinGrant, Fault> {
    let node = (!p.node.is_empty()).then(|| NodeId::parse(&p.node)).transpose()?;
    Ok(JoinGrant { uses: p.uses, require_approval: p.require_approval, labels: p.labels, node })
}

fn user_grant(p: pb::UserGrant) -> Result<UserGrant, Fault> {
    Ok(UserGrant { role: role(p.role)?, holder: task::actor(p.holder)? })
}

/// Reads a role that a person or program can have.
///
/// # Errors
/// `CX-0101` for an unknown value.
pub fn role(v: i32) -> Result<Role, Fault> {
    use pb::Role as R;
    Ok(match R::try_from(v) {
        Ok(R::Viewer) => Role::Viewer,
        Ok(R::Operator) => Role::Operator,
        Ok(R::Auditor) => Role::Auditor,
        Ok(R::Admin) => Role::Admin,
        Ok(R::Root) => Role::Root,
        Ok(R::Unspecified) | Err(_) => return Err(malformed("role")),
    })
}

/// A role on the wire; those that no token grants are unspecified there.
#[must_use]
pub fn role_to_wire(role: Role) -> pb::Role {
    match role {
        Role::Viewer => pb::Role::Viewer,
        Role::Operator => pb::Role::Operator,
        Role::Auditor => pb::Role::Auditor,
        Role::Admin => pb::Role::Admin,
        Role::Root => pb::Role::Root,
        Role::Machine | Role::Node | Role::Agent | Role::Anonymous => pb::Role::Unspecified,
    }
}

fn to_wire(event: &RegistryEvent) -> Kind {
    match event {
        RegistryEvent::NodeEnrolled(e) => Kind::NodeEnrolled(pb::NodeEnrolled {
            key_sha256: e.key.0.to_vec(),
            token_id: e.token_id.clone(),
            hostname: e.hostname.clone(),
            labels: e.labels.clone(),
            address: e.address.clone(),
            agent_version: e.agent_version.clone(),
            at_ms: e.at.0,
            gateway: e.gateway.clone(),
        }),
        RegistryEvent::NodeApproved(d) => {
            let (actor, reason, at_ms) = decided(d);
            Kind::NodeApproved(pb::NodeApproved { actor, reason, at_ms })
        }
        RegistryEvent::NodeRejected(d) => {
            let (actor, reason, at_ms) = decided(d);
            Kind::NodeRejected(pb::NodeRejected { actor, reason, at_ms })
        }
        RegistryEvent::NodeQuarantined(d) => {
            let (actor, reason, at_ms) = decided(d);
            Kind::NodeQuarantined(pb::NodeQuarantined { actor, reason, at_ms })
        }
        RegistryEvent::NodeRevoked(d) => {
            let (actor, reason, at_ms) = decided(d);
            Kind::NodeRevoked(pb::NodeRevoked { actor, reason, at_ms })
        }
        RegistryEvent::TokenRevoked(d) => {
            let (actor, reason, at_ms) = decided(d);
            Kind::TokenRevoked(pb::TokenRevoked { actor, reason, at_ms })
        }
        RegistryEvent::CertificateIssued(c) => Kind::CertificateIssued(pb::CertificateIssued {
            serial: c.serial.clone(),
            certificate_sha256: c.sha256.0.to_vec(),
            not_before_ms: c.not_before.0,
            not_after_ms: c.not_after.0,
            at_ms: c.at.0,
            gateway: c.gateway.clone(),
        }),
        RegistryEvent::NodeLeft { reason, at } => {
            Kind::NodeLeft(pb::NodeLeft { reason: reason.clone(), at_ms: at.0 })
        }
        RegistryEvent::CloneSuspected(c) => Kind::CloneSuspected(pb::CloneSuspected {
            addresses: c.addresses.clone(),
            incarnations: c.incarnations.clone(),
            at_ms: c.at.0,
            gateway: c.gateway.clone(),
        }),
        RegistryEvent::NodeNarrowed(n) => {
            let (actor, reason, at_ms) = decided(&n.decision);
            Kind::NodeNarrowed(pb::NodeNarrowed { actor, reason, at_ms, text: n.text.clone() })
        }
        RegistryEvent::TokenCreated(t) => Kind::TokenCreated(pb::TokenCreated {
            secret_sha256: t.secret.0.to_vec(),
            grant: Some(match &t.grant {
                Grant::Join(j) => pb::token_created::Grant::Join(j.into()),
                Grant::User(u) => pb::token_created::Grant::User(u.into()),
            }),
            expires_at_ms: t.expires_at.0,
            actor: Some((&t.actor).into()),
            note: t.note.clone(),
            at_ms: t.at.0,
        }),
        RegistryEvent::TokenUsed(u) => Kind::TokenUsed(u.into()),
    }
}

fn decided(d: &Decision) -> (Option<pb::Actor>, String, u64) {
    (Some((&d.actor).into()), d.reason.clone(), d.at.0)
}

impl From<&JoinGrant> for pb::JoinGrant {
    fn from(j: &JoinGrant) -> pb::JoinGrant {
        pb::JoinGrant {
            uses: j.uses,
            require_approval: j.require_approval,
            labels: j.labels.clone(),
            node: j.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl From<&UserGrant> for pb::UserGrant {
    fn from(u: &UserGrant) -> pb::UserGrant {
        pb::UserGrant { role: role_to_wire(u.role).into(), holder: Some((&u.holder).into()) }
    }
}

impl From<&TokenUsed> for pb::TokenUsed {
    fn from(u: &TokenUsed) -> pb::TokenUsed {
        pb::TokenUsed { key_sha256: u.key.0.to_vec(), node: u.node.clone(), at_ms: u.at.0 }
    }
}

impl From<Standing> for pb::Enrolment {
    fn from(s: Standing) -> pb::Enrolment {
        match s {
            Standing::Pending => pb::Enrolment::Pending,
            Standing::Approved => pb::Enrolment::Approved,
            Standing::Quarantined => pb::Enrolment::Quarantined,
            Standing::Rejected => pb::Enrolment::Rejected,
            Standing::Revoked => pb::Enrolment::Revoked,
            Standing::Left => pb::Enrolment::Left,
        }
    }
}

impl From<TokenState> for pb::TokenState {
    fn from(s: TokenState) -> pb::TokenState {
        match s {
            TokenState::Valid => pb::TokenState::Valid,
            TokenState::Expired => pb::TokenState::Expired,
            TokenState::UsedUp => pb::TokenState::UsedUp,
            TokenState::Revoked => pb::TokenState::Revoked,
        }
    }
}

/// What the registry knows of a node, for clients.
#[must_use]
pub fn registration(node: &str, r: &NodeRecord) -> pb::Registration {
    pb::Registration {
        node: node.to_owned(),
        state: pb::Enrolment::from(r.standing).into(),
        key_sha256: r.key.0.to_vec(),
        enrolled_at_ms: r.enrolled_at.0,
        token_id: r.token_id.clone(),
        hostname: r.hostname.clone(),
        address: r.address.clone(),
        labels: r.labels.clone(),
        certificate_not_after_ms: r.certificate.as_ref().map_or(0, |c| c.not_after.0),
        decided_by: r.decided_by.as_ref().map(Into::into),
        reason: r.reason.clone(),
        decided_at_ms: r.decided_at.0,
        clone_suspected_at_ms: r.clone_suspected_at.map_or(0, |t| t.0),
        narrowing: narrowing(r),
    }
}

/// What is taken away from what a node's owner allows, for clients and for the node itself.
#[must_use]
pub fn narrowing(r: &NodeRecord) -> Option<pb::Narrowing> {
    let (revision, narrowed) = r.narrowed.as_ref()?;
    let (actor, reason, at_ms) = decided(&narrowed.decision);
    Some(pb::Narrowing { revision: *revision, text: narrowed.text.clone(), actor, reason, at_ms })
}

/// A token without its secret, for clients.
#[must_use]
pub fn token(workspace: &str, id: &str, t: &TokenRecord, now: UnixMillis) -> pb::Token {
    pb::Token {
        workspace: workspace.to_owned(),
        token_id: id.to_owned(),
        grant: Some(match &t.grant {
            Grant::Join(j) => pb::token::Grant::Join(j.into()),
            Grant::User(u) => pb::token::Grant::User(u.into()),
        }),
        state: pb::TokenState::from(t.state(now)).into(),
        created_at_ms: t.created_at.0,
        expires_at_ms: t.expires_at.0,
        created_by: Some((&t.created_by).into()),
        note: t.note.clone(),
        used: t.used.iter().map(Into::into).collect(),
    }
}

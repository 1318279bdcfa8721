//! Says who somebody is and what they may do; nobody else does. A credential becomes a principal here: a certificate and a tunnel
//! token an agent, a token's text or an outside issuer's JWT a person or program. What each role may do stands in
//! `cortex_model::role`, which call needs what in `paths`.

mod bucket;
mod issuers;
mod paths;

pub use issuers::Issuers;
pub use paths::permission;

use crate::authority::PeerCertificate;
use crate::clock::now;
use crate::registry::Registry;
use crate::tls::{Keys, PeerInfo};
use bucket::Buckets;
use cortex_model::credential::{Purpose, TokenText};
use cortex_model::limits::enrol::{CERTIFICATE_EVERY_MS, CERTIFICATES_AT_ONCE};
use cortex_model::limits::identity as bounds;
use cortex_model::registry::{Digest, Record};
use cortex_model::{Actor, ActorKind, Code, Fault, Permission, Role, Tick, UnixMillis, Workspace};
use http::HeaderMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// With this header, root says in which workspace it acts.
const WORKSPACE_HEADER: &str = "cortex-workspace";

/// Whoever stands behind a call.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The only workspace the call can see.
    pub workspace: Workspace,
    /// What they are.
    pub role: Role,
    /// Who they are.
    pub actor: Actor,
    /// The token that was shown; empty when it was none of ours.
    pub token_id: String,
    /// Who issued it.
    pub issuer: String,
    /// When the credential ends.
    pub expires_at: Option<UnixMillis>,
    /// Cancelled when it is revoked.
    ended: CancellationToken,
    pub(crate) peer: PeerInfo,
}

impl Principal {
    /// Resolves when the credential is not good any more, with the reason.
    pub(crate) async fn over(&self) -> Fault {
        let expires = async {
            match self.expires_at {
                Some(at) => {
                    tokio::time::sleep(std::time::Duration::from_millis(at.since(now()))).await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.ended.cancelled() => Fault::new(Code::TokenRevoked, "the credential was revoked"),
            () = expires => Fault::new(Code::TokenExpired, "the token's time is over"),
        }
    }

    /// The node's certificate of this connection.
    pub(crate) fn certificate(&self) -> Option<&Arc<PeerCertificate>> {
        self.peer.certificate.as_ref()
    }

    /// Where it comes from.
    pub(crate) fn address(&self) -> IpAddr {
        self.peer.address.ip()
    }

    /// Cancelled when the credential is revoked.
    pub(crate) fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

/// Knows who is who. It holds no secret of anybody else.
pub(crate) struct Identity {
    keys: Arc<Keys>,
    registry: Arc<Registry>,
    issuers: Issuers,
    started: Instant,
    tries: Mutex<Buckets>,
    calls: Mutex<Buckets>,
    certificates: Mutex<Buckets>,
}

impl Identity {
    pub(crate) fn new(
        keys: Arc<Keys>,
        registry: Arc<Registry>,
        issuers: Issuers,
        calls_per_second: u32,
    ) -> Identity {
        let calls_per_second = calls_per_second.clamp(1, bounds::CALLS_PER_SECOND_MAX);
        let try_us = bounds::TRY_EVERY_MS * 1_000;
        let call_us = 1_000_000 / u64::from(calls_per_second);
        let certificate_us = CERTIFICATE_EVERY_MS * 1_000;
        let certificates = Buckets::new(CERTIFICATES_AT_ONCE, certificate_us, bounds::TRIES_KEPT);
        Identity {
            keys,
            registry,
            issuers,
            started: Instant::now(),
            tries: Mutex::new(Buckets::new(bounds::TRIES_PER_ADDRESS, try_us, bounds::TRIES_KEPT)),
            calls: Mutex::new(Buckets::new(2 * calls_per_second, call_us, bounds::TRIES_KEPT)),
            certificates: Mutex::new(certificates),
        }
    }

    /// Maps what a request shows to a principal with the permission for `path`.
    ///
    /// # Errors
    /// `CX-0501` to `CX-0510` for credentials, `CX-0502` when the principal may not do this, `CX-0516` and `CX-0517` for too
    /// many tries and calls.
    pub(crate) fn authorize(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: &PeerInfo,
    ) -> Result<Principal, Fault> {
        let Some(needed) = permission(path) else {
            return Err(Fault::new(Code::Forbidden, "this path is not served"));
        };
        let shown = headers.get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let principal = match needed {
            Permission::Public => anybody(Role::Anonymous, peer),
            Permission::Enrol => {
                self.may_try(peer.address.ip())?;
                anybody(Role::Machine, peer)
            }
            Permission::ActAsNode => self.node(Role::Node, peer)?,
            Permission::HoldTunnel => {
                let agent = self.node(Role::Agent, peer)?;
                let expires = self.tunnel_token(&agent, bearer(shown)?)?;
                Principal { expires_at: Some(expires), ..agent }
            }
            Permission::KnowOneself
            | Permission::ReadTasks
            | Permission::ReadNodes
            | Permission::ReadAudit
            | Permission::SubmitTasks
            | Permission::CancelTasks
            | Permission::ResolveTasks
            | Permission::ReadServer
            | Permission::ManageNodes
            | Permission::ManageTokens
            | Permission::Backup => self.user(shown, headers, peer)?,
        };
        if principal.role.may(needed) {
            return Ok(principal);
        }
        let text = format!("the role {} does not allow that", principal.role.word());
        Err(Fault::new(Code::Forbidden, text))
    }

    /// A token shown on an open tunnel, or with the call that opens it; when it ends.
    ///
    /// # Errors
    /// As `authorize`.
    pub(crate) fn tunnel_token(&self, agent: &Principal, token: &str) -> Result<UnixMillis, Fault> {
        let certificate = agent.certificate().ok_or_else(no_certificate)?;
        let checked = self.keys.authority().check(token, certificate);
        checked.map_err(|fault| self.failed(agent.peer.address.ip(), None, fault))
    }

    /// Changes when another CA signs certificates.
    pub(crate) fn ca(&self) -> tokio::sync::watch::Receiver<Digest> {
        self.keys.ca()
    }

    /// Whether the node of this connection should get a certificate of the CA that signs now.
    pub(crate) fn should_renew(&self, agent: &Principal) -> bool {
        agent.certificate().is_some_and(|shown| !self.keys.authority().is_newest(shown))
    }

    /// Why what rested on this credential was ended.
    pub(crate) fn why_ended(&self, principal: &Principal) -> Fault {
        match self.node(principal.role, &principal.peer) {
            Err(fault) => fault,
            Ok(_) => Fault::new(Code::TokenRevoked, "the credential was revoked"),
        }
    }

    /// The node whose certificate the connection has, if it may work.
    fn node(&self, role: Role, peer: &PeerInfo) -> Result<Principal, Fault> {
        let certificate = peer.certificate.as_deref().ok_or_else(no_certificate)?;
        let name = &certificate.name;
        let unknown = || Fault::new(Code::NodeRevoked, "the registry does not know this node");
        if name.trust_domain != self.keys.authority().trust_domain() {
            return Err(unknown());
        }
        let entry = self.registry.node(name.workspace.as_str(), name.node.as_str());
        let entry = entry.ok_or_else(unknown)?;
        let Record::Node(node) = entry.record.as_ref() else { return Err(unknown()) };
        node.admits(&certificate.key)?;
        // A long connection may have outlived the certificate it was made with.
        if now() >= certificate.not_after {
            return Err(Fault::new(
                Code::TokenExpired,
                "the certificate of this connection ran out",
            )
            .with_hint("renew it and connect again"));
        }
        Ok(Principal {
            workspace: name.workspace.clone(),
            role,
            actor: program(name.node.as_str()),
            token_id: String::new(),
            issuer: name.trust_domain.clone(),
            expires_at: Some(certificate.not_after),
            ended: entry.ended,
            peer: peer.clone(),
        })
    }

    fn user(
        &self,
        shown: Option<&[u8]>,
        headers: &HeaderMap,
        peer: &PeerInfo,
    ) -> Result<Principal, Fault> {
        let address = peer.address.ip();
        let mut user = bearer(shown)
            .and_then(|text| self.of_token(text, peer))
            .map_err(|fault| self.failed(address, None, fault))?;
        if let Some(asked) = headers.get(WORKSPACE_HEADER) {
            let asked = asked.to_str().ok().and_then(|text| Workspace::parse(text).ok());
            let asked = asked.ok_or_else(|| {
                Fault::new(Code::BadIdentifier, "the workspace in the call cannot be")
            })?;
            if asked != user.workspace && user.role != Role::Root {
                // Whether it exists is not said.
                return Err(Fault::new(Code::Forbidden, "the token is for another workspace"));
            }
            user.workspace = asked;
        }
        let (key, tick) = (user.workspace.as_str(), self.tick());
        let mut calls = lock(&self.calls);
        let wait = calls.wait_ms(key, tick);
        if wait > 0 {
            let text = format!("workspace {key} makes too many calls: wait {wait} ms");
            return Err(Fault::new(Code::RateLimited, text));
        }
        calls.take(key, tick);
        drop(calls);
        Ok(user)
    }

    fn of_token(&self, text: &str, peer: &PeerInfo) -> Result<Principal, Fault> {
        let none = || Fault::new(Code::Unauthenticated, "the call carries no valid token");
        let Ok(token) = TokenText::parse(text) else {
            return self.issuers.check(text).ok_or_else(none)?.map(|who| outsider(who, peer));
        };
        if token.purpose == Purpose::Join {
            return Err(Fault::new(Code::Unauthenticated, "a join token lets nobody call the API"));
        }
        let entry = self.registry.token(token.workspace.as_str(), &token.id).ok_or_else(none)?;
        let Record::Token(record) = entry.record.as_ref() else { return Err(none()) };
        let grant = record.user(&token.secret_hash(), now())?;
        Ok(Principal {
            workspace: token.workspace.clone(),
            role: grant.role,
            actor: grant.holder.clone(),
            token_id: token.id.clone(),
            issuer: self.keys.authority().trust_domain().to_owned(),
            expires_at: Some(record.expires_at),
            ended: entry.ended,
            peer: peer.clone(),
        })
    }

    /// Whether this address may try again to show something that may be wrong.
    ///
    /// # Errors
    /// `CX-0516` with how long it must wait.
    pub(crate) fn may_try(&self, address: IpAddr) -> Result<(), Fault> {
        let key = crate::tls::counted(address).to_string();
        match lock(&self.tries).wait_ms(&key, self.tick()) {
            0 => Ok(()),
            wait => Err(too_many(wait)),
        }
    }

    /// Whether this key may get another certificate: each is an event for ever.
    ///
    /// # Errors
    /// `CX-0516` with how long it must wait.
    pub(crate) fn may_certify(&self, key: &Digest) -> Result<(), Fault> {
        match lock(&self.certificates).wait_ms(&key.to_string(), self.tick()) {
            0 => Ok(()),
            wait => {
                let text = format!("too many certificates: wait {} s", wait.div_ceil(1_000));
                Err(Fault::new(Code::TooManyTries, text))
            }
        }
    }

    /// The key got one.
    pub(crate) fn certified(&self, key: &Digest) {
        lock(&self.certificates).take(&key.to_string(), self.tick());
    }

    /// Counts a failure against its address, and against the token it named if that is known, and says what the caller is told.
    /// Who shows the right secret is never among them.
    pub(crate) fn failed(&self, address: IpAddr, token: Option<&str>, fault: Fault) -> Fault {
        let guess = matches!(
            fault.code,
            Code::Unauthenticated | Code::BadJoinToken | Code::BadProof | Code::NotBound
        );
        if !guess {
            return fault;
        }
        let (address, tick) = (crate::tls::counted(address).to_string(), self.tick());
        let mut tries = lock(&self.tries);
        let mut longest = 0;
        for key in [Some(address.as_str()), token].into_iter().flatten() {
            longest = longest.max(tries.wait_ms(key, tick));
            tries.take(key, tick);
        }
        if longest > 0 { too_many(longest) } else { fault }
    }

    fn tick(&self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

fn too_many(wait_ms: u64) -> Fault {
    let seconds = wait_ms.div_ceil(1_000);
    Fault::new(Code::TooManyTries, format!("too many failed tries: wait {seconds} s"))
}

fn no_certificate() -> Fault {
    Fault::new(Code::CertificateRequired, "the connection has no certificate of a node")
}

fn bearer(shown: Option<&[u8]>) -> Result<&str, Fault> {
    let none = || Fault::new(Code::Unauthenticated, "the call carries no token");
    let shown = shown.filter(|v| v.len() <= bounds::CREDENTIAL_MAX).ok_or_else(none)?;
    shown.strip_prefix(b"Bearer ").and_then(|v| std::str::from_utf8(v).ok()).ok_or_else(none)
}

fn outsider(who: issuers::Outsider, peer: &PeerInfo) -> Principal {
    Principal {
        workspace: who.workspace,
        role: who.role,
        actor: who.actor,
        token_id: String::new(),
        issuer: who.issuer,
        expires_at: Some(who.expires_at),
        // It cannot be revoked here: its issuer gives it a short life.
        ended: CancellationToken::new(),
        peer: peer.clone(),
    }
}

fn anybody(role: Role, peer: &PeerInfo) -> Principal {
    Principal {
        workspace: Workspace::default_workspace(),
        role,
        actor: program(role.word()),
        token_id: String::new(),
        issuer: String::new(),
        expires_at: None,
        ended: CancellationToken::new(),
        peer: peer.clone(),
    }
}

fn program(id: &str) -> Actor {
    let id = id.to_owned();
    Actor { kind: ActorKind::Program, id, model: String::new(), on_behalf_of: String::new() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

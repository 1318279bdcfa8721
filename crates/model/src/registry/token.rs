//! Where a token stands: the fold of its events, and what it is good for at a given time. It knows hashes of secrets only.

use super::{Decision, Digest, RegistryEvent, TokenCreated, TokenUsed};
use crate::error::{Code, Fault};
use crate::limits::identity::{
    JOIN_TTL_DEFAULT_MS, JOIN_TTL_MAX_MS, JOIN_USES_MAX, NODE_ID_MAX, USER_TTL_DEFAULT_MS,
    USER_TTL_MAX_MS,
};
use crate::limits::{LABEL_MAX, LABELS_MAX};
use crate::role::Role;
use crate::task::Actor;
use crate::time::UnixMillis;
use std::collections::BTreeMap;

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Enrolling machines.
    Join(JoinGrant),
    /// Calling the API.
    User(UserGrant),
}

/// See [`Grant::Join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGrant {
    /// How many keys may join.
    pub uses: u32,
    /// An admin must approve each.
    pub require_approval: bool,
    /// Labels that every node gets.
    pub labels: BTreeMap<String, String>,
    /// The only node id that may join.
    pub node: Option<crate::NodeId>,
}

/// See [`Grant::User`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserGrant {
    /// What its holder may do.
    pub role: Role,
    /// Who its holder is.
    pub holder: Actor,
}

impl Grant {
    /// Checks what somebody asked for.
    ///
    /// # Errors
    /// `CX-0527` with the part that is outside its limits.
    pub fn check(&self) -> Result<(), Fault> {
        let bad = |why: String| Err(Fault::new(Code::BadGrant, why));
        let Grant::Join(join) = self else { return Ok(()) };
        if !(1..=JOIN_USES_MAX).contains(&join.uses) {
            return bad(format!("a join token has 1 to {JOIN_USES_MAX} uses, not {}", join.uses));
        }
        if join.labels.len() > LABELS_MAX {
            return bad(format!("a node has at most {LABELS_MAX} labels"));
        }
        let odd =
            |(k, v): (&String, &String)| k.is_empty() || k.len() > LABEL_MAX || v.len() > LABEL_MAX;
        if join.labels.iter().any(odd) {
            return bad(format!("a label is empty or longer than {LABEL_MAX} bytes"));
        }
        if join.node.is_some() && join.uses != 1 {
            return bad("a token for one node has one use".to_owned());
        }
        if join.node.as_ref().is_some_and(|n| n.as_str().len() > NODE_ID_MAX) {
            return bad(format!("a node id has at most {NODE_ID_MAX} characters"));
        }
        Ok(())
    }

    /// The life a token gets, milliseconds; 0 asks for the usual one.
    ///
    /// # Errors
    /// `CX-0527` when it is too long.
    pub fn ttl(&self, asked_ms: u64) -> Result<u64, Fault> {
        let (usual, most) = match self {
            Grant::Join(_) => (JOIN_TTL_DEFAULT_MS, JOIN_TTL_MAX_MS),
            Grant::User(_) => (USER_TTL_DEFAULT_MS, USER_TTL_MAX_MS),
        };
        match asked_ms {
            0 => Ok(usual),
            ms if ms <= most => Ok(ms),
            _ => Err(Fault::new(
                Code::BadGrant,
                format!("such a token lives at most {} hours", most / 3_600_000),
            )),
        }
    }
}

/// Where a token stands at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It can be used.
    Valid,
    /// Its time is over.
    Expired,
    /// As many machines joined as may.
    UsedUp,
    /// Somebody revoked it.
    Revoked,
}

impl TokenState {
    /// The word people see.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            TokenState::Valid => "valid",
            TokenState::Expired => "expired",
            TokenState::UsedUp => "used up",
            TokenState::Revoked => "revoked",
        }
    }
}

/// What must happen before a machine may be enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinStep {
    /// Its use of the token must be appended, at exactly the revision that was folded.
    Use,
    /// It was counted before, when it asked for this node id.
    Counted(String),
}

/// What the registry knows of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Hash of the secret.
    pub secret: Digest,
    /// What it is good for.
    pub grant: Grant,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Not valid from here on.
    pub expires_at: UnixMillis,
    /// Who made it.
    pub created_by: Actor,
    /// What it is for.
    pub note: String,
    /// Machines that joined with it, oldest first.
    pub used: Vec<TokenUsed>,
    /// Who revoked it.
    pub revoked: Option<Decision>,
    /// Commits that were folded.
    pub commits: u64,
}

impl TokenRecord {
    pub(super) fn begin(e: &TokenCreated) -> TokenRecord {
        TokenRecord {
            secret: e.secret,
            grant: e.grant.clone(),
            created_at: e.at,
            expires_at: e.expires_at,
            created_by: e.actor.clone(),
            note: e.note.clone(),
            used: Vec::new(),
            revoked: None,
            commits: 0,
        }
    }

    pub(super) fn apply(mut self, event: &RegistryEvent) -> Result<TokenRecord, Fault> {
        match (event, &self.grant) {
            (RegistryEvent::TokenUsed(used), Grant::Join(_)) if self.revoked.is_none() => {
                self.used.push(used.clone());
                Ok(self)
            }
            (RegistryEvent::TokenRevoked(d), _) if self.revoked.is_none() => {
                self.revoked = Some(d.clone());
                Ok(self)
            }
            (other, _) => Err(Fault::new(
                Code::Quarantined,
                format!("a registry history: {} cannot come here", other.name()),
            )),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self, now: UnixMillis) -> TokenState {
        if self.revoked.is_some() {
            return TokenState::Revoked;
        }
        match &self.grant {
            Grant::Join(join) if self.used.len() >= join.uses as usize => TokenState::UsedUp,
            Grant::Join(_) | Grant::User(_) if now >= self.expires_at => TokenState::Expired,
            Grant::Join(_) | Grant::User(_) => TokenState::Valid,
        }
    }

    /// Who shows a secret, if it is this token's and the token is good for calls now.
    ///
    /// # Errors
    /// `CX-0501` for another secret or a join token, `CX-0503` when its time is over, `CX-0504` when it was revoked.
    pub fn user(&self, secret: &Digest, now: UnixMillis) -> Result<&UserGrant, Fault> {
        let Grant::User(user) = &self.grant else {
            return Err(Fault::new(Code::Unauthenticated, "a join token lets nobody call the API"));
        };
        if *secret != self.secret {
            return Err(Fault::new(Code::Unauthenticated, "the call carries no valid token"));
        }
        match self.state(now) {
            TokenState::Valid | TokenState::UsedUp => Ok(user),
            TokenState::Expired => Err(Fault::new(Code::TokenExpired, "the token's time is over")),
            TokenState::Revoked => Err(Fault::new(Code::TokenRevoked, "the token was revoked")),
        }
    }

    /// What must happen before the machine with this key may be enrolled. A key that was counted may ask again, also when
    /// the token's time is over or all its uses are taken.
    ///
    /// # Errors
    /// `CX-0511` for another secret or a user token, `CX-0504` when it was revoked, `CX-0512` when all uses are taken,
    /// `CX-0513` when its time is over.
    pub fn join(
        &self,
        secret: &Digest,
        key: &Digest,
        now: UnixMillis,
    ) -> Result<(&JoinGrant, JoinStep), Fault> {
        let Grant::Join(join) = &self.grant else {
            return Err(Fault::new(Code::BadJoinToken, "a user token enrols no machine"));
        };
        if *secret != self.secret {
            return Err(Fault::new(Code::BadJoinToken, "no such join token"));
        }
        let counted = self.used.iter().find(|used| used.key == *key);
        match (self.state(now), counted) {
            (TokenState::Revoked, _) => {
                Err(Fault::new(Code::TokenRevoked, "the join token was revoked"))
            }
            (_, Some(used)) => Ok((join, JoinStep::Counted(used.node.clone()))),
            (TokenState::Valid, None) => Ok((join, JoinStep::Use)),
            (TokenState::UsedUp, None) => {
                let by = self.used.last().map_or("", |used| used.node.as_str());
                Err(Fault::new(
                    Code::JoinTokenUsed,
                    format!("the join token was used before, last by {by:?}"),
                ))
            }
            (TokenState::Expired, None) => {
                Err(Fault::new(Code::JoinTokenExpired, "the join token's time is over"))
            }
        }
    }

    /// The event that ends it; `None` when it was revoked before.
    #[must_use]
    pub fn revoke(&self, d: Decision) -> Option<RegistryEvent> {
        self.revoked.is_none().then_some(RegistryEvent::TokenRevoked(d))
    }
}

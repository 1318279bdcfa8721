//! How tokens come into being: the secret is made here, shown once, and only its hash is kept.

use super::Registry;
use crate::authority::{Authority, random};
use cortex_log::EventLog;
use cortex_model::credential::{Purpose, TokenText};
use cortex_model::registry::{
    Digest, Grant, JoinGrant, Record, RegistryEvent, TokenCreated, TokenRecord, UserGrant,
    token_aggregate,
};
use cortex_model::{Actor, ActorKind, Code, Fault, Role, UnixMillis, Workspace};
use std::sync::Arc;

/// Characters of a token's id: 80 random bits.
const ID_LEN: usize = 16;

impl Registry {
    /// Makes a token and appends it.
    ///
    /// # Errors
    /// `CX-0527` for a grant outside its limits, and the log's.
    #[expect(clippy::too_many_arguments, reason = "each is one fact of the token's first event")]
    pub(crate) async fn create_token(
        &self,
        authority: &Authority,
        workspace: &Workspace,
        grant: Grant,
        ttl_ms: u64,
        actor: &Actor,
        note: String,
        now: UnixMillis,
    ) -> Result<(TokenText, TokenRecord), Fault> {
        grant.check()?;
        let expires_at = now + grant.ttl(ttl_ms)?;
        let purpose = match grant {
            Grant::Join(_) => Purpose::Join,
            Grant::User(_) => Purpose::User,
        };
        let text = TokenText {
            purpose,
            workspace: workspace.clone(),
            id: Digest(random()?).to_string()[..ID_LEN].to_owned(),
            secret: random()?,
            ca: authority.fingerprint(),
        };
        let secret = text.secret_hash();
        let actor = actor.clone();
        let created = TokenCreated { secret, grant, expires_at, actor, note, at: now };
        let event = RegistryEvent::TokenCreated(Box::new(created));
        let id = token_aggregate(&text.id);
        let made = self.change(workspace.as_str(), &id, |there| {
            if there.is_some() {
                return Err(Fault::new(Code::Internal, "a random id was there before"));
            }
            Ok(vec![event.clone()])
        });
        match made.await? {
            Record::Token(record) => Ok((text, record)),
            Record::Node(_) => Err(Fault::new(Code::Internal, "a token became a node")),
        }
    }
}

/// Makes the tokens that a server itself needs, straight into the log: it also runs before the gateway serves.
#[derive(Clone)]
pub struct Registrar {
    registry: Arc<Registry>,
    authority: Arc<Authority>,
    holder: Actor,
}

impl Registrar {
    /// For the server of this name.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, authority: Arc<Authority>, holder: &str) -> Registrar {
        let (registry, _) = Registry::new(log, holder, 0);
        // It follows nothing, so it waits for nothing either.
        registry.applied.send_replace(u64::MAX);
        let (kind, id) = (ActorKind::Program, holder.to_owned());
        let holder = Actor { kind, id, model: String::new(), on_behalf_of: String::new() };
        Registrar { registry: Arc::new(registry), authority, holder }
    }

    /// A token for the holder of a server's data directory: it may do everything, in every workspace. `None` when the one
    /// that is there is good for at least half of `ttl_ms`.
    ///
    /// # Errors
    /// The log's.
    pub async fn root_token(
        &self,
        there: Option<&str>,
        ttl_ms: u64,
    ) -> Result<Option<TokenText>, Fault> {
        if let Some(token) = there.and_then(|text| TokenText::parse(text).ok())
            && self.lasts(&token, ttl_ms / 2).await?
        {
            return Ok(None);
        }
        let user = UserGrant { role: Role::Root, holder: self.holder.clone() };
        let note = "of a server's data directory".to_owned();
        self.make(Grant::User(user), ttl_ms, note).await.map(Some)
    }

    async fn lasts(&self, token: &TokenText, ms: u64) -> Result<bool, Fault> {
        let id = token_aggregate(&token.id);
        let there = self.registry.load(token.workspace.as_str(), &id).await?;
        let Some((Record::Token(record), _)) = there else { return Ok(false) };
        let later = crate::clock::now() + ms;
        let good = record.user(&token.secret_hash(), later).is_ok_and(|u| u.role == Role::Root);
        Ok(good && token.ca == self.authority.fingerprint())
    }

    /// A join token, good once, for the agent beside the server.
    ///
    /// # Errors
    /// The log's.
    pub async fn join_token(&self) -> Result<TokenText, Fault> {
        let labels = std::collections::BTreeMap::new();
        let join = JoinGrant { uses: 1, require_approval: false, labels, node: None };
        let note = "for the agent beside the server".to_owned();
        self.make(Grant::Join(join), 0, note).await
    }

    async fn make(&self, grant: Grant, ttl_ms: u64, note: String) -> Result<TokenText, Fault> {
        let (workspace, now) = (Workspace::default_workspace(), crate::clock::now());
        let registry = &self.registry;
        let made = registry.create_token(
            &self.authority,
            &workspace,
            grant,
            ttl_ms,
            &self.holder,
            note,
            now,
        );
        made.await.map(|(text, _)| text)
    }
}

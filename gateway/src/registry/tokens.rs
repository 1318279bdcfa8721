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

/// Makes a token for the holder of a server's data directory: it may do everything, in every workspace.
///
/// # Errors
/// The log's.
pub async fn root_token(
    log: Arc<dyn EventLog>,
    authority: &Authority,
    holder: &str,
    ttl_ms: u64,
) -> Result<TokenText, Fault> {
    let user = UserGrant { role: Role::Root, holder: program(holder) };
    let note = "of a server's data directory".to_owned();
    make(log, authority, Grant::User(user), ttl_ms, holder, note).await
}

/// Makes a join token, good once, for the agent beside a server.
///
/// # Errors
/// The log's.
pub async fn local_join_token(
    log: Arc<dyn EventLog>,
    authority: &Authority,
    holder: &str,
) -> Result<TokenText, Fault> {
    let join = JoinGrant {
        uses: 1,
        require_approval: false,
        labels: std::collections::BTreeMap::new(),
        node: None,
    };
    let note = "for the agent beside the server".to_owned();
    make(log, authority, Grant::Join(join), 0, holder, note).await
}

async fn make(
    log: Arc<dyn EventLog>,
    authority: &Authority,
    grant: Grant,
    ttl_ms: u64,
    holder: &str,
    note: String,
) -> Result<TokenText, Fault> {
    let (registry, _) = Registry::new(log, holder, 0);
    registry.applied.send_replace(u64::MAX);
    let (workspace, now) = (Workspace::default_workspace(), crate::clock::now());
    let actor = program(holder);
    let made = registry.create_token(authority, &workspace, grant, ttl_ms, &actor, note, now);
    made.await.map(|(text, _)| text)
}

fn program(id: &str) -> Actor {
    let id = id.to_owned();
    Actor { kind: ActorKind::Program, id, model: String::new(), on_behalf_of: String::new() }
}

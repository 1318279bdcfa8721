//! Who the server takes one for, as JSON.

use super::{role, text};
use cortex_model::proto as pb;
use serde::Serialize;

/// Who one is.
#[derive(Debug, Serialize)]
pub(crate) struct Who {
    pub(crate) workspace: String,
    pub(crate) role: &'static str,
    pub(crate) actor: super::Actor,
    pub(crate) token_id: Option<String>,
    pub(crate) issuer: String,
    pub(crate) expires_at_ms: u64,
    pub(crate) trust_domain: String,
}

impl From<&pb::WhoAmIResponse> for Who {
    fn from(w: &pb::WhoAmIResponse) -> Who {
        Who {
            workspace: w.workspace.clone(),
            role: role(w.role()),
            actor: super::Actor::from(&w.actor.clone().unwrap_or_default()),
            token_id: text(&w.token_id),
            issuer: w.issuer.clone(),
            expires_at_ms: w.expires_at_ms,
            trust_domain: w.trust_domain.clone(),
        }
    }
}

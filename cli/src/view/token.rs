//! A token as JSON, without its secret.

use super::text;
use crate::words;
use cortex_model::proto as pb;
use serde::Serialize;
use std::collections::BTreeMap;

/// A token as it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Token {
    pub(crate) token_id: String,
    pub(crate) workspace: String,
    pub(crate) state: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) role: Option<&'static str>,
    pub(crate) holder: Option<String>,
    pub(crate) uses: Option<u32>,
    pub(crate) require_approval: Option<bool>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created_at_ms: u64,
    pub(crate) expires_at_ms: u64,
    pub(crate) created_by: String,
    pub(crate) note: String,
    pub(crate) nodes: Vec<String>,
    #[serde(skip)]
    only_node: Option<String>,
}

impl Token {
    /// What it is good for, in a few words.
    pub(crate) fn what(&self) -> String {
        match (self.role, self.uses) {
            (Some(role), _) => {
                format!("{role} {}", words::safe(self.holder.as_deref().unwrap_or_default()))
            }
            (None, Some(uses)) => {
                let node = self.only_node.as_deref().map_or(String::new(), |n| format!(" {n}"));
                format!("joining{node}, {} of {uses} used", self.nodes.len())
            }
            (None, None) => "something this version does not know".to_owned(),
        }
    }
}

impl From<&pb::Token> for Token {
    fn from(t: &pb::Token) -> Token {
        let (join, user) = match &t.grant {
            Some(pb::token::Grant::Join(join)) => (Some(join), None),
            Some(pb::token::Grant::User(user)) => (None, Some(user)),
            None => (None, None),
        };
        Token {
            token_id: t.token_id.clone(),
            workspace: t.workspace.clone(),
            state: match t.state() {
                pb::TokenState::Valid => "valid",
                pb::TokenState::Expired => "expired",
                pb::TokenState::UsedUp => "used_up",
                pb::TokenState::Revoked => "revoked",
                pb::TokenState::Unspecified => "unknown",
            },
            kind: if join.is_some() { "node" } else { "user" },
            role: user.map(|u| role(u.role())),
            holder: user.map(|u| words::actor(u.holder.as_ref())),
            uses: join.map(|j| j.uses),
            require_approval: join.map(|j| j.require_approval),
            labels: join.map(|j| j.labels.clone()).unwrap_or_default(),
            created_at_ms: t.created_at_ms,
            expires_at_ms: t.expires_at_ms,
            created_by: t.created_by.as_ref().map(|a| a.id.clone()).unwrap_or_default(),
            note: t.note.clone(),
            nodes: t.used.iter().map(|u| u.node.clone()).collect(),
            only_node: join.and_then(|j| text(&j.node)),
        }
    }
}

/// A role's word.
pub(crate) fn role(role: pb::Role) -> &'static str {
    match role {
        pb::Role::Viewer => "viewer",
        pb::Role::Operator => "operator",
        pb::Role::Auditor => "auditor",
        pb::Role::Admin => "admin",
        pb::Role::Root => "root",
        pb::Role::Unspecified => "unknown",
    }
}

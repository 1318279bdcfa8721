//! Access: who one is, and how tokens and nodes are managed. It decides nothing itself; the registry's rules do.

use super::{Api, answer, bounded, principal};
use crate::identity::Principal;
use cortex_model::contract::v1::access_server::Access;
use cortex_model::limits::NARROWING_MAX;
use cortex_model::limits::identity::NOTE_MAX;
use cortex_model::proto as pb;
use cortex_model::registry::node::Verb;
use cortex_model::registry::{
    Decision, Grant, Narrowed, NodeRecord, Record, TokenRecord, node_aggregate, token_aggregate,
};
use cortex_model::{Code, Fault, NodeId, Role, Workspace, wire};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

impl Api {
    async fn make_token(
        &self,
        who: &Principal,
        r: pb::CreateTokenRequest,
    ) -> Result<pb::CreateTokenResponse, Fault> {
        let workspace = if r.workspace.is_empty() {
            who.workspace.clone()
        } else {
            Workspace::parse(&r.workspace)?
        };
        if workspace != who.workspace && who.role != Role::Root {
            return Err(Fault::new(Code::Forbidden, "the token is for another workspace"));
        }
        let grant = wire::registry::grant(r.grant)?;
        if matches!(&grant, Grant::User(user) if user.role > who.role) {
            return Err(Fault::new(Code::BadGrant, "nobody gives more than they have"));
        }
        let note = bounded(r.note)?;
        if note.len() > NOTE_MAX {
            return Err(Fault::new(Code::BadGrant, format!("a note has at most {NOTE_MAX} bytes")));
        }
        let authority = self.keys.authority();
        let made = self.registry.create_token(
            &authority,
            &workspace,
            grant,
            r.ttl_ms,
            &who.actor,
            note,
            crate::clock::now(),
        );
        let (text, record) = made.await?;
        let token = self.token(&workspace, &text.id, &record);
        Ok(pb::CreateTokenResponse { text: text.reveal(), token: Some(token) })
    }

    fn token(&self, workspace: &Workspace, id: &str, record: &TokenRecord) -> pb::Token {
        wire::registry::token(workspace.as_str(), id, record, crate::clock::now())
    }

    fn tokens_page(
        &self,
        who: &Principal,
        r: &pb::ListTokensRequest,
    ) -> Result<pb::ListTokensResponse, Fault> {
        let size = super::history::page_size(r.page_size)?;
        let mut tokens: Vec<pb::Token> = self
            .registry
            .tokens(who.workspace.as_str())
            .iter()
            .map(|(id, record)| self.token(&who.workspace, id, record))
            .filter(|t| r.all || t.state() == pb::TokenState::Valid)
            .collect();
        tokens.sort_by(|a, b| order(b).cmp(&order(a)));
        if !r.page_token.is_empty() {
            let after = tokens.iter().position(|t| t.token_id == r.page_token);
            let after = after.ok_or_else(|| {
                Fault::new(Code::BadPage, "the page token does not belong to this listing")
            })?;
            tokens.drain(..=after);
        }
        let more = tokens.len() > size;
        tokens.truncate(size);
        let last = tokens.last().filter(|_| more);
        let next_page_token = last.map(|t| t.token_id.clone()).unwrap_or_default();
        Ok(pb::ListTokensResponse { tokens, next_page_token })
    }

    async fn revoke(
        &self,
        who: &Principal,
        r: pb::RevokeTokenRequest,
    ) -> Result<pb::RevokeTokenResponse, Fault> {
        let d = decision(who, r.reason)?;
        let shown: String = r.token_id.chars().take(64).collect();
        let none = || Fault::new(Code::TokenNotFound, format!("there is no token {shown:?}"));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !(1..=40).contains(&r.token_id.len()) || !r.token_id.bytes().all(plain) {
            return Err(none());
        }
        let id = token_aggregate(&r.token_id);
        let changed = self.registry.change(who.workspace.as_str(), &id, |record| match record {
            Some(Record::Token(token)) => Ok(token.revoke(d.clone()).into_iter().collect()),
            Some(Record::Node(_)) | None => Err(none()),
        });
        match changed.await? {
            Record::Token(record) => {
                let token = self.token(&who.workspace, &r.token_id, &record);
                Ok(pb::RevokeTokenResponse { token: Some(token) })
            }
            Record::Node(_) => Err(none()),
        }
    }

    async fn decide(
        &self,
        who: &Principal,
        verb: Verb,
        node: &str,
        reason: String,
    ) -> Result<pb::Registration, Fault> {
        let d = decision(who, reason)?;
        let none = || none_such(node);
        let id = NodeId::parse(node).and_then(|n| node_aggregate(&n)).map_err(|_| none())?;
        let grace = self.registry.grace_ms();
        let changed = self.registry.change(who.workspace.as_str(), &id, |record| match record {
            Some(Record::Node(node)) => {
                Ok(NodeRecord::decide(node, verb, d.clone(), grace)?.into_iter().collect())
            }
            Some(Record::Token(_)) | None => Err(none()),
        });
        match changed.await? {
            Record::Node(record) => Ok(wire::registry::registration(node, &record)),
            Record::Token(_) => Err(none()),
        }
    }

    /// What of the text counts only the node can say: it knows what its owner allows.
    async fn take_away(
        &self,
        who: &Principal,
        r: pb::NarrowNodeRequest,
    ) -> Result<pb::Registration, Fault> {
        let pb::NarrowNodeRequest { node, text, reason } = r;
        if text.len() > NARROWING_MAX {
            let message =
                format!("the narrowing has {} bytes, at most {NARROWING_MAX}", text.len());
            return Err(Fault::new(Code::TooLarge, message));
        }
        let narrowed = Narrowed { decision: decision(who, reason)?, text };
        let none = || none_such(&node);
        let id = NodeId::parse(&node).and_then(|n| node_aggregate(&n)).map_err(|_| none())?;
        let changed = self.registry.change(who.workspace.as_str(), &id, |record| match record {
            Some(Record::Node(node)) => Ok(node.narrow(narrowed.clone())?.into_iter().collect()),
            Some(Record::Token(_)) | None => Err(none()),
        });
        match changed.await? {
            Record::Node(record) => Ok(wire::registry::registration(&node, &record)),
            Record::Token(_) => Err(none()),
        }
    }
}

fn none_such(node: &str) -> Fault {
    let shown: String = node.chars().take(64).collect();
    Fault::new(Code::NodeNotFound, format!("there is no node {shown:?}"))
}

fn order(t: &pb::Token) -> (u64, &str) {
    (t.created_at_ms, &t.token_id)
}

fn decision(who: &Principal, reason: String) -> Result<Decision, Fault> {
    Ok(Decision { actor: who.actor.clone(), reason: bounded(reason)?, at: crate::clock::now() })
}

#[tonic::async_trait]
impl Access for Api {
    async fn who_am_i(&self, r: Request<pb::WhoAmIRequest>) -> Answer<pb::WhoAmIResponse> {
        answer(principal(&r).map(|who| pb::WhoAmIResponse {
            workspace: who.workspace.to_string(),
            role: wire::registry::role_to_wire(who.role).into(),
            actor: Some((&who.actor).into()),
            token_id: who.token_id.clone(),
            issuer: who.issuer.clone(),
            expires_at_ms: who.expires_at.map_or(0, |at| at.0),
            trust_domain: self.keys.authority().trust_domain().to_owned(),
        }))
    }

    async fn create_token(
        &self,
        r: Request<pb::CreateTokenRequest>,
    ) -> Answer<pb::CreateTokenResponse> {
        answer(match principal(&r) {
            Ok(who) => self.make_token(&who, r.into_inner()).await,
            Err(fault) => Err(fault),
        })
    }

    async fn list_tokens(
        &self,
        r: Request<pb::ListTokensRequest>,
    ) -> Answer<pb::ListTokensResponse> {
        answer(principal(&r).and_then(|who| self.tokens_page(&who, r.get_ref())))
    }

    async fn revoke_token(
        &self,
        r: Request<pb::RevokeTokenRequest>,
    ) -> Answer<pb::RevokeTokenResponse> {
        answer(match principal(&r) {
            Ok(who) => self.revoke(&who, r.into_inner()).await,
            Err(fault) => Err(fault),
        })
    }

    async fn approve_node(
        &self,
        r: Request<pb::ApproveNodeRequest>,
    ) -> Answer<pb::ApproveNodeResponse> {
        let who = principal(&r).map_err(|f| crate::status::status(&f))?;
        let pb::ApproveNodeRequest { node, reason } = r.into_inner();
        let decided = self.decide(&who, Verb::Approve, &node, reason).await;
        answer(decided.map(|r| pb::ApproveNodeResponse { registration: Some(r) }))
    }

    async fn reject_node(
        &self,
        r: Request<pb::RejectNodeRequest>,
    ) -> Answer<pb::RejectNodeResponse> {
        let who = principal(&r).map_err(|f| crate::status::status(&f))?;
        let pb::RejectNodeRequest { node, reason } = r.into_inner();
        let decided = self.decide(&who, Verb::Reject, &node, reason).await;
        answer(decided.map(|r| pb::RejectNodeResponse { registration: Some(r) }))
    }

    async fn quarantine_node(
        &self,
        r: Request<pb::QuarantineNodeRequest>,
    ) -> Answer<pb::QuarantineNodeResponse> {
        let who = principal(&r).map_err(|f| crate::status::status(&f))?;
        let pb::QuarantineNodeRequest { node, reason } = r.into_inner();
        let decided = self.decide(&who, Verb::Quarantine, &node, reason).await;
        answer(decided.map(|r| pb::QuarantineNodeResponse { registration: Some(r) }))
    }

    async fn revoke_node(
        &self,
        r: Request<pb::RevokeNodeRequest>,
    ) -> Answer<pb::RevokeNodeResponse> {
        let who = principal(&r).map_err(|f| crate::status::status(&f))?;
        let pb::RevokeNodeRequest { node, reason } = r.into_inner();
        let decided = self.decide(&who, Verb::Revoke, &node, reason).await;
        answer(decided.map(|r| pb::RevokeNodeResponse { registration: Some(r) }))
    }

    async fn narrow_node(
        &self,
        r: Request<pb::NarrowNodeRequest>,
    ) -> Answer<pb::NarrowNodeResponse> {
        let who = principal(&r).map_err(|f| crate::status::status(&f))?;
        let decided = self.take_away(&who, r.into_inner()).await;
        answer(decided.map(|r| pb::NarrowNodeResponse { registration: Some(r) }))
    }
}

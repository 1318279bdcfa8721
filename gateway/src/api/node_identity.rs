//! NodeIdentity: how machines join and stay. The layer has let the call in; whether the machine may is the registry's word.

use super::{Api, answer, bounded, principal};
use crate::authority::{CheckedRequest, Issued, renew_at};
use crate::identity::Principal;
use crate::registry::{Machine, Signing};
use cortex_model::contract::v1::node_identity_server::NodeIdentity;
use cortex_model::credential::TokenText;
use cortex_model::limits::identity::{CREDENTIAL_MAX, PENDING_RETRY_MS};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

impl Api {
    async fn enrol(&self, who: &Principal, r: pb::JoinRequest) -> Result<pb::JoinResponse, Fault> {
        let none = || Fault::new(Code::BadJoinToken, "no such join token");
        if r.token.len() > CREDENTIAL_MAX {
            return Err(none());
        }
        let token = TokenText::parse(&r.token).map_err(|_| none())?;
        let request = CheckedRequest::read(&r.csr)?;
        self.identity.may_certify(&request.key())?;
        let authority = self.keys.authority();
        let signing = Signing { authority: &authority, now: crate::clock::now() };
        let address = who.peer.address.ip().to_string();
        let machine = Machine { hostname: r.hostname, agent_version: r.agent_version, address };
        let joined = self.registry.join(&signing, &token, &request, &r.node, &machine).await?;
        let pending = joined.certificate.is_none();
        if !pending {
            self.identity.certified(&request.key());
        }
        tracing::info!(workspace = %joined.workspace, node = %joined.node, pending, "a machine joined");
        let state = if pending { pb::Enrolment::Pending } else { pb::Enrolment::Approved };
        Ok(pb::JoinResponse {
            state: state.into(),
            workspace: joined.workspace.to_string(),
            node: joined.node.to_string(),
            certificate: joined.certificate.map(|issued| self.certificate(issued)),
            retry_after_ms: if pending { PENDING_RETRY_MS } else { 0 },
        })
    }

    async fn renewed(
        &self,
        r: pb::RenewCertificateRequest,
    ) -> Result<pb::RenewCertificateResponse, Fault> {
        let key = CheckedRequest::read(&r.csr)?.key();
        self.identity.may_certify(&key)?;
        let authority = self.keys.authority();
        let signing = Signing { authority: &authority, now: crate::clock::now() };
        let issued = self
            .registry
            .renew(&signing, &r.certificate, &r.csr, r.signed_at_ms, &r.signature)
            .await?;
        self.identity.certified(&key);
        Ok(pb::RenewCertificateResponse { certificate: Some(self.certificate(issued)) })
    }

    fn certificate(&self, issued: Issued) -> pb::NodeCertificate {
        let authority = self.keys.authority();
        pb::NodeCertificate {
            chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
            roots: authority.roots().map(|der| der.to_vec()).collect(),
            trust_domain: authority.trust_domain().to_owned(),
            not_before_ms: issued.record.not_before.0,
            not_after_ms: issued.record.not_after.0,
            renew_at_ms: renew_at(issued.record.at).0,
            now_ms: crate::clock::now().0,
            mirrors: self.audits.keys(),
        }
    }

    fn minted(&self, who: &Principal) -> Result<pb::MintTunnelTokenResponse, Fault> {
        let certificate = who.certificate().ok_or_else(|| {
            Fault::new(Code::CertificateRequired, "the connection has no certificate of a node")
        })?;
        let now = crate::clock::now();
        let (token, expires) = self.keys.authority().mint(certificate, now)?;
        Ok(pb::MintTunnelTokenResponse { token, expires_at_ms: expires.0, now_ms: now.0 })
    }

    async fn left(&self, who: &Principal, r: pb::LeaveRequest) -> Result<pb::LeaveResponse, Fault> {
        let certificate = who.certificate().ok_or_else(|| {
            Fault::new(Code::CertificateRequired, "the connection has no certificate of a node")
        })?;
        let (node, reason) = (&certificate.name.node, bounded(r.reason)?);
        self.registry.leave(&who.workspace, node, &reason, crate::clock::now()).await?;
        tracing::info!(workspace = %who.workspace, %node, "the node's owner took it out");
        Ok(pb::LeaveResponse {})
    }
}

#[tonic::async_trait]
impl NodeIdentity for Api {
    async fn join(&self, r: Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        let who = principal(&r).map_err(|f| crate::status::status(&f))?;
        let r = r.into_inner();
        let known = (r.token.len() <= CREDENTIAL_MAX).then(|| TokenText::parse(&r.token).ok());
        let named = known.flatten().map(|token| format!("{}/{}", token.workspace, token.id));
        let joined = self.enrol(&who, r).await;
        let address = who.peer.address.ip();
        answer(joined.map_err(|fault| self.identity.failed(address, named.as_deref(), fault)))
    }

    async fn renew_certificate(
        &self,
        r: Request<pb::RenewCertificateRequest>,
    ) -> Answer<pb::RenewCertificateResponse> {
        let who = principal(&r).map_err(|f| crate::status::status(&f))?;
        let renewed = self.renewed(r.into_inner()).await;
        answer(renewed.map_err(|fault| self.identity.failed(who.peer.address.ip(), None, fault)))
    }

    async fn mint_tunnel_token(
        &self,
        r: Request<pb::MintTunnelTokenRequest>,
    ) -> Answer<pb::MintTunnelTokenResponse> {
        answer(principal(&r).and_then(|who| self.minted(&who)))
    }

    async fn leave(&self, r: Request<pb::LeaveRequest>) -> Answer<pb::LeaveResponse> {
        let who = principal(&r).map_err(|f| crate::status::status(&f))?;
        answer(self.left(&who, r.into_inner()).await)
    }
}

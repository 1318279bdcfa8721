//! How a machine becomes a node and keeps its certificate. Each step is one fenced append, so that two gateways that are asked
//! at the same time cannot both say yes; a machine that lost the answer asks again and goes on where it was.

use super::{Registry, TRIES};
use crate::authority::{Authority, CheckedRequest, Issued, PeerCertificate};
use cortex_model::credential::{NodeName, Purpose, TokenText, renewal_proof};
use cortex_model::limits::identity::{CLOCK_SKEW_MS, NODE_ID_MAX, SHOWN_MAX};
use cortex_model::registry::{
    Decision, Digest, JoinGrant, JoinStep, NodeEnrolled, NodeRecord, Record, RegistryEvent,
    TokenUsed, node_aggregate, token_aggregate,
};
use cortex_model::{Actor, Code, Fault, NodeId, UnixMillis, Workspace};

/// What a machine says of itself, for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) hostname: String,
    pub(crate) agent_version: String,
    pub(crate) address: String,
}

/// Where a machine stands after it asked.
pub(crate) struct Joined {
    pub(crate) workspace: Workspace,
    pub(crate) node: NodeId,
    /// None while it waits for an admin.
    pub(crate) certificate: Option<Issued>,
}

/// What is needed to sign.
pub(crate) struct Signing<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) now: UnixMillis,
}

impl Registry {
    /// Enrols the key of `request`, or says where its enrolment stands.
    ///
    /// # Errors
    /// `CX-0511` to `CX-0514`, `CX-0504`, `CX-0509`, `CX-0102` when no node id is left, and the log's.
    pub(crate) async fn join(
        &self,
        signing: &Signing<'_>,
        token: &TokenText,
        request: &CheckedRequest,
        wish: &str,
        machine: &Machine,
    ) -> Result<Joined, Fault> {
        if token.purpose != Purpose::Join {
            return Err(Fault::new(Code::BadJoinToken, "a user token enrols no machine"));
        }
        let wish = wished(wish, &request.key())?;
        let uri = name(signing, &token.workspace, &wish).to_string();
        request.names_only(&uri)?;
        let (grant, wish, by) = self.use_token(signing.now, token, request.key(), wish).await?;
        let node =
            self.enrol(signing.now, token, &grant, &by, request.key(), wish, machine).await?;
        match self.certify(signing, &token.workspace, &node, request).await {
            Ok(issued) => {
                Ok(Joined { workspace: token.workspace.clone(), node, certificate: Some(issued) })
            }
            Err(fault) if fault.code == Code::NodeNotApproved => {
                Ok(Joined { workspace: token.workspace.clone(), node, certificate: None })
            }
            Err(fault) => Err(fault),
        }
    }

    /// Counts the key against the token, unless it was counted before.
    async fn use_token(
        &self,
        now: UnixMillis,
        token: &TokenText,
        key: Digest,
        wish: NodeId,
    ) -> Result<(JoinGrant, NodeId, Actor), Fault> {
        let unknown = || Fault::new(Code::BadJoinToken, "no such join token");
        let id = token_aggregate(&token.id);
        for _ in 0..TRIES {
            let loaded = self.load(token.workspace.as_str(), &id).await?;
            let Some((Record::Token(record), rev)) = loaded else { return Err(unknown()) };
            let (grant, step) = record.join(&token.secret_hash(), &key, now)?;
            let by = record.created_by.clone();
            let wish = grant.node.clone().unwrap_or_else(|| wish.clone());
            match step {
                JoinStep::Counted(asked) => {
                    return Ok((grant.clone(), NodeId::parse(&asked)?, by));
                }
                JoinStep::Use => {
                    let used = TokenUsed { key, node: wish.to_string(), at: now };
                    let events = vec![RegistryEvent::TokenUsed(used)];
                    let after = Some((record.commits, rev));
                    if self.append(token.workspace.as_str(), &id, after, events).await? {
                        return Ok((grant.clone(), wish, by));
                    }
                }
            }
        }
        Err(Fault::new(Code::LogUnavailable, "many machines join with this token at once"))
    }

    /// Makes the node, under the id it wishes or one that is free.
    #[expect(clippy::too_many_arguments, reason = "each is one fact of the node's first event")]
    async fn enrol(
        &self,
        now: UnixMillis,
        token: &TokenText,
        grant: &JoinGrant,
        by: &Actor,
        key: Digest,
        wish: NodeId,
        machine: &Machine,
    ) -> Result<NodeId, Fault> {
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
        let enrolled = NodeEnrolled {
            key,
            token_id: token.id.clone(),
            hostname: shown(&machine.hostname),
            labels: grant.labels.clone(),
            address: shown(&machine.address),
            agent_version: shown(&machine.agent_version),
            at: now,
            gateway: self.gateway.clone(),
        };
        let mut events = vec![RegistryEvent::NodeEnrolled(Box::new(enrolled))];
        if !grant.require_approval {
            let reason = "the join token needs no approval".to_owned();
            events.push(RegistryEvent::NodeApproved(Decision {
                actor: by.clone(),
                reason,
                at: now,
            }));
        }
        let other = beside(&wish, &key)?;
        for candidate in [Some(&wish), grant.node.is_none().then_some(&other)].into_iter().flatten()
        {
            let id = node_aggregate(candidate)?;
            // Twice: one that was not there may have come into being before the append.
            for _ in 0..2 {
                match self.load(token.workspace.as_str(), &id).await? {
                    Some((Record::Node(there), _)) if there.key == key => {
                        return Ok(candidate.clone());
                    }
                    Some(_) => break,
                    None => {
                        let ws = token.workspace.as_str();
                        if self.append(ws, &id, None, events.clone()).await? {
                            return Ok(candidate.clone());
                        }
                    }
                }
            }
        }
        Err(Fault::new(Code::BadIdentifier, format!("the node id {wish} belongs to another key"))
            .with_hint("choose another id with --node"))
    }

    /// Signs a certificate for a node that may have one, and records it.
    ///
    /// # Errors
    /// What [`NodeRecord::renews`] says; the log's.
    async fn certify(
        &self,
        signing: &Signing<'_>,
        workspace: &Workspace,
        node: &NodeId,
        request: &CheckedRequest,
    ) -> Result<Issued, Fault> {
        let name = name(signing, workspace, node);
        request.names_only(&name.to_string())?;
        let id = node_aggregate(node)?;
        for _ in 0..TRIES {
            let loaded = self.load(workspace.as_str(), &id).await?;
            let Some((Record::Node(record), rev)) = loaded else { return Err(gone(node)) };
            // Also for a join: a key that was counted may ask again for ever, and must not get around the grace by that.
            record.renews(&request.key(), signing.now, self.grace_ms)?;
            let issued =
                signing.authority.node_certificate(&name, request, &self.gateway, signing.now)?;
            let events = vec![RegistryEvent::CertificateIssued(issued.record.clone())];
            let after = Some((record.commits, rev));
            if self.append(workspace.as_str(), &id, after, events).await? {
                return Ok(issued);
            }
        }
        Err(Fault::new(Code::LogUnavailable, "others change the node all the time"))
    }

    /// A new certificate for who holds the key of an old one, which may have run out.
    ///
    /// # Errors
    /// `CX-0526` without proof, `CX-0506` when the clocks differ too much, `CX-0514`, `CX-0505`, `CX-0508`, `CX-0509`,
    /// `CX-0515`, and the log's.
    pub(crate) async fn renew(
        &self,
        signing: &Signing<'_>,
        certificate: &[u8],
        csr: &[u8],
        signed_at_ms: u64,
        signature: &[u8],
    ) -> Result<Issued, Fault> {
        let request = CheckedRequest::read(csr)?;
        let unreadable = || Fault::new(Code::BadProof, "the certificate names no node");
        let peer = PeerCertificate::read(certificate).ok_or_else(unreadable)?;
        signing.authority.made(certificate)?;
        let proof = renewal_proof(certificate, csr, signed_at_ms);
        crate::authority::verify(certificate, &proof, signature)?;
        near(UnixMillis(signed_at_ms), signing.now)?;
        if request.key() != peer.key {
            return Err(Fault::new(
                Code::NotBound,
                "a node keeps its key: the request is for another",
            )
            .with_hint("to change a node's key, leave and join again"));
        }
        let NodeName { workspace, node, .. } = &peer.name;
        self.certify(signing, workspace, node, &request).await
    }

    /// The node's owner takes it out.
    ///
    /// # Errors
    /// The log's. Leaving again is fine.
    pub(crate) async fn leave(
        &self,
        workspace: &Workspace,
        node: &NodeId,
        reason: &str,
        now: UnixMillis,
    ) -> Result<(), Fault> {
        let decide = |record: Option<&Record>| match record {
            Some(Record::Node(NodeRecord { standing, .. })) if standing.is_final() => {
                Ok(Vec::new())
            }
            Some(Record::Node(_)) => {
                Ok(vec![RegistryEvent::NodeLeft { reason: reason.to_owned(), at: now }])
            }
            Some(Record::Token(_)) | None => Err(gone(node)),
        };
        self.change(workspace.as_str(), &node_aggregate(node)?, decide).await.map(drop)
    }
}

fn gone(node: &NodeId) -> Fault {
    Fault::new(Code::NodeRevoked, format!("the registry does not know the node {node}"))
}

fn name(signing: &Signing<'_>, workspace: &Workspace, node: &NodeId) -> NodeName {
    NodeName {
        trust_domain: signing.authority.trust_domain().to_owned(),
        workspace: workspace.clone(),
        node: node.clone(),
    }
}

/// The id a machine asks for; one that asks for none is named after its key.
fn wished(wish: &str, key: &Digest) -> Result<NodeId, Fault> {
    let id = if wish.is_empty() { format!("n{}", &key.to_string()[..12]) } else { wish.to_owned() };
    let id = NodeId::parse(&id)?;
    node_aggregate(&id)?;
    Ok(id)
}

/// The id a machine gets when another one has the id it wishes: the same for the same key.
fn beside(wish: &NodeId, key: &Digest) -> Result<NodeId, Fault> {
    let tail = &key.to_string()[..8];
    let front: String = wish.as_str().chars().take(NODE_ID_MAX - tail.len() - 1).collect();
    NodeId::parse(&format!("{front}-{tail}"))
}

/// Refuses a time that is too far from ours, and says by how much.
fn near(signed: UnixMillis, now: UnixMillis) -> Result<(), Fault> {
    let (by, word) =
        if signed > now { (signed.since(now), "ahead of") } else { (now.since(signed), "behind") };
    if by <= CLOCK_SKEW_MS {
        return Ok(());
    }
    let (minutes, seconds) = (by / 60_000, by / 1_000 % 60);
    let text = format!("the machine's clock is {minutes} min {seconds} s {word} the server's");
    Err(Fault::new(Code::ClockSkew, text))
}

//! A simulated agent's way in: it joins, gets its certificate, connects with it and mints its tunnel token, as every agent does.

use crate::tls::Client;
use anyhow::Context as _;
use cortex_agent::dial::{self, Trust};
use cortex_model::credential::TokenText;
use cortex_model::proto as pb;
use cortex_proto::v1::node_identity_client::NodeIdentityClient;
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use tonic::transport::Channel;

/// A node that may open its tunnel.
pub(crate) struct Node {
    /// With its certificate.
    pub(crate) channel: Channel,
}

impl Node {
    /// Joins and connects.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn join(url: &str, token: &str, name: &str) -> anyhow::Result<Node> {
        let client = Self::certified(url, token, name).await?;
        let address = url.strip_prefix("https://").context("https")?.parse()?;
        Ok(Node { channel: client.channel(address, "127.0.0.1").await? })
    }

    /// Joins, and returns what to connect with.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn certified(url: &str, token: &str, name: &str) -> anyhow::Result<Client> {
        let key = rcgen::KeyPair::generate()?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key)?;
        let known = TokenText::parse(token)?;
        let request = pb::JoinRequest {
            token: token.to_owned(),
            csr: csr.der().to_vec(),
            node: name.to_owned(),
            hostname: name.to_owned(),
            agent_version: "bench".to_owned(),
        };
        let first = dial::connect(url, Trust::Pinned(known.ca)).await?;
        let mut client = NodeIdentityClient::new(first);
        // Many use one token at once here, and each use is an append that insists on the one before: some must ask again.
        let joined = loop {
            match client.join(request.clone()).await {
                Ok(joined) => break joined.into_inner(),
                Err(status) if status.code() == tonic::Code::Unavailable => {}
                Err(status) => return Err(status.into()),
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(5..50))).await;
        };
        let certificate = joined.certificate.context("a certificate")?;
        let root = certificate.roots.into_iter().next().context("a root")?;
        Ok(Client {
            root: CertificateDer::from(root),
            chain: certificate.chain.into_iter().map(CertificateDer::from).collect(),
            key: key.serialize_der(),
        })
    }

    /// A token for its tunnel.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn mint(&self) -> anyhow::Result<String> {
        let mut client = NodeIdentityClient::new(self.channel.clone());
        let answer = client.mint_tunnel_token(pb::MintTunnelTokenRequest {}).await?;
        Ok(answer.into_inner().token)
    }
}

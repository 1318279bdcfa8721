//! A tunnel of a node that keeps none of our agent's rules.

use super::PATIENCE;
use cortex_model::proto as pb;
use cortex_proto::v1::agent_gateway_client::AgentGatewayClient;
use pb::agent_frame::Body as Up;
use pb::gateway_frame::Body as Down;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// An open tunnel.
pub(crate) struct Tunnel {
    pub(crate) up: mpsc::Sender<pb::AgentFrame>,
    pub(crate) down: Streaming<pb::GatewayFrame>,
}

impl Tunnel {
    /// Makes the call and says hello.
    pub(crate) async fn open(
        channel: Channel,
        node: &str,
        token: Option<&str>,
    ) -> Result<Tunnel, Status> {
        Tunnel::open_as(channel, node, token, &uuid::Uuid::new_v4().to_string(), 1).await
    }

    pub(super) async fn open_as(
        channel: Channel,
        node: &str,
        token: Option<&str>,
        session: &str,
        generation: u64,
    ) -> Result<Tunnel, Status> {
        let (up, frames) = mpsc::channel(16);
        let hello = pb::Hello {
            min_version: 1,
            max_version: 1,
            node: node.to_owned(),
            incarnation: "0".repeat(32),
            session: session.to_owned(),
            generation,
            manifest: Some(pb::Manifest::default()),
            slots: 1,
            slots_free: 1,
            ..Default::default()
        };
        up.send(pb::AgentFrame { body: Some(Up::Hello(hello)) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(frames));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let down = AgentGatewayClient::new(channel).connect(request).await?.into_inner();
        Ok(Tunnel { up, down })
    }

    /// Sends a frame; one that finds the tunnel closed is lost.
    pub(crate) async fn say(&self, body: Up) {
        drop(self.up.send(pb::AgentFrame { body: Some(body) }).await);
    }

    /// The next frame that is no heartbeat; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Down> {
        let frame = async {
            loop {
                let body = self.down.message().await.ok()??.body?;
                if !matches!(body, Down::Heartbeat(_)) {
                    return Some(body);
                }
            }
        };
        tokio::time::timeout(PATIENCE, frame).await.expect("a frame or the end")
    }

    /// Waits for the welcome.
    pub(crate) async fn welcomed(mut self) -> (Tunnel, pb::Welcome) {
        match self.next().await {
            Some(Down::Welcome(welcome)) => (self, welcome),
            other => panic!("{other:?}"),
        }
    }

    /// Sends heartbeats from now on, so that silence does not end it.
    pub(crate) fn beat(&self) {
        let up = self.up.clone();
        tokio::spawn(async move {
            for seq in 1.. {
                let beat = pb::AgentHeartbeat { seq, slots: 1, slots_free: 1, journal: None };
                if up.send(pb::AgentFrame { body: Some(Up::Heartbeat(beat)) }).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }

    /// Waits for the refusal and returns its code.
    pub(crate) async fn refused(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Down::Refuse(refuse)) => return refuse.error.unwrap_or_default().code,
                Some(_) => {}
                None => return "the end".to_owned(),
            }
        }
    }
}

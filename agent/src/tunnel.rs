//! The transport under the tunnel: one gRPC call to the gateway, with a token. It carries frames and knows
//! nothing about them.

use crate::identity::{self, fault};
use cortex_model::limits::FRAME_MAX;
use cortex_model::proto::{AgentFrame, GatewayFrame};
use cortex_model::{Code, Fault};
use cortex_proto::v1::agent_gateway_client::AgentGatewayClient;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Frames between the machine and the transport. Small: what waits there cannot be overtaken.
const QUEUED: usize = 8;

/// A connection whose call is ready to be made.
#[derive(Debug)]
pub(crate) struct Dialed {
    channel: Channel,
    token: MetadataValue<Ascii>,
    /// How long what was shown holds.
    pub(crate) holds: Holds,
}

/// How long what the node showed holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holds {
    /// Life of the token from when it was made.
    pub(crate) token: Duration,
    /// When the certificate should be renewed, Unix milliseconds.
    pub(crate) renew_at_ms: u64,
}

/// A server given as this and a path is named in that file, which is read before every connection: a server that was started
/// again may listen elsewhere.
pub(crate) const FILE_PREFIX: &str = "file:";

/// Where to dial, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    /// The agent's data directory, which holds its identity.
    pub(crate) data_dir: PathBuf,
    /// A gateway, a file that names one, or empty for the one that was joined.
    pub(crate) server: String,
}

impl Dial {
    /// The URL that is meant now; empty for the one that was joined.
    pub(crate) fn url(&self) -> Result<String, Fault> {
        match self.server.strip_prefix(FILE_PREFIX) {
            Some(path) => named_in(Path::new(path)),
            None => Ok(self.server.clone()),
        }
    }

    /// Reaches the gateway and gets a token.
    pub(crate) async fn dial(self) -> Result<Dialed, Fault> {
        let url = self.url()?;
        let known = identity::authenticate(&self.data_dir, &url).await?;
        let holds = Holds { token: known.token.life, renew_at_ms: known.renew_at_ms };
        let token = bearer(&known.token.text)?;
        Ok(Dialed { channel: known.channel, token, holds })
    }
}

/// The URL in an endpoint file.
fn named_in(path: &Path) -> Result<String, Fault> {
    let bad = |why: String| {
        Fault::new(Code::CannotConnect, format!("{}: {why}", path.display())).with_hint(
            "the server writes this file when it starts; the agent tries again by itself",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|err| bad(err.to_string()))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|err| bad(err.to_string()))?;
    match value["url"].as_str() {
        Some(url) if value["version"] == 1 => Ok(url.to_owned()),
        _ => Err(bad("it is not an endpoint file of version 1".to_owned())),
    }
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Fault> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| {
        Fault::new(Code::Unauthenticated, "the token has characters it cannot have")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

type Call = Pin<Box<dyn Future<Output = Result<Response<Streaming<GatewayFrame>>, Status>> + Send>>;

enum Down {
    Calling(Call),
    Open(Box<Streaming<GatewayFrame>>),
}

/// One connection: frames up and down.
pub(crate) struct Link {
    channel: Channel,
    up: mpsc::Sender<AgentFrame>,
    down: Down,
}

impl Link {
    /// Makes the call. Frames can be sent at once; the gateway answers when it has heard the first.
    pub(crate) fn open(dialed: Dialed) -> Self {
        let (up, frames) = mpsc::channel(QUEUED);
        let mut request = Request::new(ReceiverStream::new(frames));
        request.metadata_mut().insert("authorization", dialed.token);
        let channel = dialed.channel.clone();
        let mut client = AgentGatewayClient::new(dialed.channel)
            .max_decoding_message_size(FRAME_MAX)
            .max_encoding_message_size(FRAME_MAX);
        let call = Box::pin(async move { client.connect(request).await });
        Self { channel, up, down: Down::Calling(call) }
    }

    /// For other calls on the same connection.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Where frames are sent.
    pub(crate) fn up(&self) -> &mpsc::Sender<AgentFrame> {
        &self.up
    }

    /// The next frame. May be dropped while it waits. Any error is the end of the connection.
    pub(crate) async fn next(&mut self) -> Result<GatewayFrame, Fault> {
        if let Down::Calling(call) = &mut self.down {
            let response = call.as_mut().await.map_err(|status| fault(&status))?;
            self.down = Down::Open(Box::new(response.into_inner()));
        }
        let Down::Open(stream) = &mut self.down else { return Err(closed()) };
        match stream.message().await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(closed()),
            Err(status) => Err(fault(&status)),
        }
    }
}

fn closed() -> Fault {
    Fault::new(Code::CannotConnect, "the gateway closed the connection")
}

//! The transport under the tunnel: one gRPC call to the gateway, with the token. It carries frames and knows
//! nothing about them.

use crate::config::read_token;
use cortex_model::limits::{CONNECT_TIMEOUT_MS, FRAME_MAX};
use cortex_model::proto::{AgentFrame, GatewayFrame};
use cortex_model::{Code, Fault};
use cortex_proto::ERROR_METADATA;
use cortex_proto::v1::agent_gateway_client::AgentGatewayClient;
use prost::Message as _;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// Frames between the machine and the transport. Small: what waits there cannot be overtaken.
const QUEUED: usize = 8;

/// A connection whose call is ready to be made.
#[derive(Debug)]
pub(crate) struct Dialed {
    channel: Channel,
    token: MetadataValue<Ascii>,
}

/// A server given as this and a path is named in that file, which is read before every connection: a server that was started
/// again may listen elsewhere.
pub(crate) const FILE_PREFIX: &str = "file:";

/// Reaches the gateway and reads the token.
pub(crate) async fn dial(server: String, token_file: std::path::PathBuf) -> Result<Dialed, Fault> {
    let server = match server.strip_prefix(FILE_PREFIX) {
        Some(path) => named_in(Path::new(path))?,
        None => server,
    };
    let token = bearer(&token_file)?;
    let wrong = |err: tonic::transport::Error| {
        Fault::new(Code::CannotConnect, format!("{server}: {}", reason(&err)))
            .with_hint("is a gateway running there? the agent tries again by itself")
    };
    let endpoint = Endpoint::from_shared(server.clone())
        .map_err(wrong)?
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .tcp_nodelay(true)
        .user_agent(concat!("cortex-agent/", env!("CARGO_PKG_VERSION")))
        .map_err(wrong)?;
    let channel = endpoint.connect().await.map_err(wrong)?;
    Ok(Dialed { channel, token })
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

fn bearer(path: &Path) -> Result<MetadataValue<Ascii>, Fault> {
    let token = read_token(path)?;
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| {
        Fault::new(Code::Unauthenticated, "the token has characters it cannot have")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The innermost cause says most.
fn reason(err: &dyn std::error::Error) -> String {
    let mut cause = err;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

type Call = Pin<Box<dyn Future<Output = Result<Response<Streaming<GatewayFrame>>, Status>> + Send>>;

enum Down {
    Calling(Call),
    Open(Box<Streaming<GatewayFrame>>),
}

/// One connection: frames up and down.
pub(crate) struct Link {
    up: mpsc::Sender<AgentFrame>,
    down: Down,
}

impl Link {
    /// Makes the call. Frames can be sent at once; the gateway answers when it has heard the first.
    pub(crate) fn open(dialed: Dialed) -> Self {
        let (up, frames) = mpsc::channel(QUEUED);
        let mut request = Request::new(ReceiverStream::new(frames));
        request.metadata_mut().insert("authorization", dialed.token);
        let mut client = AgentGatewayClient::new(dialed.channel)
            .max_decoding_message_size(FRAME_MAX)
            .max_encoding_message_size(FRAME_MAX);
        let call = Box::pin(async move { client.connect(request).await });
        Self { up, down: Down::Calling(call) }
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

/// The gateway's own words where it sent them, otherwise the transport's.
fn fault(status: &Status) -> Fault {
    let own = status.metadata().get_bin(ERROR_METADATA).and_then(|value| value.to_bytes().ok());
    let own = own.and_then(|bytes| cortex_proto::v1::Error::decode(bytes).ok());
    let message = match own {
        Some(error) => format!("{}: {}", error.code, error.message),
        None => status.message().to_owned(),
    };
    Fault::new(Code::CannotConnect, message)
}

//! How a client reaches a gateway without a certificate of its own: the same way as a node before it joined.

pub use crate::identity::Trust;

use cortex_model::Fault;
use tonic::transport::Channel;

/// Connects to `https://HOST:PORT` and is sure of the gateway when it returns. When the connection is gone, the channel is.
///
/// # Errors
/// `CX-0801` when nobody answers, `CX-0523` when it is another server, `CX-0544` when it is not TLS 1.3, `CX-0506` when its
/// certificate's time and this machine's clock do not fit.
pub async fn connect(url: &str, trust: Trust) -> Result<Channel, Fault> {
    crate::identity::connect(url, trust, None).await
}

//! Who this node is: its key, its certificate, how it got them and keeps them. The key is made here and never leaves; what
//! is told upstream is a request signed by it. It never decides who may join: the server does.
//!
//! ```text
//! identity/key.pem         0600, ECDSA P-256, PKCS #8
//! identity/identity.json   0600, everything else; replaced as a whole
//! ```

mod calls;
mod commands;
mod join;
mod key;
mod leave;
mod renew;
mod store;
mod tls;

pub(crate) use calls::{TunnelToken, fault, mint};
pub(crate) use commands::{JoinArgs, LeaveArgs, StatusArgs};
pub(crate) use commands::{join as join_command, leave as leave_command, status as status_command};
pub(crate) use join::ask;
pub(crate) use renew::{pause, renew};
pub(crate) use store::{Standing, Store};
pub use tls::Trust;
pub(crate) use tls::connect;

use crate::clock::unix_now;
use cortex_model::{Fault, UnixMillis};
use std::path::Path;
use tonic::transport::Channel;

/// A connection on which the node is who it says.
#[derive(Debug)]
pub(crate) struct Authenticated {
    /// Speaks with the node's certificate.
    pub(crate) channel: Channel,
    /// What the tunnel begins with.
    pub(crate) token: TunnelToken,
    /// When the certificate should be renewed, Unix milliseconds.
    pub(crate) renew_at_ms: u64,
}

/// Connects as the node of a data directory. Asks on where a join was not decided yet, and renews a certificate that ran out.
///
/// # Errors
/// `CX-0540` when the machine never joined; the server's own refusals; whatever keeps it from being reached.
pub(crate) async fn authenticate(data_dir: &Path, server: &str) -> Result<Authenticated, Fault> {
    let store = Store::of(data_dir);
    let (mut enrolled, key) = (store.load()?, store.key()?);
    if !server.is_empty() {
        server.clone_into(&mut enrolled.server);
    }
    if let Standing::Pending { .. } = enrolled.standing {
        join::ask(&store, &mut enrolled, &key).await?;
    }
    if enrolled.certificate()?.not_after_ms <= unix_now().0 {
        renew::renew_into(&store, &mut enrolled, &key).await?;
    }
    let certificate = enrolled.certificate()?;
    let renew_at_ms = certificate.renew_at_ms;
    let trust = Trust::Roots(certificate.roots()?);
    let channel = connect(&enrolled.server, trust, Some((certificate.chain()?, &key))).await?;
    let token = mint(&channel).await?;
    Ok(Authenticated { channel, token, renew_at_ms })
}

/// The end of the certificate; the past where there is none.
pub(crate) fn not_after(data_dir: &Path) -> UnixMillis {
    let enrolled = Store::of(data_dir).load();
    let end = enrolled.and_then(|enrolled| enrolled.certificate().map(|c| c.not_after_ms));
    UnixMillis(end.unwrap_or(0))
}

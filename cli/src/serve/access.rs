//! What a server's data directory lets its holder do: root's token lies in it, and is made anew before it runs out. And the join
//! token of the agent beside the server.

use super::compose::OpenLog;
use super::data_dir::DataDir;
use crate::error::CliError;
use cortex_gateway::authority;
use cortex_gateway::{GivenFiles, Keys, Registrar};
use cortex_model::{Code, UnixMillis};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Life of root's token, milliseconds: 30 days. It is made anew when half of that is over.
const ROOT_TTL_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// The keys of a server: those it was pointed to, else its own, which `create` may make. And a certificate of another authority,
/// for everybody who does not ask for ours.
///
/// # Errors
/// `CX-0521` when there are none, `CX-0706` when others can read them, `CX-0803` for a name that cannot be in a certificate,
/// `CX-0528` when the given certificate cannot be used.
pub(crate) fn keys(
    dir: &DataDir,
    given: Option<&Path>,
    create: bool,
    address: SocketAddr,
    names: &[String],
    certificate: Option<GivenFiles>,
) -> Result<Keys, CliError> {
    let own = dir.join("authority");
    let path: PathBuf = given.map_or(own, Path::to_owned);
    if create && given.is_none() && !path.join("ca.key").exists() {
        let random = uuid::Uuid::new_v4().simple().to_string();
        authority::init(&path, &format!("cortex-{}", &random[..8]), now())?;
    }
    Ok(Keys::open(path, reached_by(address, names), certificate)?)
}

/// The names and addresses a server is reached by.
fn reached_by(address: SocketAddr, names: &[String]) -> Vec<String> {
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.ip().is_unspecified() {
        all.push(address.ip().to_string());
    }
    if !address.ip().is_loopback() {
        all.push(rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase());
    }
    all.extend(names.iter().cloned());
    all.sort();
    all.dedup();
    all.retain(|name| !name.is_empty());
    all
}

/// Sees to it that the directory holds a token of root that is good for a while, now and as long as the server runs.
///
/// # Errors
/// The log's, and those of the file.
pub(crate) async fn root_token(
    dir: Arc<DataDir>,
    registrar: Registrar,
    stop: CancellationToken,
) -> Result<(), CliError> {
    refresh(&dir, &registrar).await?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Err(e) = refresh(&dir, &registrar).await {
                tracing::error!(
                    error = e.message,
                    "the token of the data directory was not made anew"
                );
            }
        }
    });
    Ok(())
}

async fn refresh(dir: &DataDir, registrar: &Registrar) -> Result<(), CliError> {
    let there = dir.token()?;
    match registrar.root_token(there.as_deref(), ROOT_TTL_MS).await? {
        Some(text) => dir.write_token(&text.reveal()),
        None => Ok(()),
    }
}

/// Makes tokens in the name of this server.
pub(crate) fn registrar(open: &OpenLog, keys: &Keys, holder: &str) -> Registrar {
    Registrar::new(open.log.clone(), keys.authority(), holder)
}

/// Where this machine itself reaches a server that listens there.
pub(crate) fn url(address: SocketAddr) -> String {
    let own = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other @ (SocketAddr::V4(_) | SocketAddr::V6(_)) => other,
    };
    format!("https://{own}")
}

/// Wall time now.
pub(crate) fn now() -> UnixMillis {
    let ms = jiff::Timestamp::now().as_millisecond();
    UnixMillis(u64::try_from(ms).unwrap_or(0))
}

/// What `up` and `gateway` say when they listen where others can reach them.
pub(crate) fn reachable_note(address: SocketAddr, names: &[String]) -> Option<String> {
    (address.ip().is_unspecified() && names.is_empty()).then(|| {
        format!(
            "it listens on every address; others reach it by a name that its certificate has: --name HOST ({})",
            Code::ServerNotTrusted.as_str()
        )
    })
}

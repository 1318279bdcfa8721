//! `cortex version`: this program's version, and the server's when there is one.

use super::Session;
use crate::error::CliError;
use crate::render;
use cortex_model::Code;
use cortex_model::proto as pb;
use serde::Serialize;

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    server: Option<Server>,
}

#[derive(Serialize)]
struct Server {
    version: String,
    gateway: String,
    log_backend: String,
    durability: String,
    now_ms: u64,
    features: Vec<String>,
}

/// Prints the versions. No server is no error; one that refuses us is.
pub(crate) async fn run(session: &Session) -> Result<(), CliError> {
    let server = match ask(session).await {
        Ok(info) => Some(info),
        Err(e) if e.is(Code::CannotConnect) => None,
        Err(e) => return Err(e),
    };
    let version = env!("CARGO_PKG_VERSION");
    if session.json() {
        return render::json(&Versions { version, server });
    }
    render::line(&format!("cortex {version}"))?;
    match server {
        Some(s) => render::line(&format!(
            "server {} (gateway {}, log {}: {})",
            s.version, s.gateway, s.log_backend, s.durability
        )),
        None => render::line("no server answers"),
    }
}

async fn ask(session: &Session) -> Result<Server, CliError> {
    let i = session.connect().await?.get_server_info(pb::GetServerInfoRequest {}).await?;
    Ok(Server {
        version: i.version,
        gateway: i.gateway,
        log_backend: i.log_backend,
        durability: i.durability,
        now_ms: i.now_ms,
        features: i.features,
    })
}

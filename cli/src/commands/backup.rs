//! `cortex backup`: a copy of the log while the server runs.

use crate::commands::Session;
use crate::error::CliError;
use crate::render;
use cortex_model::proto as pb;
use serde::Serialize;

#[derive(Serialize)]
struct Backup {
    directory: String,
}

/// Asks the server for a copy and says where it lies.
///
/// # Errors
/// The server's error.
pub(crate) async fn run(session: &Session) -> Result<u8, CliError> {
    let client = session.connect().await?;
    let directory = client.create_backup(pb::CreateBackupRequest {}).await?.directory;
    if session.json() {
        render::json(&Backup { directory })?;
    } else {
        render::line(&format!(
            "{directory}\nTo go back to it, stop the server and run: cortex up --data-dir {directory}"
        ))?;
    }
    Ok(0)
}

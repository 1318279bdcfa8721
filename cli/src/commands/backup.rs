//! `cortex backup`: a copy of the log while the server runs.

use crate::client::Target;
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
pub(crate) async fn run(target: &Target, json: bool) -> Result<u8, CliError> {
    let client = target.connect().await?;
    let directory = client.create_backup(pb::CreateBackupRequest {}).await?.directory;
    if json {
        render::json(&Backup { directory })?;
    } else {
        render::line(&format!("{directory}\nTo go back to it, stop the server and run: cortex up --data-dir {directory}"))?;
    }
    Ok(0)
}

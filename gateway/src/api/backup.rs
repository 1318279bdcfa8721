//! CreateBackup: a copy of the log while it is in use. The caller does not choose where, so that a token cannot write
//! files at will.

use super::{Api, workspace};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use tonic::Request;

impl Api {
    pub(super) async fn copy_log(
        &self,
        r: Request<pb::CreateBackupRequest>,
    ) -> Result<pb::CreateBackupResponse, Fault> {
        workspace(&r)?;
        let Some(backup) = &self.backup else {
            return Err(Fault::new(
                Code::LogUnavailable,
                "this server's log is not in its own files",
            )
            .with_hint("back up the log's server instead, for example with 'nats stream backup'"));
        };
        let directory = backup().await?;
        Ok(pb::CreateBackupResponse { directory: directory.display().to_string() })
    }
}

//! GetServerInfo.

use super::{Api, workspace};
use cortex_model::Fault;
use cortex_model::proto as pb;
use tonic::Request;

impl Api {
    pub(super) fn info(
        &self,
        r: &Request<pb::GetServerInfoRequest>,
    ) -> Result<pb::GetServerInfoResponse, Fault> {
        workspace(r)?;
        let log = self.log.describe();
        Ok(pb::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway: self.config.name.clone(),
            log_backend: log.backend.to_owned(),
            durability: log.acknowledged_means,
            now_ms: crate::clock::now().0,
            features: Vec::new(),
        })
    }
}

//! Openings of a journal's records. They lie in groups, so that those of one record are found at once and one can be erased.

use super::{AuditApi, Items, unreadable};
use crate::status::status;
use bytes::Bytes;
use cortex_log::audit::{OPENINGS_BUCKET, OPENINGS_GROUP, openings_key};
use cortex_log::{EventLog, LogError};
use cortex_model::proto as pb;
use cortex_model::{Fault, Workspace};
use futures::StreamExt;
use std::sync::Arc;

impl AuditApi {
    /// Openings of one record.
    pub(super) async fn openings_of(&self, log32: &str, seq: u64) -> Result<Vec<String>, Fault> {
        let lines =
            group(&self.log, log32, seq / OPENINGS_GROUP).await.map_err(|e| unreadable(&e))?;
        let prefix = format!("{seq} ");
        let text = String::from_utf8_lossy(&lines);
        Ok(text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    /// Openings of a range, one message for each group.
    pub(super) async fn all_openings(
        self,
        workspace: Workspace,
        log32: String,
        r: pb::ReadAuditOpeningsRequest,
    ) -> Result<Items<pb::ReadAuditOpeningsResponse>, Fault> {
        // Only of journals of this workspace.
        let tree = self.trees.get(&self.log, workspace.as_str(), &log32).await?;
        let end = if r.to_seq == 0 { tree.size() } else { r.to_seq.min(tree.size()) };
        let groups = r.from_seq / OPENINGS_GROUP..end.div_ceil(OPENINGS_GROUP);
        let wanted = r.from_seq..end;
        let stream = futures::stream::iter(groups).then(move |number| {
            let (log, log32, wanted) = (self.log.clone(), log32.clone(), wanted.clone());
            async move {
                let lines = group(&log, &log32, number).await;
                let lines = lines.map_err(|e| status(&unreadable(&e)))?;
                let of_range = |line: &&[u8]| {
                    let seq = line.split(|b| *b == b' ').next();
                    let seq = seq.and_then(|seq| std::str::from_utf8(seq).ok()?.parse().ok());
                    seq.is_some_and(|seq: u64| wanted.contains(&seq))
                };
                let mut kept: Vec<&[u8]> =
                    lines.split_inclusive(|b| *b == b'\n').filter(of_range).collect();
                kept.sort_by_key(|line| {
                    let seq = line.split(|b| *b == b' ').next();
                    seq.and_then(|seq| std::str::from_utf8(seq).ok()?.parse::<u64>().ok())
                });
                Ok(pb::ReadAuditOpeningsResponse { openings: kept.concat().into() })
            }
        });
        Ok(stream.boxed())
    }
}

/// The lines of a group; parts follow each other until one is missing.
async fn group(log: &Arc<dyn EventLog>, log32: &str, number: u64) -> Result<Bytes, LogError> {
    let mut lines = Vec::new();
    for part in 0.. {
        let Some(entry) = log.kv_get(OPENINGS_BUCKET, &openings_key(log32, number, part)).await?
        else {
            break;
        };
        lines.extend_from_slice(&entry.value);
    }
    Ok(lines.into())
}

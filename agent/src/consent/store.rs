//! What outlives the agent: answers that are remembered until a time. A file of the owner's; one that cannot be read holds none.

use cortex_agent_core::consent::Grant;
use cortex_agent_core::policy::Fingerprint;
use cortex_audit::Leaf;
use cortex_audit::record::Approval;
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Answers of version 1 did not say where they stand in the journal, and count for nothing.
const VERSION: u32 = 2;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    grants: Vec<Stored>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    fingerprint: String,
    task: Option<String>,
    until_ms: u64,
    used: u32,
    title: String,
    seq: u64,
    leaf: String,
}

/// Random bytes of the kernel.
pub(super) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What is remembered from before.
pub(super) fn load(path: &Path) -> Vec<Grant> {
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    match serde_json::from_str::<File>(&text) {
        Ok(file) if file.version == VERSION => file.grants.into_iter().filter_map(grant).collect(),
        Ok(_) | Err(_) => {
            tracing::warn!(file = %path.display(), "remembered answers cannot be read; none counts");
            Vec::new()
        }
    }
}

fn grant(stored: Stored) -> Option<Grant> {
    let mut print = [0; 32];
    if stored.fingerprint.len() != 64 {
        return None;
    }
    for (at, byte) in print.iter_mut().enumerate() {
        *byte = u8::from_str_radix(stored.fingerprint.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    let Stored { task, until_ms, used, title, seq, leaf, .. } = stored;
    let approval = Some(Approval { seq, leaf: Leaf::parse(&leaf)? });
    let fingerprint = Fingerprint(print);
    Some(Grant { fingerprint, task, until_ms: Some(until_ms), used, title, approval })
}

/// Replaces the file. Answers without a time of their own end with the agent and are left out.
pub(super) fn save<'a>(path: &Path, grants: impl Iterator<Item = &'a Grant>) {
    let stored = grants.filter_map(|grant| {
        let Grant { fingerprint, task, until_ms, used, title, approval } = grant;
        let approval = approval.as_ref()?;
        let (task, title) = (task.clone(), title.clone());
        Some(Stored {
            fingerprint: fingerprint.hex(),
            task,
            until_ms: (*until_ms)?,
            used: *used,
            title,
            seq: approval.seq,
            leaf: approval.leaf.to_string(),
        })
    });
    let file = File { version: VERSION, grants: stored.collect() };
    if let Err(error) = write(path, &file) {
        tracing::warn!(%error, "an answer will not be remembered beyond the end of this agent");
    }
}

fn write(path: &Path, file: &File) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(serde_json::to_string(file)?.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(new, path)
}

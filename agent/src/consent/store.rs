//! What outlives the agent: answers that are remembered until a time. A file of the owner's; one that cannot be read holds none.

use cortex_agent_core::consent::{Desk, Grant};
use cortex_agent_core::policy::Fingerprint;
use cortex_audit::Leaf;
use cortex_audit::record::Approval;
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Answers of version 1 did not say where they stand in the journal, and count for nothing.
const VERSION: u32 = 2;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    grants: Vec<Stored>,
    /// The highest number that was ever given to a question or an answer.
    #[serde(default)]
    last: u64,
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

/// Makes a directory that is the owner's alone.
pub(super) fn make_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Random bytes of the kernel.
pub(super) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The highest number, and what is remembered from before.
pub(super) fn load(path: &Path) -> (u64, Vec<Grant>) {
    let Ok(text) = std::fs::read_to_string(path) else { return (0, Vec::new()) };
    match serde_json::from_str::<File>(&text) {
        Ok(file) if file.version == VERSION => {
            (file.last, file.grants.into_iter().filter_map(grant).collect())
        }
        Ok(_) | Err(_) => {
            tracing::warn!(file = %path.display(), "remembered answers cannot be read; none counts");
            (0, Vec::new())
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
pub(super) fn save(path: &Path, desk: &Desk) {
    let stored = desk.grants().filter_map(|(_, grant)| {
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
    let file = File { version: VERSION, grants: stored.collect(), last: desk.last() };
    if let Err(error) = write(path, &file) {
        tracing::warn!(%error, "an answer will not be remembered beyond the end of this agent");
    }
}

/// Replaces a file of the owner's, durably.
pub(crate) fn write(path: &Path, file: &impl Serialize) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(serde_json::to_string(file)?.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(new, path)?;
    sync_parent(path)
}

/// Makes the names in the directory of a file durable.
pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(dir)?.sync_all()
}

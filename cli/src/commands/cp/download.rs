//! From a node: portions of one version of the file, each checked on arrival, into a part beside the target; the part takes
//! the target's name when the whole has the SHA-256 that the node gave before.

use super::{Copied, Copy, Stop, beside, hash, hex, ours, told};
use crate::error::CliError;
use crate::view::Bytes;
use cortex_agent::files::Stat;
use cortex_model::limits::FILE_PORTION;
use cortex_model::{Code, FileOp, proto as pb};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Portions that may arrive broken in a row.
const TRIES: u32 = 3;

pub(super) async fn download(copy: &Copy<'_>, path: &Path, new_only: bool) -> Result<Copied, Stop> {
    let path = if path.is_dir() { path.join(name(&copy.path)?) } else { path.to_owned() };
    if new_only && path.symlink_metadata().is_ok() {
        let message = format!("{} is there already", path.display());
        return Err(CliError::new(Code::FileExists, message).into());
    }
    let source = source(copy).await?;
    let size = source.entry.size;
    let sha256 = source.sha256.clone().unwrap_or_default();
    copy.bar.set_length(size);
    let part = part(&path, &sha256);
    let (mut file, mut whole, mut at) = begin(&part, size).map_err(|err| ours(&part, &err))?;
    let resumed = at;
    copy.bar.set_position(at);
    let mut tries = 0;
    while at < size {
        let data = portion(copy, &source.version, at, size).await?;
        let Some(data) = data else {
            tries += 1;
            if tries == TRIES {
                let message = format!("what arrived at {at} is not what the node sent");
                return Err(CliError::new(Code::DigestMismatch, message).into());
            }
            continue;
        };
        tries = 0;
        file.write_all(&data).map_err(|err| ours(&part, &err))?;
        whole.update(&data);
        at += data.len() as u64;
        copy.bar.set_position(at);
    }
    if hex(&whole.finalize()) != sha256 {
        // Nobody knows what of it is wrong.
        std::fs::remove_file(&part).map_err(|err| ours(&part, &err))?;
        let message =
            format!("{}: what arrived does not have the SHA-256 of the source", path.display());
        return Err(CliError::new(Code::DigestMismatch, message).into());
    }
    place(&file, &part, &path, source.entry.mode, new_only).map_err(|err| ours(&path, &err))?;
    copy.bar.finish();
    Ok(Copied { path: Bytes(copy.path.clone()), size, sha256, resumed })
}

/// What is to be copied: its size, version and SHA-256, all of one moment.
async fn source(copy: &Copy<'_>) -> Result<Stat, Stop> {
    let op = FileOp::Stat(pb::FileStat { sha256: true, link: false });
    let told = told(copy.perform(op, true).await?)?;
    let bad = |err| CliError::internal(format!("the node's answer cannot be read: {err}"));
    Ok(serde_json::from_slice(&told.stdout).map_err(bad)?)
}

/// A portion; `None` if what arrived is not what was sent.
async fn portion(
    copy: &Copy<'_>,
    version: &str,
    offset: u64,
    size: u64,
) -> Result<Option<Vec<u8>>, Stop> {
    let length = FILE_PORTION.min(size - offset);
    let read = pb::FileRead { offset, length, expect_version: version.to_owned() };
    let told = told(copy.perform(FileOp::Read(read), true).await?)?;
    let whole = told.stdout.len() as u64 == length
        && told.done.sha256.as_deref() == Some(hex(&Sha256::digest(&told.stdout)).as_str());
    Ok(whole.then_some(told.stdout))
}

fn name(path: &[u8]) -> Result<String, CliError> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() && name != "." && name != ".." => Ok(name.to_owned()),
        Ok(_) | Err(_) => Err(CliError::new(Code::Usage, "the file needs a name here")
            .with_hint("name the file, not only its directory")),
    }
}

/// The part of this very content.
fn part(path: &Path, sha256: &str) -> PathBuf {
    let mut id = Sha256::new();
    id.update(path.file_name().unwrap_or_default().as_encoded_bytes());
    id.update(sha256.as_bytes());
    beside(path, &format!(".cortex-part-{}", &hex(&id.finalize())[..32]))
}

/// Opens the part; what is there of it counts.
fn begin(part: &Path, size: u64) -> std::io::Result<(File, Sha256, u64)> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // A link in its place is not ours.
    options.custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0));
    let mut file = options.open(part)?;
    let there = file.metadata()?.len();
    let keep = if there > size { 0 } else { there };
    file.set_len(keep)?;
    let (whole, at) = hash(&mut file, keep)?;
    file.seek(SeekFrom::Start(at))?;
    Ok((file, whole, at))
}

/// To the disk, then to its name.
fn place(file: &File, part: &Path, path: &Path, mode: u32, new_only: bool) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
    file.sync_all()?;
    let flags = if new_only { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    renameat_with(CWD, part, CWD, path, flags)?;
    Ok(())
}

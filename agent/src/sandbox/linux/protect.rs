//! What stays read-only below a writable directory, and what is hidden. Both hold for names that do not exist yet.

use super::super::message::Spec;
use super::view::{attach, copy, memory, open_plain, path_of};
use super::{At, Failure};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names that are directories where they exist; every other missing name becomes an empty file.
const DIRECTORIES: [&str; 10] = [
    ".git", "hooks", "info", ".vscode", ".idea", ".claude", ".codex", ".cursor", ".cortex",
    ".config",
];

/// Holds the empty things that are put over what is hidden.
const VEIL: &str = "/dev/shm";

/// Makes the protected names read-only. Returns the placeholders that had to be made.
///
/// A read-only mount alone can be walked around: rename its parent, make a new one. So every directory between the
/// writable root and the protected name is mounted onto itself as well, and what is mounted cannot be renamed.
pub(super) fn protect(spec: &Spec) -> Result<Vec<Vec<u8>>, Failure> {
    const STAGE: &str = "protect";
    let mut paths: Vec<&Path> = spec.protect.iter().map(|path| path_of(path)).collect();
    paths.sort();
    let roots: Vec<&Path> = spec.write.iter().map(|path| path_of(path)).collect();
    let mut held = BTreeSet::new();
    let mut made = Vec::new();
    for path in paths {
        let root =
            roots.iter().filter(|root| path.starts_with(root)).max_by_key(|r| r.as_os_str().len());
        // Only what is below something writable can be written.
        let Some(root) = root.filter(|root| **root != path) else { continue };
        let below = path.strip_prefix(root).unwrap_or(path);
        let mut at = root.to_path_buf();
        let mut parts = below.components().peekable();
        while let Some(part) = parts.next() {
            at.push(part);
            let last = parts.peek().is_none();
            let place = match open_plain(&at) {
                Ok(place) => place,
                // What does only what it was told to cannot make one of these by another name.
                Err(Errno::NOENT) if spec.work.is_some() => break,
                // A file, perhaps the placeholder of another task: it is held, so nothing comes into being below it.
                Err(Errno::NOTDIR) => break,
                Err(Errno::NOENT) => {
                    // The first missing part stands for all below it.
                    if let Some(place) = placeholder(&at).at_path(STAGE, &at)? {
                        made.push(at.as_os_str().as_bytes().to_vec());
                        fix(&place, true).at_path(STAGE, &at)?;
                    }
                    break;
                }
                Err(error) => return Err(error).at_path(STAGE, &at),
            };
            if last || held.insert(at.clone()) {
                fix(&place, last).at_path(STAGE, &at)?;
            }
        }
    }
    Ok(made)
}

/// Makes an empty thing of a missing name. `None`: it cannot be made here by anybody, which is as good.
fn placeholder(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let name = path.file_name().unwrap_or_default();
    let done = if DIRECTORIES.iter().any(|directory| name == *directory) {
        std::fs::create_dir(path)
    } else {
        std::fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop)
    };
    match done {
        Ok(()) => open_plain(path).map(Some),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::ROFS) => Ok(None),
            // Another task has just made the same.
            Some(Errno::EXIST) => open_plain(path).map(Some),
            other => Err(other.unwrap_or(Errno::IO)),
        },
    }
}

/// Mounts what is at a place onto itself.
fn fix(place: &OwnedFd, read_only: bool) -> Result<(), Errno> {
    let attributes =
        if read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    attach(&copy(place, attributes)?, place)
}

/// Puts something empty, which nobody may open, over everything that is to be hidden.
pub(super) fn hide(spec: &Spec) -> Result<(), Failure> {
    const STAGE: &str = "hide";
    let mut veil = None;
    for path in spec.deny.iter().map(|path| path_of(path)) {
        let place = match open_plain(path) {
            Ok(place) => place,
            // What is not in the view needs no hiding.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue,
            // The name is a link: what it leads to is meant.
            Err(Errno::LOOP) => match std::fs::canonicalize(path) {
                Ok(real) => open_plain(&real).at_path(STAGE, path)?,
                Err(_) => continue,
            },
            Err(error) => return Err(error).at_path(STAGE, path),
        };
        let stat = rustix::fs::fstat(&place).at(STAGE)?;
        let (directory, file) = match &veil {
            Some(veil) => veil,
            None => veil.insert(make_veil()?),
        };
        let empty = if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            directory
        } else {
            file
        };
        let cover =
            copy(empty, MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV);
        attach(&cover.at(STAGE)?, &place).at_path(STAGE, path)?;
    }
    if veil.is_some() {
        // What was copied from it stays; the place itself is as empty as before.
        rustix::mount::unmount(VEIL, rustix::mount::UnmountFlags::DETACH).at(STAGE)?;
    }
    Ok(())
}

/// An empty directory and an empty file without any rights.
fn make_veil() -> Result<(OwnedFd, OwnedFd), Failure> {
    const STAGE: &str = "hide";
    memory(Path::new(VEIL), "65536", "0755")?;
    let at = PathBuf::from(VEIL);
    let (directory, file) = (at.join("d"), at.join("f"));
    std::fs::create_dir(&directory).at(STAGE)?;
    std::fs::File::create(&file).at(STAGE)?;
    use std::os::unix::fs::PermissionsExt as _;
    for path in [&directory, &file] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o0)).at(STAGE)?;
    }
    Ok((open_plain(&directory).at(STAGE)?, open_plain(&file).at(STAGE)?))
}

//! What stays read-only below a writable directory, and what is hidden. Both hold for names that do not exist yet.

use super::super::message::Spec;
use super::view::{attach, copy, empty, memory, open_plain, ours, path_of, set};
use super::{At, Failure};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names that are directories where they exist; every other missing name becomes an empty file.
const DIRECTORIES: [&str; 11] = [
    ".git", "hooks", "info", ".vscode", ".idea", ".claude", ".codex", ".cursor", ".cortex",
    ".config", "fish",
];

/// The directory of a task's process 1: to a task of root it would be a file of its own user, and tell what it holds open.
const FIRST_PROCESS: &str = "/proc/1";

/// Holds the empty things that are put over what is hidden.
const VEIL: &str = "/dev/shm";

const HIDE: &str = "hide";

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

/// Puts something empty, which nobody may open, over everything that is to be hidden. What the view has below such a place stays.
pub(super) fn hide(spec: &Spec) -> Result<(), Failure> {
    let mut veil = None;
    // A task has these places of its own, whatever a list says.
    let denied = spec.deny.iter().map(|path| path_of(path)).filter(|path| !ours(path));
    for path in denied.chain([Path::new(FIRST_PROCESS)]) {
        let place = match open_plain(path) {
            Ok(place) => place,
            // What is not in the view needs no hiding.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue,
            // The name is a link: what it leads to is meant.
            Err(Errno::LOOP) => match std::fs::canonicalize(path) {
                Ok(real) => open_plain(&real).at_path(HIDE, path)?,
                Err(_) => continue,
            },
            Err(error) => return Err(error).at_path(HIDE, path),
        };
        let open = open_below(spec, path);
        if !open.is_empty() {
            hide_all_but(path, &place, &open)?;
            continue;
        }
        let stat = rustix::fs::fstat(&place).at(HIDE)?;
        let (directory, file) = match &veil {
            Some(veil) => veil,
            None => veil.insert(make_veil()?),
        };
        let empty = if is_dir(stat.st_mode) { directory } else { file };
        let cover =
            copy(empty, MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV);
        attach(&cover.at(HIDE)?, &place).at_path(HIDE, path)?;
    }
    if veil.is_some() {
        // What was copied from it stays; the place itself is as empty as before.
        rustix::mount::unmount(VEIL, rustix::mount::UnmountFlags::DETACH).at(HIDE)?;
    }
    Ok(())
}

fn is_dir(mode: u32) -> bool {
    rustix::fs::FileType::from_raw_mode(mode).is_dir()
}

/// Places of the view below a hidden one, the outermost only: what is mounted below them comes along.
fn open_below<'a>(spec: &'a Spec, hidden: &Path) -> BTreeSet<&'a Path> {
    let all = spec.read.iter().chain(&spec.write).map(|path| path_of(path));
    let below: BTreeSet<&Path> =
        all.filter(|path| *path != hidden && path.starts_with(hidden)).collect();
    let inner = |path: &&&Path| below.iter().any(|outer| outer != *path && path.starts_with(outer));
    below.iter().filter(|path| !inner(path)).copied().collect()
}

/// Covers a directory with one that holds nothing but the way to what stays open below it.
fn hide_all_but(path: &Path, place: &OwnedFd, open: &BTreeSet<&Path>) -> Result<(), Failure> {
    let cover = empty("65536", "0755")?;
    let mut kept = Vec::new();
    for inner in open {
        let tree = match open_plain(inner) {
            Ok(at) => copy(&at, MountAttrFlags::empty()).at_path(HIDE, inner)?,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error).at_path(HIDE, inner),
        };
        let directory = is_dir(rustix::fs::fstat(&tree).at(HIDE)?.st_mode);
        make_way(&cover, inner.strip_prefix(path).unwrap_or(inner), directory)
            .at_path(HIDE, inner)?;
        kept.push((*inner, tree));
    }
    set(cover.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY).at(HIDE)?;
    attach(&cover, place).at_path(HIDE, path)?;
    for (inner, tree) in kept {
        let place = open_plain(inner).at_path(HIDE, inner)?;
        attach(&tree, &place).at_path(HIDE, inner)?;
    }
    Ok(())
}

/// Directories down to a path, and at its end an empty directory or file for something to be attached to.
fn make_way(cover: &OwnedFd, path: &Path, directory: bool) -> Result<(), Errno> {
    let mut at = PathBuf::new();
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        at.push(part);
        let made = if parts.peek().is_some() || directory {
            mkdirat(cover, &at, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(cover, &at, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An empty directory and an empty file without any rights.
fn make_veil() -> Result<(OwnedFd, OwnedFd), Failure> {
    memory(Path::new(VEIL), "65536", "0755")?;
    let at = PathBuf::from(VEIL);
    let (directory, file) = (at.join("d"), at.join("f"));
    std::fs::create_dir(&directory).at(HIDE)?;
    std::fs::File::create(&file).at(HIDE)?;
    use std::os::unix::fs::PermissionsExt as _;
    for path in [&directory, &file] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o0)).at(HIDE)?;
    }
    Ok((open_plain(&directory).at(HIDE)?, open_plain(&file).at(HIDE)?))
}

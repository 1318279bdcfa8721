//! The file system as a task sees it: a new root in which only what the policy lists exists. Nothing is hidden by a
//! rule that could be forgotten; what was not put in is not there.
//!
//! Paths are resolved without following any symbolic link: whoever may write below a root could put one there. Every
//! tree is copied and made read-only while it is attached nowhere, so there is no moment in which it is not.

use super::super::message::Spec;
use super::{At, Failure, sys};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount,
    mount_bind, mount_change, move_mount, open_tree, unmount,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const STAGE: &str = "view";

/// Where the new root is put together. Every system has it; what is there stays out of sight of this namespace.
const BASE: &str = "/tmp";

/// Bytes of files in a task's `/tmp`, which are in memory.
const TMP_SIZE: &str = "268435456";
/// The same for shared memory.
const SHM_SIZE: &str = "67108864";
/// For directories and links only.
const BARE_SIZE: &str = "1048576";

/// Devices that a task has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("pts/ptmx", "dev/ptmx"),
];

/// What is put at a path.
enum Piece {
    /// A copy of a tree of the machine.
    Tree(OwnedFd),
    /// An empty directory in memory, of so many bytes.
    Memory(&'static str),
    /// Processes of this namespace.
    Processes(OwnedFd),
}

/// Replaces this process's root. Returns the placeholders that had to be made.
pub(super) fn enter(spec: &Spec) -> Result<Vec<Vec<u8>>, Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at(STAGE)?;
    let whole = if spec.read.iter().any(|path| path == b"/") {
        Some(tree(Path::new("/"), MountAttrFlags::MOUNT_ATTR_RDONLY).at(STAGE)?)
    } else {
        None
    };
    let pieces = gather(spec)?;
    let links = root_links().at(STAGE)?;
    let base = Path::new(BASE);
    match &whole {
        // The owner lets everything be read: then the copy of everything is what is built upon.
        Some(tree) => attach(tree, &open_plain(base).at(STAGE)?).at(STAGE)?,
        None => memory(base, BARE_SIZE, "0755")?,
    }
    for (path, piece) in pieces {
        let target = below(base, &path);
        put(&target, piece).map_err(|failure| Failure {
            what: format!("{}: {}", path.display(), failure.what),
            ..failure
        })?;
    }
    devices(base)?;
    for (name, target) in links {
        // What the view has there already wins.
        std::os::unix::fs::symlink(target, base.join(name)).ok();
    }
    std::env::set_current_dir(base).at(STAGE)?;
    rustix::process::pivot_root(".", ".").at(STAGE)?;
    unmount(".", UnmountFlags::DETACH).at(STAGE)?;
    std::env::set_current_dir("/").at(STAGE)?;
    let made = super::protect::protect(spec)?;
    super::protect::hide(spec)?;
    Ok(made)
}

/// Copies of all that will be visible, by path: a parent comes before what is below it.
fn gather(spec: &Spec) -> Result<BTreeMap<PathBuf, Piece>, Failure> {
    let mut pieces = BTreeMap::new();
    pieces.insert(PathBuf::from("/dev"), Piece::Memory(BARE_SIZE));
    pieces.insert(PathBuf::from("/dev/shm"), Piece::Memory(SHM_SIZE));
    pieces.insert(PathBuf::from("/tmp"), Piece::Memory(TMP_SIZE));
    for path in &spec.read {
        let path = path_of(path);
        if ours(path) || path == Path::new("/") {
            continue;
        }
        match tree(path, MountAttrFlags::MOUNT_ATTR_RDONLY) {
            Ok(tree) => drop(pieces.insert(path.to_owned(), Piece::Tree(tree))),
            // A list for many systems names what some do not have.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).at_path(STAGE, path),
        }
    }
    for path in &spec.write {
        let path = path_of(path);
        if ours(path) {
            continue;
        }
        if path == Path::new("/") {
            return Err(Failure::new(STAGE, "the whole file system cannot be writable"));
        }
        let tree = tree(path, MountAttrFlags::empty()).at_path(STAGE, path)?;
        pieces.insert(path.to_owned(), Piece::Tree(tree));
    }
    pieces.insert(PathBuf::from("/proc"), Piece::Processes(processes().at("proc")?));
    Ok(pieces)
}

/// A task has these of its own, whatever a list says.
pub(super) fn ours(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/dev") || path == Path::new("/tmp")
}

/// A copy of what is at a path, with all that is mounted below, attached nowhere.
fn tree(path: &Path, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let place = open_plain(path)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(place.as_fd(), "", flags)?;
    let attributes =
        attributes | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    set(tree.as_fd(), attributes)?;
    Ok(tree)
}

pub(super) fn set(tree: BorrowedFd<'_>, attributes: MountAttrFlags) -> Result<(), Errno> {
    sys::set_mount_attributes(tree, u64::from(attributes.bits()))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Opens a path in which no part is a symbolic link.
pub(super) fn open_plain(path: &Path) -> Result<OwnedFd, Errno> {
    // Not NOFOLLOW: together with PATH it would open a link in the last place itself, and call that plain.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// Attaches a tree at a place.
pub(super) fn attach(tree: &OwnedFd, place: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree.as_fd(), "", place.as_fd(), "", flags)
}

/// A read-only copy of what is at an open place: the part alone or with all that is mounted below.
pub(super) fn copy(place: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(place.as_fd(), "", flags)?;
    set(tree.as_fd(), attributes | MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    Ok(tree)
}

/// A `/proc` that knows this namespace only. All of it is read-only: to a root agent's task the machine's own
/// settings would be writable files.
fn processes() -> Result<OwnedFd, Errno> {
    let proc = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(proc.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(proc.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn put(target: &Path, piece: Piece) -> Result<(), Failure> {
    match piece {
        Piece::Memory(size) => {
            std::fs::create_dir_all(target).at(STAGE)?;
            memory(target, size, if target.ends_with("dev") { "0755" } else { "1777" })
        }
        Piece::Processes(tree) => {
            std::fs::create_dir_all(target).at(STAGE)?;
            attach(&tree, &open_plain(target).at(STAGE)?).at(STAGE)
        }
        Piece::Tree(tree) => {
            let stat = rustix::fs::fstat(&tree).at(STAGE)?;
            match open_plain(target) {
                Ok(place) => attach(&tree, &place).at(STAGE),
                Err(Errno::NOENT) => {
                    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
                        std::fs::create_dir_all(target).at(STAGE)?;
                    } else {
                        let parent = target.parent().unwrap_or(Path::new("/"));
                        std::fs::create_dir_all(parent).at(STAGE)?;
                        std::fs::File::create(target).at(STAGE)?;
                    }
                    attach(&tree, &open_plain(target).at(STAGE)?).at(STAGE)
                }
                Err(error) => Err(error).at(STAGE),
            }
        }
    }
}

/// Mounts an empty file system in memory.
pub(super) fn memory(target: &Path, size: &str, mode: &str) -> Result<(), Failure> {
    let tree = empty(size, mode)?;
    let place = open_plain(target).at_path(STAGE, target)?;
    attach(&tree, &place).at(STAGE)
}

/// An empty file system in memory, attached nowhere.
pub(super) fn empty(size: &str, mode: &str) -> Result<OwnedFd, Failure> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).at(STAGE)?;
    fsconfig_set_string(fs.as_fd(), "size", size).at(STAGE)?;
    fsconfig_set_string(fs.as_fd(), "mode", mode).at(STAGE)?;
    fsconfig_create(fs.as_fd()).at(STAGE)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).at(STAGE)
}

/// The devices of a task: some that hold nothing, and terminals of its own.
fn devices(base: &Path) -> Result<(), Failure> {
    const STAGE: &str = "devices";
    for name in DEVICES {
        let source = Path::new("/dev").join(name);
        if !source.exists() {
            continue;
        }
        let target = base.join("dev").join(name);
        std::fs::File::create(&target).at(STAGE)?;
        mount_bind(&source, &target).at_path(STAGE, &source)?;
    }
    std::fs::create_dir(base.join("dev/pts")).at(STAGE)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let data = c"newinstance,ptmxmode=0666,mode=620";
    mount("devpts", base.join("dev/pts"), "devpts", flags, Some(data)).at(STAGE)?;
    for (target, name) in LINKS {
        std::os::unix::fs::symlink(target, base.join(name)).at(STAGE)?;
    }
    Ok(())
}

/// The links in the machine's root, such as `/bin`: programs name each other through them.
fn root_links() -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut links = Vec::new();
    for entry in std::fs::read_dir("/")? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            links.push((PathBuf::from(entry.file_name()), std::fs::read_link(entry.path())?));
        }
    }
    Ok(links)
}

pub(super) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn below(base: &Path, path: &Path) -> PathBuf {
    base.join(path.strip_prefix("/").unwrap_or(path))
}

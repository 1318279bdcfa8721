//! Paths: opened beneath a place of the policy, through no link. It follows nothing that could have been put in the way.

use cortex_model::{Code, Fault};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// Beneath a place.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// To a place.
const PLAIN: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens what is at a path.
pub(super) fn open(place: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let below = path.strip_prefix(place).map_err(|_| Errno::XDEV)?;
    if below.as_os_str().is_empty() {
        return openat2(CWD, path, flags, Mode::empty(), PLAIN);
    }
    let place = openat2(CWD, place, DIRECTORY, Mode::empty(), PLAIN)?;
    openat2(&place, below, flags, Mode::empty(), BENEATH)
}

/// Opens a file with content for reading. A pipe or device is not even opened.
pub(super) fn file(place: &Path, path: &Path) -> Result<(File, Stat), Fault> {
    let failed = |errno| fault(path, errno);
    let found = fstat(open(place, path, OFlags::PATH).map_err(failed)?).map_err(failed)?;
    regular(path, &found)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(place, path, flags).map_err(failed)?;
    let stat = fstat(&file).map_err(failed)?;
    regular(path, &stat)?;
    Ok((File::from(file), stat))
}

/// It has content.
pub(super) fn regular(path: &Path, stat: &Stat) -> Result<(), Fault> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    };
    Err(Fault::new(Code::FileKind, format!("{} is {what}, not a file", path.display())))
}

/// A name in a directory that is held open.
pub(super) struct Spot {
    pub(super) dir: OwnedFd,
    pub(super) name: OsString,
    pub(super) path: PathBuf,
}

impl Spot {
    /// Finds the directory of a path; `make` makes what is missing of it.
    pub(super) fn find(place: &Path, path: &Path, make: bool) -> Result<Spot, Fault> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let message = format!("{} does not end in a name", path.display());
            return Err(Fault::new(Code::BadFileAction, message));
        };
        // A place that is a file itself lies in a directory that the policy does not open.
        let place = if path == place { parent } else { place };
        let dir = match open(place, parent, DIRECTORY) {
            Err(Errno::NOENT) if make => made(place, parent)?,
            opened => opened.map_err(|errno| fault(parent, errno))?,
        };
        Ok(Spot { dir, name: name.to_owned(), path: path.to_owned() })
    }

    /// What is there, links not followed. `None`: nothing.
    pub(super) fn stat(&self) -> Result<Option<Stat>, Fault> {
        match statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fault(errno)),
        }
    }

    /// Opens a name of the directory.
    pub(super) fn at(&self, name: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat2(&self.dir, name, flags, mode, BENEATH)
    }

    /// The file that is there, for reading. `None`: nothing.
    pub(super) fn read(&self) -> Result<Option<(File, Stat)>, Fault> {
        let Some(found) = self.stat()? else { return Ok(None) };
        regular(&self.path, &found)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        match self.at(&self.name, flags, Mode::empty()) {
            Ok(file) => {
                let stat = fstat(&file).map_err(|errno| self.fault(errno))?;
                regular(&self.path, &stat)?;
                Ok(Some((File::from(file), stat)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fault(errno)),
        }
    }

    /// An error with the path.
    pub(super) fn fault(&self, errno: Errno) -> Fault {
        fault(&self.path, errno)
    }
}

/// Makes the directories that are missing, one by one, each opened before the next is made in it.
fn made(place: &Path, dir: &Path) -> Result<OwnedFd, Fault> {
    let below = dir.strip_prefix(place).map_err(|_| fault(dir, Errno::XDEV))?;
    let mut at = openat2(CWD, place, DIRECTORY, Mode::empty(), PLAIN)
        .map_err(|errno| fault(place, errno))?;
    for part in below.components() {
        let Component::Normal(name) = part else { return Err(fault(dir, Errno::XDEV)) };
        let mode = Mode::from_raw_mode(0o755);
        match rustix::fs::mkdirat(&at, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault(dir, errno)),
        }
        at = openat2(&at, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty(), BENEATH)
            .map_err(|errno| fault(dir, errno))?;
    }
    Ok(at)
}

/// What a file is called in its present form: anything that changes it changes this.
pub(super) fn version(stat: &Stat) -> String {
    format!(
        "{:x}.{:x}.{:x}.{:x}.{:x}",
        stat.st_dev,
        stat.st_ino,
        stat.st_size,
        i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
        i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec),
    )
}

/// The system's error about a path.
pub(super) fn fault(path: &Path, errno: Errno) -> Fault {
    let shown = path.display();
    let (code, why) = match errno {
        Errno::NOENT => (Code::FileNotFound, "there is no such file or directory".to_owned()),
        Errno::NOTDIR => (Code::FileKind, "something on the way is not a directory".to_owned()),
        Errno::ISDIR => (Code::FileKind, "it is a directory".to_owned()),
        Errno::NOTEMPTY => (Code::FileKind, "the directory is not empty".to_owned()),
        Errno::EXIST => (Code::FileExists, "there is something already".to_owned()),
        Errno::LOOP => (Code::FileRefused, "a symbolic link was put in the way".to_owned()),
        Errno::XDEV => (Code::FileRefused, "the path leads out of its place".to_owned()),
        Errno::ROFS => (Code::FileRefused, "it is read-only for tasks".to_owned()),
        Errno::BUSY => (Code::FileRefused, "it is protected".to_owned()),
        Errno::ACCESS | Errno::PERM => (Code::FileRefused, errno.to_string()),
        Errno::NOSPC | Errno::DQUOT => (Code::FileNoSpace, "the disk is full".to_owned()),
        Errno::FBIG => (Code::FileNoSpace, "the file would be too large for a task".to_owned()),
        Errno::NAMETOOLONG => (Code::BadFileAction, "the name is too long".to_owned()),
        errno => (Code::FileFailed, errno.to_string()),
    };
    Fault::new(code, format!("{shown}: {why}"))
}

/// The same for errors of the standard library.
pub(super) fn io(path: &Path, err: &std::io::Error) -> Fault {
    match Errno::from_io_error(err) {
        Some(errno) => fault(path, errno),
        None => Fault::new(Code::FileFailed, format!("{}: {err}", path.display())),
    }
}

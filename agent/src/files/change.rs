//! Changing: a file is put in place whole, by a rename, so that nobody ever sees half of it; names are removed and changed
//! in directories that are held open.

use super::look::{changed, digest, pass};
use super::open::{self, Spot, fault, io, version};
use super::report::Done;
use cortex_audit::leaf::hex;
use cortex_model::limits::FILE_DEPTH_MAX;
use cortex_model::{Code, Fault, proto as pb};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fchmod, fstat, fsync, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Mode of a new file.
const NEW: u32 = 0o644;
/// Mode while it is being written.
const PRIVATE: u32 = 0o600;

/// What must be there before something is replaced.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// SHA-256 of the file; empty: any, or none.
    pub(super) sha256: Vec<u8>,
    /// Its version.
    pub(super) version: Option<String>,
    /// Nothing at all.
    pub(super) nothing: bool,
}

/// A whole file that is to be put in place.
pub(super) struct Put<'a> {
    pub(super) content: &'a [u8],
    /// 0: as before.
    pub(super) mode: u32,
    pub(super) expected: Expected,
}

pub(super) fn write(place: &Path, path: &Path, write: &pb::FileWrite) -> Result<Done, Fault> {
    let spot = Spot::find(place, path, write.parents)?;
    // The same once more, after an answer that was lost, is no other request.
    if let (false, Some((mut file, stat))) = (write.new_only, spot.read()?)
        && stat.st_size == i64::try_from(write.content.len()).unwrap_or(i64::MAX)
        && (write.mode == 0 || stat.st_mode & 0o7777 == write.mode)
    {
        let there = digest(path, &mut file)?;
        if there == hex(&Sha256::digest(&write.content)) {
            let (size, version) = (Some(write.content.len() as u64), Some(version(&stat)));
            let sha256 = Some(there);
            return Ok(Done { size, version, sha256, changed: Some(false), ..Done::default() });
        }
    }
    let expected =
        Expected { sha256: write.expect_sha256.clone(), version: None, nothing: write.new_only };
    put(&spot, &Put { content: &write.content, mode: write.mode, expected })
}

/// Writes beside it and renames.
pub(super) fn put(spot: &Spot, put: &Put<'_>) -> Result<Done, Fault> {
    let old = expect(spot, &put.expected)?;
    let (name, file) = beside(spot)?;
    let done = fill(spot, file, put).and_then(|file| {
        settle(spot, &file, put.mode, old.as_ref())?;
        // Looked at again as late as can be: what came meanwhile is not overwritten.
        if expect(spot, &put.expected)?.as_ref().map(version) != old.as_ref().map(version) {
            return Err(changed(&spot.path));
        }
        place(spot, &name, put.expected.nothing)?;
        fstat(&file).map_err(|errno| spot.fault(errno))
    });
    let stat = match done {
        Ok(stat) => stat,
        Err(fault) => {
            // It is in nobody's way should that fail too.
            unlinkat(&spot.dir, &name, AtFlags::empty()).ok();
            return Err(fault);
        }
    };
    Ok(Done {
        size: Some(put.content.len() as u64),
        sha256: Some(hex(&Sha256::digest(put.content))),
        version: Some(version(&stat)),
        changed: Some(true),
        ..Done::default()
    })
}

/// What is there, if it is as expected.
pub(super) fn expect(spot: &Spot, expected: &Expected) -> Result<Option<Stat>, Fault> {
    if expected.nothing {
        return match spot.stat()? {
            Some(_) => Err(spot.fault(Errno::EXIST)),
            None => Ok(None),
        };
    }
    let must = !expected.sha256.is_empty() || expected.version.is_some();
    let Some((mut file, stat)) = spot.read()? else {
        return if must { Err(changed(&spot.path)) } else { Ok(None) };
    };
    let is = expected.version.as_ref().is_none_or(|known| *known == version(&stat))
        && (expected.sha256.is_empty() || digest(&spot.path, &mut file)? == hex(&expected.sha256));
    if is { Ok(Some(stat)) } else { Err(changed(&spot.path)) }
}

/// A new file with a name of its own in the same directory.
fn beside(spot: &Spot) -> Result<(OsString, File), Fault> {
    loop {
        let name = OsString::from(format!(".cortex-new-{}", token(&spot.path)?));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        match spot.at(&name, flags, Mode::from_raw_mode(PRIVATE)) {
            Ok(file) => return Ok((name, File::from(file))),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(spot.fault(errno)),
        }
    }
}

/// 16 random hex digits.
pub(super) fn token(path: &Path) -> Result<String, Fault> {
    let mut bytes = [0; 8];
    let source = Path::new("/dev/urandom");
    let read = File::open(source).and_then(|mut source| source.read_exact(&mut bytes));
    read.map_err(|err| io(path, &err))?;
    Ok(hex(&bytes))
}

fn fill(spot: &Spot, mut file: File, put: &Put<'_>) -> Result<File, Fault> {
    file.write_all(put.content).map_err(|err| io(&spot.path, &err))?;
    Ok(file)
}

/// Gives it its mode, and to the disk.
pub(super) fn settle(spot: &Spot, file: &File, mode: u32, old: Option<&Stat>) -> Result<(), Fault> {
    let mode = match (mode, old) {
        (0, Some(old)) => old.st_mode & 0o777,
        (0, None) => NEW,
        (mode, _) => mode,
    };
    fchmod(file, Mode::from_raw_mode(mode)).map_err(|errno| spot.fault(errno))?;
    fsync(file).map_err(|errno| spot.fault(errno))
}

/// Gives it its name.
pub(super) fn place(spot: &Spot, name: &OsStr, nothing: bool) -> Result<(), Fault> {
    let flags = if nothing { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    renameat_with(&spot.dir, name, &spot.dir, &spot.name, flags)
        .map_err(|errno| spot.fault(errno))?;
    sync(spot)
}

/// The directory's own content, to the disk.
fn sync(spot: &Spot) -> Result<(), Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(&spot.dir, ".", flags, Mode::empty());
    match dir.and_then(fsync) {
        // Some file systems know no such thing.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(spot.fault(errno)),
    }
}

/// A place of the policy is not removed or renamed, not even emptied on the way to it.
fn inside(place: &Path, path: &Path) -> Result<(), Fault> {
    if place == path { Err(fault(path, Errno::BUSY)) } else { Ok(()) }
}

pub(super) fn delete(place: &Path, path: &Path, delete: &pb::FileDelete) -> Result<Done, Fault> {
    inside(place, path)?;
    let spot = match Spot::find(place, path, false) {
        Err(fault) if delete.missing_ok && fault.code == Code::FileNotFound => {
            return Ok(removed(0));
        }
        spot => spot?,
    };
    let Some(stat) = spot.stat()? else {
        return if delete.missing_ok { Ok(removed(0)) } else { Err(spot.fault(Errno::NOENT)) };
    };
    if !delete.expect_sha256.is_empty() {
        expect(&spot, &Expected { sha256: delete.expect_sha256.clone(), ..Expected::default() })?;
    }
    let mut count = 0;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        if delete.recursive {
            empty(&spot.dir, &spot.name, path, 0, &mut count)?;
        }
        unlinkat(&spot.dir, &spot.name, AtFlags::REMOVEDIR).map_err(|errno| spot.fault(errno))?;
    } else {
        unlinkat(&spot.dir, &spot.name, AtFlags::empty()).map_err(|errno| spot.fault(errno))?;
    }
    sync(&spot)?;
    Ok(removed(count + 1))
}

fn removed(count: u64) -> Done {
    Done { count: Some(count), changed: Some(count > 0), ..Done::default() }
}

/// Removes what is in a directory. A link in it is removed, never followed.
fn empty(
    dir: &OwnedFd,
    name: &OsStr,
    path: &Path,
    depth: usize,
    count: &mut u64,
) -> Result<(), Fault> {
    let path = path.to_owned();
    let failed = |errno| fault(&path, errno);
    if depth == FILE_DEPTH_MAX {
        let message = format!("{}: more than {FILE_DEPTH_MAX} directories deep", path.display());
        return Err(Fault::new(Code::FileTooLarge, message));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(dir, name, flags, Mode::empty()).map_err(failed)?;
    for found in Dir::read_from(&dir).map_err(failed)? {
        let found = found.map_err(failed)?;
        let name = OsStr::from_bytes(found.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        let below = path.join(name);
        let flags = if FileType::from_raw_mode(stat.st_mode).is_dir() {
            empty(&dir, name, &below, depth + 1, count)?;
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        match unlinkat(&dir, name, flags) {
            Ok(()) => *count += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(fault(&below, errno)),
        }
    }
    Ok(())
}

pub(super) fn rename(
    place: &Path,
    path: &Path,
    to_place: &Path,
    to: &Path,
    m: &pb::FileMove,
) -> Result<Done, Fault> {
    inside(place, path)?;
    let (from, to) = (Spot::find(place, path, false)?, Spot::find(to_place, to, false)?);
    let stat = from.stat()?.ok_or_else(|| from.fault(Errno::NOENT))?;
    if !m.expect_sha256.is_empty() {
        expect(&from, &Expected { sha256: m.expect_sha256.clone(), ..Expected::default() })?;
    }
    if let (true, Some(there)) = (m.replace, to.stat()?) {
        open::regular(&to.path, &there)?;
    }
    let flags = if m.replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match renameat_with(&from.dir, &from.name, &to.dir, &to.name, flags) {
        Ok(()) => {}
        // Two places of the policy are two file systems to a task.
        Err(Errno::XDEV) => carry(&from, &to, &stat, m.replace)?,
        Err(errno @ (Errno::EXIST | Errno::NOTEMPTY)) => return Err(to.fault(errno)),
        Err(errno) => return Err(from.fault(errno)),
    }
    sync(&from)?;
    sync(&to)?;
    Ok(Done { changed: Some(true), ..Done::default() })
}

/// Copies a file over and removes it here.
fn carry(from: &Spot, to: &Spot, stat: &Stat, replace: bool) -> Result<(), Fault> {
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        let message =
            format!("only files are moved from one root to another: {}", from.path.display());
        return Err(Fault::new(Code::FileKind, message));
    }
    let Some((mut source, before)) = from.read()? else { return Err(from.fault(Errno::NOENT)) };
    let (name, mut copy) = beside(to)?;
    let done = pass(&from.path, &mut source, u64::MAX, |piece| {
        copy.write_all(piece).map_err(|err| io(&to.path, &err))
    })
    .and_then(|_| {
        let after = fstat(source.as_fd()).map_err(|errno| from.fault(errno))?;
        if version(&after) != version(&before) {
            return Err(changed(&from.path));
        }
        settle(to, &copy, before.st_mode & 0o777, None)?;
        self::place(to, &name, !replace)
    });
    if let Err(fault) = done {
        unlinkat(&to.dir, &name, AtFlags::empty()).ok();
        return Err(fault);
    }
    unlinkat(&from.dir, &from.name, AtFlags::empty()).map_err(|errno| from.fault(errno))
}

//! Reading: a file's bytes, the entries of a directory, what something is. Nothing here changes anything.

use super::open::{self, Spot, fault, io, version};
use super::report::{Bytes, Done, Entry, Kind, Stat};
use super::worker::Out;
use cortex_audit::leaf::hex;
use cortex_model::limits::FILE_ENTRIES_MAX;
use cortex_model::{Code, Fault, proto as pb};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, fstat, readlinkat, statat};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that are read at a time.
const STEP: usize = 64 * 1024;

pub(super) fn read(
    place: &Path,
    path: &Path,
    read: &pb::FileRead,
    out: &mut Out,
) -> Result<Done, Fault> {
    let (mut file, before) = open::file(place, path)?;
    let known = version(&before);
    if !read.expect_version.is_empty() && read.expect_version != known {
        return Err(changed(path));
    }
    file.seek(SeekFrom::Start(read.offset)).map_err(|err| io(path, &err))?;
    let most = if read.length == 0 { u64::MAX } else { read.length };
    let (bytes, digest) = pass(path, &mut file, most, |piece| out.bytes(piece))?;
    let after = fstat(&file).map_err(|errno| fault(path, errno))?;
    if !read.expect_version.is_empty() && version(&after) != known {
        return Err(changed(path));
    }
    Ok(Done {
        size: u64::try_from(after.st_size).ok(),
        bytes: Some(bytes),
        sha256: Some(digest),
        version: Some(version(&after)),
        ..Done::default()
    })
}

/// Passes a file on; how much that was, and its SHA-256.
pub(super) fn pass(
    path: &Path,
    file: &mut impl Read,
    most: u64,
    mut to: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<(u64, String), Fault> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; STEP]);
    while bytes < most {
        let want = usize::try_from(most - bytes).unwrap_or(STEP).min(STEP);
        let read = file.read(&mut buffer[..want]).map_err(|err| io(path, &err))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        to(&buffer[..read])?;
        bytes += read as u64;
    }
    Ok((bytes, hex(&hash.finalize())))
}

/// The SHA-256 of a whole file.
pub(super) fn digest(path: &Path, file: &mut File) -> Result<String, Fault> {
    file.rewind().map_err(|err| io(path, &err))?;
    pass(path, file, u64::MAX, |_| Ok(())).map(|(_, digest)| digest)
}

/// Somebody else was there.
pub(super) fn changed(path: &Path) -> Fault {
    let message = format!("{} is not what was expected: it was changed", path.display());
    Fault::new(Code::FileChanged, message)
}

pub(super) fn stat(
    place: &Path,
    path: &Path,
    stat: &pb::FileStat,
    out: &mut Out,
) -> Result<Done, Fault> {
    let failed = |errno| fault(path, errno);
    let (found, target) = if stat.link {
        let spot = Spot::find(place, path, false)?;
        let found = spot.stat()?.ok_or_else(|| spot.fault(rustix::io::Errno::NOENT))?;
        let target = target(&spot.dir, &spot.name, &found);
        (found, target)
    } else {
        (fstat(open::open(place, path, OFlags::PATH).map_err(failed)?).map_err(failed)?, None)
    };
    let mut sha256 = None;
    let mut told = found;
    if stat.sha256 {
        open::regular(path, &found)?;
        let (mut file, opened) = open::file(place, path)?;
        sha256 = Some(digest(path, &mut file)?);
        told = fstat(&file).map_err(failed)?;
        if version(&told) != version(&opened) {
            return Err(changed(path));
        }
    }
    out.line(&Stat {
        entry: entry(Bytes(path.as_os_str().as_bytes().to_vec()), &told, target),
        version: version(&told),
        // Its width differs by architecture.
        links: u64::try_from(i128::from(told.st_nlink)).unwrap_or(0),
        uid: told.st_uid,
        gid: told.st_gid,
        sha256,
    })?;
    Ok(Done { version: Some(version(&told)), ..Done::default() })
}

pub(super) fn list(
    place: &Path,
    path: &Path,
    list: &pb::FileList,
    out: &mut Out,
) -> Result<Done, Fault> {
    let failed = |errno| fault(path, errno);
    let dir = open::open(place, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let most = limit(list.limit);
    let mut names = Vec::new();
    for found in Dir::read_from(&dir).map_err(failed)? {
        let found = found.map_err(failed)?;
        let name = found.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
        if names.len() > FILE_ENTRIES_MAX {
            break;
        }
    }
    let more = names.len() > most;
    names.sort();
    names.truncate(most);
    let mut count = 0;
    for name in names {
        let os = OsStr::from_bytes(&name);
        // What has just gone is not there.
        let Ok(stat) = statat(&dir, os, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let target = target(&dir, os, &stat);
        out.line(&entry(Bytes(name), &stat, target))?;
        count += 1;
    }
    Ok(Done { count: Some(count), more, ..Done::default() })
}

/// What 0 means.
pub(super) fn limit(asked: u32) -> usize {
    if asked == 0 { FILE_ENTRIES_MAX } else { asked as usize }
}

/// Where a link leads.
pub(super) fn target(dir: impl AsFd, name: &OsStr, stat: &rustix::fs::Stat) -> Option<Bytes> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return None;
    }
    readlinkat(dir, name, Vec::new()).ok().map(|target| Bytes(target.into_bytes()))
}

/// An entry as it is told.
pub(super) fn entry(path: Bytes, stat: &rustix::fs::Stat, target: Option<Bytes>) -> Entry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Link,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Kind::Other,
    };
    Entry {
        path,
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        modified_ms: stat.st_mtime.saturating_mul(1_000)
            + i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0),
        target,
    }
}

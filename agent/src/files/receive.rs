//! Receiving a file in pieces: they gather in a part beside the target, which takes the target's name only when all of it
//! has the SHA-256 that was promised. A part that is there from before is taken up again.

use super::change::{Expected, expect, place, settle, token};
use super::look::{digest, pass};
use super::open::{Spot, io, regular, version};
use super::report::Done;
use cortex_audit::leaf::hex;
use cortex_model::{Code, Fault, proto as pb};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, fstatvfs, openat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PREFIX: &str = ".cortex-part-";

/// Digits of a part's name that say what it is a part of.
const ID: usize = 16;

fn named(part: &str) -> OsString {
    OsString::from(format!("{PREFIX}{part}"))
}

pub(super) fn receive(base: &Path, path: &Path, receive: &pb::FileReceive) -> Result<Done, Fault> {
    let spot = Spot::find(base, path, false)?;
    if let Some(stat) = spot.stat()? {
        regular(path, &stat)?;
    }
    let mut id = Sha256::new();
    id.update(spot.name.as_bytes());
    id.update(receive.size.to_be_bytes());
    id.update(&receive.sha256);
    let id = hex(&id.finalize())[..ID].to_owned();
    let (part, length) = match found(&spot, &id, receive.size)? {
        Some(found) => found,
        None => (begun(&spot, &id)?, 0),
    };
    let room = fstatvfs(&spot.dir).map_err(|errno| spot.fault(errno))?;
    if room.f_bavail.saturating_mul(room.f_frsize) < receive.size - length.min(receive.size) {
        unlinkat(&spot.dir, named(&part), AtFlags::empty()).ok();
        return Err(spot.fault(Errno::NOSPC));
    }
    Ok(Done { part: Some(part), bytes: Some(length), size: Some(receive.size), ..Done::default() })
}

/// A part of this very file, with its length.
fn found(spot: &Spot, id: &str, size: u64) -> Result<Option<(String, u64)>, Fault> {
    let failed = |errno| spot.fault(errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(&spot.dir, ".", flags, Mode::empty()).map_err(failed)?;
    let wanted = format!("{PREFIX}{id}");
    for entry in Dir::read_from(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.starts_with(&wanted) {
            continue;
        }
        let part = name.trim_start_matches(PREFIX).to_owned();
        let Ok(file) = opened(spot, &part, OFlags::RDONLY) else { continue };
        let length = fstat(&file).map_err(failed)?.st_size;
        let length = u64::try_from(length).unwrap_or(0);
        if length <= size {
            return Ok(Some((part, length)));
        }
    }
    Ok(None)
}

fn begun(spot: &Spot, id: &str) -> Result<String, Fault> {
    loop {
        let part = format!("{id}{}", token(&spot.path)?);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        match spot.at(&named(&part), flags, Mode::from_raw_mode(0o600)) {
            Ok(_) => return Ok(part),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(spot.fault(errno)),
        }
    }
}

/// A part, which must be a file with no other name.
fn opened(spot: &Spot, part: &str, flags: OFlags) -> Result<File, Fault> {
    let gone = || {
        let message = format!("the part of {} is not there any more", spot.path.display());
        Fault::new(Code::PartGone, message)
    };
    let file = match spot.at(&named(part), flags | OFlags::NONBLOCK, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(gone()),
        Err(errno) => return Err(spot.fault(errno)),
    };
    let stat = fstat(&file).map_err(|errno| spot.fault(errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(gone());
    }
    Ok(file)
}

pub(super) fn chunk(base: &Path, path: &Path, chunk: &pb::FileChunk) -> Result<Done, Fault> {
    if Sha256::digest(&chunk.data).as_slice() != chunk.sha256 {
        return Err(differs(path, "the piece"));
    }
    let spot = Spot::find(base, path, false)?;
    let file = opened(&spot, &chunk.part, OFlags::WRONLY)?;
    file.write_all_at(&chunk.data, chunk.offset).map_err(|err| io(path, &err))?;
    Ok(Done { bytes: Some(chunk.data.len() as u64), ..Done::default() })
}

pub(super) fn finish(base: &Path, path: &Path, finish: &pb::FileFinish) -> Result<Done, Fault> {
    let spot = Spot::find(base, path, false)?;
    let mut file = match opened(&spot, &finish.part, OFlags::RDONLY) {
        Err(gone) if gone.code == Code::PartGone => return already(&spot, finish, gone),
        file => file?,
    };
    let (bytes, digest) = pass(path, &mut file, u64::MAX, |_| Ok(()))?;
    if bytes != finish.size || digest != hex(&finish.sha256) {
        // Nobody knows which piece is wrong: it has to be done again from the beginning.
        unlinkat(&spot.dir, named(&finish.part), AtFlags::empty()).ok();
        return Err(differs(path, "what was received"));
    }
    let expected =
        Expected { sha256: finish.expect_sha256.clone(), version: None, nothing: finish.new_only };
    let old = expect(&spot, &expected)?;
    settle(&spot, &file, finish.mode, old.as_ref())?;
    place(&spot, &named(&finish.part), finish.new_only)?;
    let stat = fstat(&file).map_err(|errno| spot.fault(errno))?;
    Ok(Done {
        size: Some(bytes),
        sha256: Some(digest),
        version: Some(version(&stat)),
        changed: Some(true),
        ..Done::default()
    })
}

/// The file may be in place already: the answer was lost, not the work.
fn already(spot: &Spot, finish: &pb::FileFinish, gone: Fault) -> Result<Done, Fault> {
    let Some((mut file, stat)) = spot.read()? else { return Err(gone) };
    if u64::try_from(stat.st_size) != Ok(finish.size) {
        return Err(gone);
    }
    let there = digest(&spot.path, &mut file)?;
    if there != hex(&finish.sha256) {
        return Err(gone);
    }
    Ok(Done {
        size: Some(finish.size),
        sha256: Some(there),
        version: Some(version(&stat)),
        changed: Some(false),
        ..Done::default()
    })
}

fn differs(path: &Path, what: &str) -> Fault {
    let message =
        format!("{what} does not have the SHA-256 that was promised for {}", path.display());
    Fault::new(Code::DigestMismatch, message)
}

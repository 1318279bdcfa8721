//! Keeping evidence: what shows that a journal is not what it was. It is only ever added to, and read-only.

use super::files::sync_dir;
use cortex_model::Code;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the list of digests; it has the form of `sha256sum`.
pub(crate) const LIST: &str = "SHA256SUMS";

/// Stores notes that contradict each other in a new directory below `dir`, with what they show in words.
///
/// # Errors
/// They cannot be stored.
pub fn keep_evidence(dir: &Path, code: Code, why: &str, notes: &[String]) -> io::Result<PathBuf> {
    let place = fresh(dir, code.as_str())?;
    let mut files =
        vec![("reason.txt".to_owned(), format!("{code} {why}\n", code = code.as_str()))];
    files.extend((0..).zip(notes).map(|(n, note): (u32, _)| (format!("{n}.note"), note.clone())));
    for (name, text) in &files {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o400).open(place.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    seal(&place)?;
    Ok(place)
}

/// A new directory for evidence, named by the time and what it is about.
pub(crate) fn fresh(dir: &Path, what: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    let now = crate::clock::unix_now().0;
    for attempt in 0..100 {
        let place = dir.join(format!("{}-{what}", now + attempt));
        match fs::create_dir(&place) {
            Ok(()) => {
                fs::set_permissions(&place, Permissions::from_mode(0o700))?;
                sync_dir(Some(dir))?;
                return Ok(place);
            }
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Digests of all files below a directory, in the form of `sha256sum`, sorted by name.
pub(crate) fn list(place: &Path) -> io::Result<String> {
    let mut lines = Vec::new();
    let mut dirs = vec![place.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(place).unwrap_or(&path).to_string_lossy().into_owned();
            if name != LIST {
                lines.push((name, digest(&path)?));
            }
        }
    }
    lines.sort();
    Ok(lines.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect())
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(cortex_audit::leaf::hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Writes the list of digests and makes everything read-only. Returns the digest of the list.
pub(crate) fn seal(place: &Path) -> io::Result<String> {
    let text = list(place)?;
    let path = place.join(LIST);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o400).open(&path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let mut dirs = vec![place.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                fs::set_permissions(&path, Permissions::from_mode(0o400))?;
            }
        }
        sync_dir(Some(&dir))?;
    }
    Ok(cortex_audit::leaf::hex(&Sha256::digest(text.as_bytes())))
}

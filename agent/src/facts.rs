//! Facts about a request that only this machine can tell: which file a program's name means, and whether the
//! working directory is there. It judges nothing.

use cortex_agent_core::Program;
use cortex_agent_core::environment::SEARCH;
use cortex_agent_core::plan::FileId;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The path with its directory resolved and its last part kept: a link in the last place stays itself, because
/// programs such as busybox do what the name says.
#[must_use]
pub fn resolve_dir(path: &Path) -> PathBuf {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    std::fs::canonicalize(dir).map_or_else(|_| path.to_owned(), |dir| dir.join(name))
}

/// The file that a program's name means.
///
/// # Errors
/// Why there is none, for people.
pub fn resolve_program(name: &[u8]) -> Result<Program, String> {
    let name = Path::new(OsStr::from_bytes(name));
    if name.is_absolute() {
        return executable(name).ok_or_else(|| "no such program".to_owned());
    }
    if name.components().count() != 1 || name.file_name().is_none() {
        return Err("a program is named by its absolute path or by its name alone".to_owned());
    }
    SEARCH
        .iter()
        .find_map(|dir| executable(&Path::new(dir).join(name)))
        .ok_or_else(|| format!("not found in {}", SEARCH.join(":")))
}

fn executable(path: &Path) -> Option<Program> {
    path.file_name()?;
    let meta = std::fs::metadata(path).ok()?;
    let id = FileId { dev: meta.dev(), ino: meta.ino() };
    let runs = meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    runs.then(|| Program { path: resolve_dir(path), id })
}

/// The directory a process starts in.
///
/// # Errors
/// Why it cannot be used, for people.
pub fn resolve_cwd(cwd: &str, default: &Path) -> Result<PathBuf, String> {
    if cwd.is_empty() {
        return Ok(default.to_owned());
    }
    match std::fs::metadata(cwd) {
        Ok(meta) if meta.is_dir() => Ok(PathBuf::from(cwd)),
        Ok(_) => Err(format!("{cwd} is not a directory")),
        Err(err) => Err(format!("{cwd}: {err}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_the_search_path_and_links_in_the_last_place_stay() {
        let found = resolve_program(b"sh").unwrap();
        let sh = &found.path;
        assert_eq!(sh.file_name(), Some(OsStr::new("sh")));
        assert_eq!(resolve_program(sh.as_os_str().as_bytes()), Ok(found.clone()));
        assert_eq!(resolve_dir(Path::new("/bin/sh")), resolve_dir(sh));
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("renamed");
        std::os::unix::fs::symlink(sh, &link).unwrap();
        let renamed = resolve_program(link.as_os_str().as_bytes()).unwrap();
        assert_eq!(renamed.id, found.id);
        assert_eq!(renamed.path.file_name(), Some(OsStr::new("renamed")));
    }

    #[test]
    fn what_is_no_program_or_directory_is_said() {
        for name in
            [&b"./sh"[..], b"../bin/sh", b"", b"no-such-program", b"/", b"/etc", b"/etc/passwd"]
        {
            assert!(resolve_program(name).is_err(), "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(resolve_cwd("", Path::new("/x")), Ok(PathBuf::from("/x")));
        assert!(resolve_cwd("/etc/passwd", Path::new("/")).is_err());
        assert!(resolve_cwd("/no/such", Path::new("/")).is_err());
    }
}

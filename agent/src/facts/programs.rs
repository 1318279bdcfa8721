//! Which file a program's name means.

use cortex_agent_core::Program;
use cortex_agent_core::environment::SEARCH;
use cortex_agent_core::plan::FileId;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Set-user-id and set-group-id.
const SETUID: u32 = 0o6000;

/// The path with its directory resolved and its last part kept: a link in the last place stays itself, because
/// programs such as busybox do what the name says.
#[must_use]
pub fn resolve_dir(path: &Path) -> PathBuf {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    std::fs::canonicalize(dir).map_or_else(|_| path.to_owned(), |dir| dir.join(name))
}

/// The file that a program's name means on an ordinary machine.
///
/// # Errors
/// Why there is none, for people.
pub fn resolve_program(name: &[u8]) -> Result<Program, String> {
    let search: Vec<PathBuf> = SEARCH.iter().map(PathBuf::from).collect();
    find(name, &search, None)
}

/// The file that a name means: looked for in `search`, or, with a slash in it, taken as a path from `from`.
pub(super) fn find(
    name: &[u8],
    search: &[PathBuf],
    from: Option<&Path>,
) -> Result<Program, String> {
    let name = Path::new(OsStr::from_bytes(name));
    if name.is_absolute() {
        return executable(name).ok_or_else(|| "no such program".to_owned());
    }
    if name.as_os_str().as_bytes().contains(&b'/') || name.file_name().is_none() {
        return match from {
            Some(from) => executable(&from.join(name)).ok_or_else(|| "no such program".to_owned()),
            None => Err("a program is named by its absolute path or by its name alone".to_owned()),
        };
    }
    let found = search.iter().find_map(|dir| executable(&dir.join(name)));
    found.ok_or_else(|| {
        let places: Vec<_> = search.iter().map(|dir| dir.to_string_lossy()).collect();
        format!("not found in {}", places.join(":"))
    })
}

fn executable(path: &Path) -> Option<Program> {
    path.file_name()?;
    let meta = std::fs::metadata(path).ok()?;
    let id = FileId { dev: meta.dev(), ino: meta.ino() };
    let runs = meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    let target = std::fs::canonicalize(path).ok()?;
    let setuid = meta.permissions().mode() & SETUID != 0;
    runs.then(|| Program { path: resolve_dir(path), target, id, setuid })
}

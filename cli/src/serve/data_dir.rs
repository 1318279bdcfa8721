//! The server's data directory: its version, its lock, its secrets, and where the server listens. It never reads what the log
//! or the agent keep in their own folders.
//!
//! ```text
//! version          "cortex-data 1"
//! lock             held by the running server
//! client.token     0600, root's token               authority/    the deployment's keys, unless they lie elsewhere
//! endpoint.json    where the server listens
//! log/             the event log and outputs         agent/        the agent's own data directory
//! backups/         what 'cortex backup' made
//! ```

use crate::client::{ENDPOINT_FILE, TOKEN_FILE};
use crate::error::CliError;
use cortex_model::Code;
use serde::Serialize;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// First words of the version file.
const VERSION_PREFIX: &str = "cortex-data ";
/// The version this program writes.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Endpoint<'a> {
    version: u32,
    url: &'a str,
    pid: u32,
}

/// A data directory that this process holds.
pub(crate) struct DataDir {
    path: PathBuf,
    /// Held until the process ends, however it ends.
    _lock: File,
}

impl DataDir {
    /// Creates or opens the directory and locks it.
    ///
    /// # Errors
    /// `CX-0701` when another process holds it, `CX-0702` when it is newer, `CX-0703` when it is not one of ours.
    pub(crate) fn open(path: &Path) -> Result<DataDir, CliError> {
        let io = |e: std::io::Error| io_error(path, &e);
        let absolute = std::path::absolute(path).map_err(io)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&absolute).map_err(io)?;
        check_version(&absolute)?;
        let lock = take_lock(&absolute)?;
        let version = absolute.join("version");
        if !version.exists() {
            write_whole(&version, format!("{VERSION_PREFIX}{VERSION}\n").as_bytes(), 0o600)
                .map_err(io)?;
        }
        Ok(DataDir { path: absolute, _lock: lock })
    }

    /// A path inside.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The token that clients of this directory show, if there is one.
    ///
    /// # Errors
    /// `CX-0706` when others can read it.
    pub(crate) fn token(&self) -> Result<Option<String>, CliError> {
        let path = self.path.join(TOKEN_FILE);
        if !path.exists() {
            return Ok(None);
        }
        read_private(&path).map(|text| Some(text.trim().to_owned()))
    }

    /// Keeps the token that clients of this directory show.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_token(&self, text: &str) -> Result<(), CliError> {
        let path = self.path.join(TOKEN_FILE);
        write_whole(&path, format!("{text}\n").as_bytes(), 0o600).map_err(|e| io_error(&path, &e))
    }

    /// The address the last server of this directory listened on.
    pub(crate) fn last_address(&self) -> Option<SocketAddr> {
        let text = fs::read_to_string(self.path.join(ENDPOINT_FILE)).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        value["url"].as_str()?.strip_prefix("https://")?.parse().ok()
    }

    /// Says where the server listens.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_endpoint(&self, url: &str) -> Result<(), CliError> {
        let path = self.path.join(ENDPOINT_FILE);
        let endpoint = Endpoint { version: 1, url, pid: std::process::id() };
        let text = serde_json::to_vec(&endpoint).map_err(|e| CliError::internal(e.to_string()))?;
        write_whole(&path, &text, 0o600).map_err(|e| io_error(&path, &e))
    }
}

fn check_version(path: &Path) -> Result<(), CliError> {
    let text = match fs::read_to_string(path.join("version")) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let mut others = fs::read_dir(path).map_err(|e| io_error(path, &e))?;
            return match others.find(|e| e.as_ref().is_ok_and(|e| e.file_name() != "lock")) {
                None => Ok(()),
                Some(_) => Err(CliError::new(
                    Code::DataDirCorrupt,
                    format!("{} is not empty and not a data directory of cortex", path.display()),
                )
                .with_hint("choose an empty directory, or one that 'cortex up' made")),
            };
        }
        Err(e) => return Err(io_error(path, &e)),
    };
    match text.trim().strip_prefix(VERSION_PREFIX).and_then(|v| v.parse::<u32>().ok()) {
        Some(VERSION) => Ok(()),
        Some(v) if v > VERSION => Err(CliError::new(
            Code::DataDirNewer,
            format!("{} has version {v}, this program knows {VERSION}", path.display()),
        )),
        _ => Err(CliError::new(
            Code::DataDirCorrupt,
            format!("{}/version cannot be read", path.display()),
        )),
    }
}

fn take_lock(path: &Path) -> Result<File, CliError> {
    let name = path.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|e| io_error(&name, &e))?;
    match file.try_lock() {
        Ok(()) => {
            let pid = std::process::id().to_string();
            file.set_len(0)
                .and_then(|()| file.write_all(pid.as_bytes()))
                .map_err(|e| io_error(&name, &e))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).ok();
            Err(CliError::new(
                Code::DataDirLocked,
                format!("process {} already serves {}", pid.trim(), path.display()),
            ))
        }
        Err(TryLockError::Error(e)) => Err(io_error(&name, &e)),
    }
}

/// Reads a file that nobody else may read.
fn read_private(path: &Path) -> Result<String, CliError> {
    let mode = fs::metadata(path).map_err(|e| io_error(path, &e))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let text = format!("{} can be used by others (mode {mode:o})", path.display());
        return Err(CliError::new(Code::InsecureFile, text)
            .with_hint(format!("run: chmod 600 {}", path.display())));
    }
    fs::read_to_string(path).map_err(|e| io_error(path, &e))
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// An I/O error on a path, with the code that says what to do.
pub(crate) fn io_error(path: &Path, e: &std::io::Error) -> CliError {
    let full = matches!(
        e.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    );
    let code = if full { Code::DiskFull } else { Code::DataDirCorrupt };
    let error = CliError::new(code, format!("{}: {e}", path.display()));
    if e.kind() == ErrorKind::PermissionDenied {
        return error.with_hint("choose a directory that you can write to: --data-dir DIR");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_kept_and_held_by_one_process() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("new/data");
        let dir = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(dir.token().unwrap(), None);
        dir.write_token("secret").unwrap();
        let second = DataDir::open(&path).map(|_| ()).unwrap_err();
        assert!(second.is(Code::DataDirLocked), "{second:?}");
        assert!(second.message.contains(&std::process::id().to_string()), "{second:?}");
        drop(dir);
        assert_eq!(DataDir::open(&path).unwrap().token().unwrap().as_deref(), Some("secret"));
    }

    #[test]
    fn foreign_newer_and_damaged_directories_are_refused_and_left_alone() {
        let table = [
            ("stranger.txt", "x", Code::DataDirCorrupt),
            ("version", "cortex-data 2\n", Code::DataDirNewer),
            ("version", "garbage", Code::DataDirCorrupt),
        ];
        for (name, text, code) in table {
            let tmp = tempfile::tempdir().unwrap();
            fs::write(tmp.path().join(name), text).unwrap();
            let e = DataDir::open(tmp.path()).map(|_| ()).unwrap_err();
            assert!(e.is(code), "{name} {text}: {e:?}");
            assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(tmp.path()).unwrap();
        dir.write_token("secret").unwrap();
        fs::set_permissions(dir.join("client.token"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(dir.token().unwrap_err().is(Code::InsecureFile));
    }
}

//! A bundle: a directory that holds a journal and what proves it (docs/journal-format.md, section 8). Only contents count; keys inside
//! are never believed.

use crate::error::CliError;
use cortex_audit::verify::{Source, Text};
use cortex_model::Code;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Notes in one bundle.
const NOTES_MAX: usize = 100_000;
/// Largest note or frontier file, bytes.
const SMALL_FILE: u64 = 128 * 1024;

/// Reads files one after the other as if they were one.
struct Files {
    paths: std::vec::IntoIter<PathBuf>,
    open: Option<File>,
}

impl Read for Files {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(file) = &mut self.open {
                let read = file.read(buffer)?;
                if read > 0 {
                    return Ok(read);
                }
            }
            let Some(next) = self.paths.next() else { return Ok(0) };
            self.open = Some(File::open(next)?);
        }
    }
}

/// The files of a folder with this ending, by name, bytewise.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, CliError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(folder, &e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| unreadable(folder, &e))?.path();
        if path.extension().is_some_and(|extension| extension == ending) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(paths)
}

fn unreadable(path: &Path, e: &std::io::Error) -> CliError {
    CliError::new(Code::Usage, format!("{} cannot be read: {e}", path.display()))
}

fn small(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| unreadable(path, &e))?;
    file.take(SMALL_FILE).read_to_end(&mut bytes).map_err(|e| unreadable(path, &e))?;
    Ok(bytes)
}

/// Opens a bundle for the verifier.
///
/// # Errors
/// When it is none, or cannot be read.
pub(super) fn source(dir: &Path) -> Result<Source<'static>, CliError> {
    let records = files(&dir.join("records"), "ndjson")?;
    if records.is_empty() {
        return Err(CliError::new(
            Code::Usage,
            format!("{} holds no bundle: it has no records/*.ndjson", dir.display()),
        )
        .with_hint("make one with 'cortex audit export'"));
    }
    let mut notes = files(&dir.join("checkpoints"), "note")?;
    notes.truncate(NOTES_MAX);
    let checkpoints = notes.iter().map(|path| small(path)).collect::<Result<_, _>>()?;
    let optional = |name: &str| {
        let path = dir.join(name);
        path.is_file().then(|| small(&path)).transpose()
    };
    let openings = files(&dir.join("openings"), "txt")?;
    let text = |paths: Vec<PathBuf>| {
        let files = Files { paths: paths.into_iter(), open: None };
        Box::new(Text::new(BufReader::with_capacity(1 << 20, files)))
    };
    Ok(Source {
        records: text(records),
        openings: if openings.is_empty() { None } else { Some(text(openings)) },
        checkpoints,
        head: optional("head.note")?,
        frontier: optional("frontier.json")?,
    })
}

/// The other histories that a bundle keeps as evidence.
///
/// # Errors
/// When it cannot be read.
pub(super) fn branches(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let folder = dir.join("evidence");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut branches = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| unreadable(&folder, &e))?.path();
        if path.join("records").is_dir() {
            branches.push(path);
        }
    }
    branches.sort();
    Ok(branches)
}

//! A bundle: a directory that holds a journal and what proves it (docs/journal-format.md, section 8). Only contents count; keys inside
//! are never believed.

use cortex_audit::SignedNote;
use cortex_audit::verify::{Line, Lines, Source, Text, Unreadable};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Notes in one bundle.
const NOTES_MAX: usize = 100_000;
/// Largest note or frontier file, bytes.
const SMALL_FILE: u64 = 128 * 1024;

/// Lines of files, one file after the other. No line goes on in the next file: what a file does not end is not ended.
struct Files {
    paths: std::vec::IntoIter<PathBuf>,
    open: Option<Text<BufReader<File>>>,
}

impl Files {
    fn new(paths: Vec<PathBuf>) -> Files {
        Files { paths: paths.into_iter(), open: None }
    }

    /// Whether another file was opened.
    fn open_next(&mut self) -> Result<bool, Unreadable> {
        let Some(path) = self.paths.next() else { return Ok(false) };
        let file = File::open(&path);
        let file = file.map_err(|e| Unreadable(format!("{}: {e}", path.display())))?;
        self.open = Some(Text::new(BufReader::with_capacity(1 << 20, file)));
        Ok(true)
    }
}

impl Lines for Files {
    fn next_line(&mut self) -> Result<Option<Line<'_>>, Unreadable> {
        loop {
            // Whether there is a line must be known before one is lent out.
            if let Some(open) = &mut self.open
                && !open.is_over()?
            {
                break;
            }
            if !self.open_next()? {
                return Ok(None);
            }
        }
        match &mut self.open {
            Some(open) => open.next_line(),
            None => Ok(None),
        }
    }
}

/// The files of a folder with this ending, by name, bytewise.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, NotRead> {
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

/// Nothing was concluded: the verdict is UNREADABLE, and not that of a wrong call.
#[derive(Debug)]
pub(super) struct NotRead(pub(super) String);

fn unreadable(path: &Path, e: &std::io::Error) -> NotRead {
    NotRead(format!("{} cannot be read: {e}", path.display()))
}

/// A note or frontier; one that is too large is cut, and then is none.
fn small(path: &Path) -> Result<Vec<u8>, NotRead> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| unreadable(path, &e))?;
    file.take(SMALL_FILE).read_to_end(&mut bytes).map_err(|e| unreadable(path, &e))?;
    Ok(bytes)
}

/// Opens a bundle for the verifier.
///
/// # Errors
/// When it is none, or cannot be read.
pub(super) fn source(dir: &Path) -> Result<Source<'static>, NotRead> {
    if dir.is_file() {
        let text = format!("{} is a file: unpack it, and name the directory", dir.display());
        return Err(NotRead(text));
    }
    let records = files(&dir.join("records"), "ndjson")?;
    if records.is_empty() {
        let text = format!(
            "{} holds no bundle: it has no records/*.ndjson; make one with 'cortex audit export'",
            dir.display()
        );
        return Err(NotRead(text));
    }
    let optional = |name: &str| match small(&dir.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) if !dir.join(name).exists() => Ok(None),
        Err(e) => Err(e),
    };
    let openings = files(&dir.join("openings"), "txt")?;
    Ok(Source {
        records: Box::new(Files::new(records)),
        openings: if openings.is_empty() { None } else { Some(Box::new(Files::new(openings))) },
        checkpoints: notes(&dir.join("checkpoints"))?,
        head: optional("head.note")?,
        frontier: optional("frontier.json")?,
    })
}

/// The notes of a folder. All are looked at: a note that is left out might be the one that shows what is wrong.
fn notes(folder: &Path) -> Result<Vec<Vec<u8>>, NotRead> {
    let paths = files(folder, "note")?;
    if paths.len() > NOTES_MAX {
        let text = format!("{} has more than {NOTES_MAX} notes", folder.display());
        return Err(NotRead(text));
    }
    paths.iter().map(|path| small(path)).collect()
}

/// Notes that a bundle keeps as evidence, those that can be read as such: each contradicts something, and the verifier says what.
///
/// # Errors
/// When they cannot be read.
pub(super) fn evidence(dir: &Path) -> Result<Vec<SignedNote>, NotRead> {
    let notes = notes(&dir.join("evidence"))?;
    Ok(notes.iter().filter_map(|note| SignedNote::parse(note).ok()).collect())
}

/// The other histories that a bundle keeps as evidence.
///
/// # Errors
/// When it cannot be read.
pub(super) fn branches(dir: &Path) -> Result<Vec<PathBuf>, NotRead> {
    let folder = dir.join("evidence");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(&folder, &e)),
    };
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

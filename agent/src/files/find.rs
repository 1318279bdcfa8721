//! Finding: paths that match patterns, lines that match an expression. Ignore files are honoured as ripgrep does; links are
//! not followed, and every file is opened beneath its place.

use super::look::{entry, limit, target};
use super::open::{self, fault};
use super::report::{Bytes, Done, Line};
use super::worker::Out;
use cortex_model::limits::{FILE_EDIT_MAX, FILE_LINE_MAX, FILE_MATCHES_DEFAULT};
use cortex_model::{Code, Fault, proto as pb};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use ignore::WalkBuilder;
use rustix::fs::{AtFlags, CWD, OFlags, fstat, statat};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) fn glob(
    place: &Path,
    path: &Path,
    glob: &pb::FileGlob,
    out: &mut Out,
) -> Result<Done, Fault> {
    let failed = |errno| fault(path, errno);
    open::open(place, path, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
    let patterns = patterns(&glob.patterns)?;
    let (most, mut count, mut more) = (limit(glob.limit), 0, false);
    for found in walk(path, glob.all) {
        // A directory that cannot be read has nothing in it that could be told.
        let Ok(found) = found else { continue };
        let Ok(below) = found.path().strip_prefix(path) else { continue };
        if below.as_os_str().is_empty() || !patterns.is_match(below) {
            continue;
        }
        if count == most {
            more = true;
            break;
        }
        let Ok(stat) = statat(CWD, found.path(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let target = target(CWD, found.path().as_os_str(), &stat);
        out.line(&entry(Bytes(below.as_os_str().as_bytes().to_vec()), &stat, target))?;
        count += 1;
    }
    Ok(Done { count: Some(count as u64), more, ..Done::default() })
}

pub(super) fn search(
    place: &Path,
    path: &Path,
    search: &pb::FileSearch,
    out: &mut Out,
) -> Result<Done, Fault> {
    let matcher = RegexMatcherBuilder::new()
        .case_insensitive(search.ignore_case)
        .fixed_strings(search.literal)
        .line_terminator(Some(b'\n'))
        .build(&search.pattern)
        .map_err(|err| Fault::new(Code::BadFileAction, format!("the pattern: {err}")))?;
    let globs = if search.globs.is_empty() { None } else { Some(patterns(&search.globs)?) };
    let context = search.context as usize;
    let mut searcher = SearcherBuilder::new()
        .before_context(context)
        .after_context(context)
        .line_number(true)
        .binary_detection(BinaryDetection::quit(0))
        .heap_limit(usize::try_from(FILE_EDIT_MAX).ok())
        .build();
    let most = if search.limit == 0 { FILE_MATCHES_DEFAULT } else { search.limit as usize };
    let mut told =
        Told { out, name: Bytes::default(), left: most, count: 0, more: false, fault: None };
    let failed = |errno| fault(path, errno);
    let found = fstat(open::open(place, path, OFlags::PATH).map_err(failed)?).map_err(failed)?;
    let mut skipped = 0;
    if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir() {
        told.name = Bytes(path.as_os_str().as_bytes().to_vec());
        skipped += one(place, path, &matcher, &mut searcher, &mut told, true)?;
    } else {
        for found in walk(path, search.all) {
            let Ok(found) = found else {
                skipped += 1;
                continue;
            };
            let Ok(below) = found.path().strip_prefix(path) else { continue };
            let file = found.file_type().is_some_and(|kind| kind.is_file());
            if !file || globs.as_ref().is_some_and(|globs| !globs.is_match(below)) {
                continue;
            }
            told.name = Bytes(below.as_os_str().as_bytes().to_vec());
            skipped += one(place, found.path(), &matcher, &mut searcher, &mut told, false)?;
            if told.more {
                break;
            }
        }
    }
    let (count, more) = (told.count, told.more);
    Ok(Done { count: Some(count), more, skipped: Some(skipped), ..Done::default() })
}

/// Searches one file; 1 if that could not be done. `alone`: then it is an error.
fn one(
    place: &Path,
    path: &Path,
    matcher: &RegexMatcher,
    searcher: &mut Searcher,
    told: &mut Told<'_>,
    alone: bool,
) -> Result<u64, Fault> {
    let file = match open::file(place, path) {
        Ok((file, _)) => file,
        Err(fault) if alone => return Err(fault),
        Err(_) => return Ok(1),
    };
    let searched = searcher.search_file(matcher, &file, &mut *told);
    if let Some(fault) = told.fault.take() {
        return Err(fault);
    }
    match searched {
        Ok(()) => Ok(0),
        Err(err) if alone => Err(open::io(path, &err)),
        Err(_) => Ok(1),
    }
}

/// Tells lines as they are found.
struct Told<'a> {
    out: &'a mut Out,
    name: Bytes,
    left: usize,
    count: u64,
    more: bool,
    fault: Option<Fault>,
}

impl Told<'_> {
    fn tell(&mut self, line: u64, bytes: &[u8], matched: bool) -> bool {
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let cut = text.len() > FILE_LINE_MAX;
        let text = Bytes(text[..text.len().min(FILE_LINE_MAX)].to_vec());
        let told = self.out.line(&Line { path: self.name.clone(), line, matched, text, cut });
        self.fault = told.err();
        self.fault.is_none()
    }
}

impl Sink for &mut Told<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        if self.left == 0 {
            self.more = true;
            return Ok(false);
        }
        self.left -= 1;
        self.count += 1;
        Ok(self.tell(found.line_number().unwrap_or(0), found.bytes(), true))
    }

    fn context(&mut self, _: &Searcher, found: &SinkContext<'_>) -> Result<bool, io::Error> {
        Ok(self.tell(found.line_number().unwrap_or(0), found.bytes(), false))
    }
}

/// Everything below a directory, in the order of names.
fn walk(path: &Path, all: bool) -> ignore::Walk {
    WalkBuilder::new(path)
        .standard_filters(!all)
        // Whose ignore files the agent's user has elsewhere is none of a task's business.
        .git_global(false)
        .require_git(false)
        .follow_links(false)
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .build()
}

/// A pattern without a slash matches names in every directory.
fn patterns(patterns: &[String]) -> Result<GlobSet, Fault> {
    let bad = |err: globset::Error| Fault::new(Code::BadFileAction, err.to_string());
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let anchored = pattern.strip_prefix('/');
        let text = match anchored {
            Some(rest) => rest.to_owned(),
            None if pattern.contains('/') => pattern.clone(),
            None => format!("**/{pattern}"),
        };
        set.add(GlobBuilder::new(&text).literal_separator(true).build().map_err(bad)?);
    }
    set.build().map_err(bad)
}

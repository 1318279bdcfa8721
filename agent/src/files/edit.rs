//! Editing: search-and-replace or a diff, all of it or nothing. A file that is not as the edit expects is left alone.

use super::change::{Expected, Put, put};
use super::diff;
use super::look::changed;
use super::open::{Spot, io, version};
use super::report::Done;
use cortex_audit::leaf::hex;
use cortex_model::limits::FILE_EDIT_MAX;
use cortex_model::{Code, Fault, proto as pb};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

pub(super) fn edit(place: &Path, path: &Path, edit: &pb::FileEdit) -> Result<Done, Fault> {
    let spot = Spot::find(place, path, false)?;
    let (file, stat) = spot.read()?.ok_or_else(|| spot.fault(Errno::NOENT))?;
    let mut old = Vec::new();
    file.take(FILE_EDIT_MAX + 1).read_to_end(&mut old).map_err(|err| io(path, &err))?;
    if old.len() as u64 > FILE_EDIT_MAX {
        let message = format!("{} has more than {FILE_EDIT_MAX} bytes", path.display());
        return Err(Fault::new(Code::FileTooLarge, message));
    }
    let digest = Sha256::digest(&old);
    if !edit.expect_sha256.is_empty() && edit.expect_sha256 != digest.as_slice() {
        return Err(changed(path));
    }
    let misfit = |why: String| {
        Fault::new(Code::EditMismatch, format!("the edit does not fit {}: {why}", path.display()))
    };
    let new = if edit.diff.is_empty() {
        replaced(&old, &edit.replace).map_err(misfit)?
    } else {
        diff::apply(&old, &edit.diff).map_err(misfit)?
    };
    if new == old {
        let (size, sha256) = (Some(old.len() as u64), Some(hex(&digest)));
        let version = Some(version(&stat));
        return Ok(Done { size, sha256, version, changed: Some(false), ..Done::default() });
    }
    let expected = Expected { version: Some(version(&stat)), ..Expected::default() };
    put(&spot, &Put { content: &new, mode: 0, expected })
}

/// Each in its turn, on what the ones before it have made.
fn replaced(old: &[u8], all: &[pb::FileReplacement]) -> Result<Vec<u8>, String> {
    let mut text = old.to_vec();
    for (number, one) in all.iter().enumerate() {
        let places = places(&text, &one.old);
        let wanted = if one.count == 0 { 1 } else { one.count as usize };
        if places.len() != wanted {
            let (number, is) = (number + 1, places.len());
            return Err(format!(
                "what replacement {number} looks for is there {is} times, not {wanted}"
            ));
        }
        let mut next = Vec::with_capacity(text.len());
        let mut from = 0;
        for at in places {
            next.extend_from_slice(&text[from..at]);
            next.extend_from_slice(&one.new);
            from = at + one.old.len();
        }
        next.extend_from_slice(&text[from..]);
        if next.len() as u64 > FILE_EDIT_MAX {
            return Err(format!("it would have more than {FILE_EDIT_MAX} bytes"));
        }
        text = next;
    }
    Ok(text)
}

/// Where something is, without overlaps.
fn places(text: &[u8], what: &[u8]) -> Vec<usize> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&text[from..], what) {
        all.push(from + at);
        from += at + what.len();
    }
    all
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let (first, rest) = what.split_first()?;
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|byte| byte == first)?;
        if text[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(old: &str, new: &str, count: u32) -> pb::FileReplacement {
        pb::FileReplacement { old: old.into(), new: new.into(), count }
    }

    #[test]
    fn replacements_are_exact_and_in_order() {
        let text = b"let a = 1;\nlet b = 1;\n";
        let made = replaced(text, &[one("a = 1", "a = 2", 0), one("a = 2", "a = 3", 0)]);
        assert_eq!(made.as_deref(), Ok(&b"let a = 3;\nlet b = 1;\n"[..]));
        assert_eq!(
            replaced(text, &[one("let", "x", 2)]).as_deref(),
            Ok(&b"x a = 1;\nx b = 1;\n"[..])
        );
        assert_eq!(places(b"aaaa", b"aa"), [0, 2]);
        assert_eq!(places(b"ab", b"abc"), [] as [usize; 0]);
        for (wrong, said) in [
            (one("nothing", "x", 0), "is there 0 times, not 1"),
            (one("let", "x", 0), "is there 2 times, not 1"),
            (one("let", "x", 3), "is there 2 times, not 3"),
        ] {
            let why = replaced(text, &[one("a", "A", 0), wrong]).unwrap_err();
            assert!(why.contains(said) && why.contains("replacement 2"), "{why}");
        }
    }
}

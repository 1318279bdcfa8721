//! `FileAction` of `task.proto` to and from the model.

use crate::error::{Code, Fault};
use crate::file::{FileAction, FileOp};
use crate::limits::*;
use crate::proto as pb;

/// Reads what is to be done with files.
///
/// # Errors
/// `CX-0101`, `CX-0103` or `CX-1301`, naming the field.
pub fn action(p: pb::FileAction) -> Result<FileAction, Fault> {
    path("file.path", &p.path)?;
    let missing = || Fault::new(Code::Malformed, "file.op is missing or has an unknown value");
    let op = p.op.ok_or_else(missing)?;
    check(&op)?;
    Ok(FileAction { path: p.path, op })
}

impl From<&FileAction> for pb::FileAction {
    fn from(a: &FileAction) -> pb::FileAction {
        pb::FileAction { path: a.path.clone(), op: Some(a.op.clone()) }
    }
}

fn check(op: &FileOp) -> Result<(), Fault> {
    match op {
        FileOp::Read(r) => at_most("read.expect_version", r.expect_version.len(), LABEL_MAX),
        FileOp::Write(w) => {
            at_most("write.content", w.content.len(), FILE_PIECE_MAX)?;
            mode(w.mode)?;
            digest_or_none("write.expect_sha256", &w.expect_sha256)
        }
        FileOp::Edit(e) => edit(e),
        FileOp::List(l) => entries(l.limit),
        FileOp::Stat(_) => Ok(()),
        FileOp::Glob(g) => {
            if g.patterns.is_empty() {
                return Err(bad("glob.patterns is empty"));
            }
            patterns(&g.patterns)?;
            entries(g.limit)
        }
        FileOp::Search(s) => {
            if s.pattern.is_empty() {
                return Err(bad("search.pattern is empty"));
            }
            at_most("search.pattern", s.pattern.len(), FILE_PATTERN_MAX)?;
            patterns(&s.globs)?;
            at_most("search.context", s.context as usize, FILE_CONTEXT_MAX)?;
            entries(s.limit)
        }
        FileOp::Delete(d) => digest_or_none("delete.expect_sha256", &d.expect_sha256),
        FileOp::Move(m) => {
            path("move.to", &m.to)?;
            digest_or_none("move.expect_sha256", &m.expect_sha256)
        }
        FileOp::Receive(r) => digest("receive.sha256", &r.sha256),
        FileOp::Chunk(c) => {
            part(&c.part)?;
            if c.data.is_empty() {
                return Err(bad("chunk.data is empty"));
            }
            at_most("chunk.data", c.data.len(), FILE_PIECE_MAX)?;
            digest("chunk.sha256", &c.sha256)
        }
        FileOp::Finish(f) => {
            part(&f.part)?;
            mode(f.mode)?;
            digest("finish.sha256", &f.sha256)?;
            digest_or_none("finish.expect_sha256", &f.expect_sha256)
        }
    }
}

fn edit(e: &pb::FileEdit) -> Result<(), Fault> {
    if e.replace.is_empty() == e.diff.is_empty() {
        return Err(bad("an edit has either replacements or a diff"));
    }
    at_most("edit.replace", e.replace.len(), FILE_REPLACEMENTS_MAX)?;
    at_most("edit.diff", e.diff.len(), FILE_PIECE_MAX)?;
    if e.replace.iter().any(|r| r.old.is_empty()) {
        return Err(bad("edit.replace.old is empty"));
    }
    digest_or_none("edit.expect_sha256", &e.expect_sha256)
}

fn bad(why: &str) -> Fault {
    Fault::new(Code::BadFileAction, why)
}

pub(super) fn path(name: &str, bytes: &[u8]) -> Result<(), Fault> {
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(bad(&format!("{name} is empty or has a NUL byte")));
    }
    at_most(name, bytes.len(), FILE_PATH_MAX)
}

fn part(name: &str) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_hexdigit();
    if name.is_empty() || name.len() > TOKEN_MAX || !name.chars().all(plain) {
        return Err(bad("the name of the part is not one that 'receive' told"));
    }
    Ok(())
}

fn patterns(all: &[String]) -> Result<(), Fault> {
    at_most("the list of patterns", all.len(), FILE_GLOBS_MAX)?;
    match all.iter().map(String::len).max() {
        Some(longest) => at_most("a pattern", longest, FILE_PATTERN_MAX),
        None => Ok(()),
    }
}

fn entries(limit: u32) -> Result<(), Fault> {
    at_most("the limit", limit as usize, FILE_ENTRIES_MAX)
}

fn mode(mode: u32) -> Result<(), Fault> {
    if mode > 0o777 {
        return Err(bad(&format!("mode {mode:o} has more than permission bits")));
    }
    Ok(())
}

fn digest(name: &str, bytes: &[u8]) -> Result<(), Fault> {
    if bytes.len() == 32 { Ok(()) } else { Err(bad(&format!("{name} is not 32 bytes"))) }
}

fn digest_or_none(name: &str, bytes: &[u8]) -> Result<(), Fault> {
    if bytes.is_empty() { Ok(()) } else { digest(name, bytes) }
}

fn at_most(name: &str, is: usize, most: usize) -> Result<(), Fault> {
    if is > most {
        let message = format!("{name} has {is}, at most {most} are accepted");
        return Err(Fault::new(Code::TooLarge, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(path: &[u8], op: FileOp) -> Option<Code> {
        action(pb::FileAction { path: path.to_vec(), op: Some(op) }).err().map(|f| f.code)
    }

    #[test]
    fn what_no_node_could_do_is_refused() {
        let stat = || FileOp::Stat(pb::FileStat::default());
        let write = |content: usize, mode, sha: usize| {
            FileOp::Write(pb::FileWrite {
                content: vec![0; content],
                mode,
                expect_sha256: vec![0; sha],
                ..Default::default()
            })
        };
        let chunk = |part: &str, data: usize| {
            FileOp::Chunk(pb::FileChunk {
                part: part.to_owned(),
                offset: 0,
                data: vec![0; data],
                sha256: vec![0; 32],
            })
        };
        let edit = |old: &str, diff: &str| {
            let one = pb::FileReplacement { old: old.into(), ..Default::default() };
            FileOp::Edit(pb::FileEdit {
                replace: if old == "-" { Vec::new() } else { vec![one] },
                diff: diff.into(),
                ..Default::default()
            })
        };
        let glob = |patterns: Vec<String>, limit| {
            FileOp::Glob(pb::FileGlob { patterns, limit, all: false })
        };
        let (bad, large) = (Some(Code::BadFileAction), Some(Code::TooLarge));
        for (n, (path, op, expected)) in [
            (&b"/a\n\xff"[..], stat(), None),
            (b"", stat(), bad),
            (b"a\0b", stat(), bad),
            (&vec![b'a'; FILE_PATH_MAX + 1], stat(), large),
            (b"a", write(FILE_PIECE_MAX, 0o777, 32), None),
            (b"a", write(FILE_PIECE_MAX + 1, 0, 0), large),
            (b"a", write(1, 0o1777, 0), bad),
            (b"a", write(1, 0, 31), bad),
            (b"a", chunk("0aF", 1), None),
            (b"a", chunk("../x", 1), bad),
            (b"a", chunk("", 1), bad),
            (b"a", chunk("0a", 0), bad),
            (b"a", edit("x", ""), None),
            (b"a", edit("-", "--- a"), None),
            (b"a", edit("x", "--- a"), bad),
            (b"a", edit("-", ""), bad),
            (b"a", edit("", ""), bad),
            (b"a", glob(vec!["*".into()], 0), None),
            (b"a", glob(Vec::new(), 0), bad),
            (b"a", glob(vec!["*".into()], FILE_ENTRIES_MAX as u32 + 1), large),
            (b"a", glob(vec!["*".into(); FILE_GLOBS_MAX + 1], 0), large),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(code(path, op), expected, "row {n}");
        }
    }
}

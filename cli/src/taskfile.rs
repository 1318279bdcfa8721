//! Task files: one JSON object per line. The whole file is read and checked before anything is
//! submitted; every line has a key that stays the same when the file is submitted again.

use crate::error::CliError;
use crate::request::Draft;
use cortex_model::Code;
use cortex_model::limits::REQUEST_MAX;
use cortex_model::proto as pb;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, Read};

/// Most bytes of a task file.
pub(crate) const FILE_MAX: u64 = 256 * 1024 * 1024;

/// One line, ready to be submitted.
#[derive(Debug)]
pub(crate) struct Line {
    /// Counted from 1, as editors do.
    pub(crate) number: usize,
    pub(crate) key: String,
    pub(crate) spec: pb::TaskSpec,
}

/// Reads a whole file. Empty lines are skipped. `batch` makes other keys from the same lines.
///
/// # Errors
/// The first line that cannot be used, by its number; `CX-0103` for a file that is too large.
pub(crate) fn read(file: impl Read, batch: &str) -> Result<Vec<Line>, CliError> {
    let mut file = std::io::BufReader::new(file.take(FILE_MAX + 1));
    let (mut lines, mut keys, mut total) = (Vec::new(), BTreeMap::new(), 0u64);
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let n = file.read_until(b'\n', &mut text).map_err(|e| {
            CliError::new(Code::BadTaskFile, format!("the task file cannot be read: {e}"))
        })?;
        if n == 0 {
            break;
        }
        total += n as u64;
        if total > FILE_MAX {
            let what = format!("the task file has more than {FILE_MAX} bytes");
            return Err(CliError::new(Code::TooLarge, what).with_hint("split it"));
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line = line(number, text.trim_ascii(), batch).map_err(|e| nothing_sent(e, number))?;
        if let Some(first) = keys.insert(line.key.clone(), number) {
            let what =
                format!("line {number}: the key {:?} is used on line {first} already", line.key);
            return Err(CliError::new(Code::BadTaskFile, what));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn nothing_sent(e: CliError, number: usize) -> CliError {
    let hint = format!("{}; nothing of the file was submitted", e.hint);
    e.at(&format!("line {number}")).with_hint(hint)
}

fn line(number: usize, text: &[u8], batch: &str) -> Result<Line, CliError> {
    if text.len() > REQUEST_MAX {
        let what = format!("it has {} bytes, at most {REQUEST_MAX} are read", text.len());
        return Err(CliError::new(Code::TooLarge, what));
    }
    let example = r#"each line is one JSON object, for example {"argv":["uname","-a"]}"#;
    if text.first() != Some(&b'{') {
        return Err(CliError::new(Code::BadTaskFile, "it is no JSON object").with_hint(example));
    }
    let draft: Draft = serde_json::from_slice(text).map_err(|e| {
        // The position within the line; its number is told by the caller.
        let cause = e.to_string();
        let cause = cause.split(" at line ").next().unwrap_or(&cause).to_owned();
        CliError::new(Code::BadTaskFile, format!("{cause} (column {})", e.column()))
            .with_hint(example)
    })?;
    let key = draft.key.clone().unwrap_or_else(|| derived_key(number, text, batch));
    Ok(Line { number, key, spec: draft.spec()? })
}

/// The key of a line that names none: its place and its content.
fn derived_key(number: usize, text: &[u8], batch: &str) -> String {
    let mut h = Sha256::new();
    for part in [b"cortex-task-line/1", batch.as_bytes(), number.to_string().as_bytes(), text] {
        h.update((part.len() as u64).to_be_bytes());
        h.update(part);
    }
    let hex: String = h.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("line-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, batch: &str) -> Vec<String> {
        read(text.as_bytes(), batch).unwrap().into_iter().map(|l| l.key).collect()
    }

    #[test]
    fn keys_are_stable_and_depend_on_place_content_and_batch() {
        let file =
            "{\"argv\":[\"a\"]}\n\n{\"argv\":[\"a\"]}\r\n{\"argv\":[\"b\"],\"key\":\"mine\"}";
        let first = keys(file, "");
        assert_eq!(first, keys(file, ""));
        assert_eq!(first[0], "line-a6f0f4137998456a6790c16021a7e4b3");
        assert_ne!(first[0], first[1]);
        assert_eq!(first[2], "mine");
        assert_ne!(first[0], keys(file, "again")[0]);
        assert_eq!(read(file.as_bytes(), "").unwrap()[1].number, 3);
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_is_submitted() {
        let good = "{\"argv\":[\"true\"]}\n".repeat(6);
        for (bad, code) in [
            ("{\"argv\":", Code::BadTaskFile),
            ("{\"argv\":[1]}", Code::BadTaskFile),
            ("{\"argv\":[\"x\"],\"colour\":1}", Code::BadTaskFile),
            ("[]", Code::BadTaskFile),
            ("{\"argv\":[]}", Code::BadArgv),
            ("{\"argv\":[\"x\"],\"timeout\":\"5\"}", Code::BadDuration),
            ("{\"argv\":[\"x\"],\"echo\":\"y\"}", Code::Malformed),
        ] {
            let e = read(format!("{good}{bad}\n").as_bytes(), "").unwrap_err();
            assert!(e.message.starts_with("line 7: "), "{e:?}");
            assert!(e.is(code), "{bad}: {e:?}");
            assert!(e.hint.ends_with("nothing of the file was submitted"), "{e:?}");
        }
    }

    #[test]
    fn a_key_used_twice_is_refused() {
        let file = "{\"argv\":[\"a\"],\"key\":\"k\"}\n{\"argv\":[\"b\"],\"key\":\"k\"}\n";
        let e = read(file.as_bytes(), "").unwrap_err();
        assert_eq!(e.message, "line 2: the key \"k\" is used on line 1 already");
    }

    #[test]
    fn every_field_of_a_line_arrives() {
        let file = r#"{"argv":["sh",{"b64":"/w=="}],"require":["shell"],"node":"n1","cwd":"/tmp",
            "env":{"A":"1"},"stdin":"in","timeout":"1s","deadline":"1h","node_lost_grace":"2s","priority":-3,
            "safe_to_repeat":true,"retries":1,"retry_on":["lost"],"labels":{"k":"v"}}"#
            .replace('\n', " ");
        let lines = read(file.as_bytes(), "").unwrap();
        let spec = &lines[0].spec;
        assert_eq!((spec.priority, spec.node.as_str(), spec.deadline_ms), (-3, "n1", 3_600_000));
        assert_eq!(spec.node_lost_grace_ms, 2_000);
        let Some(pb::action::Kind::Shell(s)) = spec.action.clone().unwrap().kind else {
            panic!("kind")
        };
        assert_eq!(s.argv[1], [0xff]);
        assert_eq!(s.stdin, b"in");
    }
}

//! Rules for single source files: how they begin, how long they are, which words they must not hold.

use crate::checkout::TextFile;

/// Hard limit of a source file, lines. Files aim at 300.
const LINES_MAX: usize = 500;

/// Test helpers that may sleep, because they poll for a condition with a deadline. A sleep anywhere
/// else in a test is a guess about time.
const MAY_SLEEP: [&str; 4] =
    ["tests/support/", "tests/system/support/wait.rs", "/tests/support/", "/tests/common/"];

/// Where `unsafe` may stand.
const UNSAFE_ROOM: &str = "agent/src/sandbox/linux/";

/// Every module says what it does and what it never does.
pub(crate) fn without_module_docs(file: &TextFile) -> Vec<String> {
    let begins = file.text.starts_with("//!");
    if !file.is_rust() || begins {
        return Vec::new();
    }
    vec![format!("{}: does not begin with `//!`", file.path)]
}

/// A file that has grown past what one can hold in mind.
pub(crate) fn too_long(file: &TextFile) -> Vec<String> {
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines; at most {LINES_MAX}", file.path)]
}

/// Unfinished or switched-off code, sleeps in tests, `unsafe` outside its room.
pub(crate) fn forbidden_words(file: &TextFile) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    // Written in halves, so that this file does not hold what it forbids.
    let unfinished =
        [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
    let sleeps = [concat!("thread::", "sleep("), concat!("time::", "sleep(")];
    let in_tests = file.path.starts_with("tests/") || file.path.contains("/tests/");
    let may_sleep = MAY_SLEEP.iter().any(|room| match room.strip_prefix('/') {
        Some(_) => file.path.contains(room),
        None => file.path.starts_with(room),
    });
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let code = without_comment(line);
        let mut say = |what: &str| found.push(format!("{}:{}: {what}", file.path, number + 1));
        for word in unfinished.iter().filter(|w| code.contains(**w)) {
            say(&format!("`{word}`"));
        }
        if in_tests && !may_sleep && sleeps.iter().any(|s| code.contains(s)) {
            say("sleeps in a test; wait for the condition instead");
        }
        if holds_unsafe(code) && !file.path.starts_with(UNSAFE_ROOM) {
            say(&format!("unsafe code outside {UNSAFE_ROOM}"));
        }
    }
    found
}

/// Paths that exist only on the machine of whoever wrote them.
pub(crate) fn machine_paths(file: &TextFile) -> Vec<String> {
    let roots = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for root in roots {
            let absolute = line.match_indices(root).any(|(at, _)| {
                let before = line.get(..at).and_then(|b| b.chars().next_back());
                !before.is_some_and(|c| c.is_alphanumeric() || "._-}*".contains(c))
            });
            if absolute {
                found.push(format!("{}:{}: a machine's own path {root}", file.path, number + 1));
            }
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") { "" } else { line }
}

/// The keyword, not a longer word such as the name of a lint.
fn holds_unsafe(code: &str) -> bool {
    let keyword = concat!("un", "safe");
    code.match_indices(keyword).any(|(at, _)| {
        let before = code.get(..at).and_then(|b| b.chars().next_back());
        let after = code.get(at + keyword.len()..).unwrap_or_default();
        let opens = ["{", "fn ", "impl ", "extern ", "trait ", "("];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"' || c == '`')
            && opens.iter().any(|o| after.trim_start().starts_with(o))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_module_docs_is_found() {
        let bare = TextFile::fixture("a/src/lib.rs", "use std::fmt;\n//! too late\n");
        assert_eq!(without_module_docs(&bare).len(), 1);
        let good = TextFile::fixture("a/src/lib.rs", "//! Says what it does.\n");
        assert!(without_module_docs(&good).is_empty());
    }

    #[test]
    fn the_first_line_too_many_is_found() {
        let long = TextFile::fixture("a/src/lib.rs", &"//! x\n".repeat(LINES_MAX + 1));
        assert_eq!(too_long(&long).len(), 1);
        let full = TextFile::fixture("a/src/lib.rs", &"//! x\n".repeat(LINES_MAX));
        assert!(too_long(&full).is_empty());
    }

    #[test]
    fn unfinished_and_switched_off_code_is_found() {
        for word in
            [concat!("to", "do!()"), concat!("#[ig", "nore]"), concat!("unimple", "mented!()")]
        {
            let file = TextFile::fixture("a/src/b.rs", word);
            assert_eq!(forbidden_words(&file).len(), 1, "{word}");
        }
    }

    #[test]
    fn a_sleep_is_found_in_tests_but_not_in_the_polling_helpers() {
        let nap = format!("    tokio::{}x).await;", concat!("time::", "sleep("));
        for path in ["tests/system/a.rs", "crates/log/tests/b.rs"] {
            assert_eq!(forbidden_words(&TextFile::fixture(path, &nap)).len(), 1, "{path}");
        }
        for path in ["tests/support/wait.rs", "crates/log/tests/support/nats.rs", "agent/src/a.rs"]
        {
            assert!(forbidden_words(&TextFile::fixture(path, &nap)).is_empty(), "{path}");
        }
    }

    #[test]
    fn unsafe_is_found_outside_its_room_only() {
        let block = format!("let x = {} {{ y() }};", concat!("un", "safe"));
        assert_eq!(forbidden_words(&TextFile::fixture("agent/src/exec/a.rs", &block)).len(), 1);
        let inside = format!("{UNSAFE_ROOM}a.rs");
        assert!(forbidden_words(&TextFile::fixture(&inside, &block)).is_empty());
        let lint = TextFile::fixture("a.rs", concat!("#![forbid(un", "safe_code)]"));
        assert!(forbidden_words(&lint).is_empty());
    }

    #[test]
    fn a_machine_path_is_found_but_not_a_folder_of_that_name() {
        let bad = TextFile::fixture("README.md", concat!("see /wo", "rk/notes.md"));
        assert_eq!(machine_paths(&bad).len(), 1);
        let good = TextFile::fixture("README.md", "see docs/work/notes.md and $DIR/root.pem");
        assert!(machine_paths(&good).is_empty());
    }
}

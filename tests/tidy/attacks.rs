//! The tables of attacks in `docs/audit.md` and `docs/sandbox.md` name tests and vectors: all of them exist, and no row is without one.

use crate::checkout::TextFile;
use std::collections::BTreeSet;

/// Where the vectors are.
const VECTORS: &str = "tests/golden/audit/v1/";

/// Names of all tests in some sources.
pub(crate) fn tests(files: &[TextFile]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let mut is_test = false;
        for line in file.text.lines().map(str::trim) {
            // A test that brings its own `main` says its name itself.
            if let Some((said, _)) = line.split_once(": test\");") {
                found.extend(said.rsplit('"').next().map(str::to_owned));
            }
            if line.starts_with("#[") {
                is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
                continue;
            }
            let name = line.split_once("fn ").map(|(_, rest)| rest);
            // Inside `proptest!` functions carry the attribute too.
            if let Some(name) = name.filter(|_| is_test) {
                found.insert(name.split(['(', '<']).next().unwrap_or_default().to_owned());
            }
            is_test &= line.is_empty() || line.starts_with("//");
        }
    }
    found
}

/// Names of all vectors.
pub(crate) fn vectors(files: &[TextFile]) -> BTreeSet<String> {
    let inside = files.iter().filter_map(|file| file.path.strip_prefix(VECTORS));
    inside.filter_map(|path| path.split('/').nth(1)).map(str::to_owned).collect()
}

/// Rows of the document's tables of attacks whose last column names nothing, or something that does not exist; and how many rows there are.
pub(crate) fn unproven(
    document: &TextFile,
    tests: &BTreeSet<String>,
    vectors: &BTreeSet<String>,
) -> (usize, Vec<String>) {
    let (mut rows, mut found, mut inside) = (0, Vec::new(), false);
    for line in document.text.lines() {
        if line.starts_with("| attack |") {
            inside = true;
            continue;
        }
        inside &= line.starts_with('|');
        if !inside || line.starts_with("|---") {
            continue;
        }
        rows += 1;
        let shown = line.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default();
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            found.push(format!("{}: no test shows: {line}", document.path));
        }
        for name in names {
            let there = match name.strip_suffix('*') {
                Some(start) => vectors.iter().any(|vector| vector.starts_with(start)),
                None => vectors.contains(name) || tests.contains(name),
            };
            if !there {
                found.push(format!("{}: there is no test or vector {name}", document.path));
            }
        }
    }
    (rows, found)
}

#[cfg(test)]
mod examples {
    use super::*;

    #[test]
    fn a_row_without_a_test_and_a_test_that_is_gone_are_found() {
        let source = TextFile::fixture(
            "a/tests/b.rs",
            "println!(\"this_too: test\");\n#[test]\nfn it_is_seen() {}\nfn helper_of_it() {}\n    #[tokio::test(flavor = \"x\")]\n    async fn so_is_this() {}\n",
        );
        let tests = tests(&[source]);
        assert_eq!(
            tests.iter().map(String::as_str).collect::<Vec<_>>(),
            ["it_is_seen", "so_is_this", "this_too"]
        );
        let path = "tests/golden/audit/v1/bad/bit-flip-here/expected.json";
        let vectors = vectors(&[TextFile::fixture(path, "{}")]);
        let judged = |last: &str| {
            let text = format!(
                "| attack | what happens | shown by |\n|---|---|---|\n| a | b | {last} |\n\n| c | d | e |\n"
            );
            unproven(&TextFile::fixture("docs/a.md", &text), &tests, &vectors)
        };
        assert_eq!(judged("`it_is_seen` `bit-flip-*` `bit-flip-here`"), (1, Vec::new()));
        for bad in
            ["", "it_is_seen", "`helper_of_it`", "`it_was_seen`", "`bit-flap-*`", "`bit-flip`"]
        {
            let (rows, found) = judged(bad);
            assert_eq!((rows, found.len()), (1, 1), "{bad}: {found:?}");
        }
    }
}

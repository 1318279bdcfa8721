//! What documents promise: the README's commands are the ones CI runs, links lead somewhere, the
//! lints are switched on everywhere.

use crate::arrows::Manifest;
use crate::checkout::TextFile;
use std::path::Path;

/// Starts everything.
pub(crate) const RUN_COMMAND: &str = "cargo run --release -- up";
/// Runs every test.
pub(crate) const TEST_COMMAND: &str = "cargo xtask test";

/// The lines of a document's code blocks.
fn code_lines(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            lines.push(line.trim_start_matches("$ "));
        }
    }
    lines
}

/// The README names both commands in code blocks, and CI runs the second as a line of its own.
pub(crate) fn commands_differ(readme: &TextFile, ci: &TextFile) -> Vec<String> {
    let named = code_lines(&readme.text);
    let mut found = Vec::new();
    for command in [RUN_COMMAND, TEST_COMMAND] {
        let is_named = |line: &&&str| line.split('#').next().is_some_and(|l| l.trim() == command);
        if named.iter().find(is_named).is_none() {
            found.push(format!("{}: no code block has the line `{command}`", readme.path));
        }
    }
    let runs: Vec<_> = ci.text.lines().map(str::trim).collect();
    for line in ["set -euo pipefail", TEST_COMMAND] {
        if !runs.contains(&line) {
            found.push(format!("{}: no line `{line}`", ci.path));
        }
    }
    found
}

/// Links of a document to files that do not exist. `exists` is asked with paths from the root.
pub(crate) fn dead_links(file: &TextFile, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for piece in file.text.split("](").skip(1) {
        let target = piece.split([')', '#']).next().unwrap_or_default();
        let elsewhere = target.contains("://") || target.starts_with("mailto:");
        if !target.is_empty() && !elsewhere && !exists(&folder.join(target)) {
            found.push(format!("{}: the link to {target} leads nowhere", file.path));
        }
    }
    found
}

/// Function length is clippy's job; this sees to it that clippy is told, for every member.
pub(crate) fn missing_lints(
    clippy: &TextFile,
    workspace: &TextFile,
    members: &[Manifest],
) -> Vec<String> {
    let mut found = Vec::new();
    if !clippy.text.lines().any(|l| l.trim() == "too-many-lines-threshold = 70") {
        found.push(format!("{}: too-many-lines-threshold must be 70", clippy.path));
    }
    const LINTS: [&str; 9] = [
        "unwrap_used",
        "wildcard_enum_match_arm",
        "too_many_lines",
        "print_stdout",
        "unused_async",
        "dbg_macro",
        "undocumented_unsafe_blocks",
        "let_underscore_drop",
        "missing_docs",
    ];
    for lint in LINTS {
        let on = [format!("{lint} = \"warn\""), format!("{lint} = \"deny\"")];
        if !workspace.text.lines().any(|l| on.iter().any(|o| o == l.trim())) {
            found.push(format!("{}: the lint {lint} is not on", workspace.path));
        }
    }
    let deaf = members.iter().filter(|m| !m.takes_workspace_lints);
    found.extend(deaf.map(|m| format!("{}: does not take the workspace's lints", m.package)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readme_without_the_commands_and_a_ci_that_runs_another_are_found() {
        let readme = TextFile::fixture(
            "README.md",
            "```sh\ncargo run --release -- up   # starts it\n$ cargo xtask test\n```\n",
        );
        let ci = TextFile::fixture(".ci/run", "set -euo pipefail\ncargo xtask test\n");
        assert!(commands_differ(&readme, &ci).is_empty());
        let prose = TextFile::fixture("README.md", "Run cargo xtask test.\n");
        assert_eq!(commands_differ(&prose, &ci).len(), 2);
        let lax = TextFile::fixture(".ci/run", "set -euo pipefail\ncargo xtask test || true\n");
        assert_eq!(commands_differ(&readme, &lax).len(), 1);
    }

    #[test]
    fn a_link_to_a_missing_file_is_found() {
        let text = "[a](b.md) [c](../d.md#e) [f](https://example.org/g) [h](#i)";
        let file = TextFile::fixture("docs/a.md", text);
        assert!(dead_links(&file, &|_| true).is_empty());
        assert_eq!(dead_links(&file, &|_| false).len(), 2);
        assert_eq!(dead_links(&file, &|p| p == Path::new("docs/b.md")).len(), 1);
    }

    #[test]
    fn lints_that_are_off_are_found() {
        let clippy = TextFile::fixture("clippy.toml", "too-many-lines-threshold = 100\n");
        let workspace = TextFile::fixture("Cargo.toml", "unwrap_used = \"warn\"\n");
        let deaf = Manifest { package: "cortex-x".into(), ..Manifest::default() };
        let found = missing_lints(&clippy, &workspace, &[deaf]);
        assert_eq!(found.len(), 1 + 8 + 1, "{found:?}");
    }
}

//! The rules applied to this checkout.

use crate::arrows::{self, Manifest};
use crate::checkout::{self, TextFile};
use crate::{attacks, errors, promises, sources};

/// Fails with every finding, so that one run shows all there is to do.
#[track_caller]
fn nothing(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn each(rule: fn(&TextFile) -> Vec<String>) -> Vec<String> {
    checkout::files().iter().flat_map(rule).collect()
}

fn members() -> Vec<(String, Manifest)> {
    let files = checkout::files();
    let manifests = files.iter().filter(|f| f.path.ends_with("/Cargo.toml"));
    let folder = |f: &TextFile| f.path.trim_end_matches("Cargo.toml").to_owned();
    let read: Vec<_> = manifests.map(|f| (folder(f), arrows::manifest(f))).collect();
    assert!(read.len() >= 14, "only {} members found", read.len());
    read
}

#[test]
fn every_module_begins_with_what_it_does() {
    nothing(&each(sources::without_module_docs));
}

#[test]
fn no_file_is_too_long() {
    nothing(&each(sources::too_long));
}

#[test]
fn no_code_is_unfinished_switched_off_sleeping_or_unsafe() {
    nothing(&each(sources::forbidden_words));
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    nothing(&each(sources::machine_paths));
}

#[test]
fn crates_know_only_what_the_table_allows() {
    let manifests: Vec<_> = members().into_iter().map(|(_, m)| m).collect();
    nothing(&arrows::forbidden_arrows(&manifests));
}

#[test]
fn pure_crates_touch_no_outside_world() {
    let pure = members().into_iter().filter(|(_, m)| arrows::PURE.contains(&m.package.as_str()));
    let rooms: Vec<_> = pure.map(|(folder, _)| format!("{folder}src/")).collect();
    assert_eq!(rooms.len(), arrows::PURE.len());
    let files = checkout::files();
    // A file that is a test module as a whole is named in the `#[cfg(test)]` of its parent.
    let code = files.iter().filter(|f| {
        rooms.iter().any(|r| f.path.starts_with(r)) && f.is_rust() && !f.path.ends_with("/tests.rs")
    });
    nothing(&code.flat_map(arrows::impure_code).collect::<Vec<_>>());
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let source = checkout::file("crates/model/src/error.rs").text;
    let table = errors::codes(&source);
    assert!(!table.is_empty());
    let files = checkout::files();
    let pages: Vec<_> = files
        .iter()
        .filter(|f| f.path.starts_with("docs/errors/") && !f.path.ends_with("/README.md"))
        .cloned()
        .collect();
    let mut found = errors::undocumented(&table, &pages);
    found.extend(errors::disagreeing(&source, &pages));
    found.extend(files.iter().flat_map(|f| errors::unknown(&table, f)));
    nothing(&found);
}

#[test]
fn ci_runs_what_the_readme_says() {
    let ci = checkout::file(".ci/run");
    nothing(&promises::commands_differ(&checkout::file("README.md"), &ci));
}

#[cfg(unix)]
#[test]
fn ci_can_be_executed() {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(checkout::root().join(".ci/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, ".ci/run is not executable");
}

#[test]
fn links_in_documents_lead_somewhere() {
    let files = checkout::files();
    let documents = files.iter().filter(|f| f.path.ends_with(".md"));
    let root = checkout::root();
    let exists = |path: &std::path::Path| root.join(path).exists();
    nothing(&documents.flat_map(|f| promises::dead_links(f, &exists)).collect::<Vec<_>>());
}

#[test]
fn every_attack_in_the_documents_is_shown_by_a_test_that_exists() {
    let files = checkout::files();
    let (tests, vectors) = (attacks::tests(&files), attacks::vectors(&files));
    assert!(tests.len() > 500 && vectors.len() > 250, "{} {}", tests.len(), vectors.len());
    let (rows, found) = attacks::unproven(&checkout::file("docs/audit.md"), &tests, &vectors);
    nothing(&found);
    assert!(rows > 40, "only {rows} rows are read");
    let (rows, found) = attacks::unproven(&checkout::file("docs/sandbox.md"), &tests, &vectors);
    nothing(&found);
    assert!(rows > 40, "only {rows} rows are read");
}

#[test]
fn the_lints_are_on_for_every_member() {
    let manifests: Vec<_> = members().into_iter().map(|(_, m)| m).collect();
    let clippy = checkout::file("clippy.toml");
    nothing(&promises::missing_lints(&clippy, &checkout::file("Cargo.toml"), &manifests));
}

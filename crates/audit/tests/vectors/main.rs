//! The vectors of the journal's format: every byte under `tests/golden/audit/v1` follows from this program, and each is judged
//! as it says here. No file that exists is ever written again. After adding a case, write its files with
//! `CORTEX_BLESS=1 cargo nextest run --workspace -E 'binary(vectors)'`.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::too_many_lines,
    reason = "a test ends where something else comes than it expects; lists of cases are long"
)]

mod aside;
mod bytes;
mod disk;
mod good;
mod log;
mod meaning;
mod notes;
mod requests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn cases() -> Vec<disk::Case> {
    let mut cases = good::cases();
    cases.extend(bytes::cases());
    cases.extend(aside::cases());
    cases.extend(notes::cases());
    cases.extend(requests::cases());
    cases.extend(meaning::cases());
    cases
}

fn files(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path);
        }
    }
}

#[test]
fn every_vector_follows_from_this_program_and_is_judged_as_it_says() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/audit/v1");
    let write = std::env::var_os("CORTEX_BLESS").is_some_and(|value| value == "1");
    let (mut made, mut failures) = (BTreeSet::new(), Vec::new());
    for case in cases() {
        match case.write(&root, write) {
            Ok(paths) => made.extend(paths),
            Err(err) => failures.push(err),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let mut there = BTreeSet::new();
    files(&root, &mut there);
    let strays: Vec<_> = there.difference(&made).collect();
    assert!(strays.is_empty(), "no case makes {strays:?}");
}

//! Writes the vectors of the journal's format to `tests/golden/audit/v1`, and checks those that are there: every byte
//! follows from this program, and no file that exists is written again.
//!
//! `cargo run -p cortex-audit --example vectors [-- DIRECTORY]`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for developers that ends at the first surprise"
)]

mod aside;
mod bytes;
mod disk;
mod good;
mod log;
mod meaning;
mod notes;
mod requests;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/audit/v1");
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| default.to_owned()));
    let mut cases = good::cases();
    cases.extend(bytes::cases());
    cases.extend(aside::cases());
    cases.extend(notes::cases());
    cases.extend(requests::cases());
    cases.extend(meaning::cases());
    let (mut files, mut failures) = (0, 0);
    for case in &cases {
        match case.write(&root) {
            Ok(written) => files += written,
            Err(err) => {
                failures += 1;
                println!("{err}");
            }
        }
    }
    println!("{} cases, {files} new files, {failures} failures", cases.len());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

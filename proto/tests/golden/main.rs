//! Bytes that were ever stored or sent stay readable, and no number, name or type of the contract
//! changes or vanishes. The files are in `tests/golden/proto/v1`.
//!
//! With `CORTEX_BLESS=1` missing files are created and new fields are added to the list. A file or a
//! line that exists is never changed: if it would have to be, the change of the contract is wrong.

mod audit;
mod descriptors;
mod durable;
mod examples;
mod frames;
mod hex;
mod registry;
mod values;

use std::path::{Path, PathBuf};

/// The folder of the golden files of version 1.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/proto/v1")
}

/// Whether what is missing may be created.
fn blessing() -> bool {
    std::env::var_os("CORTEX_BLESS").is_some_and(|value| value == "1")
}

//! `cortex fs edit`: changes parts of a file, all of them or none.

use super::change;
use crate::commands::Session;
use crate::error::CliError;
use crate::files::{Where, digest, input};
use clap::Args;
use cortex_model::{Code, FileOp, proto as pb};
use std::ffi::OsString;
use std::path::PathBuf;

/// Flags of `fs edit`.
#[derive(Debug, Args)]
#[command(after_help = "\
A replacement must fit exactly as often as is said, and every line of a diff must be where it says; otherwise nothing is
changed.

Examples:
  cortex fs edit src/lib.rs --replace 'fn old' --with 'fn new'
  git diff src/lib.rs | cortex fs edit src/lib.rs --diff -")]
pub(crate) struct EditArgs {
    #[command(flatten)]
    place: Where,
    /// Text to look for; repeat for more, in order
    #[arg(long, value_name = "TEXT", conflicts_with = "diff", required_unless_present = "diff")]
    replace: Vec<OsString>,
    /// What to put in its place; one for each --replace
    #[arg(long = "with", value_name = "TEXT")]
    by: Vec<OsString>,
    /// How often the text must be there, for all of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// A unified diff; '-' is our own standard input
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
    /// Only if the file has this SHA-256
    #[arg(long, value_name = "SHA256")]
    expect: Option<String>,
    /// The path
    path: OsString,
}

/// Edits.
pub(crate) async fn run(session: &Session, args: EditArgs) -> Result<u8, CliError> {
    if args.replace.len() != args.by.len() {
        return Err(CliError::new(Code::Usage, "every --replace needs one --with"));
    }
    let (count, bytes) = (args.count, OsString::into_encoded_bytes);
    let pairs = args.replace.into_iter().zip(args.by);
    let one = |(old, new)| pb::FileReplacement { old: bytes(old), new: bytes(new), count };
    let op = FileOp::Edit(pb::FileEdit {
        replace: pairs.map(one).collect(),
        diff: args.diff.as_deref().map(input).transpose()?.unwrap_or_default(),
        expect_sha256: digest(args.expect.as_deref())?,
    });
    change(session, &args.place, &args.path, op).await
}

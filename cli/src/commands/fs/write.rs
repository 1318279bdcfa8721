//! `cortex fs write`: puts a whole small file in place. Larger ones go with `cortex cp`.

use super::change;
use crate::commands::Session;
use crate::error::CliError;
use crate::files::{Where, digest, input, mode};
use clap::Args;
use cortex_model::{FileOp, proto as pb};
use std::ffi::OsString;
use std::path::PathBuf;

/// Flags of `fs write`.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    place: Where,
    /// Where the content comes from; '-' is our own standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    from: PathBuf,
    /// Permission bits in octal [default: as before, or 644]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Only if what is replaced has this SHA-256
    #[arg(long, value_name = "SHA256")]
    expect: Option<String>,
    /// Only if there is nothing yet
    #[arg(long, conflicts_with = "expect")]
    new: bool,
    /// Make directories that are missing
    #[arg(long)]
    parents: bool,
    /// The path
    path: OsString,
}

/// Writes.
pub(crate) async fn run(session: &Session, args: WriteArgs) -> Result<u8, CliError> {
    let op = FileOp::Write(pb::FileWrite {
        expect_sha256: digest(args.expect.as_deref())?,
        mode: mode(args.mode.as_deref())?,
        content: input(&args.from)?,
        new_only: args.new,
        parents: args.parents,
    });
    change(session, &args.place, &args.path, op).await
}

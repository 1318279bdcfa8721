//! `cortex fs move`: gives something another name.

use super::change;
use crate::commands::Session;
use crate::error::CliError;
use crate::files::{Where, digest};
use clap::Args;
use cortex_model::{FileOp, proto as pb};
use std::ffi::OsString;

/// Flags of `fs move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    place: Where,
    /// Replace a file that is there
    #[arg(long)]
    replace: bool,
    /// Only if the file has this SHA-256
    #[arg(long, value_name = "SHA256")]
    expect: Option<String>,
    /// The path
    path: OsString,
    /// The new path
    to: OsString,
}

/// Renames.
pub(crate) async fn run(session: &Session, args: MoveArgs) -> Result<u8, CliError> {
    let op = FileOp::Move(pb::FileMove {
        to: args.to.into_encoded_bytes(),
        replace: args.replace,
        expect_sha256: digest(args.expect.as_deref())?,
    });
    change(session, &args.place, &args.path, op).await
}

//! `cortex fs delete`: removes. Links are removed, never followed.

use super::change;
use crate::commands::Session;
use crate::error::CliError;
use crate::files::{Where, digest};
use clap::Args;
use cortex_model::{FileOp, proto as pb};
use std::ffi::OsString;

/// Flags of `fs delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    place: Where,
    /// A directory with everything below it
    #[arg(long)]
    recursive: bool,
    /// That there is nothing is no error
    #[arg(long)]
    missing_ok: bool,
    /// Only if the file has this SHA-256
    #[arg(long, value_name = "SHA256")]
    expect: Option<String>,
    /// The path
    path: OsString,
}

/// Removes.
pub(crate) async fn run(session: &Session, args: DeleteArgs) -> Result<u8, CliError> {
    let op = FileOp::Delete(pb::FileDelete {
        recursive: args.recursive,
        expect_sha256: digest(args.expect.as_deref())?,
        missing_ok: args.missing_ok,
    });
    change(session, &args.place, &args.path, op).await
}

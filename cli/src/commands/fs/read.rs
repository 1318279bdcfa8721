//! `cortex fs read`: a file's bytes, in portions of which each is a task, all of one version of the file.

use super::End;
use crate::commands::Session;
use crate::error::CliError;
use crate::files::{Came, Operation, Where, not_done, perform};
use crate::render::{self, Raw};
use clap::Args;
use cortex_agent::files::Bytes;
use cortex_model::limits::FILE_PORTION;
use cortex_model::{FileOp, proto as pb};
use serde::Serialize;
use std::ffi::OsString;

/// Flags of `fs read`.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    place: Where,
    /// First byte
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Most bytes [default: to the end]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    length: Option<u64>,
    /// The path
    path: OsString,
}

/// One portion, with `--json`.
#[derive(Serialize)]
struct Portion {
    offset: u64,
    data: Bytes,
}

/// Prints the bytes as they are.
pub(crate) async fn run(session: &Session, args: ReadArgs) -> Result<u8, CliError> {
    let target = session.target()?;
    let (mut at, mut left) = (args.offset, args.length.unwrap_or(u64::MAX));
    let (mut expect_version, mut raw) = (String::new(), Raw::new());
    loop {
        let length = left.min(FILE_PORTION);
        let read = pb::FileRead { offset: at, length, expect_version: expect_version.clone() };
        let key = args.place.key.as_ref().map(|key| format!("{key}/{at}"));
        let op = FileOp::Read(read);
        let path = args.path.as_encoded_bytes();
        let operation = Operation { path, op, repeatable: true, key };
        let told = match perform(session, &target, &args.place, operation).await? {
            Came::Done(told) => told,
            Came::Failed(error) => return Ok(not_done(session, &error)),
            Came::Ended(code) => return Ok(code),
        };
        let got = told.stdout.len() as u64;
        if session.json() {
            render::json(&Portion { offset: at, data: Bytes(told.stdout) })?;
        } else {
            raw.write(false, &told.stdout).await?;
        }
        at = at.saturating_add(got);
        left -= got.min(left);
        if got < length || left == 0 {
            if session.json() {
                render::json(&End { task_id: &told.task_id, done: &told.done })?;
            }
            return Ok(0);
        }
        expect_version = told.done.version.unwrap_or_default();
    }
}

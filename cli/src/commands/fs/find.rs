//! `cortex fs glob` and `search`: paths and lines that match. Ignore files are honoured unless `--all`.

use super::{one, shown};
use crate::commands::Session;
use crate::error::CliError;
use crate::files::Where;
use clap::Args;
use cortex_agent::files::{Entry, Line};
use cortex_model::{FileOp, proto as pb};
use std::ffi::OsString;

/// Flags of `fs glob`.
#[derive(Debug, Args)]
pub(crate) struct GlobArgs {
    #[command(flatten)]
    place: Where,
    /// The directory to begin in
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: OsString,
    /// Hidden and ignored files too
    #[arg(long)]
    all: bool,
    /// Most paths
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u32,
    /// Patterns: '*.rs' in every directory, 'src/**/mod.rs' from the first
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
}

/// Flags of `fs search`.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    place: Where,
    /// Only in files that match; repeat for more
    #[arg(long, value_name = "PATTERN")]
    glob: Vec<String>,
    /// Letters match in either case
    #[arg(short, long)]
    ignore_case: bool,
    /// Plain text, not a regular expression
    #[arg(short = 'F', long)]
    literal: bool,
    /// Hidden and ignored files too
    #[arg(long)]
    all: bool,
    /// Lines around each match
    #[arg(short = 'C', long, value_name = "N", default_value_t = 0)]
    around: u32,
    /// Most lines that match [default: 1000]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u32,
    /// The expression, in the syntax of Rust's regex crate
    pattern: String,
    /// The directory or file to search
    #[arg(default_value = ".")]
    path: OsString,
}

/// Prints paths.
pub(crate) async fn glob(session: &Session, args: GlobArgs) -> Result<u8, CliError> {
    let GlobArgs { place, path, all, limit, patterns } = args;
    let op = FileOp::Glob(pb::FileGlob { patterns, all, limit });
    let show = |line: &[u8]| serde_json::from_slice::<Entry>(line).map(|entry| shown(&entry.path));
    Ok(one(session, &place, &path, op, true, show).await?.err().unwrap_or(0))
}

/// Prints lines.
pub(crate) async fn search(session: &Session, args: SearchArgs) -> Result<u8, CliError> {
    let SearchArgs { place, glob, ignore_case, literal, all, around, limit, pattern, path } = args;
    let search =
        pb::FileSearch { pattern, literal, ignore_case, globs: glob, all, context: around, limit };
    let op = FileOp::Search(search);
    let show = |line: &[u8]| {
        serde_json::from_slice::<Line>(line).map(|line| {
            let sign = if line.matched { ':' } else { '-' };
            let cut = if line.cut { "..." } else { "" };
            format!("{}{sign}{}{sign}{}{cut}", shown(&line.path), line.line, shown(&line.text))
        })
    };
    Ok(one(session, &place, &path, op, true, show).await?.err().unwrap_or(0))
}

//! `cortex fs list` and `stat`: what is there.

use super::{one, shown};
use crate::commands::Session;
use crate::error::CliError;
use crate::files::Where;
use crate::words;
use clap::Args;
use cortex_agent::files::{Entry, Kind, Stat};
use cortex_model::{FileOp, proto as pb};
use std::ffi::OsString;

/// Flags of `fs list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: Where,
    /// Most entries
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u32,
    /// The directory
    #[arg(default_value = ".")]
    path: OsString,
}

/// Flags of `fs stat`.
#[derive(Debug, Args)]
pub(crate) struct StatArgs {
    #[command(flatten)]
    place: Where,
    /// Its SHA-256 too
    #[arg(long)]
    sha256: bool,
    /// Of a symbolic link itself, not of what it leads to
    #[arg(long)]
    link: bool,
    /// The path
    path: OsString,
}

/// Lists a directory.
pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<u8, CliError> {
    let op = FileOp::List(pb::FileList { limit: args.limit });
    let show = |line: &[u8]| serde_json::from_slice::<Entry>(line).map(|entry| row(&entry));
    let told = one(session, &args.place, &args.path, op, true, show).await?;
    Ok(told.err().unwrap_or(0))
}

/// Says what something is.
pub(crate) async fn stat(session: &Session, args: StatArgs) -> Result<u8, CliError> {
    let op = FileOp::Stat(pb::FileStat { sha256: args.sha256, link: args.link });
    let show = |line: &[u8]| serde_json::from_slice::<Stat>(line).map(|stat| lines(&stat));
    let told = one(session, &args.place, &args.path, op, true, show).await?;
    Ok(told.err().unwrap_or(0))
}

/// An entry as one line.
pub(super) fn row(entry: &Entry) -> String {
    let Entry { kind, size, mode, modified_ms, target, path } = entry;
    let letter = match kind {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Link => 'l',
        Kind::Other => '?',
    };
    let time = words::time(u64::try_from(*modified_ms).unwrap_or(0));
    let target = target.as_ref().map(|to| format!(" -> {}", shown(to))).unwrap_or_default();
    format!("{letter}{mode:04o} {size:>12} {time} {}{target}", shown(path))
}

fn lines(stat: &Stat) -> String {
    let Stat { entry, version, links, uid, gid, sha256 } = stat;
    let kind = match entry.kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Link => "symbolic link",
        Kind::Other => "device, pipe or socket",
    };
    let mut text = format!(
        "path      {}\nkind      {kind}\nsize      {}\nmode      {:04o}\nowner     {uid}:{gid}\nlinks     {links}\nmodified  {}\nversion   {}",
        shown(&entry.path),
        entry.size,
        entry.mode,
        words::time(u64::try_from(entry.modified_ms).unwrap_or(0)),
        words::safe(version),
    );
    if let Some(target) = &entry.target {
        text.push_str(&format!("\nleads to  {}", shown(target)));
    }
    if let Some(sha256) = sha256 {
        text.push_str(&format!("\nsha256    {}", words::safe(sha256)));
    }
    text
}

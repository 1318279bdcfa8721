//! `cortex cp`: copies one file to a node or from it, in pieces of which each is a task. It can be cut anywhere and started
//! again; what counts at the end is the SHA-256 of the whole file. It keeps no more than a few pieces in memory.

mod download;
mod upload;

use super::Session;
use crate::error::CliError;
use crate::files::{Came, Told, Where, digest, not_done};
use clap::Args;
use cortex_model::{Code, NodeId};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Flags of `cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
One side is NODE:PATH, the other a file here. A path on the node is absolute, or counts from the first root of its policy.
A copy that was cut, on either side, goes on where it was when the same command is given again.

Examples:
  cortex cp backup.tar desk:backups/backup.tar
  cortex cp desk:/var/log/syslog syslog.txt
  cortex cp ./with:colon desk:file      (a path with a slash before the colon is one of ours)")]
pub(crate) struct CpArgs {
    /// Only if what is replaced on the node has this SHA-256
    #[arg(long, value_name = "SHA256")]
    expect: Option<String>,
    /// Only if there is nothing yet at the target
    #[arg(long)]
    new: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// FILE or NODE:PATH
    from: OsString,
    /// FILE or NODE:PATH
    to: OsString,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Here(PathBuf),
    Node(String, Vec<u8>),
}

/// What `--json` prints.
#[derive(Serialize)]
struct Copied {
    path: crate::view::Bytes,
    size: u64,
    sha256: String,
    /// Bytes that were there from before.
    resumed: u64,
}

/// What both directions need.
struct Copy<'a> {
    session: &'a Session,
    target: crate::client::Target,
    place: Where,
    path: Vec<u8>,
    bar: ProgressBar,
}

/// Why a copy is not whole.
enum Stop {
    Error(CliError),
    /// The node could not.
    Failed(CliError),
    /// Said already.
    Ended(u8),
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Stop {
        Stop::Error(error)
    }
}

/// Copies.
pub(crate) async fn run(session: &Session, args: CpArgs) -> Result<u8, CliError> {
    let (from, to) = (side(&args.from), side(&args.to));
    let expect = digest(args.expect.as_deref())?;
    let quiet = args.quiet || session.json();
    let copied = match (from, to) {
        (Side::Here(file), Side::Node(node, path)) => {
            let copy = Copy::new(session, node, path, quiet)?;
            upload::upload(&copy, &file, args.new, expect).await
        }
        (Side::Node(node, path), Side::Here(file)) => {
            if !expect.is_empty() {
                return Err(CliError::new(Code::Usage, "--expect is about a target on a node"));
            }
            let copy = Copy::new(session, node, path, quiet)?;
            download::download(&copy, &file, args.new).await
        }
        (Side::Here(_), Side::Here(_)) | (Side::Node(..), Side::Node(..)) => {
            return Err(CliError::new(Code::Usage, "one side is NODE:PATH, the other a file here")
                .with_hint("for example: cortex cp notes.txt desk:notes.txt"));
        }
    };
    match copied {
        Ok(copied) if session.json() => crate::render::json(&copied).map(|()| 0),
        Ok(_) => Ok(0),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Failed(error)) => Ok(not_done(session, &error)),
        Err(Stop::Ended(code)) => Ok(code),
    }
}

/// `NODE:PATH`, unless there is a slash before the colon.
fn side(text: &OsStr) -> Side {
    let bytes = text.as_bytes();
    let node = bytes.iter().position(|byte| *byte == b':').and_then(|at| {
        let node = std::str::from_utf8(&bytes[..at]).ok()?;
        NodeId::parse(node).ok()?;
        Some(Side::Node(node.to_owned(), bytes[at + 1..].to_vec()))
    });
    node.unwrap_or_else(|| Side::Here(PathBuf::from(text)))
}

impl<'a> Copy<'a> {
    fn new(
        session: &'a Session,
        node: String,
        path: Vec<u8>,
        quiet: bool,
    ) -> Result<Copy<'a>, CliError> {
        let place = Where { node: Some(node), ..Where::default() };
        let to = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), to);
        let style = "{bytes:>11} of {total_bytes} {bar:30} {bytes_per_sec:>13} {eta:>5} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Ok(Copy { session, target: session.target()?, place, path, bar })
    }

    /// Does an operation on the file of the node.
    async fn perform(&self, op: cortex_model::FileOp, repeatable: bool) -> Result<Came, CliError> {
        let key = None;
        let operation = crate::files::Operation { path: &self.path, op, repeatable, key };
        crate::files::perform(self.session, &self.target, &self.place, operation).await
    }
}

/// What an operation gave, if it was done.
fn told(came: Came) -> Result<Box<Told>, Stop> {
    match came {
        Came::Done(told) => Ok(told),
        Came::Failed(error) => Err(Stop::Failed(error)),
        Came::Ended(code) => Err(Stop::Ended(code)),
    }
}

/// The SHA-256 of so many bytes of a file.
fn hash(file: &mut File, bytes: u64) -> std::io::Result<(Sha256, u64)> {
    let (mut hash, mut buffer, mut done) = (Sha256::new(), vec![0; 256 * 1024], 0_u64);
    while done < bytes {
        let want = usize::try_from(bytes - done).unwrap_or(buffer.len()).min(buffer.len());
        let read = file.read(&mut buffer[..want])?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        done += read as u64;
    }
    Ok((hash, done))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of ours that cannot be used.
fn ours(path: &std::path::Path, err: &std::io::Error) -> CliError {
    let full = err.kind() == std::io::ErrorKind::StorageFull;
    let code = if full { Code::DiskFull } else { Code::Usage };
    CliError::new(code, format!("{}: {err}", path.display()))
        .with_hint("see that the file exists and can be used, and that there is room")
}

/// A name in the same directory.
fn beside(path: &std::path::Path, name: &str) -> PathBuf {
    let name = OsString::from_vec(name.as_bytes().to_vec());
    path.parent().map_or_else(|| PathBuf::from(&name), |dir| dir.join(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stands_before_the_first_colon_unless_there_is_a_slash() {
        let node = |node: &str, path: &str| Side::Node(node.into(), path.into());
        let here = |path: &str| Side::Here(path.into());
        for (text, expected) in [
            ("desk:/a", node("desk", "/a")),
            ("desk:a:b", node("desk", "a:b")),
            ("desk:", node("desk", "")),
            ("./desk:a", here("./desk:a")),
            ("/a:b", here("/a:b")),
            ("plain", here("plain")),
            (":a", here(":a")),
            ("Some File:x", here("Some File:x")),
        ] {
            assert_eq!(side(OsStr::new(text)), expected, "{text}");
        }
    }
}

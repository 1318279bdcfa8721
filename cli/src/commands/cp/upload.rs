//! To a node: the whole file is hashed first; its pieces go in tasks of their own, a few at a time; a last task checks the
//! whole and puts it in place. A part that is there from before is taken up.

use super::{Copied, Copy, Stop, hash, hex, ours, told};
use crate::error::CliError;
use crate::files::Came;
use crate::view::Bytes;
use cortex_model::limits::{FILE_PIECE_MAX, FILE_PIECES_AHEAD};
use cortex_model::{Code, FileOp, proto as pb};
use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Tries of one piece that the node answers with an error that may pass.
const TRIES: u32 = 4;

const PIECE: u64 = FILE_PIECE_MAX as u64;

pub(super) async fn upload(
    copy: &Copy<'_>,
    path: &Path,
    new_only: bool,
    expect_sha256: Vec<u8>,
) -> Result<Copied, Stop> {
    let mut file = File::open(path).map_err(|err| ours(path, &err))?;
    let before = file.metadata().map_err(|err| ours(path, &err))?;
    if !before.is_file() {
        return Err(CliError::new(Code::Usage, format!("{} is no file", path.display())).into());
    }
    let (digest, size) = hash(&mut file, u64::MAX).map_err(|err| ours(path, &err))?;
    let sha256 = digest.finalize().to_vec();
    copy.bar.set_length(size);
    let receive = pb::FileReceive { size, sha256: sha256.clone() };
    let begun = told(copy.perform(FileOp::Receive(receive), true).await?)?;
    let missing = || CliError::internal("the node named no part");
    let part = begun.done.part.ok_or_else(missing)?;
    let from = resume(begun.done.bytes.unwrap_or(0));
    copy.bar.set_position(from);
    let all = Pieces { copy, part: &part, file: &file, path, size };
    let pieces = (from / PIECE)..size.div_ceil(PIECE);
    stream::iter(pieces.map(|number| all.send(number * PIECE)))
        .buffered(FILE_PIECES_AHEAD)
        .try_for_each(|sent| {
            copy.bar.inc(sent);
            std::future::ready(Ok(()))
        })
        .await?;
    let after = file.metadata().map_err(|err| ours(path, &err))?;
    if stamp(&after) != stamp(&before) {
        let message = format!("{} changed while it was copied", path.display());
        return Err(CliError::new(Code::FileChanged, message).into());
    }
    let finish = pb::FileFinish {
        part,
        size,
        sha256: sha256.clone(),
        mode: before.mode() & 0o777,
        new_only,
        expect_sha256,
    };
    told(copy.perform(FileOp::Finish(finish), true).await?)?;
    copy.bar.finish();
    Ok(Copied { path: Bytes(copy.path.clone()), size, sha256: hex(&sha256), resumed: from })
}

/// Where to go on: pieces are sent a few at a time, so the last few before the end of what is there may be missing.
fn resume(there: u64) -> u64 {
    (there / PIECE).saturating_sub(FILE_PIECES_AHEAD as u64) * PIECE
}

/// What changes when a file changes.
fn stamp(meta: &Metadata) -> (u64, u64, i64, i64) {
    (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

struct Pieces<'a> {
    copy: &'a Copy<'a>,
    part: &'a str,
    file: &'a File,
    path: &'a Path,
    size: u64,
}

impl Pieces<'_> {
    /// Sends one piece; how long it is. One that an earlier run of this command has on its way brings the same bytes.
    async fn send(&self, offset: u64) -> Result<u64, Stop> {
        let length = PIECE.min(self.size - offset);
        let mut data = vec![0; usize::try_from(length).unwrap_or(FILE_PIECE_MAX)];
        self.file.read_exact_at(&mut data, offset).map_err(|err| ours(self.path, &err))?;
        let sha256 = Sha256::digest(&data).to_vec();
        let chunk = pb::FileChunk { part: self.part.to_owned(), offset, data, sha256 };
        let mut tries = 0;
        loop {
            tries += 1;
            match self.copy.perform(FileOp::Chunk(chunk.clone()), true).await? {
                Came::Done(_) => return Ok(length),
                Came::Failed(error) => {
                    // Nobody makes room within seconds.
                    let passes = error.retryable && !error.is(Code::FileNoSpace);
                    if !passes || tries == TRIES {
                        return Err(Stop::Failed(error));
                    }
                }
                Came::Ended(code) => return Err(Stop::Ended(code)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_missing_is_sent_again() {
        assert_eq!(resume(0), 0);
        assert_eq!(resume(PIECE * FILE_PIECES_AHEAD as u64), 0);
        assert_eq!(resume(PIECE * 20 + 5), PIECE * (20 - FILE_PIECES_AHEAD as u64));
    }
}

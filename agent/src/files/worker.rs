//! The worker's life: one order, one operation, one last line.

use super::report::{Bytes, Done, Failed, Last};
use super::{change, edit, find, look, receive};
use cortex_model::{Code, Fault, FileAction, FileOp, proto as pb, wire};
use prost::Message;
use serde::Serialize;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a worker is told. Agent and worker are the same program, so nothing here is read by another version.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Order {
    /// The operation, its paths resolved.
    #[prost(message, optional, tag = "1")]
    pub(crate) action: Option<pb::FileAction>,
    /// The place that the path lies in.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) place: Vec<u8>,
    /// The place of the second path of a move.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) to_place: Vec<u8>,
}

/// Where a worker writes what it finds.
pub(super) struct Out {
    to: BufWriter<File>,
    path: PathBuf,
}

impl Out {
    /// A line of JSON.
    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), Fault> {
        let mut line = serde_json::to_vec(value)
            .map_err(|err| Fault::new(Code::Internal, format!("cannot write JSON: {err}")))?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.to.write_all(bytes).map_err(|err| super::open::io(&self.path, &err))
    }
}

/// Does what the order says. The exit code: 0 when it was done, 1 when not; then the last line says why.
pub(crate) fn run(order: &Order, stdout: File, mut stderr: File) -> i32 {
    let mut out = Out { to: BufWriter::with_capacity(64 * 1024, stdout), path: "output".into() };
    let done = work(order, &mut out).and_then(|done| {
        out.to.flush().map_err(|err| super::open::io(&out.path, &err)).map(|()| done)
    });
    let (last, code) = match done {
        Ok(done) => (Last::Done(done), 0),
        Err(fault) => (Last::Error(Failed::from(&fault)), 1),
    };
    let mut line = serde_json::to_vec(&last).unwrap_or_default();
    line.push(b'\n');
    match stderr.write_all(&line) {
        Ok(()) => code,
        Err(_) => 1,
    }
}

fn work(order: &Order, out: &mut Out) -> Result<Done, Fault> {
    let missing = || Fault::new(Code::Internal, "a worker without an order");
    let action = wire::file::action(order.action.clone().ok_or_else(missing)?)?;
    let (path, place, to_place) =
        (owned(&action.path), owned(&order.place), owned(&order.to_place));
    let done = operate(&action, &place, &path, &to_place, out)?;
    Ok(Done { op: action.name().to_owned(), path: Bytes(action.path), ..done })
}

fn operate(
    action: &FileAction,
    place: &Path,
    path: &Path,
    to_place: &Path,
    out: &mut Out,
) -> Result<Done, Fault> {
    match &action.op {
        FileOp::Read(read) => look::read(place, path, read, out),
        FileOp::List(list) => look::list(place, path, list, out),
        FileOp::Stat(stat) => look::stat(place, path, stat, out),
        FileOp::Glob(glob) => find::glob(place, path, glob, out),
        FileOp::Search(search) => find::search(place, path, search, out),
        FileOp::Write(write) => change::write(place, path, write),
        FileOp::Edit(edit) => edit::edit(place, path, edit),
        FileOp::Delete(delete) => change::delete(place, path, delete),
        FileOp::Move(m) => change::rename(place, path, to_place, &owned(&m.to), m),
        FileOp::Receive(receive) => receive::receive(place, path, receive),
        FileOp::Chunk(chunk) => receive::chunk(place, path, chunk),
        FileOp::Finish(finish) => receive::finish(place, path, finish),
    }
}

fn owned(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

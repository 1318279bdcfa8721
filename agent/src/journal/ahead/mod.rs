//! The two ahead files. Every group is written to the end of one of them and synced before anybody is answered;
//! the store takes it over later. When a file is full the other one is next, once the store holds all of it. So the
//! newest groups always stand outside the store, which makes a store that lost its last commit visible and whole
//! again: these files are the journal's anchor as well as its fast path.

mod frame;
mod items;
mod segment;

pub(crate) use frame::Place;
pub(crate) use items::{Item, OVERHEAD};
pub(crate) use segment::{BLOCK, Content, Group, Header, read as content};

use super::backend::Backend;
use cortex_audit::Leaf;
use redb::StorageBackend as _;
use std::io;

/// Length of one ahead file.
pub(crate) const LENGTH: usize = 4 * 1024 * 1024;

/// Largest payload of a frame; what could make a larger one is refused before.
pub(crate) const FRAME_MAX: usize = 2 * 1024 * 1024;

/// Length of an existing file.
fn length(file: &Backend) -> io::Result<usize> {
    usize::try_from(file.len()?).map_err(io::Error::other)
}

/// Where the next group goes.
#[derive(Debug)]
pub(crate) struct Ahead {
    files: [Backend; 2],
    length: usize,
    active: usize,
    place: Place,
    at: usize,
    buffer: Vec<u8>,
}

/// Both files as they were read.
#[derive(Debug)]
pub(crate) struct Read {
    /// Parts of the log that follow one another, oldest first, with the number of their file.
    pub(crate) parts: Vec<(usize, Header, Vec<Group>)>,
    /// Where the newest part ends, and whether only zeros follow it.
    pub(crate) end: usize,
    pub(crate) clean: bool,
    /// The other file is ready to be used next.
    pub(crate) spare: bool,
}

/// Reads both files.
///
/// # Errors
/// What is damaged, in words; or the files cannot be read.
pub(crate) fn read(files: &[Backend; 2]) -> io::Result<Result<Read, String>> {
    let mut parts = Vec::new();
    let mut spare = true;
    for (number, file) in files.iter().enumerate() {
        let name = ["ahead.a", "ahead.b"][number];
        match segment::read(&file.read_all()?) {
            Err(why) => return Ok(Err(format!("{name}: {why}"))),
            Ok(Content::Free { clean }) => spare = clean,
            Ok(Content::Used { header, groups, end: at, clean: zeros }) => {
                parts.push((number, header, groups, at, zeros));
            }
        }
    }
    parts.sort_by_key(|(_, header, ..)| header.place.generation);
    let (end, clean) = match parts.as_slice() {
        [] => return Ok(Err("the ahead files are empty".to_owned())),
        [one, two] if one.1.place.generation + 1 != two.1.place.generation => {
            return Ok(Err("the ahead files do not follow one another".to_owned()));
        }
        [.., newest] => (newest.3, newest.4),
    };
    let spare = spare && parts.len() == 1;
    let parts = parts.into_iter().map(|(number, header, groups, ..)| (number, header, groups));
    Ok(Ok(Read { parts: parts.collect(), end, clean, spare }))
}

impl Ahead {
    /// Makes a file ready that nobody uses.
    pub(crate) fn clear(file: &Backend) -> io::Result<()> {
        segment::clear(file, length(file)?)
    }

    /// Begins both files of a new log, each of this length for ever.
    pub(crate) fn create(files: [Backend; 2], log: Leaf, length: usize) -> io::Result<Self> {
        for file in &files {
            file.set_len(length as u64)?;
            segment::clear(file, length)?;
        }
        let place = Place { log, generation: 0 };
        let mut ahead = Self { files, length, active: 1, place, at: length, buffer: Vec::new() };
        ahead.switch(0, Leaf::ZERO, 0)?;
        Ok(ahead)
    }

    /// Goes on where a former process ended.
    pub(crate) fn resume(files: [Backend; 2], read: &Read) -> io::Result<Self> {
        let (active, header, _) = read.parts.last().ok_or(io::ErrorKind::InvalidData)?;
        let (active, length) = (*active, length(&files[*active])?);
        if !read.clean {
            segment::clear_tail(&files[active], read.end, length)?;
        }
        if read.parts.len() == 1 && !read.spare {
            segment::clear(&files[1 - active], length)?;
        }
        let (place, at, buffer) = (header.place, read.end, Vec::new());
        Ok(Self { files, length, active, place, at, buffer })
    }

    /// Bytes left in the present file.
    pub(crate) fn room(&self) -> usize {
        self.length - self.at
    }

    /// Bytes that a clear file has room for.
    pub(crate) fn room_of_spare(&self) -> usize {
        self.length - BLOCK
    }

    /// Less than half of the present file is left.
    pub(crate) fn is_half_full(&self) -> bool {
        self.room() < self.length / 2
    }

    /// Whether a group of so many bytes fits into the present file.
    pub(crate) fn fits(&self, payload: usize) -> bool {
        frame::length(payload) <= self.room()
    }

    /// The file that is not used at present.
    pub(crate) fn other(&self) -> Backend {
        self.files[1 - self.active].clone()
    }

    /// Goes on in the other file, which must be clear. Its header is on the disk when this returns.
    pub(crate) fn switch(&mut self, base: u64, leaf: Leaf, stored: u64) -> io::Result<()> {
        let place = Place { log: self.place.log, generation: self.place.generation + 1 };
        let file = &self.files[1 - self.active];
        file.write(0, &Header { place, base, leaf, stored }.encode())?;
        file.sync_data()?;
        (self.active, self.place, self.at) = (1 - self.active, place, BLOCK);
        Ok(())
    }

    /// Writes a group and syncs it. After an error nothing may be written any more: what is on the disk is not known.
    pub(crate) fn append(&mut self, first: u64, stored: u64, payload: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        frame::encode(self.place, first, stored, payload, &mut self.buffer);
        let file = &self.files[self.active];
        file.write(self.at as u64, &self.buffer)?;
        file.sync_data()?;
        self.at += self.buffer.len();
        Ok(())
    }
}

//! A copy of a log that is in use. It reads a snapshot, and never holds up the writers.

use super::store::{COMMITS, INDEX, META, Store, VALUES, read_error};
use super::sync_directory;
use crate::error::{LogError, Result};
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, Value,
    WriteTransaction,
};
use std::fs::{self, File};
use std::io;
use std::path::Path;

pub(super) fn copy(store: &Store, from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(LogError::backend)?;
    if fs::read_dir(to).map_err(LogError::backend)?.next().is_some() {
        return Err(LogError::Refused(format!("{} is not empty", to.display())));
    }
    copy_tables(store, &to.join("log.redb")).map_err(read_error)?;
    copy_outputs(&from.join("outputs"), &to.join("outputs")).map_err(LogError::backend)?;
    sync_directory(to)
}

fn copy_tables(store: &Store, to: &Path) -> std::result::Result<(), redb::Error> {
    let read = store.db.begin_read()?;
    let copy = Database::create(to)?;
    let write = copy.begin_write()?;
    copy_table(&read, &write, META)?;
    copy_table(&read, &write, COMMITS)?;
    copy_table(&read, &write, INDEX)?;
    copy_table(&read, &write, VALUES)?;
    write.commit()?;
    Ok(())
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    read: &ReadTransaction,
    write: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> std::result::Result<(), redb::Error> {
    let from = read.open_table(table)?;
    let mut to = write.open_table(table)?;
    for entry in from.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Files only grow, and a torn end is cut off when the copy is opened.
fn copy_outputs(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_outputs(&entry.path(), &target)?;
            continue;
        }
        match fs::copy(entry.path(), &target) {
            Ok(_) => File::open(&target)?.sync_all()?,
            // Retention took it meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    File::open(to)?.sync_all()
}

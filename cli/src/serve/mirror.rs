//! The mirror's key in a data directory.

use super::data_dir::{DataDir, io_error};
use crate::commands::mirror::MirrorFlags;
use crate::error::CliError;
use cortex_mirror::{KeyFileError, MirrorKey};
use cortex_model::Code;
use std::path::Path;

/// The key, made at the first use.
const KEY_FILE: &str = "mirror.key";
/// Its public half, for auditors and agents.
pub(crate) const VKEY_FILE: &str = "mirror.vkey";

/// Opens the key and writes its public half beside it.
///
/// # Errors
/// `CX-0706` when others can read the key, `CX-0703` when it cannot be read.
pub(crate) fn key(
    dir: &DataDir,
    given: Option<&Path>,
    flags: &MirrorFlags,
) -> Result<MirrorKey, CliError> {
    let path = given.map_or_else(|| dir.join(KEY_FILE), Path::to_owned);
    let random = uuid::Uuid::new_v4().simple().to_string();
    let name =
        flags.mirror_name.clone().unwrap_or_else(|| format!("cortex/mirror/{}", &random[..8]));
    let key = MirrorKey::open(&path, &name).map_err(|error| refused(&error))?;
    let public = dir.join(VKEY_FILE);
    std::fs::write(&public, format!("{}\n", key.verifier())).map_err(|e| io_error(&public, &e))?;
    Ok(key)
}

fn refused(error: &KeyFileError) -> CliError {
    let text = error.to_string();
    match error {
        KeyFileError::Io { path, error } => io_error(path, error),
        KeyFileError::Exposed { path, .. } => {
            CliError::new(Code::InsecureFile, text).with_hint(format!(
                "run: chmod 600 {}; if others may have read it, make a new key",
                path.display()
            ))
        }
        KeyFileError::Malformed(_) => CliError::new(Code::DataDirCorrupt, text).with_hint(
            "restore the key file; a new key is a new mirror, which auditors must be told",
        ),
    }
}

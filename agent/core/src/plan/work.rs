//! An operation on files as it was decided: every path resolved, each with the place that the policy opens.

use cortex_model::FileAction;
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileWork {
    /// The operation. Its paths are absolute, and no part of them was a link when they were looked at.
    pub action: FileAction,
    /// The place of the policy that the path lies in; the path is followed from there and never leaves it.
    pub place: PathBuf,
    /// The same for the second path of a move.
    pub to_place: Option<PathBuf>,
}

//! What can be done with files on a node. A [`FileAction`] that exists was checked; what it does is done elsewhere.

use prost::Message as _;

/// One of the operations, as the contract has it.
pub use crate::proto::file_action::Op as FileOp;

/// One operation and the path it is applied to.
#[derive(Clone, Debug, PartialEq)]
pub struct FileAction {
    /// Raw bytes without NUL. Absolute, or from the first root of the node's policy.
    pub path: Vec<u8>,
    /// What is done.
    pub op: FileOp,
}

/// Bytes, numbers and words only: what equals anything equals itself.
impl Eq for FileAction {}

impl FileAction {
    /// In the encoding of the contract, which is the same for the same operation.
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        crate::proto::FileAction::from(self).encode_to_vec()
    }

    /// The word for the operation: `read`, `write`, ...
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.op {
            FileOp::Read(_) => "read",
            FileOp::Write(_) => "write",
            FileOp::Edit(_) => "edit",
            FileOp::List(_) => "list",
            FileOp::Stat(_) => "stat",
            FileOp::Glob(_) => "glob",
            FileOp::Search(_) => "search",
            FileOp::Delete(_) => "delete",
            FileOp::Move(_) => "move",
            FileOp::Receive(_) => "receive",
            FileOp::Chunk(_) => "chunk",
            FileOp::Finish(_) => "finish",
        }
    }

    /// Whether it changes anything on the disk.
    #[must_use]
    pub fn changes(&self) -> bool {
        match &self.op {
            FileOp::Read(_)
            | FileOp::List(_)
            | FileOp::Stat(_)
            | FileOp::Glob(_)
            | FileOp::Search(_) => false,
            FileOp::Write(_)
            | FileOp::Edit(_)
            | FileOp::Delete(_)
            | FileOp::Move(_)
            | FileOp::Receive(_)
            | FileOp::Chunk(_)
            | FileOp::Finish(_) => true,
        }
    }
}

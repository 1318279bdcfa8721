//! What is going to be started, complete to the last variable. A plan cannot be changed, and only
//! [`crate::policy::decide`] makes one: the executor accepts nothing else.

use std::path::PathBuf;

/// Something that the owner's policy allows, ready to be journalled and started.
#[derive(Debug)]
pub struct ExecPlan {
    operation: Operation,
    timeout_ms: u64,
    output_limit: u64,
}

/// What a plan does.
#[derive(Debug)]
pub enum Operation {
    /// Gives its payload back; no process.
    Echo(Vec<u8>),
    /// Runs a program.
    Process(ProcessPlan),
}

/// A program with everything it is given.
#[derive(Debug)]
pub struct ProcessPlan {
    /// The file that is executed.
    pub program: PathBuf,
    /// Arguments, the program's name first, as the task gave them.
    pub argv: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: PathBuf,
    /// The whole environment; nothing else enters it.
    pub env: Vec<(String, Vec<u8>)>,
    /// Standard input.
    pub stdin: Vec<u8>,
}

impl ExecPlan {
    pub(crate) fn new(operation: Operation, timeout_ms: u64, output_limit: u64) -> Self {
        Self { operation, timeout_ms, output_limit }
    }

    /// What it does.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Longest run in milliseconds, counted from the journalled intent.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Most bytes of output kept.
    #[must_use]
    pub fn output_limit(&self) -> u64 {
        self.output_limit
    }
}

//! The `cortex` binary from outside: arguments in, stdout, stderr and exit code out, against a real
//! server wherever one is needed. Faults of servers and nodes are tested in the system tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ca;
mod completions;
mod errors;
mod node;
mod run;
mod run_in_doubt;
mod run_interrupted;
mod support;
mod task;
mod task_submit_file;
mod token;
mod up;
mod version;

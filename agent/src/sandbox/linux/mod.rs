//! The launcher: a small process of the agent's own program that makes every process that a task is. It is started
//! once, stays, and does nothing but fork: an [`init`] of each task puts its own armour on and watches over what it
//! starts. It holds no secret, decides nothing and cannot be reached by a task.
//!
//! ```text
//! agent ──order: spec, status socket, stdin, stdout, stderr──> launcher
//!   ^                                                             │ clone into new namespaces
//!   │                                                             v
//!   └──────────── reports; asks ──────────────────────────────> init (process 1 of the task)
//!                                                                 │ fork, Landlock, no capabilities, seccomp
//!                                                                 v
//!                                                              the program
//! ```
//!
//! Should the agent die, the launcher dies with it, then every init, then, by the kernel's own rule, every process in
//! its namespace.

mod capabilities;
mod command;
mod filter;
mod init;
mod landlock;
mod limits;
mod look;
#[expect(unsafe_code, reason = "memory is given back by calls that no crate wraps")]
pub(super) mod memory;
mod meter;
mod protect;
mod server;
mod supervise;
#[expect(unsafe_code, reason = "system calls that no crate wraps")]
pub(super) mod sys;
mod terminal;
mod tree;
mod view;

pub(super) use server::main;

use super::message::Failed;
use std::io;

/// The stage at which a set-up failed, and why.
#[derive(Debug)]
pub(super) struct Failure {
    stage: &'static str,
    what: String,
    errno: i32,
}

impl Failure {
    fn new(stage: &'static str, what: impl Into<String>) -> Self {
        Self { stage, what: what.into(), errno: 0 }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { stage: failure.stage.to_owned(), error: failure.what, errno: failure.errno }
    }
}

/// Names the stage that an error belongs to.
trait At<T> {
    fn at(self, stage: &'static str) -> Result<T, Failure>;
    fn at_path(self, stage: &'static str, path: &std::path::Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, stage: &'static str) -> Result<T, Failure> {
        self.map_err(|err| {
            let err: io::Error = err.into();
            Failure { stage, what: err.to_string(), errno: err.raw_os_error().unwrap_or(0) }
        })
    }

    fn at_path(self, stage: &'static str, path: &std::path::Path) -> Result<T, Failure> {
        self.at(stage).map_err(|failure| Failure {
            what: format!("{}: {}", path.display(), failure.what),
            ..failure
        })
    }
}

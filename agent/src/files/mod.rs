//! Operations on files, done by a process of their own inside a task's view: never by the agent itself. Every path is
//! followed beneath the place of the policy that it lies in, through no symbolic link, so that nobody who may write there
//! can lead the worker elsewhere. What is found or done is told as JSON (docs/files.md); a file's bytes as they are.

#[cfg(target_os = "linux")]
mod change;
#[cfg(target_os = "linux")]
mod diff;
#[cfg(target_os = "linux")]
mod edit;
#[cfg(target_os = "linux")]
mod find;
#[cfg(target_os = "linux")]
mod look;
#[cfg(target_os = "linux")]
mod open;
#[cfg(target_os = "linux")]
mod receive;
mod report;
#[cfg(target_os = "linux")]
mod repositories;
#[cfg(target_os = "linux")]
mod worker;

pub use report::{Bytes, Done, Entry, Failed, Kind, Last, Line, Stat};
#[cfg(target_os = "linux")]
pub(crate) use repositories::Before;
#[cfg(target_os = "linux")]
pub(crate) use worker::{Order, run};

//! The owner's policy on this machine: the file, first policies, and the commands that explain them. What a policy means is
//! decided in the core.

mod commands;
mod expanded;
mod file;
mod init;
mod narrowing;
mod profiles;

pub(crate) use commands::PolicyCommand;
pub use file::{PolicyFile, PolicyFileError, load, place, write_first};
pub(crate) use init::Init;
pub use narrowing::{Held, check as check_narrowing};
pub use profiles::{Profile, STARTER};

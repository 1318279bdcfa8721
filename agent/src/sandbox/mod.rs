//! What stands between a task and the machine. A [`Sandbox`] starts processes as the owner's policy decided, confined
//! as the plan demands, or not at all: it never runs one with less armour than was asked for.
//!
//! | level | what is enforced |
//! |---|---|
//! | `full` | namespaces with a file system, network and process table of the task's own; Landlock; system call filters; no capabilities |
//! | `landlock` | the same without namespaces, where the machine forbids them |
//! | `none` | nothing; the process is only supervised |
//!
//! Linux only. Elsewhere everything that asks for confinement is refused in words.

mod armed;
#[cfg(target_os = "linux")]
mod groups;
#[cfg(target_os = "linux")]
mod launcher;
#[cfg(target_os = "linux")]
mod leftovers;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod message;
#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod proxy;
#[cfg(target_os = "linux")]
mod task;

pub use armed::Armed;
#[cfg(not(target_os = "linux"))]
pub use other::{Sandbox, Task};
#[cfg(target_os = "linux")]
pub(crate) use plan::PROXY_PORT;
#[cfg(target_os = "linux")]
pub use task::{Sandbox, Task};

use std::process::ExitCode;

/// The hidden subcommand that runs [`main`].
pub const SUBCOMMAND: &str = "__sandbox-exec";

/// How a process ended, as the sandbox saw it.
#[derive(Debug)]
pub enum End {
    /// It ran and has ended.
    Status(std::process::ExitStatus),
    /// Nothing ran.
    Never(cortex_model::Fault),
    /// It was running and is gone; nobody saw how.
    Lost,
}

/// What came of a task's whole tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Processes that could not be ended; 0 is the kernel's word that there are none.
    pub survivors: u32,
    /// What the tree has used.
    pub used: Used,
    /// The limit over which it was ended; empty if none.
    pub killed_by: &'static str,
    /// Its supervisor was killed from outside, and there is no namespace that ended with it: what is left must be
    /// looked for.
    pub unwatched: bool,
    /// Repositories that appeared below what it could write; `None`: nobody looked.
    pub repositories: Option<cortex_model::NewRepositories>,
}

/// What a tree has used, as far as it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// Most memory, bytes.
    pub memory: u64,
    /// Most processes and threads at once; 0 if nobody counted.
    pub pids: u32,
}

/// Keeps this process's memory from other processes of the same user, tasks among them, and off the disk.
///
/// # Errors
/// The system refuses.
pub fn hide_memory() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{
            DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit,
        };
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    Ok(())
}

/// The process at the other end of a local socket, for ever; `None` where the system does not say.
///
/// # Errors
/// It is gone.
pub(crate) fn peer_process(
    socket: std::os::fd::BorrowedFd<'_>,
) -> std::io::Result<Option<std::os::fd::OwnedFd>> {
    #[cfg(target_os = "linux")]
    return linux::sys::peer_process(socket);
    #[cfg(not(target_os = "linux"))]
    return Ok(None);
}

/// A terminal whose readiness the runtime watches.
///
/// # Errors
/// It cannot be watched, or not on this system.
pub(crate) fn watched(
    terminal: std::os::fd::OwnedFd,
) -> std::io::Result<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    #[cfg(target_os = "linux")]
    return linux::sys::watch_both(terminal);
    #[cfg(not(target_os = "linux"))]
    return Err(std::io::ErrorKind::Unsupported.into());
}

/// Whether this process can make a user namespace. It is in it afterwards: only for a trial.
#[must_use]
pub fn can_make_a_namespace() -> bool {
    #[cfg(target_os = "linux")]
    return linux::sys::new_user_namespace().is_ok();
    #[cfg(not(target_os = "linux"))]
    return false;
}

/// Gives memory back to the system that the process only needed for a moment.
pub(crate) fn give_back_memory() {
    #[cfg(target_os = "linux")]
    linux::memory::give_back();
}

/// The launcher's own life, in the process that the subcommand starts.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    return linux::main();
    #[cfg(not(target_os = "linux"))]
    return other::main();
}

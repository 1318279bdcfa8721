//! Systems on which nothing can be enforced yet: whatever asks for confinement is refused, in words.

use super::{Armed, End, Remains};
use cortex_agent_core::ProcessPlan;
use cortex_agent_core::plan::{Confine, Level};
use cortex_model::{Code, Fault};
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use tokio::net::unix::pipe;

const WHY: &str = "only Linux has a sandbox in this version";

/// Refuses.
#[derive(Debug)]
pub struct Sandbox {
    armed: Armed,
}

impl Sandbox {
    /// There is no launcher on this system.
    ///
    /// # Errors
    /// Always.
    #[expect(clippy::unused_async, reason = "the same function waits on Linux")]
    pub async fn start(_program: &[OsString]) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, WHY))
    }

    /// Nothing.
    #[must_use]
    pub fn armed(&self) -> &Armed {
        &self.armed
    }

    /// `none`, and only for plans that ask for nothing.
    ///
    /// # Errors
    /// The plan asks for confinement.
    pub fn level(&self, plan: &ProcessPlan) -> Result<Level, Fault> {
        match plan.confine {
            Confine::Never | Confine::AtLeast(Level::None) => Ok(Level::None),
            Confine::AtLeast(_) => Err(Fault::new(Code::SandboxUnavailable, WHY)),
        }
    }

    /// The limits that are held exactly, by name.
    #[must_use]
    pub fn exact_limits(&self) -> Vec<&'static str> {
        vec!["wall", "output"]
    }

    /// The limits of a plan, none of which is held.
    pub(crate) fn limits(
        &self,
        _plan: &ProcessPlan,
        _used: super::Used,
        _ran: std::time::Duration,
    ) -> Vec<cortex_model::LimitUse> {
        Vec::new()
    }

    /// Starts nothing.
    ///
    /// # Errors
    /// Always.
    pub fn launch(&self, _plan: &ProcessPlan) -> Result<Task, Fault> {
        Err(Fault::new(Code::SandboxUnavailable, WHY))
    }
}

/// Never exists here.
#[derive(Debug)]
pub enum Task {}

impl Task {
    /// No level.
    #[must_use]
    pub fn level(&self) -> Level {
        match *self {}
    }

    /// No streams.
    pub fn streams(
        &mut self,
    ) -> (Option<pipe::Sender>, Option<pipe::Receiver>, Option<pipe::Receiver>) {
        match *self {}
    }

    /// No terminal.
    #[expect(clippy::unused_async, reason = "the same function waits on Linux")]
    pub async fn terminal(&mut self) -> Result<std::os::fd::OwnedFd, End> {
        match *self {}
    }

    /// No end.
    #[expect(clippy::unused_async, reason = "the same function waits on Linux")]
    pub async fn ended(&mut self) -> End {
        match *self {}
    }

    /// Nothing to ask.
    pub fn terminate(&self) {
        match *self {}
    }

    /// Nothing to end.
    pub fn kill(&self) {
        match *self {}
    }

    /// Nothing to clean up.
    #[expect(clippy::unused_async, reason = "the same function waits on Linux")]
    pub async fn clean_up(&mut self) -> Remains {
        match *self {}
    }
}

/// There is no launcher on this system.
pub(super) fn main() -> ExitCode {
    eprintln!("{WHY}");
    ExitCode::FAILURE
}

//! The words of the domain: identifiers, tasks, events, capabilities, limits, errors, time.
//! Pure data and parsing. It never does I/O, reads no clock and draws no random numbers.
//!
//! The types here are what the rest of the house reasons with. `wire` is the only place where
//! generated protobuf becomes one of them; it rejects what it does not understand and never repairs it.

#![forbid(unsafe_code)]

pub mod browser;
pub mod capability;
pub mod credential;
pub mod error;
pub mod event;
pub mod file;
pub mod ids;
pub mod limits;
pub mod registry;
pub mod request;
pub mod role;
pub mod task;
pub mod text;
pub mod time;
pub mod wire;

pub use cortex_proto as contract;
/// The generated messages, for those who speak them on a wire.
pub use cortex_proto::v1 as proto;

pub use browser::{BrowserAction, BrowserResult, BrowserStep, Origin, OriginPattern};
pub use capability::{NodeFacts, Requirement, Version};
pub use error::{Code, Fault};
pub use event::{Commit, ConsentAnswer, Event, ReleaseReason, ResolveAs, TaskState};
pub use file::{FileAction, FileOp};
pub use ids::{AttemptKey, Incarnation, NodeId, TaskId, TaskKey, Workspace};
pub use role::{Permission, Role};
pub use task::{
    Action, Actor, ActorKind, Confinement, Ending, HeldLock, LimitUse, NewRepositories, Outcome,
    PathLock, RetryOn, RetryPolicy, TaskSpec,
};
pub use time::{Tick, UnixMillis};

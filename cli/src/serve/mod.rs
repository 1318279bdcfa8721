//! Running servers: the data directory, the composition of gateway, scheduler and log in one process, and the agent
//! beside it. Wiring only; every decision is in the parts.

pub(crate) mod access;
pub(crate) mod agent;
pub(crate) mod compose;
pub(crate) mod data_dir;
pub(crate) mod first_task;
pub(crate) mod logging;
pub(crate) mod mirror;

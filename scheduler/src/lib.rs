//! The scheduler process: follows the log and the presence of nodes, lets the pure core propose, and carries the proposals out as
//! offers and fenced appends. Any number of schedulers may run; they agree on nothing but the log.

#![forbid(unsafe_code)]

mod carry;
mod driver;
mod membership;
mod presence;

pub use driver::{Config, run};

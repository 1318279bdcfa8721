//! The agent's decisions without their effects: what may run ([`policy`]), which offers are taken and which
//! attempts are under way ([`worker`]), and what an attempt found open at start means ([`recovery`]).
//!
//! Pure: no I/O, no clock, no randomness. Facts and time are arguments; effects are return values.
#![forbid(unsafe_code)]

pub mod consent;
pub mod environment;
pub mod locks;
pub mod mask;
pub mod plan;
pub mod policy;
pub mod recovery;
pub mod upload;
pub mod worker;

pub use plan::{ExecPlan, Operation, ProcessPlan};
pub use policy::{Decision, Effect, Facts, Policy, PolicyError, Program, Request, decide};
pub use worker::{CancelAnswer, OfferAnswer, Phase, Worker};

//! Decisions on one task: given what its history says and what is wanted or reported, which events to append. Each is
//! pure and is validated again by the fenced append of its events; none of them does the appending.

mod claim;
mod consent;
mod outcome;
mod timers;
mod wish;

pub use claim::{Claimant, Offered, started};
pub use consent::{ConsentDecision, ConsentStanding, consent};
pub use outcome::{OutcomeDecision, outcome};
pub use timers::{
    Answered, cancel_unheard, deadline_passed, node_ended, node_silent, not_started, run_due,
    run_overdue,
};
pub use wish::{NewTask, Submit, cancel, resolve, submit};

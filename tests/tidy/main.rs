//! The house rules that no compiler checks: module docs, file lengths, arrows between crates, error
//! pages, forbidden words, and that what the README says is what CI runs. Standard library only.
//!
//! Each rule is a function from text to findings, so that its own tests can show that it can fail;
//! the tests in `house` apply them to this checkout.

mod arrows;
mod attacks;
mod checkout;
mod errors;
mod house;
mod promises;
mod sources;

//! What several test programs of this package share.

pub mod browser;

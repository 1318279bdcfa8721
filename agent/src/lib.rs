//! The agent: runs tasks on a machine for its owner. It dials a gateway, takes what the owner's policy
//! allows, writes every start and end into the node's journal, and delivers output and outcomes whenever
//! there is a connection. It never starts anything without a durable intent, and never anything twice.

mod asking;
mod attempt;
pub mod browser;
mod cli;
pub mod clock;
pub mod config;
mod consent;
pub mod dial;
pub mod doctor;
mod driver;
mod exec;
pub mod facts;
pub mod files;
pub mod guard;
mod holding;
mod identity;
pub mod journal;
mod journal_cli;
mod journal_start;
pub mod local;
mod lock;
mod locks;
pub mod manifest;
mod out;
mod owner;
pub mod policy;
pub mod processes;
pub mod sandbox;
pub mod service;
pub mod spool;
mod start;
mod tunnel;

pub use cli::cli_main;
pub use config::Config;
pub use driver::{Stop, run};

//! The `cortex` binary: reads the command line, runs one command, turns its end into an exit code.
//! It decides nothing about tasks; what a command does is in `commands/`, one file each.

#![forbid(unsafe_code)]

mod actor;
mod args;
mod client;
mod commands;
mod context;
mod duration;
mod error;
mod exit;
mod files;
mod follow;
mod interrupts;
mod render;
mod request;
mod serve;
mod taskfile;
mod terminal;
mod view;
mod words;

use args::Cli;
use clap::Parser;
use error::CliError;
use std::process::ExitCode;

/// First argument with which this program is the agent: 'up' starts it so, from the same file.
const AGENT: &str = "__agent";

/// A server makes and drops small things on several threads all the time, and what a burst of connections left behind goes
/// back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if words.nth(1).is_some_and(|w| w == AGENT) {
        let args = std::iter::once(AGENT.into()).chain(words);
        return cortex_agent::cli_main(args, &[AGENT]);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return args::refuse(&e),
    };
    let json = cli.global.json;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return CliError::internal(format!("cannot start: {e}")).report(json),
    };
    let result = runtime.block_on(commands::run(cli));
    // A write to a pipe nobody reads may still be under way; nothing waits for it.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => e.report(json),
    }
}

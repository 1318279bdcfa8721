//! The stand-alone agent: reads the command line and runs the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    cortex_agent::cli_main(std::env::args_os(), &[])
}

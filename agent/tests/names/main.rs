//! Where a name leads, and what a tunnel begins with, for real: in a network of its own, where a public address is this
//! machine's, with a list of names that changes between looking and dialling. It starts itself anew in there.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test ends where something else comes than it waits for"
)]
#![cfg_attr(
    target_os = "linux",
    expect(clippy::print_stdout, reason = "it answers whoever lists tests")
)]

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

/// There is nothing to confine elsewhere, and so nothing to try.
#[cfg(not(target_os = "linux"))]
fn main() {}

//! `test`, `ci`, `bench` and `gen`: thin sequences of cargo commands. They hold no logic of the product.

use crate::run::{cargo, output, root, run, works};
use crate::setup::setup;
use crate::{nats, python};
use std::process::Command;

pub(crate) const TEST_HELP: &str = "\
Usage: cargo xtask test [ARGS]

Runs `cargo xtask setup`, builds the workspace with its programs, and runs every test: with
`cargo nextest run` where cargo-nextest is installed, with `cargo test` otherwise.
ARGS go to that command. To run a part without building anything twice, keep the whole workspace
and filter, for example: cargo xtask test -E 'package(cortex-log)'";

pub(crate) const CI_HELP: &str = "\
Usage: cargo xtask ci

What a change must pass: cargo fmt --check, clippy with warnings as errors, cargo xtask test.";

pub(crate) const BENCH_HELP: &str = "\
Usage: cargo xtask bench [NAME...] [--json FILE] [--seconds N] [--rounds N] [--directory DIR]

Builds `cortex`, `cortex-agent` and `cortex-bench` as users get them (release), runs the scenarios, each
in turn with its yardstick, and prints a table of medians. All of them take some minutes.

  echo       echo tasks end to end at 1, 64 and 256 in flight
  shell      `sh -c true` tasks against starting the same program by hand
  idle       memory and size of the agent
  tunnels    memory per idle tunnel at 500 and 5,000 agents
  sandbox    the start of a confined command (installs bubblewrap, the yardstick, if root)
  tunnel-auth
             letting agents in: TLS, token, hello and welcome, against bare handshakes
  fold       the scheduler's decisions alone
  audit      verification of 1,000,000 records in Rust, Python and JavaScript (cargo xtask setup first)

  --json FILE       write the figures as JSON as well
  --seconds N       length of one window of load (3)
  --rounds N        windows per figure (3)
  --in-flight N,... only with so many tasks at a time (echo)
  --directory DIR   where data is written: the disk that is measured (target/release)

What each figure means: docs/benchmarks.md.";

pub(crate) const GEN_HELP: &str = "\
Usage: cargo xtask gen

Regenerates proto/src/gen from proto/cortex/v1/*.proto, without protoc. The result is committed;
a test fails when it is stale.";

/// Sets up, builds and runs the tests.
///
/// # Errors
/// When any step fails.
pub(crate) fn test(args: &[String]) -> Result<(), String> {
    setup(&[])?;
    // Programs and tests in one build: cargo then picks one set of features for both, and the system
    // tests find the programs they start. A build per package would compile the shared crates anew.
    run(&mut cargo(&["build", "--workspace", "--locked", "--bins", "--tests"]))?;
    let nextest = output(&mut cargo(&["nextest", "--version"])).is_ok();
    let mut command = if nextest {
        cargo(&["nextest", "run", "--workspace", "--locked"])
    } else {
        eprintln!("xtask: cargo-nextest is not installed; using cargo test");
        cargo(&["test", "--workspace", "--locked"])
    };
    let command = command.args(args).env(nats::OVERRIDE, nats::path());
    run(command.env("CORTEX_PYTHONPATH", python::path()))
}

/// Formatting, lints, tests.
///
/// # Errors
/// When any of them fails.
pub(crate) fn ci(args: &[String]) -> Result<(), String> {
    no_arguments("ci", args)?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run(&mut cargo(&clippy))?;
    test(&[])
}

/// Builds the programs and measures them.
///
/// # Errors
/// When a build or a scenario fails.
pub(crate) fn bench(args: &[String]) -> Result<(), String> {
    if args.iter().all(|a| a.starts_with('-')) || args.iter().any(|a| a == "sandbox") {
        yardstick()?;
    }
    // Apart: together they would share features, and the programs would hold a scheduler that only the bench has.
    for packages in [["-p", "cortex-cli", "-p", "cortex-agent"].as_slice(), &["-p", "cortex-bench"]]
    {
        run(cargo(&["build", "--release", "--locked"]).args(packages))?;
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let program = std::path::Path::new(&target).join("release/cortex-bench");
    run(Command::new(program).arg("run").args(args))
}

/// Bubblewrap, beside which the sandbox is measured. Nothing but the benchmark uses it.
fn yardstick() -> Result<(), String> {
    if works("bwrap", &["--version"]) {
        return Ok(());
    }
    eprintln!("xtask: bubblewrap is missing; installing the package, for the benchmark only");
    run(Command::new("apt-get").args(["-qq", "update"]))
        .and_then(|()| {
            let install = ["-qq", "-y", "--no-install-recommends", "install", "bubblewrap"];
            run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install))
        })
        .map_err(|why| format!("{why}\n  Install bubblewrap yourself, or name other scenarios."))
}

/// Regenerates the contract's Rust.
///
/// # Errors
/// When a .proto file does not compile.
pub(crate) fn generate(args: &[String]) -> Result<(), String> {
    no_arguments("gen", args)?;
    run(&mut cargo(&["run", "--quiet", "--locked", "--package", "cortex-proto-codegen"]))
}

fn no_arguments(name: &str, args: &[String]) -> Result<(), String> {
    match args.first() {
        None => Ok(()),
        Some(extra) => Err(format!("{name} takes no argument '{extra}'")),
    }
}

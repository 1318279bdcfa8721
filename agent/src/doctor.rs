//! What this machine can enforce, tried out and told: `cortex-agent doctor`. Every line is the result of doing it, not
//! of a version that should be able to. It changes nothing and needs no gateway.

#[cfg(target_os = "linux")]
mod browser;
mod report;
mod trial;

pub use report::{Check, Report, State};

use crate::sandbox::Sandbox;
use crate::{facts, policy};
use cortex_model::{Code, Fault};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

/// The hidden subcommand that tries things from inside the sandbox.
pub const TRIAL: &str = "__trial";

/// Tries everything. `launcher` leads to [`crate::sandbox::main`], `trial` to [`try_inside`]; `policy` is a data directory with the
/// policy file in it. Says also why an agent with that policy would take no work here.
///
/// # Errors
/// The launcher cannot be started, or there is no place for the trial's files.
pub async fn examine(
    launcher: &[OsString],
    trial: &[OsString],
    policy: Option<(&Path, &Path)>,
) -> Result<(Report, Option<Fault>), Fault> {
    let failed = |err: std::io::Error| Fault::new(Code::AgentUnable, err.to_string());
    let sandbox = Sandbox::start(launcher).await.map_err(failed)?;
    let mut report = Report::of(&sandbox);
    trial::run(&sandbox, trial, &mut report).await?;
    #[cfg(target_os = "linux")]
    browser::run(&sandbox, &mut report).await;
    let unmet = policy.and_then(|(dir, file)| {
        let unmet = match policy::load(file, &policy::place(file, dir)) {
            Ok(policy) => policy.unmet(&facts::machine(Some(&sandbox))),
            Err(error) => Some(error.to_fault()),
        };
        report.policy = Some(match &unmet {
            Some(fault) => format!("no work is taken under {}: {fault}", file.display()),
            None => format!("all that {} requires is there", file.display()),
        });
        unmet
    });
    Ok((report, unmet))
}

/// The other side of the trial: does what a task must not be able to, and prints what came of it.
#[must_use]
pub fn try_inside(arguments: &[OsString]) -> std::process::ExitCode {
    trial::inside(arguments)
}

/// Prints a report.
///
/// # Errors
/// Standard output is closed.
pub fn print(report: &Report, json: bool) -> std::io::Result<()> {
    let mut out = crate::out::out();
    if json {
        return writeln!(out, "{}", serde_json::to_string(report).map_err(std::io::Error::other)?);
    }
    for line in report.lines() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

//! Programs of the operating system that the tests need. Found, or installed by apt-get where that is allowed
//! (as root or by sudo, on Debian and its children); otherwise it is said what to install.

use crate::run::{output, run, works};
use std::process::Command;

/// Oldest Node.js that runs the JavaScript verifier.
const NODE: u32 = 18;
/// Names another Chromium for the tests.
const CHROMIUM: &str = "CORTEX_CHROMIUM";

/// Python with pip, which Debian does not install with it.
///
/// # Errors
/// It is missing and cannot be installed.
pub(crate) fn pip() -> Result<(), String> {
    let there = || works("python3", &["-m", "pip", "--version"]);
    ensure("python3 with pip", "python3-pip", &there)
}

/// Node.js.
///
/// # Errors
/// It is missing or too old and cannot be installed.
pub(crate) fn node() -> Result<(), String> {
    let there = || {
        let said = output(Command::new("node").arg("--version")).unwrap_or_default();
        let major = said.trim().trim_start_matches('v').split('.').next().map(str::parse::<u32>);
        matches!(major, Some(Ok(major)) if major >= NODE)
    };
    ensure(&format!("node (Node.js {NODE} or newer)"), "nodejs", &there)?;
    eprintln!("setup: node: found");
    Ok(())
}

/// strace, with which a test makes each file system call of a small journal fail.
///
/// # Errors
/// It is missing and cannot be installed.
pub(crate) fn strace() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        eprintln!("setup: strace: only on Linux");
        return Ok(());
    }
    ensure("strace", "strace", &|| works("strace", &["-V"]))?;
    eprintln!("setup: strace: found");
    Ok(())
}

/// Chromium, in which the page for auditors is opened. Debian's package cannot be pinned: old versions leave the archive. So the
/// version that is used is said.
///
/// # Errors
/// It is missing and cannot be installed.
pub(crate) fn chromium() -> Result<(), String> {
    let named = std::env::var(CHROMIUM).ok();
    let program = named.as_deref().unwrap_or("chromium");
    let there = || works(program, &["--version"]);
    match named {
        Some(_) if !there() => {
            return Err(format!("{CHROMIUM} names {program}, which does not run"));
        }
        Some(_) => {}
        None => ensure("chromium", "chromium", &there)
            .map_err(|why| format!("{why}\n  Or name a Chromium of your own: {CHROMIUM}=/path"))?,
    }
    let version = output(Command::new(program).arg("--version"))?;
    eprintln!("setup: chromium: {} ({program})", version.trim());
    Ok(())
}

fn ensure(what: &str, package: &str, there: &dyn Fn() -> bool) -> Result<(), String> {
    if there() {
        return Ok(());
    }
    let root = output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0");
    let sudo = !root && works("sudo", &["-n", "true"]);
    if !(root || sudo) || !works("apt-get", &["--version"]) {
        return Err(format!("{what} is missing; on Debian: apt-get install {package}"));
    }
    eprintln!("setup: {what} is missing; installing the package {package}");
    let apt = |args: &[&str]| {
        let mut command = Command::new(if sudo { "sudo" } else { "env" });
        run(command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]).args(args))
    };
    apt(&["update"])?;
    apt(&["-y", "--no-install-recommends", "install", package])?;
    if there() { Ok(()) } else { Err(format!("{package} is installed, but {what} does not run")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed() {
        assert_eq!(ensure("something", "no-such-package-of-cortex", &|| true), Ok(()));
    }
}

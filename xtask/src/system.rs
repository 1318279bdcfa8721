//! Programs of the operating system that the tests need. Found, or installed by apt-get where that is allowed
//! (as root, on Debian and its children); otherwise it is said what to install.

use crate::run::{output, run, works};
use std::process::Command;

/// Oldest Node.js that runs the JavaScript verifier.
const NODE: u32 = 18;

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

fn ensure(what: &str, package: &str, there: &dyn Fn() -> bool) -> Result<(), String> {
    if there() {
        return Ok(());
    }
    let root = output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0");
    if !root || !works("apt-get", &["--version"]) {
        return Err(format!("{what} is missing; on Debian: apt-get install {package}"));
    }
    eprintln!("setup: {what} is missing; installing the package {package}");
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    let install = ["-qq", "-y", "--no-install-recommends", "install", package];
    run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install))?;
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

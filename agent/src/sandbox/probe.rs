//! Finds out what the machine can enforce by doing it: a namespace that cannot be made is seen, not guessed.

use super::armed::Armed;
use super::launcher::{Launcher, News};
use super::linux::sys::landlock_abi;
use super::message::{Armour, Spec};
use cortex_agent_core::plan::Level;
use std::time::Duration;
use tokio::time::timeout;

/// Far more than a machine under load needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tries the levels from the strongest down.
pub(super) async fn probe(launcher: &Launcher) -> Armed {
    let landlock_abi = landlock_abi();
    let why = match attempt(launcher, Armour::Full).await {
        Ok(()) => {
            // They have a file system of their own, which was mounted for the trial too.
            return Armed { level: Level::Full, why: String::new(), landlock_abi, terminals: true };
        }
        Err(why) => why,
    };
    let terminals = std::fs::File::options().read(true).write(true).open("/dev/ptmx").is_ok();
    match attempt(launcher, Armour::Landlock).await {
        Ok(()) => Armed { level: Level::Landlock, why, landlock_abi, terminals },
        Err(second) => {
            Armed { level: Level::None, why: format!("{why}; {second}"), landlock_abi, terminals }
        }
    }
}

/// Runs a program that does nothing, in full armour.
async fn attempt(launcher: &Launcher, armour: Armour) -> Result<(), String> {
    let read = ["/usr", "/bin", "/lib", "/lib64", "/etc"];
    let read = read.iter().filter_map(|path| std::fs::canonicalize(path).ok());
    let spec = Spec {
        program: b"/bin/sh".to_vec(),
        argv: [&b"sh"[..], b"-c", b":"].map(<[u8]>::to_vec).to_vec(),
        cwd: b"/".to_vec(),
        armour: armour as u32,
        read: read.map(|path| path.into_os_string().into_encoded_bytes()).collect(),
        ..Spec::default()
    };
    let full = armour == Armour::Full;
    let mut running =
        launcher.launch(&spec, full, false, Vec::new()).map_err(|err| err.to_string())?;
    let last = async {
        loop {
            match running.news().await {
                News::Report(report, _) => {
                    if let Some(failed) = report.failed {
                        return Err(format!("{}: {}", failed.stage, failed.error));
                    }
                    match report.exited {
                        Some(exited) if exited.status == 0 => return Ok(()),
                        Some(exited) => {
                            return Err(format!("a shell ended with {}", exited.status));
                        }
                        None => {}
                    }
                }
                News::Closed => return Err("its init died".to_owned()),
            }
        }
    };
    timeout(PATIENCE, last).await.unwrap_or_else(|_| Err("it took too long".to_owned()))
}

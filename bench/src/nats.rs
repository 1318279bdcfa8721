//! A nats-server for the scenarios on JetStream, set as Cortex wants it: acknowledged means on disk.

use crate::Bench;
use crate::procs::Proc;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running server; it is killed when dropped.
pub(crate) struct Nats {
    /// Its process.
    pub(crate) process: Proc,
    /// Where it listens.
    pub(crate) url: String,
}

impl Nats {
    /// Starts one whose files lie below the benchmark's directory.
    ///
    /// # Errors
    /// When there is no program, or it does not come up.
    pub(crate) async fn start(bench: &Bench, name: &str) -> anyhow::Result<Nats> {
        let directory = bench.directory.path().join(name);
        std::fs::create_dir_all(&directory)?;
        let config = directory.join("server.conf");
        let text = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:-1\"\nports_file_dir: {directory:?}\n\
             jetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            directory.join("data"),
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(program()?);
        command.arg("-c").arg(&config);
        let mut process = Proc::spawn("nats-server", &mut command)?;
        process.drain();
        let begun = Instant::now();
        loop {
            if let Some(url) = listening(&directory)? {
                return Ok(Nats { process, url });
            }
            let patient = process.alive() && begun.elapsed() < START_TIMEOUT;
            anyhow::ensure!(patient, "nats-server did not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn program() -> anyhow::Result<PathBuf> {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/bin/nats-server");
    let path = std::env::var_os("CORTEX_NATS_SERVER").map_or(installed.into(), PathBuf::from);
    anyhow::ensure!(path.is_file(), "{} is missing: run `cargo xtask setup`", path.display());
    Ok(path)
}

/// The server writes a file with its ports when it listens.
fn listening(directory: &Path) -> anyhow::Result<Option<String>> {
    for file in std::fs::read_dir(directory)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "ports") {
            let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
            let url = ports["nats"][0].as_str().context("the ports file names no port")?;
            return Ok(Some(url.to_owned()));
        }
    }
    Ok(None)
}

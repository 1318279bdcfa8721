//! What an agent costs that has nothing to do, and how large its program is.

use crate::Bench;
use crate::cortex::Server;
use crate::procs;
use crate::report::{Goal, Row};
use anyhow::Context as _;
use std::process::Command;
use std::time::Duration;

/// Resident memory wanted, MiB.
const MEMORY_AT_MOST: f64 = 13.0;
/// Size wanted, million bytes.
const SIZE_AT_MOST: f64 = 20.0;
/// Until a start is over: what it needed for a moment has been given back.
const SETTLE: Duration = Duration::from_secs(12);
/// Time over which nothing happens.
const WINDOW: Duration = Duration::from_secs(2);

/// Measures it.
///
/// # Errors
/// When a process fails, or there is no `strip`.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(bench, "idle").await?;
    let agent = server.agent("cortex-agent", 4, None).await?;
    let (mut memory, mut agent_cpu, mut server_cpu) = (Vec::new(), Vec::new(), Vec::new());
    let (own, other) = (agent.pid(), server.process.pid());
    tokio::time::sleep(SETTLE).await;
    for _ in 0..bench.rounds.max(3) {
        // Heartbeats go on: what grows with them would show.
        let before = (procs::cpu(own)?, procs::cpu(other)?);
        tokio::time::sleep(WINDOW).await;
        let percent = |a: Duration, b: Duration| {
            b.saturating_sub(a).as_secs_f64() * 100.0 / WINDOW.as_secs_f64()
        };
        agent_cpu.push(percent(before.0, procs::cpu(own)?));
        server_cpu.push(percent(before.1, procs::cpu(other)?));
        memory.push(procs::rss_kib(own)? / 1024.0);
    }
    let stripped = bench.directory.path().join("stripped");
    let from = bench.programs.join("cortex-agent");
    let mut strip = Command::new("strip");
    let done = strip.arg("-o").arg(&stripped).arg(&from).status().context("strip (binutils)")?;
    anyhow::ensure!(done.success(), "strip {} failed", from.display());
    let size = std::fs::metadata(&stripped)?.len() as f64 / 1e6;
    let row = |what: &str, values: &[f64], unit| Row::new("idle", what, values, unit, "connected");
    Ok(vec![
        row("resident memory of cortex-agent", &memory, "MiB").goal(Goal::AtMost(MEMORY_AT_MOST)),
        row("CPU of the idle agent", &agent_cpu, "% of a core"),
        row("CPU of the idle server", &server_cpu, "% of a core"),
        row("size of cortex-agent, stripped", &[size], "MB").goal(Goal::AtMost(SIZE_AT_MOST)),
    ])
}

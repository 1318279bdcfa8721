//! What a tunnel costs the server that nothing happens in: memory per agent, with few and with many, against a bare server
//! that holds the same streams.

use crate::Bench;
use crate::cortex::Server;
use crate::procs::{self, Proc};
use crate::report::{Goal, Row};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Wanted: memory per agent over that of a bare stream.
const AT_MOST: f64 = 1.5;
/// Simulated agents of one process; one join token is for as many.
const PER_PROCESS: usize = 500;
/// Time to settle after the last agent connected.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures it.
///
/// # Errors
/// When a process fails or a tunnel ends.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let counts = if bench.tiny { [5, 20] } else { [500, 5_000] };
    let setting = "mutual TLS on both sides; heartbeats every second";
    let server = Server::start(bench, "tunnels").await?;
    let pid = server.process.pid();
    let ours = grow(pid, server.url(), Way::Join(&server), counts).await?;
    drop(server);
    let mut command = Command::new(std::env::current_exe()?);
    let directory = bench.directory.path().join("bare-streams");
    std::fs::create_dir_all(&directory)?;
    command.args(["streams", "--directory"]).arg(&directory);
    let mut bare = Proc::spawn("the bare server", &mut command)?;
    let url = bare.line()?;
    let theirs = grow(bare.pid(), &url, Way::Bare(&directory), counts).await?;
    let mut rows = Vec::new();
    for (at, count) in counts.into_iter().enumerate() {
        let name = format!("memory per agent at {count}");
        let row = Row::new("tunnels", name, &[ours[at].kib], "KiB", setting);
        rows.push(row.beside(&[ours[at].kib], &[theirs[at].kib]).goal(Goal::RatioAtMost(AT_MOST)));
        let name = format!("CPU per agent and second at {count}");
        let row = Row::new("tunnels", name, &[ours[at].cpu_us], "us", setting);
        rows.push(row.beside(&[ours[at].cpu_us], &[theirs[at].cpu_us]));
    }
    Ok(rows)
}

/// How simulated agents get in.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// As agents do.
    Join(&'a Server),
    /// With the certificate in this directory.
    Bare(&'a Path),
}

struct Cost {
    /// Resident memory per agent, KiB.
    kib: f64,
    /// CPU time of the server per agent and second, microseconds.
    cpu_us: f64,
}

/// Connects more and more agents to a server and returns what each of them costs it.
async fn grow(pid: u32, url: &str, way: Way<'_>, counts: [usize; 2]) -> anyhow::Result<Vec<Cost>> {
    // A first one, so that what is made once is not counted as an agent's.
    let mut held = vec![agents(url, way, 0, 1).await?];
    tokio::time::sleep(SETTLE).await;
    let (empty, mut connected, mut costs) = (procs::rss_kib(pid)?, 1, Vec::new());
    for count in counts {
        while connected < count + 1 {
            let some = PER_PROCESS.min(count + 1 - connected);
            held.push(agents(url, way, connected, some).await?);
            connected += some;
        }
        tokio::time::sleep(SETTLE).await;
        let cpu = procs::cpu(pid)?;
        tokio::time::sleep(SETTLE).await;
        let cpu = procs::cpu(pid)?.saturating_sub(cpu).as_secs_f64() / SETTLE.as_secs_f64();
        anyhow::ensure!(held.iter_mut().all(Proc::alive), "simulated agents ended");
        let kib = (procs::rss_kib(pid)? - empty) / count as f64;
        costs.push(Cost { kib, cpu_us: cpu * 1e6 / connected as f64 });
    }
    Ok(costs)
}

async fn agents(url: &str, way: Way<'_>, first: usize, count: usize) -> anyhow::Result<Proc> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["agents", "--url", url]);
    match way {
        Way::Join(server) => {
            command.args(["--join", &server.join_token(u32::try_from(count)?).await?]);
        }
        Way::Bare(directory) => {
            command.arg("--bare").arg(directory);
        }
    }
    command.args(["--first", &first.to_string(), "--count", &count.to_string()]);
    let mut process = Proc::spawn("simulated agents", &mut command)?;
    tokio::task::spawn_blocking(move || process.line().map(|_| process)).await?
}

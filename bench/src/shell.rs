//! Commands end to end: `sh -c true` as tasks, against starting and awaiting the same program without anything around it, and
//! against the same start between the durable writes of a task.

use crate::Bench;
use crate::cortex::Server;
use crate::load::{Load, drive};
use crate::procs::Watched;
use crate::report::{Goal, Row};
use crate::sample;
use crate::yardstick::Running;
use cortex_model::proto as pb;

const IN_FLIGHT: usize = 4;
/// Wanted share of the rate of raw starts.
const SHARE: f64 = 0.65;
/// The owner allows a shell, and nothing else.
const POLICY: &str = "version = 0\n[shell]\nallow = [\"/bin/sh\", \"/usr/bin/sh\"]\n";

/// Measures it.
///
/// # Errors
/// When a process fails or a task does not succeed.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(bench, "shell").await?;
    let agent = server.agent("cortex", 4, Some(POLICY)).await?;
    let setting = format!(
        "{}; intent and outcome synced on the node; yardstick: nothing is written",
        server.durability().await?
    );
    let least = Running::that_starts(bench.directory.path().join("shell-yardstick")).await?;
    let (mut ours, mut raw, mut least_of, mut agents) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.rounds {
        raw.push(drive(IN_FLIGHT, bench.window, &[], || async { spawn_and_wait().await }).await?);
        least_of.push(drive(IN_FLIGHT, bench.window, &[], least.call()).await?);
        let watched = [server.process.pid(), agent.pid()].map(Watched::Process);
        let load = drive(IN_FLIGHT, bench.window, &watched, server.task(request)).await?;
        agents.push(load.cpu_us[1]);
        ours.push(load);
    }
    let rate = |loads: &[Load]| loads.iter().map(|l| l.rate).collect::<Vec<_>>();
    let (rates, raw_rates, least_rates) = (rate(&ours), rate(&raw), rate(&least_of));
    let times: Vec<f64> = ours.iter().map(|l| l.p50_us).collect();
    let raw_times: Vec<f64> = raw.iter().map(|l| l.p50_us).collect();
    let name = |what: &str| format!("{what}, {IN_FLIGHT} in flight");
    Ok(vec![
        Row::new("shell", name("sh -c true"), &rates, "/s", &setting)
            .beside(&rates, &raw_rates)
            .goal(Goal::RatioAtLeast(SHARE)),
        Row::new(
            "shell",
            name("sh -c true, beside its start between five synced writes"),
            &rates,
            "/s",
            &setting,
        )
        .beside(&rates, &least_rates),
        Row::new(
            "shell",
            name("that start between five synced writes"),
            &least_rates,
            "/s",
            &setting,
        )
        .beside(&least_rates, &raw_rates),
        Row::new("shell", name("p50"), &times, "us", &setting).beside(&times, &raw_times),
        Row::new("shell", name("CPU per task of the agent"), &agents, "us", &setting),
    ])
}

fn request() -> pb::SubmitTaskRequest {
    let argv = ["sh", "-c", "true"].map(|a| a.as_bytes().to_vec()).to_vec();
    sample::request(pb::action::Kind::Shell(pb::ShellAction { argv, ..Default::default() }))
}

/// The same with nothing around it: output is piped and read, as the agent must.
pub(crate) async fn spawn_and_wait() -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new("/bin/sh");
    let done = command.args(["-c", "true"]).stdin(std::process::Stdio::null()).output().await?;
    anyhow::ensure!(done.status.success(), "sh -c true failed");
    Ok(())
}

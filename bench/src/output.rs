//! Much output through one task, to the end: how fast, and how much the agent grows meanwhile.

use crate::Bench;
use crate::cortex::Server;
use crate::procs;
use crate::report::{Goal, Row};
use crate::sample;
use anyhow::Context as _;
use cortex_model::proto as pb;
use std::time::{Duration, Instant};

/// What the program writes: no line end in it.
const BYTES: u64 = 1 << 30;
const TINY: u64 = 4 << 20;
/// How much the agent may grow above what it has when nothing runs, MiB.
const GROWTH_AT_MOST: f64 = 64.0;
/// How often its memory is looked at.
const EVERY: Duration = Duration::from_millis(10);
/// The owner allows one program, in the sandbox.
const POLICY: &str = "version = 1\nprograms.search = [\"/usr/bin\", \"/bin\"]\nlimits.task = { output = \"2GiB\" }\n\
    [paths]\nread = [\"@system\"]\n\
    [[rule]]\nid = \"head\"\nprogram = \"head\"\nflags = [\"-c=*\"]\nargs = \"path:read\"\neffect = \"allow\"\n";

/// Measures it.
///
/// # Errors
/// When a process fails or the task does not succeed.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(bench, "output").await?;
    let agent = server.agent("cortex-agent", 4, Some(POLICY)).await?;
    let (bytes, make): (u64, fn() -> pb::SubmitTaskRequest) =
        if bench.tiny { (TINY, || request(TINY)) } else { (BYTES, || request(BYTES)) };
    let idle = procs::rss_kib(agent.pid())?;
    let (mut growth, mut rate) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let begun = Instant::now();
        let mut done = std::pin::pin!(server.task(make)());
        let mut most = idle;
        loop {
            tokio::select! {
                done = &mut done => break done.context("the task")?,
                () = tokio::time::sleep(EVERY) => most = most.max(procs::rss_kib(agent.pid())?),
            }
        }
        rate.push(bytes as f64 / f64::from(1 << 20) / begun.elapsed().as_secs_f64());
        growth.push((most - idle) / 1024.0);
    }
    let setting = format!("{} MiB without a line end, level full; all of it kept", bytes >> 20);
    Ok(vec![
        Row::new("output", "what the agent grows by", &growth, "MiB", &setting)
            .goal(Goal::AtMost(GROWTH_AT_MOST)),
        Row::new("output", "output, from submit to durable", &rate, "MiB/s", &setting),
    ])
}

fn request(bytes: u64) -> pb::SubmitTaskRequest {
    let argv = ["head", "-c", &bytes.to_string(), "/dev/zero"];
    let argv = argv.map(|word| word.as_bytes().to_vec()).to_vec();
    let shell = pb::ShellAction { argv, ..Default::default() };
    let mut request = sample::request(pb::action::Kind::Shell(shell));
    if let Some(spec) = &mut request.spec {
        spec.output_limit_bytes = 2 << 30;
    }
    request
}

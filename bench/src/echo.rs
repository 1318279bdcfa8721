//! Echo tasks end to end: submitted, started, recorded on the node, ended, told; against the same durable writes alone.

use crate::Bench;
use crate::cortex::Server;
use crate::load::{Load, drive};
use crate::nats::Nats;
use crate::procs::Watched;
use crate::report::{Goal, Row};
use crate::sample;
use crate::yardstick::Running;

/// Tasks at a time, and the share of the yardstick's rate that is wanted.
const IN_FLIGHT: [(usize, Option<f64>); 3] = [(1, None), (64, Some(0.50)), (256, Some(0.35))];
/// Wanted at one in flight: time of a task over that of the yardstick.
const ALONE_AT_MOST: f64 = 1.5;
/// Wanted at 256 in flight: CPU time of gateway, scheduler and log per task, microseconds.
const SERVER_CPU_AT_MOST: f64 = 135.0;
/// The thread of the server's process that countersigns journals.
const MIRROR: &str = "mirror";

/// Measures it.
///
/// # Errors
/// When a process fails or a task does not succeed.
pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let yard = Running::start(bench.directory.path().join("yardstick"), None).await?;
    let server = Server::start(bench, "echo").await?;
    compare(bench, "echo", &yard, &server, None).await
}

/// The same with the log in JetStream: product and yardstick have a nats-server each, on the same disk.
///
/// # Errors
/// When a process fails or a task does not succeed.
pub(crate) async fn on_jetstream(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let theirs = Nats::start(bench, "nats-of-the-yardstick").await?;
    let directory = bench.directory.path().join("yardstick-jetstream");
    let yard = Running::start(directory, Some(&theirs.url)).await?;
    let ours = Nats::start(bench, "nats").await?;
    let server = Server::on(bench, "echo-jetstream", &ours.url).await?;
    compare(bench, "echo-jetstream", &yard, &server, Some([&theirs, &ours])).await
}

async fn compare(
    bench: &Bench,
    scenario: &'static str,
    yard: &Running,
    server: &Server,
    nats: Option<[&Nats; 2]>,
) -> anyhow::Result<Vec<Row>> {
    let agent = server.agent("cortex", 256, None).await?;
    let setting = server.durability().await?;
    let mut rows = Vec::new();
    for (in_flight, share) in wanted(bench) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let pids = [yard.process.pid(), std::process::id()];
            let nats = nats.map(|both| both.map(|nats| nats.process.pid()));
            let mut watched = pids.map(Watched::Process).to_vec();
            watched.extend(nats.map(|[theirs, _]| Watched::Process(theirs)));
            theirs.push(drive(in_flight, bench.window, &watched, yard.call()).await?);
            let pids = [server.process.pid(), agent.pid(), std::process::id()];
            let mut watched = pids.map(Watched::Process).to_vec();
            watched.push(Watched::Thread(server.process.pid(), MIRROR));
            watched.extend(nats.map(|[_, ours]| Watched::Process(ours)));
            let task = server.task(sample::echo_request);
            ours.push(drive(in_flight, bench.window, &watched, task).await?);
        }
        rows.extend(figures(scenario, (in_flight, share), &ours, &theirs, &setting));
    }
    Ok(rows)
}

/// The yardstick without the product beside it.
///
/// # Errors
/// When its process fails.
pub(crate) async fn yardstick_alone(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let yard = Running::start(bench.directory.path().join("yardstick"), None).await?;
    let mut rows = Vec::new();
    for (in_flight, _) in wanted(bench) {
        let mut loads = Vec::new();
        for _ in 0..bench.rounds {
            let watched = [Watched::Process(yard.process.pid())];
            loads.push(drive(in_flight, bench.window, &watched, yard.call()).await?);
        }
        let row = |what: &str, of: fn(&Load) -> f64, unit| {
            let values: Vec<f64> = loads.iter().map(of).collect();
            let name = format!("{what}, {in_flight} in flight");
            Row::new("yardstick", name, &values, unit, "embedded log, 5 synced writes per call")
        };
        rows.push(row("calls", |l| l.rate, "/s"));
        rows.push(row("p50", |l| l.p50_us, "us"));
        rows.push(row("p99", |l| l.p99_us, "us"));
        rows.push(row("CPU per call", |l| l.cpu_us[0], "us"));
    }
    Ok(rows)
}

fn wanted(bench: &Bench) -> Vec<(usize, Option<f64>)> {
    let named = |n: usize| {
        let known = IN_FLIGHT.into_iter().find(|(known, _)| *known == n);
        known.unwrap_or((n, None))
    };
    match bench.in_flight.as_slice() {
        [] => IN_FLIGHT.to_vec(),
        some => some.iter().map(|n| named(*n)).collect(),
    }
}

fn figures(
    scenario: &'static str,
    (in_flight, share): (usize, Option<f64>),
    ours: &[Load],
    theirs: &[Load],
    setting: &str,
) -> Vec<Row> {
    let all = |loads: &[Load], of: &dyn Fn(&Load) -> f64| loads.iter().map(of).collect::<Vec<_>>();
    let both = |what: &str, unit, of: &dyn Fn(&Load) -> f64| {
        let values = all(ours, of);
        let name = format!("{what}, {in_flight} in flight");
        Row::new(scenario, name, &values, unit, setting).beside(&values, &all(theirs, of))
    };
    let cpu = |whose: &str, of: &dyn Fn(&Load) -> f64, yard: usize| {
        let values = all(ours, of);
        let name = format!("CPU per task of {whose}, {in_flight} in flight");
        let row = Row::new(scenario, name, &values, "us", setting);
        row.beside(&values, &all(theirs, &|l| l.cpu_us[yard]))
    };
    let mut rate = both("tasks", "/s", &|l| l.rate);
    if let Some(share) = share {
        rate = rate.goal(Goal::RatioAtLeast(share));
    }
    let mut p50 = both("p50", "us", &|l| l.p50_us);
    if in_flight == 1 {
        p50 = p50.goal(Goal::RatioAtMost(ALONE_AT_MOST));
    }
    // On JetStream the log is a process of its own.
    let apart = ours.iter().all(|load| load.cpu_us.len() > 4);
    let who = if apart { "gateway and scheduler" } else { "gateway, scheduler and log" };
    let mut server = cpu(who, &|l| l.cpu_us[0] - l.cpu_us[3], 0);
    if in_flight == 256 && !apart {
        server = server.goal(Goal::AtMost(SERVER_CPU_AT_MOST));
    }
    let alone = |row| Row { yardstick: None, ratio: None, ..row };
    let mirror = alone(cpu("the mirror", &|l| l.cpu_us[3], 0));
    let agent = alone(cpu("the agent", &|l| l.cpu_us[1], 0));
    let p99 = both("p99", "us", &|l| l.p99_us);
    let mut rows =
        vec![rate, p50, p99, server, mirror, agent, cpu("the client", &|l| l.cpu_us[2], 1)];
    if apart {
        rows.push(cpu("nats-server", &|l| l.cpu_us[4], 2));
    }
    rows
}

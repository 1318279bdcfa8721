//! `cortex-bench`: figures of the release programs, each measured in turn with its yardstick. It starts real processes,
//! talks to them as any client does, and never reaches into them.

mod audit;
mod auth;
mod cortex;
mod echo;
mod fold;
mod idle;
mod journal;
mod load;
mod nats;
mod node;
mod output;
mod policy;
mod procs;
mod replay;
mod report;
mod sample;
mod sandbox;
mod shell;
mod streams;
mod tls;
mod tunnels;
mod yardstick;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Measures Cortex beside its yardsticks")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios, all but 'yardstick' if none is named
    Run(Run),
    /// The yardstick's process
    #[command(hide = true)]
    Yardstick {
        #[arg(long)]
        directory: PathBuf,
        /// The log is there and not in the directory
        #[arg(long)]
        nats: Option<String>,
        /// A program is started and awaited between the entries of the journal
        #[arg(long)]
        start: bool,
    },
    /// A bare gRPC server that holds streams
    #[command(hide = true)]
    Streams {
        /// Where it leaves its client's certificate
        #[arg(long)]
        directory: PathBuf,
    },
    /// A bare loop that only does TLS handshakes
    #[command(hide = true)]
    Handshakes {
        #[arg(long)]
        directory: PathBuf,
    },
    /// Simulated agents; prints a line when all are connected
    #[command(hide = true)]
    Agents(streams::Agents),
}

#[derive(clap::Args)]
struct Run {
    /// Which scenarios
    scenarios: Vec<Scenario>,
    /// Write the figures as JSON into this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Length of one window of load
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Windows per figure, each in turn with one of the yardstick
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only with so many tasks at a time ('echo' and its yardstick)
    #[arg(long, value_delimiter = ',')]
    in_flight: Vec<usize>,
    /// Where the programs 'cortex' and 'cortex-agent' lie; as a rule beside this one
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Directory for data; it decides which disk is measured
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Make everything tiny: shows that it runs, measures nothing
    #[arg(long)]
    tiny: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Echo tasks end to end
    Echo,
    /// The same with the log in JetStream
    EchoJetstream,
    /// `sh -c true` tasks end to end
    Shell,
    /// The agent that does nothing
    Idle,
    /// Tunnels that do nothing
    Tunnels,
    /// The start of a confined command
    Sandbox,
    /// A gibibyte of output through one task
    Output,
    /// Letting agents in
    TunnelAuth,
    /// The scheduler's fold alone
    Fold,
    /// The owner's policy alone
    Policy,
    /// Verification of journals
    Audit,
    /// The node's journal alone
    Journal,
    /// A journal on its way to the mirror
    Replay,
    /// The yardstick of 'echo' alone
    Yardstick,
}

const ALL: [Scenario; 13] = [
    Scenario::Echo,
    Scenario::EchoJetstream,
    Scenario::Shell,
    Scenario::Idle,
    Scenario::Tunnels,
    Scenario::Sandbox,
    Scenario::Output,
    Scenario::Fold,
    Scenario::Policy,
    Scenario::Audit,
    Scenario::TunnelAuth,
    Scenario::Journal,
    Scenario::Replay,
];

/// What every scenario is given.
pub(crate) struct Bench {
    /// Where the programs lie.
    pub(crate) programs: PathBuf,
    /// For data; removed at the end.
    pub(crate) directory: tempfile::TempDir,
    /// One window of load.
    pub(crate) window: Duration,
    /// Windows per figure.
    pub(crate) rounds: usize,
    /// Only these numbers of tasks at a time, if any are named.
    pub(crate) in_flight: Vec<usize>,
    /// Only show that it runs.
    pub(crate) tiny: bool,
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(run) => measure(&run),
        Command::Yardstick { directory, nats, start } => {
            block_on(yardstick::serve(&directory, nats.as_deref(), start))
        }
        Command::Handshakes { directory } => block_on(auth::serve(&directory)),
        Command::Streams { directory } => block_on(streams::serve(&directory)),
        Command::Agents(agents) => block_on(streams::connect(agents)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cortex-bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn measure(run: &Run) -> anyhow::Result<()> {
    procs::raise_open_files()?;
    let own = std::env::current_exe()?;
    let beside = own.parent().context("a program has a folder")?.to_owned();
    let mut temporary = tempfile::Builder::new();
    temporary.prefix("cortex-bench-");
    let bench = Bench {
        programs: run.programs.clone().unwrap_or_else(|| beside.clone()),
        // Not in the system's folder for such: that one may be in memory.
        directory: temporary.tempdir_in(run.directory.as_ref().unwrap_or(&beside))?,
        window: Duration::try_from_secs_f64(run.seconds).context("--seconds")?,
        rounds: run.rounds.max(1),
        in_flight: run.in_flight.clone(),
        tiny: run.tiny,
    };
    let named = if run.scenarios.is_empty() { ALL.to_vec() } else { run.scenarios.clone() };
    let mut rows = Vec::new();
    for scenario in named {
        eprintln!("bench: {scenario:?} ...");
        let more = one(scenario, &bench).with_context(|| format!("scenario {scenario:?}"))?;
        report::print(&more)?;
        rows.extend(more);
    }
    match &run.json {
        Some(file) => report::write_json(&rows, file),
        None => Ok(()),
    }
}

fn one(scenario: Scenario, bench: &Bench) -> anyhow::Result<Vec<report::Row>> {
    if scenario == Scenario::Fold {
        return fold::run(if bench.tiny { fold::Size::TINY } else { fold::Size::FULL });
    }
    if scenario == Scenario::Policy {
        return policy::run(bench.rounds, if bench.tiny { 100 } else { 20_000 });
    }
    if scenario == Scenario::Audit {
        return audit::run(bench);
    }
    let mut rows = Vec::new();
    block_on(async {
        rows = match scenario {
            Scenario::Echo => echo::run(bench).await?,
            Scenario::EchoJetstream => echo::on_jetstream(bench).await?,
            Scenario::Shell => shell::run(bench).await?,
            Scenario::Idle => idle::run(bench).await?,
            Scenario::Tunnels => tunnels::run(bench).await?,
            Scenario::Sandbox => sandbox::run(bench).await?,
            Scenario::Output => output::run(bench).await?,
            Scenario::TunnelAuth => auth::run(bench).await?,
            Scenario::Journal => journal::run(bench).await?,
            Scenario::Replay => replay::run(bench).await?,
            Scenario::Yardstick => echo::yardstick_alone(bench).await?,
            Scenario::Fold | Scenario::Policy | Scenario::Audit => Vec::new(),
        };
        Ok(())
    })?;
    Ok(rows)
}

/// Prints a line for the process that started this one.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Resolves when the process that started this one is gone.
pub(crate) async fn stdin_ended() {
    let mut sink = tokio::io::sink();
    // An error means that nobody is there either.
    drop(tokio::io::copy(&mut tokio::io::stdin(), &mut sink).await);
}

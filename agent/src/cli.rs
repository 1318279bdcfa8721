//! The agent's command line, for the stand-alone program and for `cortex`, which carries the agent inside.

use crate::config::Config;
use crate::consent::ConsentCommand;
use crate::driver::Stop;
use crate::local::Ask;
use crate::out::out;
use crate::owner::{self, Which};
use crate::policy::{Init, PolicyCommand};
use crate::{doctor, guard, identity, sandbox};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cortex_model::{Code, Fault};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code when another agent uses the data directory: whoever supervises need not try again at once.
const EXIT_LOCKED: u8 = 75;

/// Exit code when the machine is no node: nobody need try again before it joined.
pub(crate) const EXIT_NOT_ENROLLED: u8 = 78;

#[derive(Debug, Parser)]
#[command(name = "cortex-agent", version, about = "Runs tasks on this machine for its owner.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect to a gateway and take work that the policy allows, until stopped.
    Run(Box<Run>),
    /// Take no more work; what runs goes on.
    Pause(Which),
    /// Take work again.
    Resume(Which),
    /// End everything that runs, and take no more work.
    StopAll(Which),
    /// What runs at present, and whether more is taken.
    Running(Which),
    /// What was asked, started and refused on this machine, from its own journal.
    History {
        #[command(flatten)]
        which: Which,
        /// So many of the newest entries.
        #[arg(long, default_value_t = 50, value_name = "N")]
        count: usize,
    },
    /// Try out what this machine can enforce, and tell.
    Doctor(Doctor),
    /// Does what a task must not be able to. Started by 'doctor'.
    #[command(name = doctor::TRIAL, hide = true)]
    Trial {
        /// What.
        words: Vec<OsString>,
    },
    /// Look after the node's journal: verify, show, doctor, recover.
    Journal(crate::journal_cli::Journal),
    /// Make this machine a node: with a join token of an administrator.
    Join(identity::JoinArgs),
    /// Make this machine a node no longer: at once here, and on the server as soon as it answers.
    Leave(identity::LeaveArgs),
    /// Say which node this machine is, and how long its certificate holds.
    Status(identity::StatusArgs),
    /// Have systemd run the agent on this machine.
    Service(crate::service::ServiceArgs),
    /// Write a first policy after a few questions.
    Init(Init),
    /// Answer what tasks need the owner of this machine for.
    Consent(ConsentCommand),
    /// Check the policy, and explain what it does to a command.
    Policy(PolicyCommand),
    /// Ends what an agent started, once it is gone. Started by the agent itself.
    #[command(name = guard::SUBCOMMAND, hide = true)]
    Guard,
    /// Makes the processes of tasks. Started by the agent itself.
    #[command(name = sandbox::SUBCOMMAND, hide = true)]
    Launcher,
}

#[derive(Debug, Args)]
struct Doctor {
    /// One JSON object with stable fields.
    #[arg(long)]
    json: bool,
    /// The agent's data directory: what its policy requires is compared with what was found [default: where 'join' made it].
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The policy file; without it, policy.toml in the data directory if there is one.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl Doctor {
    /// The data directory and the policy in it; none where there is no agent.
    fn policy(&self) -> Option<(PathBuf, PathBuf)> {
        let dir = self.data_dir.clone().or_else(|| crate::config::default_data_dir().ok())?;
        match &self.policy {
            Some(policy) => Some((dir, policy.clone())),
            None => {
                Some(dir.join("policy.toml")).filter(|file| file.exists()).map(|file| (dir, file))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Args)]
struct Run {
    /// Directory of the identity, the journal, waiting output and the policy [default: cortex-agent below
    /// XDG_DATA_HOME].
    #[arg(long, env = "CORTEX_AGENT_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file (TOML); without it, agent.toml in the data directory if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The gateway, https://HOST:PORT [default: the one that was joined].
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// File that says where the gateway is, as 'cortex up' writes it; read anew before every connection.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    endpoint_file: Option<PathBuf>,
    /// Write a first policy that allows a few reading programs, if there is none.
    #[arg(long)]
    starter_policy: bool,
    /// The node's id; only when the journal begins.
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// Tasks that may run at the same time.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// A label of the node; may be given more than once.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// How to write the log to standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
    /// The policy file; without it, policy.toml in the data directory.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Runs the agent's command line. `args` begin with the program's name. `inside` are the arguments by which the
/// present program reaches this function, when it is not the agent's own.
pub fn cli_main(args: impl IntoIterator<Item = OsString>, inside: &[&str]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(err) => {
            // Nothing is left to say when even this cannot be printed.
            err.print().ok();
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Guard => guard::main(),
        Command::Pause(which) => exit(owner::tell(&which, &Ask::Pause)),
        Command::Resume(which) => exit(owner::tell(&which, &Ask::Resume)),
        Command::StopAll(which) => exit(owner::tell(&which, &Ask::StopAll)),
        Command::Running(which) => exit(owner::tell(&which, &Ask::Status)),
        Command::History { which, count } => exit(owner::tell(&which, &Ask::History { count })),
        Command::Launcher => sandbox::main(),
        Command::Trial { words } => doctor::try_inside(&words),
        Command::Doctor(chosen) => exit(examine(&chosen, inside)),
        Command::Journal(journal) => crate::journal_cli::run(journal),
        Command::Run(run) => exit(serve(*run, inside)),
        Command::Join(args) => exit(ask(identity::join_command(args))),
        Command::Leave(args) => exit(ask(identity::leave_command(args))),
        Command::Status(args) => exit(identity::status_command(&args)),
        Command::Service(args) => exit(crate::service::run(args, inside)),
        Command::Init(init) => exit(init.run(&mut out())),
        Command::Consent(consent) => exit(consent.run(&mut out())),
        Command::Policy(policy) => match policy.run(&mut out()) {
            Ok(false) => ExitCode::FAILURE,
            done => exit(done.map(drop)),
        },
    }
}

fn exit(done: Result<(), Fault>) -> ExitCode {
    let Err(fault) = done else { return ExitCode::SUCCESS };
    let mut out = std::io::stderr().lock();
    writeln!(out, "error {fault}\nhint: {}", fault.hint).ok();
    if fault.code == Code::DataDirLocked {
        ExitCode::from(EXIT_LOCKED)
    } else if fault.code == Code::NotEnrolled {
        ExitCode::from(EXIT_NOT_ENROLLED)
    } else {
        ExitCode::FAILURE
    }
}

/// This program with the arguments that lead to one of its hidden subcommands.
fn hidden(inside: &[&str], subcommand: &str) -> Vec<OsString> {
    let Ok(program) = std::env::current_exe() else { return Vec::new() };
    let words = inside.iter().copied().chain([subcommand]).map(OsString::from);
    std::iter::once(program.into_os_string()).chain(words).collect()
}

fn examine(chosen: &Doctor, inside: &[&str]) -> Result<(), Fault> {
    let (launcher, trial) = (hidden(inside, sandbox::SUBCOMMAND), hidden(inside, doctor::TRIAL));
    block_on(async {
        let policy = chosen.policy();
        let policy = policy.as_ref().map(|(dir, file)| (dir.as_path(), file.as_path()));
        let (report, unmet) = doctor::examine(&launcher, &trial, policy).await?;
        doctor::print(&report, chosen.json).map_err(failed)?;
        if report.is_broken() {
            let message = "something got through that the level promises to stop";
            return Err(Fault::new(Code::SandboxFailed, message));
        }
        unmet.map_or(Ok(()), Err)
    })
}

fn serve(run: Run, inside: &[&str]) -> Result<(), Fault> {
    log(run.log_format);
    let config = configure(run, inside)?;
    sandbox::hide_memory().map_err(failed)?;
    block_on(async {
        let stop = Stop::default();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let asked = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => return asked.now(),
                _ = terminate.recv() => asked.when_done(),
            }
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            asked.now();
        });
        crate::run(config, stop).await
    })
}

/// A command that talks to the server and ends; its log is for whoever asks for it.
fn ask(command: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    if std::env::var_os("CORTEX_LOG").is_some() {
        log(LogFormat::Text);
    }
    block_on(command)
}

fn failed(err: std::io::Error) -> Fault {
    Fault::new(Code::AgentUnable, err.to_string())
}

fn block_on(work: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    // One thread: an idle agent is small, and processes are started from a thread that stays.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(256 * 1024)
        .build()
        .map_err(failed)?;
    runtime.block_on(work)
}

fn configure(run: Run, inside: &[&str]) -> Result<Config, Fault> {
    let data_dir = match run.data_dir {
        Some(dir) => dir,
        None => crate::config::default_data_dir()?,
    };
    let mut config = Config::new(&data_dir, "");
    let own = data_dir.join("agent.toml");
    match run.config {
        Some(path) => config.read(&path)?,
        None if own.exists() => config.read(&own)?,
        None => {}
    }
    if let Some(server) = run.server {
        config.server = server;
    }
    if let Some(path) = run.endpoint_file {
        config.server = format!("{}{}", crate::tunnel::FILE_PREFIX, path.display());
    }
    if let Some(path) = run.policy {
        config.policy = path;
    }
    if run.starter_policy {
        first_policy(&config)?;
    }
    if let Some(node) = run.node {
        cortex_model::NodeId::parse(&node)?;
        config.node = node;
    }
    config.slots = run.slots.unwrap_or(config.slots);
    for label in run.labels {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| Fault::new(Code::Usage, format!("label {label:?} is not KEY=VALUE")))?;
        config.labels.insert(key.to_owned(), value.to_owned());
    }
    config.guard = hidden(inside, guard::SUBCOMMAND);
    config.launcher = hidden(inside, sandbox::SUBCOMMAND);
    config.check()?;
    Ok(config)
}

/// Writes the starter policy where there is none, and says so.
fn first_policy(config: &Config) -> Result<(), Fault> {
    let failed = |err: std::io::Error| {
        Fault::new(Code::AgentUnable, format!("{}: {err}", config.policy.display()))
    };
    crate::config::prepare(&config.data_dir)?;
    if crate::policy::write_first(&config.policy, crate::policy::STARTER).map_err(failed)? {
        tracing::info!(file = %config.policy.display(), "wrote a first policy: it allows a few reading programs; change it there");
    }
    Ok(())
}

fn log(chosen: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CORTEX_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let format = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // Whoever carries the agent inside may have set up its own.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let format = format.with_target(false).with_ansi(colours);
    match chosen {
        LogFormat::Text => format.try_init().ok(),
        LogFormat::Json => format.json().flatten_event(true).try_init().ok(),
    };
}

//! The commands: one file each. This file only brings a parsed command line to its command.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod browser;
pub(crate) mod ca;
pub(crate) mod completions;
pub(crate) mod context;
pub(crate) mod cp;
pub(crate) mod fs;
pub(crate) mod gateway;
pub(crate) mod login;
pub(crate) mod mirror;
pub(crate) mod node;
pub(crate) mod run;
pub(crate) mod scheduler;
pub(crate) mod task;
pub(crate) mod token;
pub(crate) mod up;
mod version;
mod whoami;

use crate::args::{Cli, Command, Global};
use crate::client::{self, Client, Target};
use crate::context::Contexts;
use crate::error::CliError;

/// What every command may need: where the server is, how to print.
pub(crate) struct Session {
    pub(crate) global: Global,
}

impl Session {
    /// Whether `--json` was given.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// Where the server is.
    pub(crate) fn target(&self) -> Result<Target, CliError> {
        let global = &self.global;
        if let Some(dir) = global.data_dir.as_deref().filter(|d| !d.as_os_str().is_empty()) {
            return Ok(Target::new(dir.to_owned()));
        }
        if let Some(name) = &global.context {
            return Contexts::required()?.target(name);
        }
        if let Some(contexts) = Contexts::of_user()
            && let Some(name) = contexts.current()?
        {
            return contexts.target(&name);
        }
        Ok(Target::new(client::data_dir(None)?))
    }

    /// A connection to it.
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        self.target()?.connect().await
    }

    /// Who asks, where this program must or wants to say so. Else it is whoever holds the token.
    pub(crate) fn actor(&self) -> Result<Option<cortex_model::proto::Actor>, CliError> {
        if self.target()?.names_anybody() || crate::actor::is_named(&self.global) {
            return crate::actor::resolve(&self.global).map(Some);
        }
        Ok(None)
    }
}

/// Runs the command and gives the exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8, CliError> {
    let session = Session { global: cli.global };
    match cli.command {
        Command::Up(args) => up::run(*args, session.global.data_dir.as_deref()).await,
        Command::Gateway(args) => gateway::run(*args, session.global.data_dir.as_deref()).await,
        Command::Scheduler(args) => scheduler::run(*args, session.global.data_dir.as_deref()).await,
        Command::Mirror(args) => mirror::run(*args, session.global.data_dir.as_deref()).await,
        Command::Backup => backup::run(&session).await,
        Command::Run(args) => run::run(&session, *args).await,
        Command::Fs(command) => fs::run(&session, command).await,
        Command::Browser(command) => browser::run(&session, command).await,
        Command::Cp(args) => cp::run(&session, args).await,
        Command::Task(command) => task::run(&session, command).await,
        Command::Node(command) => node::run(&session, command).await.map(|()| 0),
        Command::Audit(command) => audit::run(&session, command).await,
        Command::Token(command) => token::run(&session, command).await.map(|()| 0),
        Command::Ca(command) => ca::run(&session, command).map(|()| 0),
        Command::Login(args) => login::run(&session, args).await.map(|()| 0),
        Command::Whoami => whoami::run(&session).await.map(|()| 0),
        Command::Context(command) => context::run(&session, command).map(|()| 0),
        Command::Version => version::run(&session).await.map(|()| 0),
        Command::Completions(args) => completions::run(&args).map(|()| 0),
    }
}

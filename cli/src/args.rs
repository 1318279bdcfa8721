//! The command line as a whole: global flags and the list of commands. Each command's own flags
//! stand in its file. It never checks values that the server's rules decide.

use crate::commands::{
    audit, browser, ca, completions, context, cp, fs, gateway, login, mirror, node, run, scheduler,
    task, token, up,
};
use crate::error::CliError;
use crate::exit;
use clap::{Args, Parser, Subcommand};
use cortex_model::Code;
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes of 'run' and 'task watch':
  the command's own code, 128+N when signal N ended it
  123 outcome not known   124 timeout or expired   125 error of Cortex   126 denied by the node's owner
  127 program not found   130 cancelled            141 output pipe closed
Every other command: 0, or 125 with an error on stderr.

Examples:
  cortex run -- uname -a
  cortex run --require 'python>=3.10' --timeout 15m -- python3 job.py
  cortex task list --state running
  CORTEX_DATA_DIR=/srv/cortex cortex node list --json";

/// Runs work on machines that have what it needs, and knows afterwards what was done.
#[derive(Debug, Parser)]
#[command(name = "cortex", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Data directory of the server to talk to [default: $XDG_DATA_HOME/cortex or ~/.local/share/cortex]
    #[arg(long, global = true, env = "CORTEX_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Server to talk to, as 'cortex context list' names it [default: the one in use]
    #[arg(long, global = true, env = "CORTEX_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Print JSON with stable fields; errors become an object on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Who asks: human, ai or program [default: human]
    #[arg(long, global = true, env = "CORTEX_ACTOR_KIND", value_name = "KIND")]
    #[arg(help_heading = "Who asks")]
    pub(crate) actor_kind: Option<String>,
    /// Identifier of who asks [default: the user's name]
    #[arg(long, global = true, env = "CORTEX_ACTOR_ID", value_name = "ID")]
    #[arg(help_heading = "Who asks")]
    pub(crate) actor_id: Option<String>,
    /// The model, when an AI asks
    #[arg(long, global = true, env = "CORTEX_ACTOR_MODEL", value_name = "MODEL")]
    #[arg(help_heading = "Who asks")]
    pub(crate) actor_model: Option<String>,
    /// On whose behalf it is asked
    #[arg(long, global = true, env = "CORTEX_ON_BEHALF_OF", value_name = "ID")]
    #[arg(help_heading = "Who asks")]
    pub(crate) on_behalf_of: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole Cortex on this machine: gateway, scheduler, log and an agent
    Up(Box<up::UpArgs>),
    /// Run a gateway on a log that several processes share
    Gateway(Box<gateway::GatewayArgs>),
    /// Run a scheduler on a log that several processes share
    Scheduler(Box<scheduler::SchedulerArgs>),
    /// Countersign the journals of nodes, on a log that several processes share
    Mirror(Box<mirror::MirrorArgs>),
    /// Copy the log of the running server into a new directory
    Backup,
    /// Run a command on a node that has what it needs, and show its output
    Run(Box<run::RunArgs>),
    /// Read, write, edit, find and move files of a node
    #[command(subcommand)]
    Fs(fs::FsCommand),
    /// Open a page in a browser of a node, and give its text, links, picture or files
    #[command(subcommand)]
    Browser(browser::BrowserCommand),
    /// Copy one file to a node or from it
    Cp(cp::CpArgs),
    /// Submit, find, follow and settle tasks
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// See the nodes, and decide which of them may be here
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Verify, read and export what nodes recorded
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Make, list and revoke tokens: for machines that join, for people and programs
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Make, show and change a deployment's keys
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Keep a server and your token for it
    Login(login::LoginArgs),
    /// Say who the server takes you for
    Whoami,
    /// List and choose the servers you logged in to
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Print the versions of this program and of the server
    Version,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Ends a command line that cannot be read: help and version go to stdout, anything else is an
/// error with its code.
pub(crate) fn refuse(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        // Nothing is left to report to when stdout is gone.
        return if e.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::from(exit::PIPE) };
    }
    let json = std::env::args_os()
        .take_while(|a| a.as_os_str() != "--")
        .any(|a| a.as_os_str() == "--json");
    let text = e.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let message = text.split("\n\n").next().unwrap_or(text).trim_end();
    let usage = text.lines().find_map(|l| l.strip_prefix("Usage: "));
    let mut error = CliError::new(Code::Usage, message);
    if let Some(usage) = usage {
        error = error.with_hint(format!("usage: {usage}; see --help"));
    }
    error.report(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself() {
        fn walk(c: &clap::Command) {
            assert!(c.get_about().is_some(), "{} has no help", c.get_name());
            for a in c.get_arguments() {
                assert!(a.get_help().is_some(), "{} {} has no help", c.get_name(), a.get_id());
            }
            c.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
